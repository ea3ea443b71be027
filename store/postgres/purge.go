package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// PurgeAttachment implements store.Trash.
func (s *Store) PurgeAttachment(ctx context.Context, id uuid.UUID) (a store.Attachment, err error) {
	err = s.change(ctx, func(tx *change) error {
		if err := tx.keepHolds(); err != nil {
			return err
		}
		var space string
		a, err = tx.attachment([]any{&space}, `with a as (
				delete from attachd.trash a using attachd.entities e join attachd.spaces s on s.slug = e.space
				where a.id = $1 and e.kind = a.kind and e.id = a.parent and e.space = a.space and not `+isHeld("a", "a.space")+` returning a.*
			)
			select `+attachmentColumns+`, a.space from a left join attachd.users u on u.id = a.uploader`, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return tx.notDeleted(trashHomeOf, id, store.NotInTrash(id))
		}
		if err != nil {
			return err
		}
		tx.enqueue(store.AttachmentPurged, a, space)
		tx.lastly(lockContents, [][]byte{a.SHA256[:]})
		tx.countTrash(store.Usage{Bytes: -a.Size, Files: -1})
		return nil
	})
	if err != nil {
		return store.Attachment{}, err
	}
	return a, nil
}

// PurgeEntity implements store.Trash.
func (s *Store) PurgeEntity(ctx context.Context, p store.Parent) error {
	return s.purgeResting(ctx, store.ParentNotInTrash(p),
		`r.kind = $1 and r.parent = $2 and exists (select from attachd.spaces s where s.slug = r.space)`, int16(p.Kind), p.ID)
}

// PurgeSpace implements store.Trash.
func (s *Store) PurgeSpace(ctx context.Context, slug string) error {
	refusal := store.SpaceNotInTrash(slug)
	if !store.ValidSlug(slug) {
		return refusal
	}
	return s.purgeResting(ctx, refusal, `r.kind is null and r.space = $1`, slug)
}

func (s *Store) purgeResting(ctx context.Context, refusal error, which string, args ...any) error {
	return s.change(ctx, func(tx *change) error {
		if err := tx.keepHolds(); err != nil {
			return err
		}
		var id int64
		var space string
		var kind *int16
		var parent uuid.NullUUID
		err := tx.get(`select r.id, r.space, r.kind, r.parent from attachd.removals r where r.id < 0 and `+which+` for update of r`, args...).Scan(&id, &space, &kind, &parent)
		if errors.Is(err, pgx.ErrNoRows) {
			return refusal
		}
		if err != nil {
			return err
		}
		if err := tx.refuseHeld(store.Held{Space: space, Parent: removalOf(space, kind, parent).parent}); err != nil {
			return err
		}
		return tx.endRest([]int64{id}, mark{entry: tx.entry, origin: tx.origin})
	})
}

// endRest has Remove go on with removals that rest, on behalf of whoever removes them for good,
// as far as that is known, or else of whoever deleted them.
func (tx *change) endRest(ids []int64, by mark) error {
	if len(ids) == 0 {
		return nil
	}
	entry, origin, err := by.encode()
	if err != nil {
		return err
	}
	var files store.Usage
	err = tx.get(`with ended as (
			update attachd.removals set id = default, purges = true, deleted_at = null, deleted_by = null, until = null,
				entry = coalesce($2, entry), origin = case when $3 = 'null' then origin else $3::text::jsonb end
			where id = any($1::bigint[]) returning bytes, files
		)
		select coalesce(sum(bytes), 0)::bigint, coalesce(sum(files), 0)::bigint from ended`, ids, entry, origin).Scan(&files.Bytes, &files.Files)
	tx.countTrash(negative(files))
	return err
}

// purgeBelow removes for good what is in the trash of what is removed, at most so many rows.
func (tx *change) purgeBelow(m mark, room int64) (freed [][32]byte, n int64, err error) {
	if room <= 0 {
		return nil, 0, nil
	}
	if m.space != "" {
		found, err := tx.Query(tx.ctx, `select id from attachd.removals where space = $1 and kind is not null and id < 0 order by id limit $2 for update`, m.space, room)
		if err != nil {
			return nil, 0, err
		}
		ids, err := pgx.CollectRows(found, pgx.RowTo[int64])
		if err == nil {
			err = tx.endRest(ids, m)
		}
		n = int64(len(ids))
		if err != nil || n == room {
			return nil, n, err
		}
	}
	where := `a.kind = $1 and a.parent = $2 and a.space = $4 order by a.id limit $3`
	args := append(m.key(room-n), m.of)
	if m.space != "" {
		where, args = `a.space = $1 order by a.deleted_at, a.id limit $2`, m.key(room-n)
	}
	list, err := tx.trashedWhere(where, args...)
	for _, a := range list {
		tx.ended(purge, m.entry, a, m.of)
	}
	if err == nil {
		freed, err = tx.removeAttachments("trash", list)
	}
	tx.countTrash(negative(sizeOf(list)))
	return freed, n + int64(len(list)), err
}

