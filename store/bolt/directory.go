package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

// needID refuses the zero id, which lists could not begin after.
func needID(id uuid.UUID) error {
	if id == uuid.Nil {
		return store.BadID(id)
	}
	return nil
}

// putObject checks the references of the object, plans to write it, and says
// whether it is new.
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
	return false, store.Malformed(o)
}

func (p *plan) putUser(u store.User) (created bool, err error) {
	if err := needID(u.ID); err != nil {
		return false, err
	}
	known, err := planned[schema.UserRecord](p, schema.Users, u.ID[:])
	if err != nil {
		return false, err
	}
	now := schema.NewUserRecord(u, false)
	if known == nil || *known != now {
		p.note(u, "user.put", u.ID, "")
	}
	return known == nil || known.Deleted, p.save(schema.Users, u.ID[:], now)
}

func (p *plan) putSpace(s store.Space) (created bool, err error) {
	if !store.ValidSlug(s.Slug) || s.QuotaBytes < 0 || s.QuotaFiles < 0 {
		return false, store.Malformed(s)
	}
	created = !p.has(schema.Spaces, []byte(s.Slug))
	if created && records.IsRemoving(p.tx, schema.SpaceRemoval(s.Slug)) {
		return false, errRemoving
	}
	if created {
		p.outOfTrash(schema.SpaceRemoval(s.Slug))
	}
	return created, p.save(schema.Spaces, []byte(s.Slug), schema.SpaceRecord{
		Name: s.Name, QuotaBytes: s.QuotaBytes, QuotaFiles: s.QuotaFiles, Auto: s.Auto,
	})
}

func (p *plan) putMember(m store.Member) (created bool, err error) {
	if m.Role < store.Viewer || m.Role > store.Admin {
		return false, store.Malformed(m)
	}
	if !p.has(schema.Spaces, []byte(m.Space)) {
		return false, store.NoSpace(m.Space)
	}
	user, err := planned[schema.UserRecord](p, schema.Users, m.UserID[:])
	if err != nil {
		return false, err
	}
	if user == nil || user.Deleted {
		return false, store.NoUser(m.UserID)
	}
	key, role := schema.Join(schema.Slug0(m.Space), m.UserID[:]), []byte{byte(m.Role)}
	known := p.get(schema.Members, key)
	if !bytes.Equal(known, role) {
		p.note(m, "member.put", m.UserID, m.Space)
	}
	created = known == nil
	p.put(schema.Members, key, role)
	p.put(schema.Memberships, schema.Join(m.UserID[:], []byte(m.Space)), role)
	return created, nil
}

func (tx *writeTx) saveMember(m store.Member) {
	tx.Put(schema.Members, schema.Join(schema.Slug0(m.Space), m.UserID[:]), []byte{byte(m.Role)})
	tx.Put(schema.Memberships, schema.Join(m.UserID[:], []byte(m.Space)), []byte{byte(m.Role)})
}

func (tx *writeTx) removeMember(slug string, user uuid.UUID) {
	tx.Delete(schema.Members, schema.Join(schema.Slug0(slug), user[:]))
	tx.Delete(schema.Memberships, schema.Join(user[:], []byte(slug)))
}

