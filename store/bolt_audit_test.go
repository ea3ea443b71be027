package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"attachd/store"
)

// Whoever changes the file of the database behind attachd's back is found out.
// ASVS 16.4.1, 16.4.2
func TestWhateverIsDoneToTheAuditLogIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(b *bbolt.Bucket) error
		says string
	}{
		"an entry altered": {func(b *bbolt.Bucket) error {
			value := append([]byte{}, b.Get(seq(5))...)
			return b.Put(seq(5), []byte(strings.Replace(string(value), "action 5", "action X", 1)))
		}, "Entry 5 is not what was written"},
		"an entry altered, with a hash that fits": {func(b *bbolt.Bucket) error {
			value := append([]byte{}, b.Get(seq(5))...)
			forged := store.Entry{Seq: 5, Time: start, Action: "forged", Previous: [32]byte(b.Get(seq(4)))}
			copy(value, append(append([]byte{}, hashOf(forged)...), value[32:]...))
			return b.Put(seq(5), value)
		}, "Entry 5 is not what was written"},
		"an entry removed":  {func(b *bbolt.Bucket) error { return b.Delete(seq(5)) }, "those between are missing"},
		"the first removed": {func(b *bbolt.Bucket) error { return b.Delete(seq(1)) }, "those between are missing"},
		"two swapped": {func(b *bbolt.Bucket) error {
			four, five := append([]byte{}, b.Get(seq(4))...), append([]byte{}, b.Get(seq(5))...)
			if err := b.Put(seq(4), five); err != nil {
				return err
			}
			return b.Put(seq(5), four)
		}, "says that it is"},
		"the last cut off": {func(b *bbolt.Bucket) error { return b.Delete(seq(9)) }, "does not hold entry 9"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "attachd.db")
			b, err := store.OpenBolt(path, store.BoltOptions{})
			must(t, err)
			for i := range 9 {
				b.Record(store.Entry{Time: start, Action: fmt.Sprintf("action %d", i+1)})
			}
			must(t, b.Probe(context.Background()))
			_, head, err := b.AuditEnds(context.Background())
			must(t, err)
			must(t, b.Close())

			db, err := bbolt.Open(path, 0o600, nil)
			must(t, err)
			must(t, db.Update(func(tx *bbolt.Tx) error { return c.do(tx.Bucket([]byte("audit"))) }))
			must(t, db.Close())

			b, err = store.OpenBolt(path, store.BoltOptions{})
			must(t, err)
			defer b.Close() // looked at only
			_, _, faults, err := store.VerifyAudit(context.Background(), b, &head)
			if err != nil || len(faults) == 0 || !strings.Contains(strings.Join(faults, "\n"), c.says) {
				t.Errorf("faults %q, %v; want one that says %q", faults, err, c.says)
			}
		})
	}
}

var start = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

func seq(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func hashOf(e store.Entry) []byte {
	sum := e.Sum()
	return sum[:]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestADatabaseFromBeforeTheAuditLogIsOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, err := store.OpenBolt(path, store.BoltOptions{})
	must(t, err)
	must(t, b.Close())
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("audit")) }))
	must(t, db.Close())

	copied, err := store.OpenBolt(path, store.BoltOptions{ReadOnly: true})
	must(t, err)
	if n, _, faults, err := store.VerifyAudit(t.Context(), copied, nil); n != 0 || len(faults) > 0 || err != nil {
		t.Errorf("read only: %d entries, %q, %v", n, faults, err)
	}
	must(t, copied.Close())
	b = store.OpenAt(t, path)
	b.Record(store.Entry{Time: start, Action: "a"})
	must(t, b.Probe(t.Context()))
	if list, err := b.Entries(t.Context(), 0, 10); len(list) != 1 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}

// What waits when the database is closed is kept.
func TestCloseKeepsWhatWasRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, err := store.OpenBolt(path, store.BoltOptions{})
	must(t, err)
	b.Record(store.Entry{Time: start, Action: "a"})
	must(t, b.Close())
	if list, err := store.OpenAt(t, path).Entries(t.Context(), 0, 10); len(list) != 1 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}

// BenchmarkRecord is what an entry costs that is kept with others.
func BenchmarkRecord(b *testing.B) {
	db := store.OpenTemp(b)
	e := store.Entry{Time: start, Action: "attachment.download", Resource: "attachment", ID: "01a20a71-d239-787f-8519-361a21571acd",
		Name: "data_dictionary.pdf", Space: "analytics", Address: "192.0.2.1", RequestID: "01a20a71-d239-787f-8519-361a21571acd", Outcome: "done"}
	for n := 0; b.Loop(); n++ {
		db.Record(e)
		if n%1000 == 999 {
			if err := db.Probe(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
