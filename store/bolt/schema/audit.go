package schema

import (
	"encoding/binary"
	"fmt"

	"attachd/store"
)

// ReadEntry reads an entry of the audit log. One that cannot be read has Damage
// set.
func ReadEntry(key, value []byte) (e store.Entry) {
	seq := binary.BigEndian.Uint64(key)
	if len(value) < 32 {
		return store.Entry{Seq: seq, Damage: "cannot be read"}
	}
	e, err := store.DecodeEntry(value[32:])
	switch {
	case err != nil:
		e = store.Entry{Seq: seq, Damage: "cannot be read"}
	case e.Seq != seq:
		e = store.Entry{Seq: seq, Damage: fmt.Sprintf("says that it is entry %d", e.Seq)}
	}
	e.Hash = [32]byte(value)
	return e
}

// AuditRuns is the key in the bucket Meta of the runs of entries whose times
// ascend.
var AuditRuns = []byte("audit runs")

// Keys of the ages of numbered records in the bucket Meta.
var (
	AuditMarks = []byte("audit marks")
	DeadMarks  = []byte("dead marks")
)

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
