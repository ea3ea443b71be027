package schema

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

func someRecords() []store.Attachment {
	id := uuid.MustParse("0190d3a0-0000-7000-8000-000000000001")
	return []store.Attachment{
		{ID: id},
		{
			ID: id, Parent: store.Parent{Kind: store.Ticket, ID: id}, CommentID: uuid.NullUUID{UUID: id, Valid: true},
			FileName: "Übersicht 📎.pdf", Size: 1<<63 - 1, Type: "application/pdf", SHA256: [32]byte{1, 31: 2}, UploaderID: id,
		},
		// A comment with the zero id is still one.
		{ID: id, CommentID: uuid.NullUUID{Valid: true}, FileName: string(make([]byte, 300))},
	}
}

func TestRecordsAreReadAsWritten(t *testing.T) {
	for _, want := range someRecords() {
		got, err := DecodeAttachment(want.Parent, want.ID, EncodeAttachment(want))
		if err != nil || got != want {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
}

func TestDamagedRecordsAreErrors(t *testing.T) {
	for _, a := range someRecords() {
		whole := EncodeAttachment(a)
		for n := range whole {
			if _, err := DecodeAttachment(a.Parent, a.ID, whole[:n]); err == nil {
				t.Fatalf("%d of %d bytes were taken for a record", n, len(whole))
			}
		}
		if _, err := DecodeAttachment(a.Parent, a.ID, append(whole, 0)); err == nil {
			t.Fatal("a byte too many was taken")
		}
		whole[0]++
		if _, err := DecodeAttachment(a.Parent, a.ID, whole); err == nil {
			t.Fatal("another version was taken")
		}
	}
}

// Whatever can be decoded can be encoded and decoded again.
// ASVS 1.2.4
func FuzzDecodeRecord(f *testing.F) {
	for _, a := range someRecords() {
		f.Add(EncodeAttachment(a))
	}
	f.Add([]byte{recordVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := DecodeAttachment(store.Parent{}, uuid.Nil, data)
		if err != nil {
			return
		}
		second, err := DecodeAttachment(store.Parent{}, uuid.Nil, EncodeAttachment(first))
		if err != nil || second != first {
			t.Fatalf("got %+v, %v\nwant %+v", second, err, first)
		}
	})
}

func TestTimeKeysAreInTheOrderOfTime(t *testing.T) {
	now := time.Unix(1e9, 0)
	times := []time.Time{{}, time.Unix(-1, 5), time.Unix(0, 0), now, now.Add(1), now.Add(time.Second)}
	if !slices.IsSortedFunc(times, func(a, b time.Time) int { return bytes.Compare(TimeKey(a), TimeKey(b)) }) {
		t.Fatal("out of order")
	}
}
