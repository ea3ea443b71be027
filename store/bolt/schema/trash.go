package schema

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// What is in the trash has a key that begins with TrashesAttachment, RemovesParent or
// RemovesSpace, followed by the key of the attachment or parent, or the slug of the space.
const TrashesAttachment = byte(0)

// InTrash is the value in Contents of an attachment that was deleted by itself. In
// AttachmentIDs it follows the key of the parent.
var InTrash = []byte{1}

// TrashSum is the key in the bucket Meta of the usage of all attachments in the trash.
var TrashSum = []byte("trash")

// AttachmentKey is the key of an attachment in its bucket, and in the bucket "trash".
func AttachmentKey(a store.Attachment) []byte { return Join(ParentKey(a.Parent), a.ID[:]) }

// TrashKey is the key of an attachment among all that is in the trash.
func TrashKey(a store.Attachment) []byte {
	return append([]byte{TrashesAttachment}, AttachmentKey(a)...)
}

// ParseAttachmentKey reads an AttachmentKey.
func ParseAttachmentKey(key []byte) (p store.Parent, id uuid.UUID, err error) {
	if len(key) != 17+16 {
		return p, id, ErrKey
	}
	p, err = ParseParent(key[:17])
	return p, uuid.UUID(key[17:]), err
}

// UntilKey is the key in the bucket "trash_until" of what is in the trash.
func UntilKey(until time.Time, key []byte) []byte {
	return Join(Number(uint64(until.Unix())), key)
}

// ParseUntil reads an UntilKey.
func ParseUntil(data []byte) (until time.Time, key []byte, err error) {
	if len(data) < 8+2 {
		return until, nil, ErrKey
	}
	return time.Unix(int64(binary.BigEndian.Uint64(data)), 0).UTC(), data[8:], nil
}

// TrashPlace is the rest of a key in the bucket "trash_spaces", behind the slug0 of the
// space, or of none for a space: what was deleted last comes first.
func TrashPlace(at time.Time, key []byte) []byte {
	return Join(Number(^uint64(at.Unix())), key)
}

// TrashRecord says when and by whom an attachment was deleted, and in which space.
type TrashRecord struct {
	store.Deletion
	Space string
}

var errTrash = errors.New("damaged record of something in the trash")

// EncodeTrash encodes the record of an attachment in the trash: a byte 1, the times of the
// deletion and of its end in unix seconds, 8 bytes each, the user, the slug of the space
// behind its length, a byte, and the record of the attachment.
func EncodeTrash(t TrashRecord, a store.Attachment) []byte {
	out := append([]byte{1}, EncodeSeconds(t.At.Unix())...)
	out = append(out, EncodeSeconds(t.Until.Unix())...)
	out = append(out, t.ByID[:]...)
	out = append(out, byte(len(t.Space)))
	out = append(out, t.Space...)
	return append(out, EncodeAttachment(a)...)
}

// DecodeTrash reads what EncodeTrash wrote.
func DecodeTrash(p store.Parent, id uuid.UUID, data []byte) (t TrashRecord, a store.Attachment, err error) {
	d := decoder{rest: data}
	version, times, by := d.take(1), d.take(16), d.take(16)
	length := d.take(1)
	if d.failed || version[0] != 1 {
		return t, a, errTrash
	}
	slug := d.take(uint64(length[0]))
	if d.failed {
		return t, a, errTrash
	}
	t.At = time.Unix(int64(binary.BigEndian.Uint64(times)), 0).UTC()
	t.Until = time.Unix(int64(binary.BigEndian.Uint64(times[8:])), 0).UTC()
	t.ByID, t.Space = uuid.UUID(by), string(slug)
	a, err = DecodeAttachment(p, id, d.rest)
	return t, a, err
}

// TrashedObject is a parent or space in the trash, with the record that comes back.
type TrashedObject struct {
	Space  string        `json:"space"`
	At     int64         `json:"at"`    // unix seconds, as is the next
	Until  int64         `json:"until"` // when it is removed for good
	ByID   uuid.UUID     `json:"by"`
	Files  store.Usage   `json:"files"`            // of its attachments
	Entity *EntityRecord `json:"entity,omitempty"` // of a parent
	Record *SpaceRecord  `json:"record,omitempty"` // of a space
	Entry  []byte        `json:"entry,omitempty"`  // of the audit log, for the deletion
	Origin *store.Origin `json:"origin,omitempty"`
}

// Deletion is when and by whom it was deleted.
func (t TrashedObject) Deletion() store.Deletion {
	return store.Deletion{At: time.Unix(t.At, 0).UTC(), Until: time.Unix(t.Until, 0).UTC(), ByID: t.ByID}
}

// ListedIn is the slug0 under which it is in the bucket "trash_spaces".
func (t TrashedObject) ListedIn() []byte {
	if t.Record != nil {
		return Slug0("")
	}
	return Slug0(t.Space)
}
