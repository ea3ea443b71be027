package schema

import (
	"github.com/google/uuid"

	"attachd/store"
)

// HoldRecord is a legal hold.
type HoldRecord struct {
	Space      string     `json:"space"`
	Kind       store.Kind `json:"kind,omitempty"` // zero where it is on all of the space, as is the next
	Parent     uuid.UUID  `json:"parent,omitzero"`
	Attachment uuid.UUID  `json:"attachment,omitzero"` // zero where it is on all of the parent
	Reason     string     `json:"reason"`
	ByID       uuid.UUID  `json:"by"`
}

// NewHoldRecord is the record of a hold.
func NewHoldRecord(h store.Hold) HoldRecord {
	return HoldRecord{Space: h.On.Space, Kind: h.On.Parent.Kind, Parent: h.On.Parent.ID, Attachment: h.On.Attachment, Reason: h.Reason, ByID: h.ByID}
}

// Hold is the hold of the record, without the name of who set it.
func (r HoldRecord) Hold(id uuid.UUID) store.Hold {
	on := store.Held{Space: r.Space, Parent: store.Parent{Kind: r.Kind, ID: r.Parent}, Attachment: r.Attachment}
	return store.Hold{ID: id, On: on, Reason: r.Reason, ByID: r.ByID}
}

// HeldBy is what the keys in the bucket "held" begin with of the holds on this: each is the
// place of a hold.
func HeldBy(on store.Held) []byte {
	return Join(Slug0(on.Space), ParentKey(on.Parent), on.Attachment[:])
}

// HeldBelow is what the keys in the bucket "held" begin with of the holds on this, and on what
// is in it.
func HeldBelow(on store.Held) []byte {
	switch {
	case on.Attachment != uuid.Nil:
		return HeldBy(on)
	case on.Parent != store.Parent{}:
		return Join(Slug0(on.Space), ParentKey(on.Parent))
	}
	return Slug0(on.Space)
}

// ParseHeld reads a key of the bucket "held".
func ParseHeld(key []byte) (store.Hold, error) {
	h, ok := store.HoldAt(key)
	if !ok {
		return h, ErrKey
	}
	return h, nil
}
