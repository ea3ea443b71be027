package store

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// EventType says what happened to an attachment.
type EventType string

const (
	AttachmentCreated EventType = "attachment.created"
	AttachmentDeleted EventType = "attachment.deleted"
)

// Origin says when and on whose behalf a change is made.
type Origin struct {
	Time     time.Time
	UserID   uuid.UUID // whose rights counted; zero when nobody was known
	ActorID  uuid.UUID // the superadmin who acted for that user; else zero
	Operator bool      // it came from whoever may open the data directory
}

// Event is something that happened to an attachment and that somebody else is
// to be told of.
type Event struct {
	Seq        uint64    // place in the outbox; given when it is kept
	ID         uuid.UUID // stays the same however often the event is sent
	Type       EventType
	Time       time.Time // when it happened, UTC
	Queued     time.Time // when it came into the outbox last
	Origin     Origin    // without its Time
	Space      string    // slug
	Attachment Attachment
}

// DeadLetter is an event that was given up.
type DeadLetter struct {
	Seq    uint64 // place among the dead letters; given when it is kept
	Event  Event
	Time   time.Time // when it was given up
	Reason string    // a few words
}

// Outbox keeps events until they are delivered, and for a while those that
// could not be. Both are bounded: when there are more than MaxEvents in the
// outbox, the oldest become dead letters; when there are more dead letters,
// the oldest are forgotten.
//
// A change whose context has an Origin (WithOutbox) is kept together with an
// event for each attachment that it creates or deletes, all or nothing.
type Outbox interface {
	// Events gives at most limit events, oldest first, beginning after seq.
	Events(ctx context.Context, after uint64, limit int) ([]Event, error)
	// AckEvents removes events from the outbox: those that were delivered,
	// and those that become dead letters. What is not there any more is no
	// error.
	AckEvents(ctx context.Context, delivered []uint64, dead ...DeadLetter) error
	// DeadLetters gives at most limit dead letters, those given up first
	// first, beginning after seq.
	DeadLetters(ctx context.Context, after uint64, limit int) ([]DeadLetter, error)
	// Redeliver puts at most limit dead letters back at the end of the outbox,
	// and says how many.
	Redeliver(ctx context.Context, now time.Time, limit int) (events int, err error)
	// PruneDeadLetters forgets at most limit dead letters that have been there
	// for as long as they are to be kept, as PruneAudit does, and says how many.
	PruneDeadLetters(ctx context.Context, age, keep time.Duration, limit int) (removed int, err error)
	// OutboxSize is how many events and dead letters there are. It costs
	// nothing.
	OutboxSize() (events, dead int64)
	// NewEvents is told when events have come into the outbox.
	NewEvents() <-chan struct{}
}

// MaxEvents is how many events the outbox holds, and how many dead letters
// are kept.
const MaxEvents = 100_000

// ReasonOutboxFull is why events become dead letters without being sent.
const ReasonOutboxFull = "the outbox was full"

type originContext struct{}

// WithOutbox gives a context with which the events of a change are kept with
// it, in the same commit.
func WithOutbox(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originContext{}, &o)
}

// OriginOf gives what WithOutbox put into the context; nil where nothing was, and
// so no event is kept.
func OriginOf(ctx context.Context) *Origin {
	o, _ := ctx.Value(originContext{}).(*Origin)
	return o
}
