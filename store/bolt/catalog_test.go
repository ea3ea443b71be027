package bolt_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/store"
	"attachd/store/bolt"
)

func TestCatalogPromises(t *testing.T) {
	for name, logged := range map[string]bool{"without a log": false, "with a log": true} {
		t.Run(name, func(t *testing.T) {
			blobstest.RunCatalog(t, func(t *testing.T) blobs.Catalog {
				path := filepath.Join(t.TempDir(), "attachd.db")
				var opts bolt.Options
				if logged {
					opts.Log = path + ".log"
				}
				db, err := bolt.Open(path, opts)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := db.Close(); err != nil {
						t.Error(err)
					}
				})
				return catalogOf(t, db)
			})
		})
	}
}

// A compaction, an import of the directory and a start leave the catalog as it is.
func TestTheCatalogOutlivesWhatIsDoneToTheDatabase(t *testing.T) {
	b, path := compacting(t, func(string) error { return nil })
	c := catalogOf(t, b)
	of := func(content string) blobs.Object { return blobs.NewObject(blobs.RefOf([]byte(content))) }
	place := blobs.Place{Object: of("settled"), Size: 7, Stored: time.Unix(1_700_000_000, 0), Damaged: true}
	intent, garbage := of("intended"), of("garbage")
	err := errors.Join(
		c.Intend(t.Context(), []blobs.Object{place.Object, intent, garbage}),
		c.Settle(t.Context(), []blobs.Place{place}),
		c.Mark(t.Context(), place.Object, true),
		c.Discard(t.Context(), []blobs.Object{garbage}))
	if err != nil {
		t.Fatal(err)
	}
	want := func(after string) {
		t.Helper()
		got, err := c.Place(t.Context(), place.Ref)
		list, notListed := c.Garbage(t.Context(), time.Now().Add(time.Hour), 10)
		known, unknown := c.Knows(t.Context(), intent)
		if err := errors.Join(err, notListed, unknown); err != nil || got != place || !slices.Equal(list, []blobs.Object{garbage}) || !known || !slices.Equal(c.Marked(), []blobs.Ref{place.Ref}) {
			t.Errorf("after %s: place %+v, garbage %v, the intent is known: %v, marked %v, %v", after, got, list, known, c.Marked(), err)
		}
		if intended, garbage := c.Waiting(); intended != 1 || garbage != 1 {
			t.Errorf("after %s: %d are intended, and %d garbage", after, intended, garbage)
		}
		if faults, err := b.Check(t.Context(), nil); err != nil || len(faults) > 0 {
			t.Errorf("after %s: %v, %v", after, faults, err)
		}
	}
	want("nothing")
	if _, err := b.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("a compaction")
	var many []store.Object
	for range 5000 { // more than one commit
		many = append(many, store.User{ID: uuid.New(), FullName: "Ada"})
	}
	if _, err := b.Put(t.Context(), many...); err != nil {
		t.Fatal(err)
	}
	want("an import")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = bolt.Open(path, bolt.Options{}); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c = catalogOf(t, b)
	want("a start")
}

func catalogOf(t *testing.T, b *bolt.Store) *bolt.Catalog {
	t.Helper()
	c, err := b.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
