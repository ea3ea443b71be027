package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"attachd/store"

	"github.com/google/uuid"
)

var slugPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// validSlug says whether a slug can be part of a key: what it keeps out first
// of all is a zero byte.
func validSlug(slug string) bool { return slugPattern.MatchString(slug) }

func refuse(kind error, format string, args ...any) error {
	return &store.Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// needID refuses the one id that lists could not begin after.
func needID(id uuid.UUID) error {
	if id == uuid.Nil {
		return refuse(store.ErrConflict, "The id %s cannot be used.", id)
	}
	return nil
}

// malformed says that whoever called has not looked at what they were given.
func malformed(o store.Object) error {
	return fmt.Errorf("store: malformed %T: %+v", o, o)
}

// putObject checks what the object names, plans to write it, and says whether
// it is new.
func (p *plan) putObject(o store.Object) (created bool, err error) {
	switch o := o.(type) {
	case store.User:
		return p.putUser(o)
	case store.Space:
		return p.putSpace(o)
	case store.Member:
		return p.putMember(o)
	case store.Entity:
		return p.putEntity(o)
	case store.Comment:
		return p.putComment(o)
	}
	return false, malformed(o)
}

func (p *plan) putUser(u store.User) (created bool, err error) {
	if err := needID(u.ID); err != nil {
		return false, err
	}
	known, err := planned[userRecord](p, bucketUsers, u.ID[:])
	if err != nil {
		return false, err
	}
	now := userRecord{FullName: u.FullName, IsSuperadmin: u.IsSuperadmin}
	if known == nil || *known != now {
		p.note(u, "user.put", u.ID, "")
	}
	return known == nil || known.Deleted, p.save(bucketUsers, u.ID[:], now)
}

func (p *plan) putSpace(s store.Space) (created bool, err error) {
	if !validSlug(s.Slug) || s.QuotaBytes < 0 || s.QuotaFiles < 0 {
		return false, malformed(s)
	}
	created = !p.has(bucketSpaces, []byte(s.Slug))
	if created && isMarked(p.tx, spaceRemoval(s.Slug)) {
		return false, errRemoving
	}
	return created, p.save(bucketSpaces, []byte(s.Slug), spaceRecord{
		Name: s.Name, QuotaBytes: s.QuotaBytes, QuotaFiles: s.QuotaFiles, Auto: s.Auto,
	})
}

func (p *plan) putMember(m store.Member) (created bool, err error) {
	if m.Role < store.Viewer || m.Role > store.Admin {
		return false, malformed(m)
	}
	if !p.has(bucketSpaces, []byte(m.Space)) {
		return false, noSpace(m.Space)
	}
	user, err := planned[userRecord](p, bucketUsers, m.UserID[:])
	if err != nil {
		return false, err
	}
	if user == nil || user.Deleted {
		return false, noUser(m.UserID)
	}
	key, role := join(slug0(m.Space), m.UserID[:]), []byte{byte(m.Role)}
	known := p.get(bucketMembers, key)
	if !bytes.Equal(known, role) {
		p.note(m, "member.put", m.UserID, m.Space)
	}
	created = known == nil
	p.put(bucketMembers, key, role)
	p.put(bucketMemberships, join(m.UserID[:], []byte(m.Space)), role)
	return created, nil
}

func (tx *writeTx) saveMember(m store.Member) {
	tx.put(bucketMembers, join(slug0(m.Space), m.UserID[:]), []byte{byte(m.Role)})
	tx.put(bucketMemberships, join(m.UserID[:], []byte(m.Space)), []byte{byte(m.Role)})
}

func (tx *writeTx) removeMember(slug string, user uuid.UUID) {
	tx.delete(bucketMembers, join(slug0(slug), user[:]))
	tx.delete(bucketMemberships, join(user[:], []byte(slug)))
}

func (p *plan) putEntity(e store.Entity) (created bool, err error) {
	if e.Kind < store.Product || e.Kind > store.Meeting {
		return false, malformed(e)
	}
	if err := needID(e.ID); err != nil {
		return false, err
	}
	if !p.has(bucketSpaces, []byte(e.Space)) {
		return false, noSpace(e.Space)
	}
	// The owner may have been deleted: a system of record goes on telling of
	// tickets whose owners have left.
	if e.Kind == store.Ticket && !p.has(bucketUsers, e.OwnerID[:]) {
		return false, refuse(store.ErrNotFound, "There is no user %s to own the ticket.", e.OwnerID)
	}
	known, err := planned[entityRecord](p, bucketEntities, parentKey(e.Parent))
	if err != nil {
		return false, err
	}
	switch {
	case known == nil && isMarked(p.tx, parentRemoval(e.Parent)), known != nil && isMarked(p.tx, spaceRemoval(known.Space)):
		return false, errRemoving
	case known != nil && known.Space != e.Space:
		return false, refuse(store.ErrConflict, "The %s %s is in space %q and cannot move to another.", e.Kind, e.ID, known.Space)
	}
	record := entityRecord{Space: e.Space, Name: e.Name, OwnerID: e.OwnerID}
	if known != nil {
		record.Comments = known.Comments
	}
	p.put(bucketSpaceEntities, join(slug0(e.Space), parentKey(e.Parent)), nothing)
	return known == nil, p.save(bucketEntities, parentKey(e.Parent), record)
}

func (p *plan) putComment(c store.Comment) (created bool, err error) {
	if err := needID(c.ID); err != nil {
		return false, err
	}
	parent := parentKey(store.Parent{Kind: store.Ticket, ID: c.TicketID})
	ticket, err := planned[entityRecord](p, bucketEntities, parent)
	if err != nil {
		return false, err
	}
	if ticket == nil || !p.has(bucketSpaces, []byte(ticket.Space)) {
		return false, refuse(store.ErrNotFound, "There is no ticket %s.", c.TicketID)
	}
	key := join(c.TicketID[:], c.ID[:])
	if value := p.get(bucketComments, key); value != nil {
		record, err := decodeComment(value)
		if err != nil || c.CreatedAt.IsZero() {
			return false, err
		}
		record.CreatedAt = c.CreatedAt
		return false, p.save(bucketComments, key, record)
	}
	if ticket.Comments, err = p.lastComment(ticket, c.TicketID); err != nil {
		return false, err
	}
	ticket.Comments++
	record := commentRecord{Number: ticket.Comments, CreatedAt: c.CreatedAt}
	if record.CreatedAt.IsZero() {
		record.CreatedAt = c.Told
	}
	return true, errors.Join(p.save(bucketEntities, parent, ticket), p.save(bucketComments, key, record))
}

// lastComment is the last number that a comment of the ticket has. Those that
// have none, since they are older than the numbers, are numbered first.
func (p *plan) lastComment(ticket *entityRecord, id uuid.UUID) (last int, err error) {
	if ticket.Comments > 0 {
		return ticket.Comments, nil
	}
	unnumbered := map[string]*commentRecord{}
	for rest, value := range under(p.tx, bucketComments, id[:], nil) {
		record, err := decodeComment(value)
		if err != nil {
			return 0, err
		}
		if record.Number == 0 {
			unnumbered[string(rest)] = record
		}
		last = max(last, record.Number)
	}
	for _, rest := range slices.Sorted(maps.Keys(unnumbered)) {
		last++
		unnumbered[rest].Number = last
		if err := p.save(bucketComments, join(id[:], []byte(rest)), unnumbered[rest]); err != nil {
			return 0, err
		}
	}
	return last, nil
}

func needSpace(tx *dbTx, slug string) error {
	if !has(tx, bucketSpaces, []byte(slug)) {
		return noSpace(slug)
	}
	return nil
}

func needUser(tx *dbTx, id uuid.UUID) error {
	user, err := loadUser(tx, id)
	if err == nil && user == nil {
		err = noUser(id)
	}
	return err
}

func noSpace(slug string) error { return refuse(store.ErrNotFound, "There is no space %q.", slug) }

func noParent(p store.Parent) error {
	return refuse(store.ErrNotFound, "There is no %s %s.", p.Kind, p.ID)
}

func noUser(id uuid.UUID) error { return refuse(store.ErrNotFound, "There is no user %s.", id) }

// loadUser gives nil for a deleted user too.
func loadUser(tx *dbTx, id uuid.UUID) (*userRecord, error) {
	user, err := load[userRecord](tx, bucketUsers, id[:])
	if err != nil || user == nil || user.Deleted {
		return nil, err
	}
	return user, nil
}

func (r userRecord) user(id uuid.UUID) store.User {
	return store.User{ID: id, FullName: r.FullName, IsSuperadmin: r.IsSuperadmin}
}

// User implements Directory.
func (b *Store) User(ctx context.Context, id uuid.UUID) (u store.User, err error) {
	err = b.look(ctx, func(tx *dbTx) error {
		record, err := loadUser(tx, id)
		if err != nil {
			return err
		}
		if record == nil {
			return noUser(id)
		}
		u = record.user(id)
		return nil
	})
	return u, err
}

// Users implements Directory.
func (b *Store) Users(ctx context.Context, after uuid.UUID, limit int) (list []store.User, err error) {
	err = b.view(ctx, func(tx *dbTx) error {
		for key := range under(tx, bucketUsers, nil, after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := parseID(key)
			if err != nil {
				return err
			}
			record, err := loadUser(tx, id)
			if err != nil {
				return err
			}
			if record != nil {
				list = append(list, record.user(id))
			}
		}
		return nil
	})
	return list, err
}

// DeleteUser implements Directory.
func (b *Store) DeleteUser(ctx context.Context, id uuid.UUID) error {
	return b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		user, err := loadUser(tx.dbTx, id)
		if err != nil {
			return err
		}
		if user == nil {
			return noUser(id)
		}
		for _, rest := range restsUnder(tx.dbTx, bucketUserKeys, id[:]) {
			key, err := parseID(rest)
			if err != nil {
				return err
			}
			if err := b.removeKey(tx, key); err != nil {
				return fmt.Errorf("remove key %s of user %s: %v", key, id, err)
			}
		}
		for _, slug := range restsUnder(tx.dbTx, bucketMemberships, id[:]) {
			tx.removeMember(string(slug), id)
		}
		user.Deleted = true
		tx.save(bucketUsers, id[:], user)
		return nil
	})
}

