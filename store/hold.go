package store

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"
)

// MaxHolds is how many holds may be on one attachment, parent or space.
const MaxHolds = 100

// Held says what a hold is on: an attachment, or where that is zero a product, ticket or
// meeting, or where that is zero too a space.
type Held struct {
	Space      string // slug
	Parent     Parent
	Attachment uuid.UUID
}

// Hold is a legal hold.
type Hold struct {
	ID     uuid.UUID // version 7 (RFC 9562), made when it was set
	On     Held
	Reason string
	ByID   uuid.UUID // a user; zero for the operator of the machine
	By     string    // full name, filled in when read, as Attachment.Uploader
}

// Place is where a hold stands in the lists, whose order is that of the bytes: the slug of its
// space and a zero byte, the kind and the id of the parent, the ids of the attachment and of the
// hold.
func (h Hold) Place() []byte {
	place := append([]byte(h.On.Space), 0, byte(h.On.Parent.Kind))
	place = append(append(place, h.On.Parent.ID[:]...), h.On.Attachment[:]...)
	return append(place, h.ID[:]...)
}

// HoldAt reads a Place, and returns what it says of the hold.
func HoldAt(place []byte) (h Hold, ok bool) {
	slug, rest, _ := bytes.Cut(place, []byte{0})
	if len(rest) != 1+3*16 || !ValidSlug(string(slug)) || Kind(rest[0]) > Meeting {
		return Hold{}, false
	}
	on := Held{Space: string(slug), Parent: Parent{Kind: Kind(rest[0]), ID: uuid.UUID(rest[1:17])}, Attachment: uuid.UUID(rest[17:33])}
	return Hold{ID: uuid.UUID(rest[33:]), On: on}, true
}

// SetAt is the time in the hold's id, in whole seconds, UTC.
func (h Hold) SetAt() time.Time {
	sec, _ := h.ID.Time().UnixTime()
	return time.Unix(sec, 0).UTC()
}

// Holds stores legal holds. While one is on an attachment, on its product, ticket or meeting
// or on the space of that, the attachment stays: every method of Attachments, Directory and
// Trash that deletes attachments, parents or spaces, puts them into the trash or removes them
// from there refuses what a hold is on, what it is in, and what it has below, with ErrHeld and
// in the transaction that would delete. So it does for a parent or space without attachments.
// PurgeUntil passes over what is held. What was removed for good before a hold is not brought
// back: Remove goes on.
type Holds interface {
	// SetHold sets a hold on what is there and not in the trash, and returns it with its space,
	// its parent and the name of who sets it. Of On, the caller gives what it is on; the rest is
	// ignored. The hold is in force for each call that begins after this one. ErrNotFound when
	// what it is on is not there, or the user; ErrConflict when the id is taken, there are
	// MaxHolds on it, or another process with an older program would ignore it.
	SetHold(ctx context.Context, h Hold) (Hold, error)
	// Hold returns a hold, or ErrNotFound.
	Hold(ctx context.Context, id uuid.UUID) (Hold, error)
	// Holds lists at most limit holds in a space: those on it first, then those on each of its
	// parents and on that one's attachments, beginning after the given Place; nil begins at the
	// start. Without a space it lists those of all spaces.
	Holds(ctx context.Context, space string, after []byte, limit int) ([]Hold, error)
	// HeldInTrash counts the attachments in the trash that holds keep there, those of parents
	// too. It reads them, and nothing else of the trash.
	HeldInTrash(ctx context.Context) (Usage, error)
	// LiftHold ends a hold, and returns it. ErrNotFound when there is none.
	LiftHold(ctx context.Context, id uuid.UUID) (Hold, error)
}
