package bolt

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

// toldOf returns the attachments of the events in the outbox, in order.
func (b *Store) toldOf(t *testing.T) (all []string) {
	t.Helper()
	list, err := b.Events(t.Context(), 0, 100000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		all = append(all, string(e.Type)+" "+e.Attachment.ID.String())
	}
	return all
}

// removeAll calls Remove until nothing is left.
func (b *Store) removeAll(t *testing.T) {
	t.Helper()
	for more := true; more; {
		var err error
		if _, more, err = b.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// Whenever the power fails, at the next start everything that was deleted with a
// space is still there, or nothing of it is visible and the removal continues to
// its end, with an entry and an event for each attachment.
func TestARemovalGoesOnAfterACrash(t *testing.T) {
	i := newImporting(t)
	objects := catalog(10)
	if _, err := i.Put(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	var ids []string
	slug, space := "", ""
	for _, o := range objects {
		e, is := o.(store.Entity)
		if is && slug == "" {
			slug, space = e.Space, e.Space
		}
		for range 2 {
			if !is || e.Space != slug {
				break
			}
			a := store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: e.Parent, UploaderID: objects[0].(store.User).ID, FileName: "a", Size: 3, SHA256: sha256.Sum256([]byte(e.ID.String() + fmt.Sprint(len(ids))))}
			if err := i.CreateAttachment(t.Context(), a, nil, ""); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, a.ID.String())
		}
	}
	if err := i.commitLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	i.crashes = []string{i.copy(t)}
	e := store.Entry{Time: time.Unix(1e9, 0), Action: "space.delete", Outcome: "done"}
	if _, err := i.DeleteSpace(store.WithOutbox(store.WithEntry(t.Context(), &e), tellingOrigin), slug, true); err != nil {
		t.Fatal(err)
	}
	i.removeAll(t)
	wantEntries, wantEvents := len(ids)+1, len(ids)
	before, after := 0, 0
	for n, path := range i.crashes {
		if faults := faultsOfCopy(t, path); len(faults) > 0 {
			t.Errorf("crash %d: before it is gone on with: %v", n, faults)
		}
		b := OpenAt(t, path)
		list, err := b.AllAttachments(t.Context(), uuid.Nil, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Space(t.Context(), slug); err == nil {
			before++
			if len(list) != len(ids) || len(b.auditOf(t)) > 0 || len(b.toldOf(t)) > 0 {
				t.Errorf("crash %d: the space is there with %d of %d attachments", n, len(list), len(ids))
			}
			continue
		}
		after++
		if len(list) > 0 {
			t.Errorf("crash %d: %d attachments are seen", n, len(list))
		}
		b.removeAll(t)
		entries, events := b.auditOf(t), b.toldOf(t)
		if len(entries) != wantEntries || !slices.Contains(entries, "space.delete ") || len(events) != wantEvents {
			t.Errorf("crash %d: %d entries and %d events of %d attachments", n, len(entries), len(events), len(ids))
		}
		for _, id := range ids {
			if !slices.Contains(entries, "attachment.delete "+id) || !slices.Contains(events, "attachment.deleted "+id) {
				t.Errorf("crash %d: nothing tells of attachment %s", n, id)
			}
		}
		b.wantNothingOf(t, fmt.Sprint("crash ", n), space)
	}
	if before == 0 || after < 5 {
		t.Errorf("after %d crashes the space was there, after %d not", before, after)
	}
}

// Whoever calls Remove until nothing is left gets every content that was freed, also where
// others put anew what was deleted and so did a part of the removal: nobody calls it again.
func TestRemoveReturnsWhatOthersFreed(t *testing.T) {
	b, file := housed(t, filepath.Join(t.TempDir(), "attachd.db"))
	b.batch = 2 * removedPart
	for round := range 50 {
		var product store.Entity
		want := map[[32]byte]bool{}
		for n := range 5 {
			a := file(fmt.Append(nil, round, " ", n))
			if err := b.CreateAttachment(t.Context(), a, nil, ""); err != nil {
				t.Fatal(err)
			}
			product, want[a.SHA256] = store.Entity{Parent: a.Parent, Space: "a"}, true
		}
		freed, err := b.DeleteEntity(t.Context(), product.Parent, true)
		if err != nil {
			t.Fatal(err)
		}
		var others sync.WaitGroup
		others.Go(func() {
			if _, err := b.Put(t.Context(), product); err != nil {
				t.Error(err)
			}
		})
		for more := true; more; {
			var some [][32]byte
			if some, more, err = b.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			freed = append(freed, some...)
		}
		others.Wait()
		for _, sum := range freed {
			delete(want, sum)
		}
		if len(want) > 0 {
			t.Fatalf("round %d: %d of 5 contents were not returned", round, len(want))
		}
	}
}

// wantNothingOf fails if anything of a space is left.
func (b *Store) wantNothingOf(t *testing.T, when, space string) {
	t.Helper()
	err := b.viewCommitted(t.Context(), func(tx *dbfile.Tx) error {
		for _, bucket := range [][]byte{schema.Removals, schema.Attachments, schema.AttachmentIDs, schema.Contents} {
			if tx.HasUnder(bucket, nil) {
				t.Errorf("%s: something is left in the bucket %q", when, bucket)
			}
		}
		for _, bucket := range [][]byte{schema.SpaceEntities, schema.Members} {
			if tx.HasUnder(bucket, schema.Slug0(space)) {
				t.Errorf("%s: something of the space is left in the bucket %q", when, bucket)
			}
		}
		for key := range tx.Under(schema.Memberships, nil, nil) {
			if strings.HasSuffix(string(key[16:]), space) {
				t.Errorf("%s: a membership is left", when)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// BenchmarkDeleteEntity deletes a product with many attachments, and reports how
// long other changes waited for a batch, and what a batch allocated.
func BenchmarkDeleteEntity(b *testing.B) {
	const n = 200_000
	for b.Loop() {
		db := OpenTemp(b)
		file := house(b, db)
		e := store.Entry{Time: time.Now(), Action: "product.delete", Outcome: "done"}
		ctx := store.WithOutbox(store.WithEntry(b.Context(), &e), tellingOrigin)
		var p store.Parent
		for made := 0; made < n; {
			err := db.updateAlone(b.Context(), func(tx *writeTx) error {
				for range 10_000 {
					a := file(fmt.Append(nil, made))
					p = a.Parent
					if err := createAttachment(tx, a, ""); err != nil {
						return err
					}
					made++
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		var before, after runtime.MemStats
		began, longest, most := time.Now(), time.Duration(0), uint64(0)
		for part, more := 0, true; more; part++ {
			runtime.ReadMemStats(&before)
			began := time.Now()
			var err error
			if part == 0 {
				_, err = db.DeleteEntity(ctx, p, true)
			} else {
				_, more, err = db.Remove(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
			longest = max(longest, time.Since(began))
			runtime.ReadMemStats(&after)
			most = max(most, after.TotalAlloc-before.TotalAlloc)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-in-all")
		b.ReportMetric(float64(longest.Milliseconds()), "ms-longest-part")
		b.ReportMetric(float64(most>>20), "MB-a-part")
	}
}