func (r spaceRecord) space(slug string) store.Space {
	return store.Space{Slug: slug, Name: r.Name, QuotaBytes: r.QuotaBytes, QuotaFiles: r.QuotaFiles, Auto: r.Auto}
}

// Space implements Directory.
func (b *Store) Space(ctx context.Context, slug string) (s store.Space, u store.Usage, err error) {
	used, isAhead := b.unflushed.usageOf(slug)
	err = b.look(ctx, func(tx *dbTx) error {
		record, err := load[spaceRecord](tx, bucketSpaces, []byte(slug))
		if err != nil {
			return err
		}
		if record == nil {
			return noSpace(slug)
		}
		s = record.space(slug)
		u, err = loadUsage(tx, slug)
		return err
	})
	if isAhead {
		u = used
	}
	return s, u, err
}

// Spaces implements Directory.
func (b *Store) Spaces(ctx context.Context, after string, limit int) (list []store.Space, err error) {
	err = b.view(ctx, func(tx *dbTx) error {
		for key := range under(tx, bucketSpaces, nil, []byte(after)) {
			if len(list) >= limit {
				return nil
			}
			record, err := load[spaceRecord](tx, bucketSpaces, key)
			if err != nil {
				return err
			}
			list = append(list, record.space(string(key)))
		}
		return nil
	})
	return list, err
}