// trashedWhere lists attachments in the trash, which nobody else restores or purges meanwhile.
func (tx *change) trashedWhere(where string, args ...any) ([]store.Attachment, error) {
	found, err := tx.Query(tx.ctx, `select `+attachmentColumns+` from attachd.trash a left join attachd.users u on u.id = a.uploader where `+where+` for update of a`, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, scanAttachment)
}

func sizeOf(list []store.Attachment) (sum store.Usage) {
	for _, a := range list {
		sum.Bytes, sum.Files = sum.Bytes+a.Size, sum.Files+1
	}
	return sum
}

// due is something whose time in the trash is over.
type due struct {
	until time.Time
	held  bool
	files store.Usage
	// One of them: the id of a removal that rests, or an attachment and its space.
	id    int64
	of    store.Attachment
	space string
}

// PurgeUntil implements store.Trash. What others restore or purge just now is left to them.
func (s *Store) PurgeUntil(ctx context.Context, until, held time.Time, limit int) (freed [][32]byte, purged store.Usage, more bool, err error) {
	if limit < 1 {
		return nil, purged, false, ctx.Err()
	}
	err = s.change(ctx, func(tx *change) error {
		if err := tx.keepHolds(); err != nil {
			return err
		}
		list, stays, full, err := tx.due(until, !held.IsZero(), limit)
		if err == nil {
			err = tx.stay(stays, held)
		}
		if err != nil {
			return err
		}
		taken := 0
		freed, purged = nil, store.Usage{}
		for taken < len(list) && (taken == 0 || purged.Files+list[taken].files.Files <= int64(limit)) {
			purged.Bytes, purged.Files = purged.Bytes+list[taken].files.Bytes, purged.Files+list[taken].files.Files
			taken++
		}
		more = taken < len(list) || full
		freed, err = tx.purgeDue(list[:taken])
		return err
	})
	if err != nil {
		return nil, store.Usage{}, false, err
	}
	return freed, purged, more, nil
}

// due lists what is due, and locks it: more than limit of a kind where there is more, and then
// it is full. What is held is returned apart, where it is to stay until later, or else passed over.
func (tx *change) due(until time.Time, apart bool, limit int) (list, held []due, full bool, err error) {
	unless := func(held string) string {
		if apart {
			return ``
		}
		return ` and not ` + held
	}
	inTrash := isHeld("a", "a.space")
	found, err := tx.Query(tx.ctx, `select `+attachmentColumns+`, a.space, a.until, `+inTrash+` from attachd.trash a left join attachd.users u on u.id = a.uploader
		where a.until <= $1`+unless(inTrash)+` order by a.until, a.id limit $2 for update of a skip locked`, until, limit+1)
	if err != nil {
		return nil, nil, false, err
	}
	all, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (d due, err error) {
		d.of, err = scanAttachment(withMore{row, []any{&d.space, &d.until, &d.held}})
		d.files = store.Usage{Bytes: d.of.Size, Files: 1}
		return d, err
	})
	if err != nil {
		return nil, nil, false, err
	}
	found, err = tx.Query(tx.ctx, `select r.id, r.bytes, r.files, r.until, `+isHeldAtRest+` from attachd.removals r
		where r.id < 0 and r.until <= $1`+unless(isHeldAtRest)+` order by r.until, r.id limit $2 for update of r skip locked`, until, limit+1)
	if err != nil {
		return nil, nil, false, err
	}
	resting, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (d due, err error) {
		err = row.Scan(&d.id, &d.files.Bytes, &d.files.Files, &d.until, &d.held)
		return d, err
	})
	all = append(all, resting...)
	slices.SortStableFunc(all, func(a, b due) int { return cmp.Compare(a.until.Unix(), b.until.Unix()) })
	for _, d := range all {
		if d.held {
			held = append(held, d)
		} else {
			list = append(list, d)
		}
	}
	return list, held, max(len(all)-len(resting), len(resting)) > limit, err
}

// stay has what is held stay until later.
func (tx *change) stay(list []due, until time.Time) error {
	var attachments []uuid.UUID
	var resting []int64
	for _, d := range list {
		if d.id < 0 {
			resting = append(resting, d.id)
		} else {
			attachments = append(attachments, d.of.ID)
		}
	}
	if len(attachments) > 0 {
		if err := tx.exec(`update attachd.trash set until = $2 where id = any($1::uuid[])`, attachments, until); err != nil {
			return err
		}
	}
	if len(resting) > 0 {
		return tx.exec(`update attachd.removals set until = $2 where id = any($1::bigint[])`, resting, until)
	}
	return nil
}

// purgeDue removes attachments for good, and has Remove go on with the rest.
func (tx *change) purgeDue(list []due) (freed [][32]byte, err error) {
	var attachments []store.Attachment
	var resting []int64
	for _, d := range list {
		if d.id < 0 {
			resting = append(resting, d.id)
			continue
		}
		attachments = append(attachments, d.of)
		tx.ended(purge, tx.entry, d.of, d.space)
	}
	if err := tx.endRest(resting, mark{entry: tx.entry, origin: tx.origin}); err != nil {
		return nil, err
	}
	tx.countTrash(negative(sizeOf(attachments)))
	return tx.removeAttachments("trash", attachments)
}
