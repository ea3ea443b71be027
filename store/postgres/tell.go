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

// tell enqueues an event for each attachment below, or has Remove do so.
func (tx *change) tell(m mark, event store.EventType) error {
	if tx.origin == nil {
		return nil
	}
	list, err := tx.attachmentsBelow(m, uuid.Nil, uuid.Max, removedAtOnce+1)
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
	return tx.exec(`insert into attachd.tellings (space, kind, parent, event, origin, after, last)
		values ($1, nullif($2::smallint, 0), nullif($3::uuid, '00000000-0000-0000-0000-000000000000'), $4, $5, '00000000-0000-0000-0000-000000000000',
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
		var after, last uuid.UUID
		is = false
		tx.entry, tx.origin = nil, nil // those of a change that waits
		err := tx.get(`select id, space, kind, parent, event, origin, after, last from attachd.tellings where `+which, args...).
			Scan(&id, &m.of, &kind, &parent, &event, &tx.origin, &after, &last)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		is, m.removal = true, removalOf(m.of, kind, parent)
		list, err := tx.attachmentsBelow(m, after, last, removedAtOnce)
		if err != nil {
			return fmt.Errorf("tell of what happened to %s: %w", m.removal, err)
		}
		for _, a := range list {
			tx.enqueue(store.EventType(event), a, m.of)
		}
		if len(list) < removedAtOnce {
			return tx.exec(`delete from attachd.tellings where id = $1`, id)
		}
		return tx.exec(`update attachd.tellings set after = $2 where id = $1`, id, list[len(list)-1].ID)
	})
	return is && err == nil, err
}