// Role implements Directory.
func (b *Store) Role(ctx context.Context, slug string, user uuid.UUID) (role store.Role, err error) {
	err = b.look(ctx, func(tx *dbTx) error {
		value := tx.get(bucketMembers, join(slug0(slug), user[:]))
		if value == nil || !has(tx, bucketSpaces, []byte(slug)) {
			return nil
		}
		role, err = decodeRole(value)
		return err
	})
	return role, err
}

func decodeRole(value []byte) (store.Role, error) {
	if len(value) != 1 {
		return store.NoRole, fmt.Errorf("damaged role of a member: %x", value)
	}
	return store.Role(value[0]), nil
}

// Members implements Directory.
func (b *Store) Members(ctx context.Context, slug string, after uuid.UUID, limit int) (list []store.Member, err error) {
	err = b.viewSpace(ctx, slug, func(tx *dbTx) error {
		for rest, value := range under(tx, bucketMembers, slug0(slug), after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := parseID(rest)
			if err != nil {
				return err
			}
			role, err := decodeRole(value)
			if err != nil {
				return err
			}
			list = append(list, store.Member{Space: slug, UserID: id, Role: role})
		}
		return nil
	})
	return list, err
}

// viewSpace does nothing for a space that is not there: its slug may be
// anything, a zero byte included, and must not get into a scan.
func (b *Store) viewSpace(ctx context.Context, slug string, read func(*dbTx) error) error {
	return b.view(ctx, func(tx *dbTx) error {
		if !has(tx, bucketSpaces, []byte(slug)) {
			return nil
		}
		return read(tx)
	})
}

// Memberships implements Directory.
func (b *Store) Memberships(ctx context.Context, user uuid.UUID) (list []store.Member, err error) {
	err = b.look(ctx, func(tx *dbTx) error {
		for slug, value := range under(tx, bucketMemberships, user[:], nil) {
			if !has(tx, bucketSpaces, slug) {
				continue
			}
			role, err := decodeRole(value)
			if err != nil {
				return err
			}
			list = append(list, store.Member{Space: string(slug), UserID: user, Role: role})
		}
		return nil
	})
	return list, err
}