func (p *plan) putEntity(e store.Entity) (created bool, err error) {
	if e.Kind < store.Product || e.Kind > store.Meeting {
		return false, store.Malformed(e)
	}
	if err := needID(e.ID); err != nil {
		return false, err
	}
	if !p.has(schema.Spaces, []byte(e.Space)) {
		return false, store.NoSpace(e.Space)
	}
	// The owner may have been deleted: a system of record still sends tickets whose
	// owners have left.
	if e.Kind == store.Ticket && !p.has(schema.Users, e.OwnerID[:]) {
		return false, store.NoOwner(e.OwnerID)
	}
	known, err := planned[schema.EntityRecord](p, schema.Entities, schema.ParentKey(e.Parent))
	if err != nil {
		return false, err
	}
	removal := schema.ParentRemoval(e.Parent)
	if known == nil {
		p.outOfTrash(removal)
	} else if known.Space != e.Space && records.IsTrashed(p.tx, schema.SpaceRemoval(known.Space)) {
		p.replaces, known = append(p.replaces, removal), nil
	}
	switch {
	case known == nil && records.IsRemoving(p.tx, removal), known != nil && records.IsRemoving(p.tx, schema.SpaceRemoval(known.Space)):
		return false, errRemoving
	case known != nil && known.Space != e.Space:
		return false, store.CannotMove(e.Parent, known.Space)
	}
	record := schema.EntityRecord{Space: e.Space, Name: e.Name, OwnerID: e.OwnerID}
	if known != nil {
		record.Comments = known.Comments
	}
	p.put(schema.SpaceEntities, schema.Join(schema.Slug0(e.Space), schema.ParentKey(e.Parent)), schema.Nothing)
	return known == nil, p.save(schema.Entities, schema.ParentKey(e.Parent), record)
}

// outOfTrash notes that something is put anew, if it is in the trash.
func (p *plan) outOfTrash(removal []byte) {
	if records.IsTrashed(p.tx, removal) {
		p.replaces = append(p.replaces, removal)
	}
}

func (p *plan) putComment(c store.Comment) (created bool, err error) {
	if err := needID(c.ID); err != nil {
		return false, err
	}
	parent := schema.ParentKey(store.Parent{Kind: store.Ticket, ID: c.TicketID})
	ticket, err := planned[schema.EntityRecord](p, schema.Entities, parent)
	if err != nil {
		return false, err
	}
	if ticket == nil || !p.has(schema.Spaces, []byte(ticket.Space)) {
		return false, store.NoParent(store.Parent{Kind: store.Ticket, ID: c.TicketID})
	}
	key := schema.Join(c.TicketID[:], c.ID[:])
	if value := p.get(schema.Comments, key); value != nil {
		record, err := schema.DecodeCommentRecord(value)
		if err != nil || c.CreatedAt.IsZero() {
			return false, err
		}
		record.CreatedAt = c.CreatedAt
		return false, p.save(schema.Comments, key, record)
	}
	if ticket.Comments, err = p.lastComment(ticket, c.TicketID); err != nil {
		return false, err
	}
	ticket.Comments++
	record := schema.CommentRecord{Number: ticket.Comments, CreatedAt: c.CreatedAt}
	if record.CreatedAt.IsZero() {
		record.CreatedAt = c.Told
	}
	return true, errors.Join(p.save(schema.Entities, parent, ticket), p.save(schema.Comments, key, record))
}

// lastComment is the highest number of a comment of the ticket. Comments without a
// number, which are older than the numbers, are numbered first.
func (p *plan) lastComment(ticket *schema.EntityRecord, id uuid.UUID) (last int, err error) {
	if ticket.Comments > 0 {
		return ticket.Comments, nil
	}
	unnumbered := map[string]*schema.CommentRecord{}
	for rest, value := range p.tx.Under(schema.Comments, id[:], nil) {
		record, err := schema.DecodeCommentRecord(value)
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
		if err := p.save(schema.Comments, schema.Join(id[:], []byte(rest)), unnumbered[rest]); err != nil {
			return 0, err
		}
	}
	return last, nil
}

// User implements Directory.
func (b *Store) User(ctx context.Context, id uuid.UUID) (u store.User, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		record, err := records.User(tx, id)
		if err != nil {
			return err
		}
		if record == nil {
			return store.NoUser(id)
		}
		u = record.User(id)
		return nil
	})
	return u, err
}

