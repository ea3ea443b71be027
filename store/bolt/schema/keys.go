package schema

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// Nothing is the value of entries whose key contains everything. It is not nil:
// that is what a bucket returns for a key that is missing.
var Nothing = []byte{}

// Join makes a key of its parts.
func Join(parts ...[]byte) []byte {
	return bytes.Join(parts, nil)
}

// ErrKey is the error of a key that does not have the form of its bucket's keys.
var ErrKey = errors.New("damaged key")

// NoteKey is the key of a note in Meta.
func NoteKey(name string) []byte { return []byte("note " + name) }

// ParentKey is the kind and the id of a product, ticket or meeting.
func ParentKey(p store.Parent) []byte {
	return append([]byte{byte(p.Kind)}, p.ID[:]...)
}

// ParseParent reads a ParentKey.
func ParseParent(data []byte) (p store.Parent, err error) {
	if len(data) != 17 {
		return p, errors.New("damaged key of a product, ticket or meeting")
	}
	p.Kind = store.Kind(data[0])
	copy(p.ID[:], data[1:])
	return p, nil
}

// ParseID reads an id.
func ParseID(data []byte) (uuid.UUID, error) {
	id, err := uuid.FromBytes(data)
	if err != nil {
		return id, fmt.Errorf("damaged key: %w", err)
	}
	return id, nil
}

// Slug0 is a slug and a zero byte.
func Slug0(slug string) []byte {
	return append([]byte(slug), 0)
}

// SplitSlug0 splits a key of a slug, a zero byte, and rest bytes more.
func SplitSlug0(key []byte, rest int) (slug, after []byte, err error) {
	slug, after, found := bytes.Cut(key, []byte{0})
	if !found || len(after) != rest {
		return nil, nil, ErrKey
	}
	return slug, after, nil
}

// TimeKey encodes a time in 12 bytes that sort by time; the sign bit is inverted
// because times before 1970 would sort last otherwise.
func TimeKey(t time.Time) []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(t.Unix())^1<<63)
	return binary.BigEndian.AppendUint32(out, uint32(t.Nanosecond()))
}

// Number is a number, big-endian.
func Number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
