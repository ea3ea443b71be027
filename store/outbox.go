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
	// AttachmentDeleted tells of a deletion, for good or into the trash.
	AttachmentDeleted  EventType = "attachment.deleted"
	AttachmentRestored EventType = "attachment.restored" // from the trash
	AttachmentPurged   EventType = "attachment.purged"   // removed for good from the trash
)

// Origin says when and on whose behalf a change is made.
type Origin struct {
	Time     time.Time
	UserID   uuid.UUID // the user whose rights applied; zero for an unauthenticated caller
	ActorID  uuid.UUID // the superadmin who acted for that user; else zero
	Operator bool      // whether it was made by someone who can open the data directory
}

// Event is a change of an attachment of which another system is to be notified.
type Event struct {
	Seq        uint64    // position in the outbox; assigned when it is stored
	ID         uuid.UUID // stays the same however often the event is sent
	Type       EventType
	Time       time.Time // when it happened, UTC
	Queued     time.Time // when it was last added to the outbox
	Origin     Origin    // without its Time
	Space      string    // slug
	Attachment Attachment
}

// DeadLetter is an event whose delivery was given up.
type DeadLetter struct {
	Seq    uint64 // position among the dead letters; assigned when it is stored
	Event  Event
	Time   time.Time // when it was given up
	Reason string    // a few words
}

// Outbox stores events until they are delivered, and for a while those that could
// not be delivered. Both are bounded: when there are more than MaxEvents in the
// outbox, the oldest become dead letters; when there are more dead letters than
// that, the oldest are deleted.
//
// A change whose context has an Origin (WithOutbox) is stored together with an
// event for each attachment that it creates or deletes, all or nothing.
type Outbox interface {
	// Events returns at most limit events, oldest first, beginning after seq.
	Events(ctx context.Context, after uint64, limit int) ([]Event, error)
	// AckEvents removes events from the outbox: those that were delivered, and
	// those that become dead letters. An event that is not in the outbox any more
	// is no error.
	AckEvents(ctx context.Context, delivered []uint64, dead ...DeadLetter) error
	// DeadLetters returns at most limit dead letters, the earliest given up first,
	// beginning after seq.
	DeadLetters(ctx context.Context, after uint64, limit int) ([]DeadLetter, error)
	// Redeliver moves at most limit dead letters back to the end of the outbox, and
	// returns how many.
	Redeliver(ctx context.Context, now time.Time, limit int) (events int, err error)
	// PruneDeadLetters deletes at most limit dead letters that have been stored for
	// at least keep, by age as PruneAudit does, and returns how many.
	PruneDeadLetters(ctx context.Context, age, keep time.Duration, limit int) (removed int, err error)
	// OutboxSize is the number of events and of dead letters. It is O(1).
	OutboxSize() (events, dead int64)
	// NewEvents is signalled when events were added to the outbox.
	NewEvents() <-chan struct{}
}

// MaxEvents is how many events the outbox holds at most, and how many dead letters
// are stored.
const MaxEvents = 100_000

// ReasonOutboxFull is the Reason of events that become dead letters without being
// sent.
const ReasonOutboxFull = "the outbox was full"

type originContext struct{}

// WithOutbox returns a context with which the events of a change are stored in the
// same commit.
func WithOutbox(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originContext{}, &o)
}

// OriginOf returns the Origin that WithOutbox put into the context; nil where there
// is none, and so no event is stored.
func OriginOf(ctx context.Context) *Origin {
	o, _ := ctx.Value(originContext{}).(*Origin)
	return o
}
