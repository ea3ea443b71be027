package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// A deletion of an attachment looks for legal holds in its first statement, and again in a later
// one, behind a lock that it shares with other deletions and that whoever sets a hold has alone.
// So either the hold is there when it looks again, or it is set after the deletion has ended, and
// then what it was to be on is not there. Other deletions take the lock first, and look once.

const (
	// holdsLock identifies that lock. It is a lock of the transaction.
	holdsLock = directoryLock + 1
	// knowsHolds is the first version of the schema whose programs know holds.
	knowsHolds = 3
	// noID is the zero id in SQL, which stands for nobody and nothing.
	noID = `'00000000-0000-0000-0000-000000000000'`
)

// lockHolds takes the lock of a deletion.
const lockHolds = `select pg_advisory_xact_lock_shared($1)`

// isHeld is the condition that a legal hold keeps a row of attachments or trash, in that space.
func isHeld(row, space string) string {
	return `(exists (select from attachd.holds h where h.space = ` + space + ` and h.kind = 0)
		or exists (select from attachd.holds h where h.space = ` + space + ` and h.kind = ` + row + `.kind and h.parent = ` + row + `.parent and h.attachment in (` + noID + `, ` + row + `.id)))`
}

// isHeldAtRest is likewise that one keeps the row "r" of removals, of a parent in the trash.
const isHeldAtRest = `exists (select from attachd.holds h where h.space = r.space and h.kind in (0, r.kind) and h.parent in (` + noID + `, r.parent))`

// holdsOf selects one of the holds that refuse a deletion: the one on what is highest.
func holdsOf(on store.Held) (sql string, args []any) {
	const columns = `select h.kind, h.parent, h.attachment from attachd.holds h where h.space = $1 `
	const first = ` order by 1, 2, 3 limit 1`
	if on.Parent == (store.Parent{}) {
		return columns + first, []any{on.Space}
	}
	sql = `(` + columns + `and h.kind = 0 limit 1) union all (` + columns + `and h.kind = $2 and h.parent = $3`
	args = []any{on.Space, int16(on.Parent.Kind), on.Parent.ID}
	if on.Attachment != uuid.Nil {
		sql, args = sql+` and h.attachment in (`+noID+`, $4)`, append(args, on.Attachment)
	}
	return sql + first + `)` + first, args
}

// refuseHeld refuses to delete what a hold is on, is in, or has below.
func (tx *change) refuseHeld(on store.Held) error {
	by := store.Held{Space: on.Space}
	var kind int16
	sql, args := holdsOf(on)
	err := tx.get(sql, args...).Scan(&kind, &by.Parent.ID, &by.Attachment)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	by.Parent.Kind = store.Kind(kind)
	return store.UnderHold(by)
}

// unlessHeld has the change made again where a hold was set meanwhile; see useSQL.
func (tx *change) unlessHeld(on store.Held) {
	tx.lastly(lockHolds, int64(holdsLock))
	sql, args := holdsOf(on)
	tx.lastly(`select 1 / (case when exists (`+sql+`) then 0 else 1 end)`, args...)
}

// keepHolds is the first statement of a deletion that looks for holds once.
func (tx *change) keepHolds() error { return tx.exec(lockHolds, int64(holdsLock)) }

// homeOf selects where an attachment is.
const homeOf = `select e.space, a.kind, a.parent from attachd.attachments a
	join attachd.entities e on e.kind = a.kind and e.id = a.parent join attachd.spaces s on s.slug = e.space where a.id = $1`

// trashHomeOf likewise selects where an attachment in the trash is.
const trashHomeOf = `select e.space, a.kind, a.parent from attachd.trash a
	join attachd.entities e on e.kind = a.kind and e.id = a.parent and e.space = a.space join attachd.spaces s on s.slug = e.space where a.id = $1`

// notDeleted says why an attachment was not deleted, which home selects: a hold keeps it, or it
// is not there.
func (tx *change) notDeleted(home string, id uuid.UUID, missing error) error {
	on := store.Held{Attachment: id}
	var kind int16
	err := tx.get(home, id).Scan(&on.Space, &kind, &on.Parent.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return missing
	}
	if err != nil {
		return err
	}
	on.Parent.Kind = store.Kind(kind)
	if err := tx.refuseHeld(on); err != nil {
		return err
	}
	return errAgain // it was lifted, or the attachment is new
}

func heldArgs(on store.Held) []any {
	return []any{on.Space, int16(on.Parent.Kind), on.Parent.ID, on.Attachment}
}

