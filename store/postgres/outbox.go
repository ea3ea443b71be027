package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// eventRecord is an event as it is stored. What it says of the attachment stays the same,
// whatever changes later.
type eventRecord struct {
	ID         uuid.UUID       `json:"id"`
	Type       store.EventType `json:"type"`
	Time       time.Time       `json:"time"`
	Queued     time.Time       `json:"queued"`
	UserID     uuid.UUID       `json:"user,omitzero"`
	ActorID    uuid.UUID       `json:"actor,omitzero"`
	Operator   bool            `json:"operator,omitempty"`
	Space      string          `json:"space"`
	Attachment struct {
		ID         uuid.UUID  `json:"id"`
		Kind       store.Kind `json:"kind"`
		Parent     uuid.UUID  `json:"parent"`
		Comment    *uuid.UUID `json:"comment,omitempty"`
		Name       string     `json:"name"`
		Size       int64      `json:"size"`
		Type       string     `json:"type"`
		SHA256     []byte     `json:"sha256"`
		UploaderID uuid.UUID  `json:"uploader_id"`
		Uploader   string     `json:"uploader"`
	} `json:"attachment"`
}

func newEventRecord(e store.Event) (r eventRecord) {
	r.ID, r.Type, r.Time, r.Queued, r.Space = e.ID, e.Type, e.Time.UTC(), e.Queued.UTC(), e.Space
	r.UserID, r.ActorID, r.Operator = e.Origin.UserID, e.Origin.ActorID, e.Origin.Operator
	a := &r.Attachment
	a.ID, a.Kind, a.Parent, a.Name, a.Size, a.Type = e.Attachment.ID, e.Attachment.Parent.Kind, e.Attachment.Parent.ID, e.Attachment.FileName, e.Attachment.Size, e.Attachment.Type
	a.SHA256, a.UploaderID, a.Uploader = e.Attachment.SHA256[:], e.Attachment.UploaderID, e.Attachment.Uploader
	if e.Attachment.CommentID.Valid {
		a.Comment = &e.Attachment.CommentID.UUID
	}
	return r
}

// event is the event of a record; seq is its place in the outbox.
func (r eventRecord) event(seq uint64) (e store.Event, err error) {
	a := r.Attachment
	if r.ID == uuid.Nil || len(a.SHA256) != len(e.Attachment.SHA256) {
		return e, fmt.Errorf("%w: event %d of the outbox", store.ErrDamaged, seq)
	}
	e = store.Event{
		Seq: seq, ID: r.ID, Type: r.Type, Time: r.Time, Queued: r.Queued, Space: r.Space,
		Origin: store.Origin{UserID: r.UserID, ActorID: r.ActorID, Operator: r.Operator},
		Attachment: store.Attachment{
			ID: a.ID, Parent: store.Parent{Kind: a.Kind, ID: a.Parent}, FileName: a.Name, Size: a.Size, Type: a.Type,
			SHA256: [32]byte(a.SHA256), UploaderID: a.UploaderID, Uploader: a.Uploader,
		},
	}
	if a.Comment != nil {
		e.Attachment.CommentID = uuid.NullUUID{UUID: *a.Comment, Valid: true}
	}
	return e, nil
}

// letterRecord is a dead letter as it is stored.
type letterRecord struct {
	Event  json.RawMessage `json:"event"` // an eventRecord
	Time   time.Time       `json:"time"`
	Reason string          `json:"reason"`
}

func decodeEvent(seq int64, data []byte) (store.Event, error) {
	var r eventRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return store.Event{}, fmt.Errorf("%w: event %d of the outbox: %w", store.ErrDamaged, seq, err)
	}
	return r.event(uint64(seq))
}

// decodeLetter returns what can be decoded beside an error.
func decodeLetter(seq int64, data []byte) (store.DeadLetter, error) {
	var r letterRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return store.DeadLetter{Seq: uint64(seq)}, fmt.Errorf("%w: dead letter %d: %w", store.ErrDamaged, seq, err)
	}
	l := store.DeadLetter{Seq: uint64(seq), Time: r.Time, Reason: r.Reason}
	e, err := decodeEvent(0, r.Event)
	if err != nil {
		return l, fmt.Errorf("dead letter %d: %w", seq, err)
	}
	l.Event = e
	return l, nil
}

