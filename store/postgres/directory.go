package postgres

import (
	"context"
	"errors"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// User implements store.Directory.
func (s *Store) User(ctx context.Context, id uuid.UUID) (store.User, error) {
	u := store.User{ID: id}
	err := s.row(ctx, `select full_name, superadmin, records_manager from attachd.users where id = $1 and not deleted`, id).Scan(&u.FullName, &u.IsSuperadmin, &u.IsRecordsManager)
	if errors.Is(err, store.ErrNotFound) {
		err = store.NoUser(id)
	}
	if err != nil {
		return store.User{}, err
	}
	return u, nil
}

// Users implements store.Directory.
func (s *Store) Users(ctx context.Context, after uuid.UUID, limit int) ([]store.User, error) {
	if limit <= 0 {
		return nil, nil
	}
	return rows(ctx, s, func(row pgx.CollectableRow) (u store.User, err error) {
		err = row.Scan(&u.ID, &u.FullName, &u.IsSuperadmin, &u.IsRecordsManager)
		return u, err
	}, `select id, full_name, superadmin, records_manager from attachd.users where id > $1 and not deleted order by id limit $2`, after, limit)
}

// DeleteUser implements store.Directory. It waits for keys of the user that are being made,
// which hold the row.
func (s *Store) DeleteUser(ctx context.Context, id uuid.UUID) error {
	return s.changeDirectory(ctx, func(tx *change) error {
		err := tx.get(`select from attachd.users where id = $1 and not deleted for update`, id).Scan()
		if errors.Is(err, pgx.ErrNoRows) {
			return store.NoUser(id)
		}
		if err != nil {
			return err
		}
		var batch pgx.Batch
		batch.Queue(`delete from attachd.keys where user_id = $1`, id) // and their sessions
		batch.Queue(`delete from attachd.members where user_id = $1`, id)
		batch.Queue(`delete from attachd.trash_members where user_id = $1`, id)
		batch.Queue(`update attachd.users set deleted = true where id = $1`, id)
		return tx.SendBatch(tx.ctx, &batch).Close()
	})
}

const (
	// spaceColumns are what spaceInto takes, of a space s; withUsage joins what they need.
	spaceColumns = `s.name, s.quota_bytes, s.quota_files, s.auto,
			(coalesce(u.bytes, 0) + coalesce(d.bytes, 0))::bigint, (coalesce(u.files, 0) + coalesce(d.files, 0))::bigint`
	withUsage = ` left join attachd.usage u on u.space = s.slug
		cross join lateral (select sum(bytes) as bytes, sum(files) as files from attachd.usage_delta where space = s.slug) d`
)

// spaceInto is where spaceColumns are scanned into.
func spaceInto(of *store.Space, used *store.Usage) []any {
	return []any{&of.Name, &of.QuotaBytes, &of.QuotaFiles, &of.Auto, &used.Bytes, &used.Files}
}

// Space implements store.Directory.
func (s *Store) Space(ctx context.Context, slug string) (store.Space, store.Usage, error) {
	if !store.ValidSlug(slug) {
		return store.Space{}, store.Usage{}, store.NoSpace(slug)
	}
	of, used := store.Space{Slug: slug}, store.Usage{}
	err := s.row(ctx, `select `+spaceColumns+` from attachd.spaces s`+withUsage+` where s.slug = $1`, slug).Scan(spaceInto(&of, &used)...)
	if errors.Is(err, store.ErrNotFound) {
		err = store.NoSpace(slug)
	}
	if err != nil {
		return store.Space{}, store.Usage{}, err
	}
	return of, used, nil
}

// Spaces implements store.Directory.
func (s *Store) Spaces(ctx context.Context, after string, limit int) ([]store.Space, error) {
	if limit <= 0 {
		return nil, nil
	}
	return rows(ctx, s, func(row pgx.CollectableRow) (of store.Space, err error) {
		err = row.Scan(&of.Slug, &of.Name, &of.QuotaBytes, &of.QuotaFiles, &of.Auto)
		return of, err
	}, `select slug, name, quota_bytes, quota_files, auto from attachd.spaces where slug > $1 order by slug limit $2`, textBefore(after), limit)
}

// textBefore returns a text that the database can hold, and which the same slugs follow as
// follow after: a caller's cursor may be any bytes.
func textBefore(after string) string {
	for i := range len(after) {
		switch c := after[i]; {
		case c == 0: // nothing is between the two
			return after[:i]
		case c > unicode.MaxASCII: // greater than what is in a slug, as is DEL
			return after[:i] + "\x7f"
		}
	}
	return after
}

// Role implements store.Directory.
func (s *Store) Role(ctx context.Context, slug string, user uuid.UUID) (role store.Role, err error) {
	if !store.ValidSlug(slug) {
		return store.NoRole, nil
	}
	err = s.row(ctx, `select role from attachd.members where space = $1 and user_id = $2`, slug, user).Scan(&role)
	if errors.Is(err, store.ErrNotFound) {
		return store.NoRole, nil
	}
	return role, err
}

// Members implements store.Directory.
func (s *Store) Members(ctx context.Context, slug string, after uuid.UUID, limit int) ([]store.Member, error) {
	if limit <= 0 || !store.ValidSlug(slug) {
		return nil, nil
	}
	return rows(ctx, s, scanMember,
		`select space, user_id, role from attachd.members where space = $1 and user_id > $2 order by user_id limit $3`, slug, after, limit)
}

func scanMember(row pgx.CollectableRow) (m store.Member, err error) {
	err = row.Scan(&m.Space, &m.UserID, &m.Role)
	return m, err
}

// Memberships implements store.Directory.
func (s *Store) Memberships(ctx context.Context, user uuid.UUID) ([]store.Member, error) {
	return rows(ctx, s, scanMember, `select space, user_id, role from attachd.members where user_id = $1 order by space`, user)
}

// DeleteMember implements store.Directory.
func (s *Store) DeleteMember(ctx context.Context, slug string, user uuid.UUID) error {
	if !store.ValidSlug(slug) {
		return store.NoMember(slug, user)
	}
	return s.changeDirectory(ctx, func(tx *change) error {
		n, err := tx.affected(`delete from attachd.members where space = $1 and user_id = $2`, slug, user)
		if err == nil && n == 0 {
			err = store.NoMember(slug, user)
		}
		return err
	})
}

// Entity implements store.Directory.
func (s *Store) Entity(ctx context.Context, p store.Parent) (store.Entity, error) {
	e := store.Entity{Parent: p}
	var owner uuid.NullUUID
	err := s.row(ctx, `select e.space, e.name, e.owner from attachd.entities e join attachd.spaces on slug = e.space
		where e.kind = $1 and e.id = $2`, int16(p.Kind), p.ID).Scan(&e.Space, &e.Name, &owner)
	if errors.Is(err, store.ErrNotFound) {
		err = store.NoParent(p)
	}
	if err != nil {
		return store.Entity{}, err
	}
	e.OwnerID = owner.UUID
	return e, nil
}

// Entities implements store.Directory.
func (s *Store) Entities(ctx context.Context, slug string, kind store.Kind, after uuid.UUID, limit int) ([]store.Entity, error) {
	if limit <= 0 || !store.ValidSlug(slug) {
		return nil, nil
	}
	return rows(ctx, s, func(row pgx.CollectableRow) (store.Entity, error) {
		e := store.Entity{Parent: store.Parent{Kind: kind}, Space: slug}
		var owner uuid.NullUUID
		err := row.Scan(&e.ID, &e.Name, &owner)
		e.OwnerID = owner.UUID
		return e, err
	}, `select id, name, owner from attachd.entities where space = $1 and kind = $2 and id > $3
			and exists (select from attachd.spaces where slug = $1)
		order by id limit $4`, slug, int16(kind), after, limit)
}

// Comment implements store.Directory.
func (s *Store) Comment(ctx context.Context, ticket, id uuid.UUID) (store.Comment, error) {
	c := store.Comment{TicketID: ticket, ID: id}
	var created *time.Time
	err := s.row(ctx, `select c.number, c.created_at from attachd.comments c
			join attachd.entities e on e.kind = $3 and e.id = c.ticket join attachd.spaces on slug = e.space
		where c.ticket = $1 and c.id = $2`, ticket, id, int16(store.Ticket)).Scan(&c.Number, &created)
	if errors.Is(err, store.ErrNotFound) {
		err = store.NoComment(store.Ticket, id)
	}
	if err != nil {
		return store.Comment{}, err
	}
	c.CreatedAt = timeOf(created)
	return c, nil
}

// Comments implements store.Directory.
func (s *Store) Comments(ctx context.Context, ticket uuid.UUID, after uuid.UUID, limit int) ([]store.Comment, error) {
	if limit <= 0 {
		return nil, nil
	}
	return rows(ctx, s, func(row pgx.CollectableRow) (store.Comment, error) {
		c := store.Comment{TicketID: ticket}
		var created *time.Time
		err := row.Scan(&c.ID, &c.Number, &created)
		c.CreatedAt = timeOf(created)
		return c, err
	}, `select id, number, created_at from attachd.comments where ticket = $1 and id > $2
			and exists (select from attachd.entities e join attachd.spaces on slug = e.space where e.kind = $3 and e.id = $1)
		order by id limit $4`, ticket, after, int16(store.Ticket), limit)
}

// DeleteComment implements store.Directory. It waits for the uploads that name the comment,
// which hold its row.
func (s *Store) DeleteComment(ctx context.Context, c store.Comment) error {
	return s.changeDirectory(ctx, func(tx *change) error {
		if err := tx.keepHolds(); err != nil {
			return err
		}
		ticket := store.Held{Parent: store.Parent{Kind: store.Ticket, ID: c.TicketID}}
		err := tx.get(`delete from attachd.comments c using attachd.entities e join attachd.spaces on slug = e.space
			where c.ticket = $1 and c.id = $2 and e.kind = $3 and e.id = $1 returning e.space`, c.TicketID, c.ID, int16(store.Ticket)).Scan(&ticket.Space)
		if errors.Is(err, pgx.ErrNoRows) {
			return store.NoComment(store.Ticket, c.ID)
		}
		if err == nil {
			err = tx.refuseHeld(ticket)
		}
		if err != nil {
			return err
		}
		// In this order: what goes to the trash meanwhile is found there.
		for _, table := range []string{"attachments", "trash"} {
			err := tx.exec(`update attachd.`+table+` set comment = null where kind = $1 and parent = $2 and comment = $3`, int16(store.Ticket), c.TicketID, c.ID)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