// SetHold implements store.Holds.
func (s *Store) SetHold(ctx context.Context, h store.Hold) (store.Hold, error) {
	set := h
	err := s.changeDirectory(ctx, func(tx *change) error {
		if err := tx.exec(`select pg_advisory_xact_lock($1)`, int64(holdsLock)); err != nil {
			return err
		}
		var older bool
		err := tx.get(`select exists (select from attachd.replicas where not departed and seen > now() - $1 * interval '1 second' and knows < $2)`,
			store.ReplicaLives.Seconds(), knowsHolds).Scan(&older)
		if err == nil && older {
			err = store.OlderProgram()
		}
		if err != nil {
			return err
		}
		if set.On, err = tx.toHold(h.On); err != nil {
			return err
		}
		var n int
		err = tx.get(`select count(*) from attachd.holds where space = $1 and kind = $2 and parent = $3 and attachment = $4`, heldArgs(set.On)...).Scan(&n)
		if err == nil && n >= store.MaxHolds {
			err = store.TooManyHolds()
		}
		if err != nil {
			return err
		}
		err = tx.get(`insert into attachd.holds (id, space, kind, parent, attachment, reason, set_by) select $5, $1, $2, $3, $4, $6, $7::uuid
				where $7::uuid = `+noID+` or exists (select from attachd.users where id = $7 and not deleted) on conflict do nothing
			returning coalesce((select full_name from attachd.users where id = $7), '')`,
			append(heldArgs(set.On), h.ID, h.Reason, h.ByID)...).Scan(&set.By)
		if errors.Is(err, pgx.ErrNoRows) {
			var taken bool
			if err = tx.get(`select exists (select from attachd.holds where id = $1)`, h.ID).Scan(&taken); err == nil {
				if err = store.NoUser(h.ByID); taken {
					err = store.HoldTaken(h.ID)
				}
			}
		}
		return err
	})
	if err != nil {
		return store.Hold{}, err
	}
	return set, nil
}

// toHold fills in where something is that a hold is to be on, or refuses what is not there.
func (tx *change) toHold(on store.Held) (store.Held, error) {
	var kind int16
	var err, missing error
	switch {
	case on.Attachment != uuid.Nil:
		missing = store.NoAttachment(on.Attachment)
		on.Parent = store.Parent{}
		err = tx.get(homeOf, on.Attachment).Scan(&on.Space, &kind, &on.Parent.ID)
		on.Parent.Kind = store.Kind(kind)
	case on.Parent != store.Parent{}:
		missing = store.NoParent(on.Parent)
		err = tx.get(`select s.slug from attachd.entities e join attachd.spaces s on s.slug = e.space where e.kind = $1 and e.id = $2`,
			int16(on.Parent.Kind), on.Parent.ID).Scan(&on.Space)
	case store.ValidSlug(on.Space):
		missing = store.NoSpace(on.Space)
		err = tx.get(`select slug from attachd.spaces where slug = $1`, on.Space).Scan(&on.Space)
	default:
		return on, store.NoSpace(on.Space)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = missing
	}
	return on, err
}

// selectHolds selects the columns that scanHold takes.
const selectHolds = `select h.id, h.space, h.kind, h.parent, h.attachment, h.reason, h.set_by, coalesce(u.full_name, '') from attachd.holds h left join attachd.users u on u.id = h.set_by `

func scanHold(row pgx.CollectableRow) (h store.Hold, err error) {
	var kind int16
	err = row.Scan(&h.ID, &h.On.Space, &kind, &h.On.Parent.ID, &h.On.Attachment, &h.Reason, &h.ByID, &h.By)
	h.On.Parent.Kind = store.Kind(kind)
	return h, err
}

// Hold implements store.Holds.
func (s *Store) Hold(ctx context.Context, id uuid.UUID) (store.Hold, error) {
	list, err := rows(ctx, s, scanHold, selectHolds+`where h.id = $1`, id)
	if err == nil && len(list) == 0 {
		err = store.NoHold(id)
	}
	if err != nil {
		return store.Hold{}, err
	}
	return list[0], nil
}

// Holds implements store.Holds.
func (s *Store) Holds(ctx context.Context, space string, after []byte, limit int) ([]store.Hold, error) {
	if limit < 1 || space != "" && !store.ValidSlug(space) {
		return nil, ctx.Err()
	}
	behind, _ := store.HoldAt(after)
	where := `where (h.space, h.kind, h.parent, h.attachment, h.id) > ($1, $2, $3, $4, $5)`
	if space != "" {
		behind.On.Space = space
		where = `where h.space = $1 and (h.kind, h.parent, h.attachment, h.id) > ($2, $3, $4, $5)`
	}
	return rows(ctx, s, scanHold, selectHolds+where+` order by h.space, h.kind, h.parent, h.attachment, h.id limit $6`, append(heldArgs(behind.On), behind.ID, limit)...)
}

// LiftHold implements store.Holds.
func (s *Store) LiftHold(ctx context.Context, id uuid.UUID) (h store.Hold, err error) {
	err = s.change(ctx, func(tx *change) error {
		found, err := tx.Query(tx.ctx, `with h as (delete from attachd.holds where id = $1 returning *)
			select h.id, h.space, h.kind, h.parent, h.attachment, h.reason, h.set_by, coalesce(u.full_name, '') from h left join attachd.users u on u.id = h.set_by`, id)
		if err != nil {
			return err
		}
		h, err = pgx.CollectExactlyOneRow(found, scanHold)
		if errors.Is(err, pgx.ErrNoRows) {
			err = store.NoHold(id)
		}
		return err
	})
	return h, err
}

// HeldInTrash implements store.Holds.
func (s *Store) HeldInTrash(ctx context.Context) (sum store.Usage, err error) {
	err = s.row(ctx, `select coalesce(sum(bytes), 0)::bigint, coalesce(sum(files), 0)::bigint from (
			select a.size as bytes, 1 as files from attachd.trash a where a.space in (select space from attachd.holds) and `+isHeld("a", "a.space")+`
			union all
			select r.bytes, r.files from attachd.removals r where r.id < 0 and r.kind is not null and r.space in (select space from attachd.holds) and `+isHeldAtRest+`
		) held`).Scan(&sum.Bytes, &sum.Files)
	return sum, err
}
