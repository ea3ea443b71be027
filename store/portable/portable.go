// Package portable defines all that a store has as a stream of rows, in a form that no
// backend has for itself: with it everything moves from one kind of store to another, and
// back.
//
// The rows come in the order of this file, so that each names only what came before it,
// and the last is an End. What is only there to find something else is not among them, nor
// is what is hidden and goes away by itself, such as the members of a deleted space.
package portable

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// Source is a store that can be read as of one moment.
type Source interface {
	// Export returns all rows. Changes go on meanwhile, and are not among them.
	Export(ctx context.Context) iter.Seq2[Row, error]
}

// Target is a store that takes what another one had.
type Target interface {
	// Import writes all rows into a store that has nothing, except that it may have a
	// catalog where none is among the rows, and that notes with the same names are
	// replaced. After an error it has as much as before, or is not to be used. When it
	// returns nil, all is on stable storage.
	Import(ctx context.Context, rows iter.Seq2[Row, error]) error
	// ClearRecords removes all records, so that an Import can be begun again. The catalog and the
	// notes stay. Nobody else may use the store.
	ClearRecords(ctx context.Context) error
}

// Row is one of the types of this file. Times are UTC, those of the catalog in whole
// seconds. A row, and the slices in it, are valid until the next one.
type Row interface{ row() }

// User is a user; a deleted one stays, for the name.
type User struct {
	store.User
	Deleted bool
}

// Space is a space.
type Space struct{ store.Space }

// InTrash says how a parent or space came into the trash, and what comes back with it.
type InTrash struct {
	store.Deletion // without the name
	Files          store.Usage
	Entry          []byte        // of the audit log, encoded; nil where there is none
	Origin         *store.Origin // of the events; nil where there is none
}

// TrashedSpace is a space in the trash.
type TrashedSpace struct {
	store.Space
	InTrash
}

// TrashedEntity is a product, ticket or meeting in the trash. Its space may be in the trash
// or being removed, too.
type TrashedEntity struct {
	store.Entity
	Comments int // the last number that a comment was given
	InTrash
}

// Usage is the usage of a space, where that is not zero.
type Usage struct {
	Space string
	store.Usage
}

// Member is a user's role in a space.
type Member struct{ store.Member }

// Entity is a product, ticket or meeting. It may be in a space that is in the trash or being
// removed.
type Entity struct {
	store.Entity
	Comments int // the last number that a comment was given
}

// Comment is a comment of a ticket, which may be in the trash or being removed. Its Number may
// be zero.
type Comment struct{ store.Comment }

// Removal is a removal under way: of what was in a product, ticket or meeting, or in a
// space where Parent is zero.
type Removal struct {
	Parent store.Parent
	Space  string
	Entry  []byte          // of the audit log, encoded; nil where there is none
	Origin *store.Origin   // of the events; nil where there is none
	Purges bool            // it was in the trash
	Stays  *store.Deletion // with which the attachments stay in the trash, without the name; nil where they do not
	Files  store.Usage     // how much is left of them
}

// Telling are the events that are to be enqueued yet, for the attachments of a product, ticket
// or meeting, or of a space where Parent is zero, in the order of their parents' kinds and ids and
// of their own.
type Telling struct {
	Parent      store.Parent
	Space       string
	Origin      *store.Origin
	Event       store.EventType
	AfterParent store.Parent // of the last one told of
	After       uuid.UUID
	Last        uuid.UUID // there is none for attachments with a higher id
}

// Place is where a content is.
type Place struct{ blobs.Place }

// Intent is an object that may be written.
type Intent struct {
	blobs.Object
	Begun time.Time
}

// Garbage is an object that is to be deleted.
type Garbage struct {
	blobs.Object
	Since time.Time
}

// Attachment is the record of an attachment, without the name of its uploader.
type Attachment struct {
	store.Attachment
	Space string // of the parent, which may be in the trash or being removed
}

// TrashedAttachment is an attachment that was deleted into the trash by itself.
type TrashedAttachment struct {
	store.Attachment
	Space          string // in which it was deleted
	store.Deletion        // without the name
}

// Hold is a legal hold, without the name of who set it.
type Hold struct{ store.Hold }

// Checksums are the checksums of a content's chunks.
type Checksums struct {
	SHA256 [32]byte
	Sums   []byte
}

// Key is an API key.
type Key struct{ store.Key }

// Session is a session.
type Session struct{ store.Session }

// Note is a note.
type Note struct {
	Name  string
	Value []byte
}

// Entry is an entry of the audit log.
type Entry struct {
	Seq     uint64
	Hash    [32]byte
	Encoded []byte // as by store.Entry.Encode, unless it cannot be read
}

// Event is an event of the outbox.
type Event struct{ store.Event }

// DeadLetter is an event that was given up.
type DeadLetter struct{ store.DeadLetter }

// Of says to which numbered records a row belongs.
type Of string

// The numbered records.
const (
	AuditLog    Of = "audit"
	DeadLetters Of = "dead_letters"
	Outbox      Of = "outbox"
)

// Ages are those at which numbered records existed, as package backend encodes them.
type Ages struct {
	Of    Of // AuditLog or DeadLetters
	Marks []byte
}

// Last is the last number that records were given.
type Last struct {
	Of  Of // Outbox or DeadLetters
	Seq uint64
}

// Chain are the ends of the audit log, and the runs of its entries, as package backend
// encodes them.
type Chain struct {
	Anchor, Head store.ChainPos
	Runs         []byte
}

// End ends the stream.
type End struct{ Summary }

func (User) row()              {}
func (Space) row()             {}
func (TrashedSpace) row()      {}
func (TrashedEntity) row()     {}
func (TrashedAttachment) row() {}
func (Telling) row()           {}
func (Usage) row()             {}
func (Member) row()            {}
func (Entity) row()            {}
func (Comment) row()           {}
func (Removal) row()           {}
func (Place) row()             {}
func (Intent) row()            {}
func (Garbage) row()           {}
func (Attachment) row()        {}
func (Hold) row()              {}
func (Checksums) row()         {}
func (Key) row()               {}
func (Session) row()           {}
func (Note) row()              {}
func (Entry) row()             {}
func (Event) row()             {}
func (DeadLetter) row()        {}
func (Ages) row()              {}
func (Last) row()              {}
func (Chain) row()             {}
func (End) row()               {}

// Moment is a time of a row.
func Moment(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// OriginTimes returns an origin with the time of a row; nil for nil.
func OriginTimes(o *store.Origin) *store.Origin {
	if o == nil {
		return nil
	}
	out := *o
	out.Time = Moment(out.Time)
	return &out
}

// Seconds is a time of the catalog.
func Seconds(t time.Time) time.Time { return time.Unix(t.Unix(), 0).UTC() }

// EventTimes returns an event with times of a row.
func EventTimes(e store.Event) store.Event {
	e.Time, e.Queued, e.Origin.Time = Moment(e.Time), Moment(e.Queued), time.Time{}
	return e
}