// encodeAll encodes records for an argument that is an array.
func encodeAll[T any](records []T) (encoded []string, err error) {
	for _, r := range records {
		data, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		encoded = append(encoded, string(data))
	}
	return encoded, nil
}

// encodeEvents encodes events as they are stored.
func encodeEvents(events []store.Event) ([]string, error) {
	records := make([]eventRecord, len(events))
	for i, e := range events {
		records[i] = newEventRecord(e)
	}
	return encodeAll(records)
}

// saveEvents has the events of the change added to the outbox with its commit.
func (tx *change) saveEvents() error {
	if len(tx.events) == 0 {
		return nil
	}
	encoded, err := encodeEvents(tx.events)
	if err != nil {
		return err
	}
	tx.outbox.events += int64(len(encoded))
	tx.outbox.added += len(encoded)
	tx.last.Queue(`with added as (
			insert into attachd.outbox (event) select event::json from unnest($1::text[]) with ordinality as e (event, n) order by n returning seq)
		select sum(seq)::bigint from added`, encoded).QueryRow(func(row pgx.Row) error {
		var sum int64
		err := row.Scan(&sum)
		tx.outbox.sum += sum
		return err
	})
	return nil
}

// addLetters adds dead letters behind the others.
func (tx *change) addLetters(letters []letterRecord) error {
	if len(letters) == 0 {
		return nil
	}
	encoded, err := encodeAll(letters)
	if err != nil {
		return err
	}
	tx.outbox.dead += int64(len(letters))
	tx.lastly(`insert into attachd.dead_letters (letter) select letter::json from unnest($1::text[]) with ordinality as l (letter, n) order by n`, encoded)
	return nil
}

// removeEvents deletes those of the events that are there, and returns their numbers.
func (tx *change) removeEvents(seqs []int64) (gone map[int64]bool, err error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	deleted, err := tx.Query(tx.ctx, `delete from attachd.outbox where seq = any($1::bigint[]) returning seq`, seqs)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(deleted, pgx.RowTo[int64])
	gone = make(map[int64]bool, len(list))
	for _, seq := range list {
		gone[seq] = true
		tx.outbox.sum -= seq
	}
	tx.outbox.events -= int64(len(list))
	return gone, err
}

// numbered reads at most limit numbered records, oldest first, beginning after a number.
func numbered[T any](ctx context.Context, s *Store, sql string, after uint64, limit int, decode func(seq int64, data []byte) (T, error)) ([]T, error) {
	if after >= math.MaxInt64 {
		return nil, ctx.Err()
	}
	return rows(ctx, s, func(row pgx.CollectableRow) (one T, err error) {
		var seq int64
		var data []byte
		if err := row.Scan(&seq, &data); err != nil {
			return one, err
		}
		return decode(seq, data)
	}, sql, int64(after), max(limit, 0))
}

// What numbered reads.
const (
	selectEvents  = `select seq, event from attachd.outbox where seq > $1 order by seq limit $2`
	selectLetters = `select seq, letter from attachd.dead_letters where seq > $1 order by seq limit $2`
)

// reasonUnreadable is the reason of dead letters that only a program that can decode them could
// send, such as a later one.
const reasonUnreadable = "the event cannot be decoded"

// Events implements store.Outbox. Events that cannot be decoded become dead letters: the others
// must not wait for them.
func (s *Store) Events(ctx context.Context, after uint64, limit int) ([]store.Event, error) {
	for {
		var unreadable []int64
		var fault error
		list, err := numbered(ctx, s, selectEvents, after, limit, func(seq int64, data []byte) (store.Event, error) {
			e, err := decodeEvent(seq, data)
			if err != nil {
				unreadable, fault = append(unreadable, seq), err
			}
			return e, nil
		})
		if err != nil || len(unreadable) == 0 {
			return list, err
		}
		err = s.change(ctx, func(tx *change) error {
			_, err := tx.bury(reasonUnreadable, `with old as (delete from attachd.outbox where seq = any($1::bigint[]) returning seq, event)
				select seq, event from old order by seq`, unreadable)
			return err
		})
		if err != nil {
			return nil, err
		}
		s.log.Error("events of the outbox cannot be decoded, and became dead letters", "events", unreadable, "error", fault)
	}
}

