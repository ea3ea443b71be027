package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// A change of a parent or space enqueues an event for each attachment below. Where there are too
// many for it, it leaves a row in "tellings", and Remove goes on from there. The next change of
// the same parent or space, or of one that contains it, waits for that.

// place is an attachment that was told of; those of a space are in the order of their parents.
type place struct {
	kind       int16
	parent, id uuid.UUID
}

// below lists attachments of a parent or space for which events are to be enqueued.
func (tx *change) below(m mark, after place, last uuid.UUID, limit int64) ([]store.Attachment, error) {
	from := ` from attachd.attachments a left join attachd.users u on u.id = a.uploader
		where a.kind = $1 and a.parent = $2 and a.id > $4 and a.id <= $5 order by a.id limit $3`
	args := append(m.key(limit), after.id, last)
	if m.space != "" {
		from = ` from attachd.entities e join attachd.attachments a on a.kind = e.kind and a.parent = e.id left join attachd.users u on u.id = a.uploader
			where e.space = $1 and (e.kind, e.id) >= ($5, $6) and (e.kind, e.id, a.id) > ($5, $6, $3) and a.id <= $4 order by e.kind, e.id, a.id limit $2`
		args = append(args, after.kind, after.parent)
	}
	found, err := tx.Query(tx.ctx, `select `+attachmentColumns+from, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, scanAttachment)
}

// tell enqueues an event for each attachment below, or has Remove do so.
func (tx *change) tell(m mark, event store.EventType) error {
	if tx.origin == nil {
		return nil
	}
	list, err := tx.below(m, place{}, uuid.Max, removedAtOnce+1)
	if err != nil {
		return err
	}
	if len(list) <= removedAtOnce {
		for _, a := range list {
			tx.enqueue(event, a, m.of)
		}
		return nil
	}
	origin, err := json.Marshal(tx.origin)
	if err != nil {
		return err
	}
	// The last one is for what comes back: what is uploaded afterwards is not told of.
	return tx.exec(`insert into attachd.tellings (space, kind, parent, event, origin, last)
		values ($1, nullif($2::smallint, 0), nullif($3::uuid, `+noID+`), $4, $5,
			case when $2 = 0 then (select id from attachd.attachments where space = $1 order by id desc limit 1)
				else (select id from attachd.attachments where kind = $2 and parent = $3 order by id desc limit 1) end)`,
		m.of, int16(m.parent.Kind), m.parent.ID, string(event), string(origin))
}

// waitTold has the change wait until all is told of earlier changes of the same object, and of
// what is below or above it.
func (tx *change) waitTold(m mark) error {
	var waits bool
	err := tx.get(`select exists (select from attachd.tellings where space = $1 and ($2 = 0 or kind is null or kind = $2 and parent = $3))`,
		m.of, int16(m.parent.Kind), m.parent.ID).Scan(&waits)
	if err == nil && waits {
		err = &removing{of: m.removal, in: m.of, told: true}
	}
	return err
}

// tellNext enqueues the next events of which a row says that they are still to come, and says
// whether there is one.
func (s *Store) tellNext(ctx context.Context, which string, args ...any) (is bool, err error) {
	err = s.change(ctx, func(tx *change) error {
		var m mark
		var id int64
		var kind *int16
		var parent uuid.NullUUID
		var event string
		var after place
		var last uuid.UUID
		is = false
		tx.entry, tx.origin = nil, nil // those of a change that waits
		err := tx.get(`select id, space, kind, parent, event, origin, last, after_kind, after_parent, after from attachd.tellings where `+which, args...).
			Scan(&id, &m.of, &kind, &parent, &event, &tx.origin, &last, &after.kind, &after.parent, &after.id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		is, m.removal = true, removalOf(m.of, kind, parent)
		list, err := tx.below(m, after, last, removedAtOnce)
		if err != nil {
			return fmt.Errorf("tell of what happened to %s: %w", m.removal, err)
		}
		for _, a := range list {
			tx.enqueue(store.EventType(event), a, m.of)
		}
		if len(list) < removedAtOnce {
			return tx.exec(`delete from attachd.tellings where id = $1`, id)
		}
		to := list[len(list)-1]
		return tx.exec(`update attachd.tellings set after_kind = $2, after_parent = $3, after = $4 where id = $1`, id, int16(to.Parent.Kind), to.Parent.ID, to.ID)
	})
	return is && err == nil, err
}
