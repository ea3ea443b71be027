package schema

import (
	"encoding/binary"
	"errors"
	"time"

	"attachd/blobs"
)

// ObjectKey is the SHA-256 of an object's content, and the object's key.
func ObjectKey(o blobs.Object) []byte { return append(o.Ref[:len(o.Ref):len(o.Ref)], o.Key[:]...) }

// ParseObject reads an ObjectKey.
func ParseObject(data []byte) (o blobs.Object, err error) {
	if len(data) != len(o.Ref)+len(o.Key) {
		return o, ErrKey
	}
	copy(o.Key[:], data[copy(o.Ref[:], data):])
	return o, nil
}

// GarbageKey is the time in unix seconds at which an object became garbage, and its
// ObjectKey.
func GarbageKey(since, object []byte) []byte { return Join(since, object) }

// ParseGarbage reads a GarbageKey.
func ParseGarbage(data []byte) (since time.Time, o blobs.Object, err error) {
	if len(data) < 8 {
		return since, o, ErrKey
	}
	o, err = ParseObject(data[8:])
	return time.Unix(int64(binary.BigEndian.Uint64(data)), 0), o, err
}

// EncodePlace encodes where a content is.
func EncodePlace(p blobs.Place) []byte {
	out := binary.BigEndian.AppendUint64(p.Key[:len(p.Key):len(p.Key)], uint64(p.Size))
	return binary.BigEndian.AppendUint64(out, uint64(p.Stored.Unix()))
}

// DecodePlace reads what EncodePlace wrote for the content ref.
func DecodePlace(ref blobs.Ref, data []byte) (p blobs.Place, err error) {
	if len(data) != 24 {
		return p, errors.New("damaged place of a content")
	}
	p.Ref = ref
	copy(p.Key[:], data)
	p.Size = int64(binary.BigEndian.Uint64(data[8:]))
	p.Stored = time.Unix(int64(binary.BigEndian.Uint64(data[16:])), 0)
	return p, nil
}

// DecodeSeconds reads what EncodeSeconds wrote.
func DecodeSeconds(data []byte) (time.Time, error) {
	if len(data) != 8 {
		return time.Time{}, errors.New("damaged time")
	}
	return time.Unix(int64(binary.BigEndian.Uint64(data)), 0), nil
}
