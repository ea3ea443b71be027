package schema

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/google/uuid"

	"attachd/store"
)

// An attachment's record is, in this order:
//
//	version    1 byte: 1
//	comment    uvarint: how many bytes follow, 0 or 16; the id
//	size       uvarint
//	sha256     32 bytes
//	uploader   16 bytes
//	file name  uvarint: how many bytes follow; the bytes
//	type       likewise
//
// Its id and parent are in the key. All other records are JSON.
const recordVersion = 1

var errRecord = errors.New("damaged record of an attachment")

// EncodeAttachment encodes the record of an attachment.
func EncodeAttachment(a store.Attachment) []byte {
	out := make([]byte, 0, 2+16+binary.MaxVarintLen64+32+16+2*binary.MaxVarintLen32+len(a.FileName)+len(a.Type))
	out = append(out, recordVersion)
	if a.CommentID.Valid {
		out = append(out, 16)
		out = append(out, a.CommentID.UUID[:]...)
	} else {
		out = append(out, 0)
	}
	out = binary.AppendUvarint(out, uint64(a.Size))
	out = append(out, a.SHA256[:]...)
	out = append(out, a.UploaderID[:]...)
	out = binary.AppendUvarint(out, uint64(len(a.FileName)))
	out = append(out, a.FileName...)
	out = binary.AppendUvarint(out, uint64(len(a.Type)))
	return append(out, a.Type...)
}

// DecodeAttachment reads the record of an attachment.
func DecodeAttachment(p store.Parent, id uuid.UUID, data []byte) (store.Attachment, error) {
	d := decoder{rest: data}
	if version := d.take(1); d.failed || version[0] != recordVersion {
		return store.Attachment{}, errRecord
	}
	a := store.Attachment{ID: id, Parent: p}
	switch comment := d.take(d.uvarint()); len(comment) {
	case 0:
	case 16:
		a.CommentID = uuid.NullUUID{UUID: uuid.UUID(comment), Valid: true}
	default:
		d.failed = true
	}
	size := d.uvarint()
	copy(a.SHA256[:], d.take(32))
	copy(a.UploaderID[:], d.take(16))
	a.FileName, a.Type = d.twoStrings()
	if d.failed || size > math.MaxInt64 || len(d.rest) > 0 {
		return store.Attachment{}, errRecord
	}
	a.Size = int64(size)
	return a, nil
}

// decoder decodes a record and records whether it was too short.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) take(n uint64) []byte {
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return nil
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// twoStrings decodes two strings with their lengths. They share one allocation,
// since a list has many of them.
func (d *decoder) twoStrings() (first, second string) {
	n := d.uvarint()
	both := d.rest
	d.take(n)
	m := d.uvarint()
	at := len(both) - len(d.rest)
	if d.take(m); d.failed {
		return "", ""
	}
	text := string(both[:at+int(m)])
	return text[:n], text[at:]
}