// DeleteMember implements Directory.
func (b *Store) DeleteMember(ctx context.Context, slug string, user uuid.UUID) error {
	return b.changeDirectory(ctx, func(tx *writeTx) error {
		if !has(tx.dbTx, bucketMembers, join(slug0(slug), user[:])) {
			return refuse(store.ErrNotFound, "The user %s is not a member of the space %q.", user, slug)
		}
		tx.removeMember(slug, user)
		return nil
	})
}

// Entity implements Directory.
func (b *Store) Entity(ctx context.Context, p store.Parent) (e store.Entity, err error) {
	err = b.look(ctx, func(tx *dbTx) error {
		e, err = b.seenEntity(tx, p)
		return err
	})
	return e, err
}

// seenEntity is loadEntity for callers: what is in a space is there as long as
// the space is. A deletion takes the space away first, and an import brings it
// last.
func (b *Store) seenEntity(tx *dbTx, p store.Parent) (store.Entity, error) {
	record, err := b.entities.load(tx, bucketEntities, parentKey(p))
	if err == nil && record != nil && !has(tx, bucketSpaces, []byte(record.Space)) {
		record = nil
	}
	if err != nil {
		return store.Entity{}, err
	}
	return record.entity(p)
}

// isSeen says whether a parent is there for callers.
func (b *Store) isSeen(tx *dbTx, p store.Parent) (bool, error) {
	_, err := b.seenEntity(tx, p)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func loadEntity(tx *dbTx, p store.Parent) (store.Entity, error) {
	record, err := load[entityRecord](tx, bucketEntities, parentKey(p))
	if err != nil {
		return store.Entity{}, err
	}
	return record.entity(p)
}

func (r *entityRecord) entity(p store.Parent) (store.Entity, error) {
	if r == nil {
		return store.Entity{}, noParent(p)
	}
	return store.Entity{Parent: p, Space: r.Space, Name: r.Name, OwnerID: r.OwnerID}, nil
}

// Entities implements Directory.
func (b *Store) Entities(ctx context.Context, slug string, kind store.Kind, after uuid.UUID, limit int) (list []store.Entity, err error) {
	err = b.viewSpace(ctx, slug, func(tx *dbTx) error {
		prefix := append(slug0(slug), byte(kind))
		for rest := range under(tx, bucketSpaceEntities, prefix, after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := parseID(rest)
			if err != nil {
				return err
			}
			e, err := loadEntity(tx, store.Parent{Kind: kind, ID: id})
			if err != nil {
				return fmt.Errorf("list space %q: %s %s: %v", slug, kind, id, err)
			}
			list = append(list, e)
		}
		return nil
	})
	return list, err
}

// Comment implements Directory.
func (b *Store) Comment(ctx context.Context, ticket, id uuid.UUID) (c store.Comment, err error) {
	err = b.look(ctx, func(tx *dbTx) error {
		value := tx.get(bucketComments, join(ticket[:], id[:]))
		seen := value != nil
		if seen {
			if seen, err = b.isSeen(tx, store.Parent{Kind: store.Ticket, ID: ticket}); err != nil {
				return err
			}
		}
		if !seen {
			return noComment(id)
		}
		c, err = readComment(ticket, id, value)
		return err
	})
	return c, err
}

func readComment(ticket, id uuid.UUID, value []byte) (store.Comment, error) {
	record, err := decodeComment(value)
	if err != nil {
		return store.Comment{}, err
	}
	return store.Comment{TicketID: ticket, ID: id, CreatedAt: record.CreatedAt, Number: record.Number}, nil
}

func noComment(id uuid.UUID) error {
	return refuse(store.ErrNotFound, "The ticket has no comment %s.", id)
}

// Comments implements Directory.
func (b *Store) Comments(ctx context.Context, ticket uuid.UUID, after uuid.UUID, limit int) (list []store.Comment, err error) {
	err = b.view(ctx, func(tx *dbTx) error {
		if seen, err := b.isSeen(tx, store.Parent{Kind: store.Ticket, ID: ticket}); err != nil || !seen {
			return err
		}
		for rest, value := range under(tx, bucketComments, ticket[:], after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := parseID(rest)
			if err != nil {
				return err
			}
			c, err := readComment(ticket, id, value)
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		return nil
	})
	return list, err
}

// DeleteComment implements Directory.
func (b *Store) DeleteComment(ctx context.Context, c store.Comment) error {
	return b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		key := join(c.TicketID[:], c.ID[:])
		if !has(tx.dbTx, bucketComments, key) {
			return noComment(c.ID)
		}
		tx.delete(bucketComments, key)
		return tx.dropComment(c)
	})
}
