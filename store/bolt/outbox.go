package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"attachd/store"

	"github.com/google/uuid"
)

// postbox knows how much is in the outbox, so that asking costs nothing.
type postbox struct {
	events, dead atomic.Int64
	grown        chan struct{} // told when events have come in
	max          int64
}

// posted is by how much a transaction changes that.
type posted struct {
	events, dead int64
	told         int // events that came in
}

func (p *postbox) add(by posted) {
	p.events.Add(by.events)
	p.dead.Add(by.dead)
}

// tell says that events have come in.
func (p *postbox) tell() {
	select {
	case p.grown <- struct{}{}:
	default: // whoever listens has been told
	}
}

// OutboxSize implements Outbox.
func (b *Store) OutboxSize() (events, dead int64) {
	return b.postbox.events.Load(), b.postbox.dead.Load()
}

// NewEvents implements Outbox.
func (b *Store) NewEvents() <-chan struct{} { return b.postbox.grown }

// countPosted counts what is in the outbox of a database that is being opened.
func (b *Store) countPosted() error {
	return b.view(context.Background(), func(tx *dbTx) error {
		b.postbox.events.Add(tx.count(bucketOutbox))
		b.postbox.dead.Add(tx.count(bucketDead))
		return nil
	})
}

// count counts the entries of a bucket, also damaged ones.
func (tx *dbTx) count(bucket []byte) (n int64) {
	if tx.known.refuses(bucket) != nil || tx.Bucket(bucket) == nil {
		return 0
	}
	cursor := tx.entriesLeft(bucket)
	for key, _ := cursor.First(); key != nil; key, _ = cursor.Next() {
		n++
	}
	return n
}

