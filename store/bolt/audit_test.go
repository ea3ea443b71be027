package bolt_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/bolt/pages"
)

// Changes of the database file that attachd did not make are detected.
// ASVS 16.4.1, 16.4.2
func TestWhateverIsDoneToTheAuditLogIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(b, meta kept) error
		says  string // the fault without a known head; empty where it cannot be detected
		with  string // the fault with the head; the same if empty
		later string // the fault when an entry has been added, with or without the head; the same if empty
	}{
		"an entry altered": {do: func(b, _ kept) error {
			value := append([]byte{}, b.Get(seq(5))...)
			return b.Put(seq(5), []byte(strings.Replace(string(value), "action 5", "action X", 1)))
		}, says: "Entry 5 is not what was written"},
		"an entry altered, with a hash that fits": {do: func(b, _ kept) error {
			return forge(b, 5)
		}, says: "Entry 6 is not what was written, or not what followed entry 5"},
		"an entry damaged":  {do: func(b, _ kept) error { return b.Put(seq(5), b.Get(seq(5))[:40]) }, says: "Entry 5 cannot be read"},
		"an entry emptied":  {do: func(b, _ kept) error { return b.Put(seq(5), nil) }, says: "Entry 5 cannot be read"},
		"the last emptied":  {do: func(b, _ kept) error { return b.Put(seq(9), nil) }, says: "Entry 9 cannot be read"},
		"an entry removed":  {do: func(b, _ kept) error { return b.Delete(seq(5)) }, says: "those between are missing"},
		"the first removed": {do: func(b, _ kept) error { return b.Delete(seq(1)) }, says: "those between are missing"},
		"two swapped": {do: func(b, _ kept) error {
			four, five := append([]byte{}, b.Get(seq(4))...), append([]byte{}, b.Get(seq(5))...)
			if err := b.Put(seq(4), five); err != nil {
				return err
			}
			return b.Put(seq(5), four)
		}, says: "Entry 4 says that it is entry 5"},
		"the last cut off":   {do: func(b, _ kept) error { return b.Delete(seq(9)) }, says: "ends at entry 8 and not at 9", with: "does not hold entry 9", later: "Entry 8 is followed by entry 10"},
		"all cut off":        {do: cut, says: "ends at entry 0 and not at 9", with: "does not hold entry 9", later: "Entry 0 is followed by entry 10"},
		"the last rewritten": {do: func(b, _ kept) error { return forge(b, 9) }, says: "Entry 9 is not the one that was written last", later: "not what followed entry 9"},
		"the last rewritten, and one added": {do: func(b, _ kept) error {
			return errors.Join(forge(b, 9), forge(b, 10))
		}, says: "Entry 9 is not the one that was written last", later: "not what followed entry 10"},
		"the last rewritten, and what is known of it": {do: func(b, meta kept) error {
			return errors.Join(forge(b, 9), meta.Put([]byte("audit head"), append(seq(9), b.Get(seq(9))[:32]...)))
		}, with: "does not hold entry 9"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "attachd.db")
			b, err := bolt.Open(path, bolt.Options{})
			must(t, err)
			for i := range 9 {
				b.Record(store.Entry{Time: start, Action: fmt.Sprintf("action %d", i+1)})
			}
			must(t, b.Probe(context.Background()))
			_, head, err := b.AuditEnds(context.Background())
			must(t, err)
			must(t, b.Close())
			edit(t, path, c.do)
			look := func(b *bolt.Store) {
				t.Helper()
				_, _, faults, err := store.VerifyAudit(context.Background(), b, nil)
				if err != nil || (len(faults) > 0) != (c.says != "") || !strings.Contains(strings.Join(faults, "\n"), c.says) {
					t.Errorf("faults %q, %v; want one that says %q", faults, err, c.says)
				}
				want := cmp.Or(c.with, c.says)
				_, _, faults, err = store.VerifyAudit(context.Background(), b, &head)
				if err != nil || len(faults) == 0 || !strings.Contains(strings.Join(faults, "\n"), want) {
					t.Errorf("with the head: faults %q, %v; want one that says %q", faults, err, want)
				}
			}
			b, err = bolt.Open(path, bolt.Options{})
			must(t, err)
			defer b.Close() // only read
			look(b)

			// Later entries must not hide it.
			b.Record(store.Entry{Time: start, Action: "later"})
			must(t, b.Probe(context.Background()))
			if c.later != "" {
				c.says, c.with = c.later, c.later
			}
			look(b)
		})
	}
}

