package store_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// Whatever becomes of the bytes of an entry, they are read as that entry or not at all.
func TestAnEntryIsDecodedWholeOrNot(t *testing.T) {
	for _, e := range []store.Entry{
		{Time: time.UnixMilli(0).UTC()},
		{Seq: 1<<64 - 1, Time: time.UnixMilli(-1).UTC(), Operator: true, Outcome: "done"},
		{
			Seq: 7, Time: time.UnixMilli(1_700_000_000_123).UTC(), UserID: uuid.New(), ActorID: uuid.New(), KeyID: uuid.New(),
			Action: "a", Resource: "r", ID: "i", Name: "Übersicht\x00\xff.pdf" + strings.Repeat("x", 300), Space: "s", Address: "::1", RequestID: "q", Outcome: "done",
		},
	} {
		raw := e.Encode()
		if got, err := store.DecodeEntry(raw); err != nil || got != e {
			t.Errorf("%+v came back as %+v, %v", e, got, err)
		}
		for n := range raw {
			if got, err := store.DecodeEntry(raw[:n]); err == nil {
				t.Errorf("the first %d of %d bytes are read as %+v", n, len(raw), got)
			}
			changed := bytes.Clone(raw)
			changed[n] ^= 0x81
			if got, err := store.DecodeEntry(changed); err == nil && !bytes.Equal(got.Encode(), changed) {
				t.Errorf("with another byte %d, it is read as %+v", n, got)
			}
		}
		if got, err := store.DecodeEntry(append(raw, 0)); err == nil {
			t.Errorf("a byte more is read as %+v", got)
		}
	}
}
