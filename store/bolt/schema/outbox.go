package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

var errEvent = errors.New("damaged event of the outbox")

// EventRecord is an event as it is stored. The attachment is encoded as in its
// bucket, together with the fields from its key and from other records, so that the
// event stays the same whatever changes later.
type EventRecord struct {
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

// NewEventRecord is the record of an event.
func NewEventRecord(e store.Event) EventRecord {
	return EventRecord{
		ID: e.ID, Type: e.Type, Time: e.Time.UTC(), Queued: e.Queued.UTC(),
		UserID: e.Origin.UserID, ActorID: e.Origin.ActorID, Operator: e.Origin.Operator,
		Space: e.Space, Parent: ParentKey(e.Attachment.Parent), About: e.Attachment.ID,
		Record: EncodeAttachment(e.Attachment), Uploader: e.Attachment.Uploader,
	}
}

// DecodeEventRecord reads the record of an event.
func DecodeEventRecord(seq uint64, value []byte) (r EventRecord, err error) {
	if err = json.Unmarshal(value, &r); err != nil {
		err = fmt.Errorf("event %d: %w", seq, errEvent)
	}
	return r, err
}

// DecodeEvent reads an event.
func DecodeEvent(seq uint64, value []byte) (store.Event, error) {
	r, err := DecodeEventRecord(seq, value)
	if err != nil {
		return store.Event{}, err
	}
	e, err := r.event(seq)
	if err != nil {
		err = fmt.Errorf("event %d: %w", seq, err)
	}
	return e, err
}

func (r EventRecord) event(seq uint64) (store.Event, error) {
	p, err := ParseParent(r.Parent)
	if err != nil {
		return store.Event{}, errEvent
	}
	a, err := DecodeAttachment(p, r.About, r.Record)
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

// DeadRecord is a dead letter as it is stored.
type DeadRecord struct {
	Event  EventRecord `json:"event"`
	Time   time.Time   `json:"time"`
	Reason string      `json:"reason"`
}

func (r DeadRecord) letter(seq uint64) (store.DeadLetter, error) {
	e, err := r.Event.event(0)
	return store.DeadLetter{Seq: seq, Event: e, Time: r.Time, Reason: r.Reason}, err
}

// DecodeDeadLetter reads a dead letter.
func DecodeDeadLetter(seq uint64, value []byte) (store.DeadLetter, error) {
	var record DeadRecord
	if err := json.Unmarshal(value, &record); err != nil {
		return store.DeadLetter{}, fmt.Errorf("dead letter %d: %w", seq, errEvent)
	}
	letter, err := record.letter(seq)
	if err != nil {
		return store.DeadLetter{}, fmt.Errorf("dead letter %d: %w", seq, err)
	}
	return letter, nil
}