// kept is a bucket with its values without their checksums.
type kept struct {
	*bbolt.Bucket
	name string
}

func (k kept) Get(key []byte) []byte { return k.Bucket.Get(key)[:len(k.Bucket.Get(key))-8] }

func (k kept) Put(key, value []byte) error {
	return k.Bucket.Put(key, pages.Seal([]byte(k.name), key, value))
}

// edit changes the audit log in the file of a database.
func edit(t *testing.T, path string, do func(b, meta kept) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		return do(kept{tx.Bucket([]byte("audit")), "audit"}, kept{tx.Bucket([]byte("about")), "about"})
	}))
	must(t, db.Close())
}

// cut removes all entries.
func cut(b, _ kept) error {
	for n := range uint64(10) {
		if err := b.Delete(seq(n)); err != nil {
			return err
		}
	}
	return nil
}

// forge replaces an entry with a forged one, whose hash continues that of the entry
// before.
func forge(b kept, n uint64) error {
	e := store.Entry{Seq: n, Time: start, Action: "forged", Previous: [32]byte(b.Get(seq(n - 1)))}
	return b.Put(seq(n), append(hashOf(e), bolt.EncodeEntry(e)...))
}

// A damaged entry hides no other, and the log continues after it.
func TestADamagedEntryIsListedAmongTheOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, err := bolt.Open(path, bolt.Options{})
	must(t, err)
	for i := range 5 {
		b.Record(store.Entry{Time: start, Action: fmt.Sprintf("action %d", i+1)})
	}
	must(t, b.Close())
	edit(t, path, func(b, _ kept) error {
		return errors.Join(b.Put(seq(3), []byte("rubbish")), b.Put(seq(5), nil), b.Put([]byte("no number"), nil))
	})
	b, err = bolt.Open(path, bolt.Options{})
	must(t, err)
	defer b.Close() // only read
	b.Record(store.Entry{Time: start, Action: "action 6"})
	must(t, b.Probe(t.Context()))

	said := func(list []store.Entry, err error) (text string) {
		must(t, err)
		for _, e := range list {
			text += fmt.Sprintf("%d %s%s, ", e.Seq, e.Action, e.Damage)
		}
		return text
	}
	for _, c := range []struct {
		list func() ([]store.Entry, error)
		want string
	}{
		{func() ([]store.Entry, error) { return b.Entries(t.Context(), 0, 3) }, "1 action 1, 2 action 2, 3 cannot be read, "},
		{func() ([]store.Entry, error) { return b.Entries(t.Context(), 3, 9) }, "4 action 4, 5 cannot be read, 6 action 6, "},
		{func() ([]store.Entry, error) { return b.EntriesBefore(t.Context(), 0, 3) }, "6 action 6, 5 cannot be read, 4 action 4, "},
		{func() ([]store.Entry, error) { return b.EntriesBefore(t.Context(), 4, 9) }, "3 cannot be read, 2 action 2, 1 action 1, "},
		{func() ([]store.Entry, error) { return b.EntriesBefore(t.Context(), 1, 9) }, ""},
		{func() ([]store.Entry, error) { return b.EntriesBefore(t.Context(), 99, 1) }, "6 action 6, "},
	} {
		if got := said(c.list()); got != c.want {
			t.Errorf("there is %q, want %q", got, c.want)
		}
	}
	n, head, faults, err := store.VerifyAudit(t.Context(), b, nil)
	must(t, err)
	text := strings.Join(faults, " ")
	if n != 6 || head.Seq != 6 || !strings.Contains(text, "Entry 3 cannot be read.") || !strings.Contains(text, "Entry 5 cannot be read.") {
		t.Errorf("%d entries up to %d, %q", n, head.Seq, text)
	}
	if faults, err := b.Check(t.Context(), nil); err != nil || len(faults) != 1 || !strings.Contains(faults[0], `"audit"`) {
		t.Errorf("the check says %q, %v", faults, err)
	}
	// It is removed with the entries that are too old.
	_, err = b.PruneAudit(t.Context(), 0, time.Hour, 4)
	must(t, err)
	if removed, err := b.PruneAudit(t.Context(), time.Hour, time.Hour, 4); removed != 4 || err != nil {
		t.Errorf("%d were removed, %v", removed, err)
	}
	if got, want := said(b.Entries(t.Context(), 0, 9)), "5 cannot be read, 6 action 6, "; got != want {
		t.Errorf("there is %q, want %q", got, want)
	}
}

