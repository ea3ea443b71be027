package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

// outboxStats counts the outbox in memory, so that OutboxSize reads no database.
type outboxStats struct {
	events, dead atomic.Int64
	newEvents    chan struct{} // signalled when events were added
	max          int64
}

// outboxDelta is by how much a transaction changes the counters.
type outboxDelta struct {
	events, dead int64
	added        int // number of events added
}

func (p *outboxStats) add(by outboxDelta) {
	p.events.Add(by.events)
	p.dead.Add(by.dead)
}

// notify signals that events were added.
func (p *outboxStats) notify() {
	select {
	case p.newEvents <- struct{}{}:
	default: // a signal is pending already
	}
}

// OutboxSize implements Outbox.
func (b *Store) OutboxSize() (events, dead int64) {
	return b.outbox.events.Load(), b.outbox.dead.Load()
}

// NewEvents implements Outbox.
func (b *Store) NewEvents() <-chan struct{} { return b.outbox.newEvents }

// countOutbox counts the outbox of a database that is being opened.
func (b *Store) countOutbox() error {
	return b.viewAll(context.Background(), func(tx *dbfile.Tx) error {
		b.outbox.events.Add(tx.Count(schema.Outbox))
		b.outbox.dead.Add(tx.Count(schema.Dead))
		return nil
	})
}

// enqueue adds an event to the outbox, if the change has an Origin.
func (tx *writeTx) enqueue(what store.EventType, a store.Attachment, space string) {
	origin := tx.change.origin
	if origin == nil || tx.err != nil {
		return
	}
	if err := make(userNames).fill(tx.Tx, tx.users, &a); err != nil {
		tx.err = fmt.Errorf("event of attachment %s: %w", a.ID, err)
		return
	}
	at := origin.Time
	if what == store.AttachmentCreated {
		at = a.CreatedAt()
	}
	tx.enqueueEvent(store.Event{ID: tx.ids.New(origin.Time), Type: what, Time: at, Queued: origin.Time, Origin: *origin, Space: space, Attachment: a})
}

func (tx *writeTx) enqueueEvent(e store.Event) {
	tx.append(schema.Outbox, schema.NewEventRecord(e))
	tx.outbox.events++
	tx.outbox.added++
	tx.queuedAt = e.Queued
}

// append stores a record under the next number. Numbers are not reused.
func (tx *writeTx) append(bucket []byte, record any) {
	to := tx.Bucket(bucket)
	to.FillPercent = 1 // keys are added in ascending order
	seq, err := to.NextSequence()
	if err != nil {
		tx.err = errors.Join(tx.err, fmt.Errorf("number for bucket %q: %w", bucket, err))
		return
	}
	if tx.logging {
		tx.batch = tx.batch.SetSequence(bucket, seq)
	}
	tx.save(bucket, schema.Number(seq), record)
}

func (tx *writeTx) deadLetter(e schema.EventRecord, at time.Time, reason string) {
	tx.append(schema.Dead, schema.DeadRecord{Event: e, Time: at.UTC(), Reason: reason})
	tx.outbox.dead++
}

// trimOutbox turns the oldest events into dead letters while there are too many,
// and deletes the oldest dead letters. It iterates over a bucket once, since a
// cursor steps over everything that was deleted before it.
func (tx *writeTx) trimOutbox(p *outboxStats) {
	if tx.outbox.added > 0 {
		for _, old := range tx.firstOf(schema.Outbox, p.events.Load()+tx.outbox.events-p.max) {
			record, err := schema.DecodeEventRecord(old.seq, old.value)
			if err != nil {
				tx.err = errors.Join(tx.err, err)
				return
			}
			tx.deadLetter(record, tx.queuedAt, store.ReasonOutboxFull)
			tx.Delete(schema.Outbox, schema.Number(old.seq))
			tx.outbox.events--
		}
	}
	if tx.outbox.dead > 0 {
		for _, old := range tx.firstOf(schema.Dead, p.dead.Load()+tx.outbox.dead-p.max) {
			tx.Delete(schema.Dead, schema.Number(old.seq))
			tx.outbox.dead--
		}
	}
}

