package schema

import (
	"bytes"
	"slices"

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
// the parent or the slug of the space. Its value is a RemovalRecord.
const (
	RemovesParent = byte(1)
	RemovesSpace  = byte(2)
)

// RemovalRecord describes a removal under way, and on whose behalf it is done.
type RemovalRecord struct {
	Space  string        `json:"space"`
	Entry  []byte        `json:"entry,omitempty"` // of the audit log
	Origin *store.Origin `json:"origin,omitempty"`
}

// ParentRemoval is the key of the removal of a parent.
func ParentRemoval(p store.Parent) []byte { return append([]byte{RemovesParent}, ParentKey(p)...) }

// SpaceRemoval is the key of the removal of a space.
func SpaceRemoval(slug string) []byte { return append([]byte{RemovesSpace}, slug...) }