// A version without the head may have added entries.
func TestTheHeadOfTheAuditLogMayBeMissingOrOld(t *testing.T) {
	for name, old := range map[string]func(b, meta kept) error{
		"missing": func(_, meta kept) error { return meta.Delete([]byte("audit head")) },
		"old": func(b, meta kept) error {
			return meta.Put([]byte("audit head"), append(seq(2), b.Get(seq(2))[:32]...))
		},
		"older than what was removed": func(b, meta kept) error {
			return errors.Join(meta.Put([]byte("audit head"), append(seq(2), b.Get(seq(2))[:32]...)),
				meta.Put([]byte("audit anchor"), append(seq(3), b.Get(seq(3))[:32]...)), b.Delete(seq(1)), b.Delete(seq(2)), b.Delete(seq(3)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "attachd.db")
			b, err := bolt.Open(path, bolt.Options{})
			must(t, err)
			for range 4 {
				b.Record(store.Entry{Time: start, Action: "a"})
			}
			must(t, b.Close())
			edit(t, path, old)
			b, err = bolt.Open(path, bolt.Options{})
			must(t, err)
			whole := func(b *bolt.Store, last uint64) {
				t.Helper()
				if _, head, faults, err := store.VerifyAudit(t.Context(), b, nil); head.Seq != last || len(faults) > 0 || err != nil {
					t.Errorf("the head is %d; faults %q, %v", head.Seq, faults, err)
				}
			}
			whole(b, 4)
			b.Record(store.Entry{Time: start, Action: "b"})
			must(t, b.Close())
			whole(bolt.OpenAt(t, path), 5)
		})
	}
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, err := bolt.Open(path, bolt.Options{})
	must(t, err)
	b.Record(store.Entry{Time: start, Action: "a"})
	must(t, b.Close())
	edit(t, path, func(_, meta kept) error { return meta.Delete([]byte("audit head")) })
	b, err = bolt.Open(path, bolt.Options{})
	must(t, err)
	b.Record(store.Entry{Time: start, Action: "b"})
	must(t, b.Close())
	edit(t, path, func(b, _ kept) error { return b.Delete(seq(2)) })
	if _, _, faults, err := store.VerifyAudit(t.Context(), bolt.OpenAt(t, path), nil); len(faults) != 1 || err != nil {
		t.Errorf("the next entry does not bring the head: %q, %v", faults, err)
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
	b, err := bolt.Open(path, bolt.Options{})
	must(t, err)
	must(t, b.Close())
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("audit")) }))
	must(t, db.Close())

	copied, err := bolt.Open(path, bolt.Options{ReadOnly: true})
	must(t, err)
	if n, _, faults, err := store.VerifyAudit(t.Context(), copied, nil); n != 0 || len(faults) > 0 || err != nil {
		t.Errorf("read only: %d entries, %q, %v", n, faults, err)
	}
	must(t, copied.Close())
	b = bolt.OpenAt(t, path)
	b.Record(store.Entry{Time: start, Action: "a"})
	must(t, b.Probe(t.Context()))
	if list, err := b.Entries(t.Context(), 0, 10); len(list) != 1 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}

// Queued entries are stored when the database is closed.
func TestCloseKeepsWhatWasRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, err := bolt.Open(path, bolt.Options{})
	must(t, err)
	b.Record(store.Entry{Time: start, Action: "a"})
	must(t, b.Close())
	if list, err := bolt.OpenAt(t, path).Entries(t.Context(), 0, 10); len(list) != 1 || err != nil {
		t.Errorf("%v, %v", list, err)
	}
}

// BenchmarkRecord measures the cost of an entry that is stored with others.
func BenchmarkRecord(b *testing.B) {
	db := bolt.OpenTemp(b)
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