type numberedValue struct {
	seq   uint64
	value []byte
}

// firstOf copies the first n entries of a bucket.
func (tx *writeTx) firstOf(bucket []byte, n int64) (list []numberedValue) {
	if n <= 0 {
		return nil
	}
	for seq, value := range tx.Numbered(bucket, 0) {
		list = append(list, numberedValue{seq, bytes.Clone(value)})
		if int64(len(list)) == n {
			break
		}
	}
	return list
}

// Events implements Outbox.
func (b *Store) Events(ctx context.Context, after uint64, limit int) ([]store.Event, error) {
	return listed(ctx, b, schema.Outbox, after, limit, schema.DecodeEvent)
}

// listed returns the first entries of a bucket behind a number.
func listed[T any](ctx context.Context, b *Store, bucket []byte, after uint64, limit int, decode func(seq uint64, value []byte) (T, error)) (list []T, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		for seq, value := range tx.Numbered(bucket, after) {
			if len(list) >= limit {
				return nil
			}
			one, err := decode(seq, value)
			if err != nil {
				return err
			}
			list = append(list, one)
		}
		return nil
	})
	return list, err
}

// AckEvents implements Outbox.
func (b *Store) AckEvents(ctx context.Context, delivered []uint64, dead ...store.DeadLetter) error {
	return b.update(ctx, func(tx *writeTx) error {
		for _, seq := range delivered {
			tx.removeEvent(seq)
		}
		for _, letter := range dead {
			if tx.removeEvent(letter.Event.Seq) {
				tx.deadLetter(schema.NewEventRecord(letter.Event), letter.Time, letter.Reason)
			}
		}
		return nil
	})
}

// removeEvent deletes an event, and says whether it existed.
func (tx *writeTx) removeEvent(seq uint64) bool {
	if !tx.Has(schema.Outbox, schema.Number(seq)) {
		return false
	}
	tx.Delete(schema.Outbox, schema.Number(seq))
	tx.outbox.events--
	return true
}

// DeadLetters implements Outbox.
func (b *Store) DeadLetters(ctx context.Context, after uint64, limit int) ([]store.DeadLetter, error) {
	return listed(ctx, b, schema.Dead, after, limit, schema.DecodeDeadLetter)
}

// Redeliver implements Outbox.
func (b *Store) Redeliver(ctx context.Context, now time.Time, limit int) (events int, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		events = 0 // the change may run twice
		var letters []store.DeadLetter
		for _, old := range tx.firstOf(schema.Dead, int64(limit)) {
			letter, err := schema.DecodeDeadLetter(old.seq, old.value)
			if err != nil {
				return err
			}
			letters = append(letters, letter)
		}
		for _, letter := range letters {
			tx.Delete(schema.Dead, schema.Number(letter.Seq))
			tx.outbox.dead--
			letter.Event.Queued = now
			tx.enqueueEvent(letter.Event)
			events++
		}
		return nil
	})
	return events, err
}

// PruneDeadLetters implements Outbox.
func (b *Store) PruneDeadLetters(ctx context.Context, age, keep time.Duration, limit int) (removed int, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		removed = 0
		var head uint64
		if key, _ := tx.Entries(schema.Dead).Last(); len(key) == 8 {
			head = binary.BigEndian.Uint64(key)
		}
		through, err := tx.ripe(schema.DeadMarks, head, age, keep)
		if err != nil {
			return err
		}
		var old []uint64
		for seq := range tx.Numbered(schema.Dead, 0) {
			if len(old) >= limit || seq > through {
				break
			}
			old = append(old, seq)
		}
		for _, seq := range old {
			tx.Delete(schema.Dead, schema.Number(seq))
			tx.outbox.dead--
			removed++
		}
		return nil
	})
	return removed, err
}
