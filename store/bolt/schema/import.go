package schema

import (
	"bytes"
	"slices"

	"github.com/google/uuid"

	"attachd/store"
)

// ImportBuckets are the buckets that an import writes to, in the order in which it
// does.
var ImportBuckets = [][]byte{
	Users, Members, Memberships, Entities, SpaceEntities, Comments,
	Spaces,
}

// The keys of the bucket "import":
//
//	0              the mark; its value is the import's audit entry, or empty
//	1 to 7 key     what goes into a bucket of ImportBuckets
//	255 seq, 8     JSON of a note, for an entry of the audit log
var (
	ImportMark  = []byte{0}
	ImportNotes = byte(255)
)

// StagedKey is the key in the bucket "import" of an entry of another bucket.
func StagedKey(bucket, key []byte) []byte {
	number := slices.IndexFunc(ImportBuckets, func(b []byte) bool { return bytes.Equal(b, bucket) })
	return append([]byte{byte(number + 1)}, key...) // 0 for another bucket
}

// Note is an entry of the audit log for a side effect of a change.
type Note struct{ Action, User, Name, Space string }

// A key in the bucket "removals" begins with one of these, followed by the key of
// the parent or the slug of the space. Behind Tells that is preceded by one of the others.
// Its value is a RemovalRecord.
const (
	RemovesParent = byte(1)
	RemovesSpace  = byte(2)
	Tells         = byte(3) // events are to be enqueued; nothing is removed
)

// RemovalRecord describes a removal under way, and on whose behalf it is done.
type RemovalRecord struct {
	Space  string        `json:"space"`
	Entry  []byte        `json:"entry,omitempty"` // of the audit log
	Origin *store.Origin `json:"origin,omitempty"`
	// Purges is set where it was in the trash.
	Purges bool `json:"purges,omitempty"`
	// Stays is set where the attachments stay in the trash, each by itself. Files are those
	// that are left below.
	Stays *store.Deletion `json:"stays,omitempty"`
	Files store.Usage     `json:"files,omitzero"`
	// Event is the type of the events that are to be enqueued, and After the AttachmentKey of
	// the last that was. There is none for attachments that came later than Last.
	Event store.EventType `json:"event,omitempty"`
	After []byte          `json:"after,omitempty"`
	Last  uuid.UUID       `json:"last,omitzero"`
}

// ParentRemoval is the key of the removal of a parent.
func ParentRemoval(p store.Parent) []byte { return append([]byte{RemovesParent}, ParentKey(p)...) }

// SpaceRemoval is the key of the removal of a space.
func SpaceRemoval(slug string) []byte { return append([]byte{RemovesSpace}, slug...) }

// Telling is the key in the bucket "removals" of the events that are to be enqueued of what
// is below the parent or space of a removal.
func Telling(removal []byte) []byte { return append([]byte{Tells}, removal...) }