// Users implements Directory.
func (b *Store) Users(ctx context.Context, after uuid.UUID, limit int) (list []store.User, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		for key := range tx.Under(schema.Users, nil, after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := schema.ParseID(key)
			if err != nil {
				return err
			}
			record, err := records.User(tx, id)
			if err != nil {
				return err
			}
			if record != nil {
				list = append(list, record.User(id))
			}
		}
		return nil
	})
	return list, err
}

// DeleteUser implements Directory.
func (b *Store) DeleteUser(ctx context.Context, id uuid.UUID) error {
	return b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		user, err := records.User(tx.Tx, id)
		if err != nil {
			return err
		}
		if user == nil {
			return store.NoUser(id)
		}
		for _, rest := range tx.RestsUnder(schema.UserKeys, id[:]) {
			key, err := schema.ParseID(rest)
			if err != nil {
				return err
			}
			if err := b.removeKey(tx, key); err != nil {
				return fmt.Errorf("remove key %s of user %s: %v", key, id, err)
			}
		}
		for _, slug := range tx.RestsUnder(schema.Memberships, id[:]) {
			tx.removeMember(string(slug), id)
		}
		user.Deleted = true
		tx.save(schema.Users, id[:], user)
		return nil
	})
}

// Space implements Directory.
func (b *Store) Space(ctx context.Context, slug string) (s store.Space, u store.Usage, err error) {
	look := func(u *unflushed) *store.Usage {
		if used, is := u.usage[slug]; is {
			return &used
		}
		return nil
	}
	err = viewWith(ctx, b, look, func(tx *dbfile.Tx, ahead *store.Usage) error {
		record, err := dbfile.Load[schema.SpaceRecord](tx, schema.Spaces, []byte(slug))
		if err != nil {
			return err
		}
		if record == nil {
			return store.NoSpace(slug)
		}
		if s = record.Space(slug); ahead != nil {
			u = *ahead
			return nil
		}
		u, err = records.Usage(tx, slug)
		return err
	})
	return s, u, err
}

// Spaces implements Directory.
func (b *Store) Spaces(ctx context.Context, after string, limit int) (list []store.Space, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		for key := range tx.Under(schema.Spaces, nil, []byte(after)) {
			if len(list) >= limit {
				return nil
			}
			record, err := dbfile.Load[schema.SpaceRecord](tx, schema.Spaces, key)
			if err != nil {
				return err
			}
			list = append(list, record.Space(string(key)))
		}
		return nil
	})
	return list, err
}

// Role implements Directory.
func (b *Store) Role(ctx context.Context, slug string, user uuid.UUID) (store.Role, error) {
	return latest(ctx, b, &b.roles, member{slug, user}, func(tx *dbfile.Tx) (store.Role, error) {
		value := tx.Get(schema.Members, schema.Join(schema.Slug0(slug), user[:]))
		if value == nil || !tx.Has(schema.Spaces, []byte(slug)) {
			return store.NoRole, nil
		}
		return schema.DecodeRole(value)
	})
}

// member is somebody who may have a role in a space.
type member struct {
	space string
	user  uuid.UUID
}

// Members implements Directory.
func (b *Store) Members(ctx context.Context, slug string, after uuid.UUID, limit int) (list []store.Member, err error) {
	err = b.viewSpace(ctx, slug, func(tx *dbfile.Tx) error {
		for rest, value := range tx.Under(schema.Members, schema.Slug0(slug), after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := schema.ParseID(rest)
			if err != nil {
				return err
			}
			role, err := schema.DecodeRole(value)
			if err != nil {
				return err
			}
			list = append(list, store.Member{Space: slug, UserID: id, Role: role})
		}
		return nil
	})
	return list, err
}

// viewSpace does nothing for a space that does not exist: its slug may be anything,
// including a zero byte, and must not be used as a prefix.
func (b *Store) viewSpace(ctx context.Context, slug string, read func(*dbfile.Tx) error) error {
	return b.viewAll(ctx, func(tx *dbfile.Tx) error {
		if !tx.Has(schema.Spaces, []byte(slug)) {
			return nil
		}
		return read(tx)
	})
}

