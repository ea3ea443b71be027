package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

var errEntry = errors.New("damaged entry of the audit log")

// DecodeEntry reads the bytes that store.Entry.Encode returns.
func DecodeEntry(data []byte) (e store.Entry, err error) {
	d := decoder{rest: data}
	if version := d.take(1); d.failed || version[0] != store.EntryVersion {
		return store.Entry{}, errEntry
	}
	number := func() uint64 {
		raw := d.take(8)
		if d.failed {
			return 0
		}
		return binary.BigEndian.Uint64(raw)
	}
	e.Seq = number()
	e.Time = time.UnixMilli(int64(number())).UTC()
	for _, id := range []*uuid.UUID{&e.UserID, &e.ActorID, &e.KeyID} {
		copy(id[:], d.take(16))
	}
	operator := d.take(1)
	for _, text := range e.Texts() {
		*text = string(d.take(d.uvarint()))
	}
	if d.failed || len(d.rest) > 0 || operator[0] > 1 {
		return store.Entry{}, errEntry
	}
	e.Operator = operator[0] == 1
	return e, nil
}

// ReadEntry reads an entry of the audit log. One that cannot be read has Damage
// set.
func ReadEntry(key, value []byte) (e store.Entry) {
	seq := binary.BigEndian.Uint64(key)
	if len(value) < 32 {
		return store.Entry{Seq: seq, Damage: "cannot be read"}
	}
	e, err := DecodeEntry(value[32:])
	switch {
	case err != nil:
		e = store.Entry{Seq: seq, Damage: "cannot be read"}
	case e.Seq != seq:
		e = store.Entry{Seq: seq, Damage: fmt.Sprintf("says that it is entry %d", e.Seq)}
	}
	e.Hash = [32]byte(value)
	return e
}

// Keys of the ends of the chain in the bucket Meta.
var (
	AuditAnchor = []byte("audit anchor")
	AuditHead   = []byte("audit head")
)

// EncodeLink encodes a position in the chain.
func EncodeLink(l store.ChainPos) []byte { return Join(Number(l.Seq), l.Hash[:]) }

// DecodeLink reads a position in the chain.
func DecodeLink(raw []byte) (store.ChainPos, error) {
	if len(raw) != 8+32 {
		return store.ChainPos{}, fmt.Errorf("a place in the chain of %d bytes", len(raw))
	}
	return store.ChainPos{Seq: binary.BigEndian.Uint64(raw), Hash: [32]byte(raw[8:])}, nil
}