// numbered runs through a bucket whose keys are numbers, from the first after
// that on. A copy of an older database may not have the bucket.
func numbered(tx *dbTx, bucket []byte, after uint64) func(yield func(seq uint64, value []byte) bool) {
	return func(yield func(uint64, []byte) bool) {
		if tx.Bucket(bucket) == nil || after+1 == 0 {
			return
		}
		cursor := tx.entries(bucket)
		for key, value := cursor.Seek(number(after + 1)); len(key) == 8; key, value = cursor.Next() {
			if cursor.must(); !yield(binary.BigEndian.Uint64(key), value) {
				return
			}
		}
	}
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// tell puts an event into the outbox, if the change is to be told of.
func (tx *writeTx) tell(what store.EventType, a store.Attachment, space string) {
	origin := tx.change.origin
	if origin == nil || tx.err != nil {
		return
	}
	if err := make(names).fill(tx.dbTx, tx.users, &a); err != nil {
		tx.err = fmt.Errorf("tell of attachment %s: %w", a.ID, err)
		return
	}
	at := origin.Time
	if what == store.AttachmentCreated {
		at = a.CreatedAt()
	}
	tx.post(store.Event{ID: tx.ids.New(origin.Time), Type: what, Time: at, Queued: origin.Time, Origin: *origin, Space: space, Attachment: a})
}

func (tx *writeTx) post(e store.Event) {
	tx.append(bucketOutbox, recordOf(e))
	tx.posted.events++
	tx.posted.told++
	tx.postedAt = e.Queued
}

// append keeps a record under the next number. Numbers are not used again.
func (tx *writeTx) append(bucket []byte, record any) {
	to := tx.Bucket(bucket)
	to.FillPercent = 1 // keys only ever come at the end
	seq, err := to.NextSequence()
	if err != nil {
		tx.err = errors.Join(tx.err, fmt.Errorf("number for bucket %q: %w", bucket, err))
		return
	}
	if tx.logging {
		tx.batch = tx.batch.SetSequence(bucket, seq)
	}
	tx.save(bucket, number(seq), record)
}

func (tx *writeTx) bury(e eventRecord, at time.Time, reason string) {
	tx.append(bucketDead, deadRecord{e, at.UTC(), reason})
	tx.posted.dead++
}

// boundOutbox makes dead letters of the oldest events while there are too
// many, and forgets the oldest dead letters. It goes through a bucket once,
// since a cursor steps over everything that was deleted before it.
func (tx *writeTx) boundOutbox(p *postbox) {
	if tx.posted.told > 0 {
		for _, old := range tx.firstOf(bucketOutbox, p.events.Load()+tx.posted.events-p.max) {
			var record eventRecord
			if err := json.Unmarshal(old.value, &record); err != nil {
				tx.err = errors.Join(tx.err, fmt.Errorf("event %d: %w", old.seq, errEvent))
				return
			}
			tx.bury(record, tx.postedAt, store.ReasonOutboxFull)
			tx.delete(bucketOutbox, number(old.seq))
			tx.posted.events--
		}
	}
	if tx.posted.dead > 0 {
		for _, old := range tx.firstOf(bucketDead, p.dead.Load()+tx.posted.dead-p.max) {
			tx.delete(bucketDead, number(old.seq))
			tx.posted.dead--
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
	for seq, value := range numbered(tx.dbTx, bucket, 0) {
		list = append(list, numberedValue{seq, bytes.Clone(value)})
		if int64(len(list)) == n {
			break
		}
	}
	return list
}

// Events implements Outbox.
func (b *Store) Events(ctx context.Context, after uint64, limit int) (list []store.Event, err error) {
	err = b.view(ctx, func(tx *dbTx) error {
		for seq, value := range numbered(tx, bucketOutbox, after) {
			if len(list) >= limit {
				return nil
			}
			var record eventRecord
			if err := json.Unmarshal(value, &record); err != nil {
				return fmt.Errorf("event %d: %w", seq, errEvent)
			}
			e, err := record.event(seq)
			if err != nil {
				return fmt.Errorf("event %d: %w", seq, err)
			}
			list = append(list, e)
		}
		return nil
	})
	return list, err
}

// SettleEvents implements Outbox.
func (b *Store) SettleEvents(ctx context.Context, delivered []uint64, dead ...store.DeadLetter) error {
	return b.update(ctx, func(tx *writeTx) error {
		for _, seq := range delivered {
			tx.take(seq)
		}
		for _, letter := range dead {
			if tx.take(letter.Event.Seq) {
				tx.bury(recordOf(letter.Event), letter.Time, letter.Reason)
			}
		}
		return nil
	})
}

// take removes an event, and says whether it was there.
func (tx *writeTx) take(seq uint64) bool {
	if !has(tx.dbTx, bucketOutbox, number(seq)) {
		return false
	}
	tx.delete(bucketOutbox, number(seq))
	tx.posted.events--
	return true
}

// DeadLetters implements Outbox.
func (b *Store) DeadLetters(ctx context.Context, after uint64, limit int) (list []store.DeadLetter, err error) {
	err = b.view(ctx, func(tx *dbTx) error {
		for seq, value := range numbered(tx, bucketDead, after) {
			if len(list) >= limit {
				return nil
			}
			letter, err := decodeDead(seq, value)
			if err != nil {
				return err
			}
			list = append(list, letter)
		}
		return nil
	})
	return list, err
}

func decodeDead(seq uint64, value []byte) (store.DeadLetter, error) {
	var record deadRecord
	if err := json.Unmarshal(value, &record); err != nil {
		return store.DeadLetter{}, fmt.Errorf("dead letter %d: %w", seq, errEvent)
	}
	letter, err := record.letter(seq)
	if err != nil {
		return store.DeadLetter{}, fmt.Errorf("dead letter %d: %w", seq, err)
	}
	return letter, nil
}

// Redeliver implements Outbox.
func (b *Store) Redeliver(ctx context.Context, now time.Time, limit int) (events int, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		events = 0 // the change may be tried twice
		var letters []store.DeadLetter
		for _, old := range tx.firstOf(bucketDead, int64(limit)) {
			letter, err := decodeDead(old.seq, old.value)
			if err != nil {
				return err
			}
			letters = append(letters, letter)
		}
		for _, letter := range letters {
			tx.delete(bucketDead, number(letter.Seq))
			tx.posted.dead--
			letter.Event.Queued = now
			tx.post(letter.Event)
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
		if key, _ := tx.entries(bucketDead).Last(); len(key) == 8 {
			head = binary.BigEndian.Uint64(key)
		}
		through, err := tx.ripe(deadMarks, head, age, keep)
		if err != nil {
			return err
		}
		var old []uint64
		for seq := range numbered(tx.dbTx, bucketDead, 0) {
			if len(old) >= limit || seq > through {
				break
			}
			old = append(old, seq)
		}
		for _, seq := range old {
			tx.delete(bucketDead, number(seq))
			tx.posted.dead--
			removed++
		}
		return nil
	})
	return removed, err
}

func (c *checker) outbox() error {
	if c.Bucket(bucketOutbox) == nil { // a copy of an older database
		return nil
	}
	return c.each(bucketOutbox, 8, func(key, value []byte) error {
		var record eventRecord
		if err := json.Unmarshal(value, &record); err != nil {
			return err
		}
		_, err := record.event(0)
		return err
	})
}

func (c *checker) dead() error {
	if c.Bucket(bucketDead) == nil {
		return nil
	}
	return c.each(bucketDead, 8, func(key, value []byte) error {
		_, err := decodeDead(binary.BigEndian.Uint64(key), value)
		return err
	})
}

var errEvent = errors.New("damaged event of the outbox")

// eventRecord is an event as it is kept. The attachment is a record as in
// encoding.go, with what stands in its key there and in other records beside
// it, so that the event is the same whatever happens later.
type eventRecord struct {
	ID       uuid.UUID       `json:"id"`
	Type     store.EventType `json:"type"`
	Time     time.Time       `json:"time"`
	Queued   time.Time       `json:"queued"`
	UserID   uuid.UUID       `json:"user,omitzero"`
	ActorID  uuid.UUID       `json:"actor,omitzero"`
	Operator bool            `json:"operator,omitempty"`
	Space    string          `json:"space"`
	Parent   []byte          `json:"parent"`
	About    uuid.UUID       `json:"attachment"`
	Record   []byte          `json:"record"`
	Uploader string          `json:"uploader"`
}

func recordOf(e store.Event) eventRecord {
	return eventRecord{
		ID: e.ID, Type: e.Type, Time: e.Time.UTC(), Queued: e.Queued.UTC(),
		UserID: e.Origin.UserID, ActorID: e.Origin.ActorID, Operator: e.Origin.Operator,
		Space: e.Space, Parent: parentKey(e.Attachment.Parent), About: e.Attachment.ID,
		Record: encodeRecord(e.Attachment), Uploader: e.Attachment.Uploader,
	}
}

func (r eventRecord) event(seq uint64) (store.Event, error) {
	p, err := parseParent(r.Parent)
	if err != nil {
		return store.Event{}, errEvent
	}
	a, err := decodeRecord(p, r.About, r.Record)
	if err != nil {
		return store.Event{}, errEvent
	}
	a.Uploader = r.Uploader
	return store.Event{
		Seq: seq, ID: r.ID, Type: r.Type, Time: r.Time, Queued: r.Queued,
		Origin: store.Origin{UserID: r.UserID, ActorID: r.ActorID, Operator: r.Operator},
		Space:  r.Space, Attachment: a,
	}, nil
}

// deadRecord is a dead letter as it is kept.
type deadRecord struct {
	Event  eventRecord `json:"event"`
	Time   time.Time   `json:"time"`
	Reason string      `json:"reason"`
}

func (r deadRecord) letter(seq uint64) (store.DeadLetter, error) {
	e, err := r.Event.event(0)
	return store.DeadLetter{Seq: seq, Event: e, Time: r.Time, Reason: r.Reason}, err
}