// Memberships implements Directory.
func (b *Store) Memberships(ctx context.Context, user uuid.UUID) (list []store.Member, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		for slug, value := range tx.Under(schema.Memberships, user[:], nil) {
			if !tx.Has(schema.Spaces, slug) {
				continue
			}
			role, err := schema.DecodeRole(value)
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
		if !tx.Has(schema.Members, schema.Join(schema.Slug0(slug), user[:])) || !tx.Has(schema.Spaces, []byte(slug)) {
			return store.NoMember(slug, user)
		}
		tx.removeMember(slug, user)
		return nil
	})
}

// Entity implements Directory.
func (b *Store) Entity(ctx context.Context, p store.Parent) (store.Entity, error) {
	return latest(ctx, b, &b.parents, p, func(tx *dbfile.Tx) (store.Entity, error) { return b.visibleEntity(tx, p) })
}

// visibleEntity is records.Entity for callers: an object in a space is visible as
// long as its space exists. A deletion deletes the space first, and an import
// creates it last.
func (b *Store) visibleEntity(tx *dbfile.Tx, p store.Parent) (store.Entity, error) {
	record, err := b.entities.Load(tx, schema.Entities, schema.ParentKey(p))
	if err == nil && record != nil && !tx.Has(schema.Spaces, []byte(record.Space)) {
		record = nil
	}
	if err != nil {
		return store.Entity{}, err
	}
	return records.EntityOf(record, p)
}

// isVisible says whether a parent is visible to callers.
func (b *Store) isVisible(tx *dbfile.Tx, p store.Parent) (bool, error) {
	_, err := b.visibleEntity(tx, p)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func isNotFound(err error) bool { return errors.Is(err, store.ErrNotFound) }

// Entities implements Directory.
func (b *Store) Entities(ctx context.Context, slug string, kind store.Kind, after uuid.UUID, limit int) (list []store.Entity, err error) {
	err = b.viewSpace(ctx, slug, func(tx *dbfile.Tx) error {
		prefix := append(schema.Slug0(slug), byte(kind))
		for rest := range tx.Under(schema.SpaceEntities, prefix, after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := schema.ParseID(rest)
			if err != nil {
				return err
			}
			e, err := records.Entity(tx, store.Parent{Kind: kind, ID: id})
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
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		value := tx.Get(schema.Comments, schema.Join(ticket[:], id[:]))
		seen := value != nil
		if seen {
			if seen, err = b.isVisible(tx, store.Parent{Kind: store.Ticket, ID: ticket}); err != nil {
				return err
			}
		}
		if !seen {
			return store.NoComment(store.Ticket, id)
		}
		c, err = schema.DecodeComment(ticket, id, value)
		return err
	})
	return c, err
}

// Comments implements Directory.
func (b *Store) Comments(ctx context.Context, ticket uuid.UUID, after uuid.UUID, limit int) (list []store.Comment, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		if seen, err := b.isVisible(tx, store.Parent{Kind: store.Ticket, ID: ticket}); err != nil || !seen {
			return err
		}
		for rest, value := range tx.Under(schema.Comments, ticket[:], after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := schema.ParseID(rest)
			if err != nil {
				return err
			}
			c, err := schema.DecodeComment(ticket, id, value)
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
		key := schema.Join(c.TicketID[:], c.ID[:])
		ticket, err := b.visibleEntity(tx.Tx, store.Parent{Kind: store.Ticket, ID: c.TicketID})
		if isNotFound(err) || err == nil && !tx.Has(schema.Comments, key) {
			return store.NoComment(store.Ticket, c.ID)
		}
		if err == nil {
			err = refuseHeld(tx.Tx, store.Held{Space: ticket.Space, Parent: ticket.Parent})
		}
		if err != nil {
			return err
		}
		tx.Delete(schema.Comments, key)
		return tx.dropComment(c)
	})
}