// bury makes dead letters of the events that a statement deletes, whatever they say, and returns
// how many these are.
func (tx *change) bury(reason, sql string, args ...any) (int, error) {
	gone, err := tx.Query(tx.ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	now := time.Now().UTC()
	letters, err := pgx.CollectRows(gone, func(row pgx.CollectableRow) (letterRecord, error) {
		var seq int64
		var event []byte
		err := row.Scan(&seq, &event)
		tx.outbox.events--
		tx.outbox.sum -= seq
		return letterRecord{event, now, reason}, err
	})
	if err != nil {
		return 0, err
	}
	return len(letters), tx.addLetters(letters)
}

// DeadLetters implements store.Outbox. One that cannot be decoded is listed without its event.
func (s *Store) DeadLetters(ctx context.Context, after uint64, limit int) ([]store.DeadLetter, error) {
	return numbered(ctx, s, selectLetters, after, limit, func(seq int64, data []byte) (store.DeadLetter, error) {
		l, err := decodeLetter(seq, data)
		if err != nil {
			l.Reason = cmp.Or(l.Reason, reasonUnreadable)
		}
		return l, nil
	})
}

// AckEvents implements store.Outbox.
func (s *Store) AckEvents(ctx context.Context, delivered []uint64, dead ...store.DeadLetter) error {
	seqs := make([]int64, 0, len(delivered)+len(dead))
	for _, seq := range delivered {
		seqs = append(seqs, int64(seq))
	}
	for _, letter := range dead {
		seqs = append(seqs, int64(letter.Event.Seq))
	}
	return s.change(ctx, func(tx *change) error {
		gone, err := tx.removeEvents(seqs)
		if err != nil {
			return err
		}
		var letters []letterRecord
		for _, letter := range dead {
			seq := int64(letter.Event.Seq)
			if !gone[seq] {
				continue
			}
			delete(gone, seq) // a letter that is named twice is one
			event, err := json.Marshal(newEventRecord(letter.Event))
			if err != nil {
				return err
			}
			letters = append(letters, letterRecord{event, letter.Time.UTC(), letter.Reason})
		}
		return tx.addLetters(letters)
	})
}

// Redeliver implements store.Outbox. Dead letters that cannot be decoded stay.
func (s *Store) Redeliver(ctx context.Context, now time.Time, limit int) (events int, err error) {
	err = s.change(ctx, func(tx *change) error {
		var seqs []int64
		for after, more := int64(0), limit > 0; more; {
			found, err := tx.Query(ctx, selectLetters+` for update skip locked`, after, limit)
			if err != nil {
				return err
			}
			read := 0
			_, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (none struct{}, err error) {
				var data []byte
				if err := row.Scan(&after, &data); err != nil {
					return none, err
				}
				read++
				if letter, err := decodeLetter(after, data); err == nil && len(seqs) < limit {
					letter.Event.Queued = now
					tx.events, seqs = append(tx.events, letter.Event), append(seqs, after)
				}
				return none, nil
			})
			if err != nil {
				return err
			}
			more = read == limit && len(seqs) < limit
		}
		events = len(seqs)
		tx.outbox.dead -= int64(events)
		return tx.exec(`delete from attachd.dead_letters where seq = any($1::bigint[])`, seqs)
	})
	return events, err
}

// PruneDeadLetters implements store.Outbox.
func (s *Store) PruneDeadLetters(ctx context.Context, age, keep time.Duration, limit int) (removed int, err error) {
	err = s.change(ctx, func(tx *change) error {
		removed = 0
		var head int64
		if err := tx.get(`select coalesce(max(seq), 0) from attachd.dead_letters`).Scan(&head); err != nil {
			return err
		}
		through, err := tx.ripe(agesOfDead, uint64(head), age, keep)
		if err != nil {
			return err
		}
		n, err := tx.affected(`delete from attachd.dead_letters where seq in (
			select seq from attachd.dead_letters where seq <= $1 order by seq limit $2 for update skip locked)`, int64(through), max(limit, 0))
		removed = int(n)
		tx.outbox.dead -= n
		return err
	})
	return removed, err
}

// OutboxSize implements store.Outbox.
func (s *Store) OutboxSize() (events, dead int64) {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	return s.outbox.known.events, s.outbox.known.dead
}

// NewEvents implements store.Outbox.
func (s *Store) NewEvents() <-chan struct{} { return s.outbox.newEvents }
