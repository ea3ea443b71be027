package postgres_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/portable"
	"attachd/store/storetest"
)

// embedded opens a new embedded database with its catalog.
func embedded(t *testing.T) *bolt.Catalog {
	t.Helper()
	dir := t.TempDir()
	b, err := bolt.Open(filepath.Join(dir, "attachd.db"), bolt.Options{Log: filepath.Join(dir, "wal"), LogSize: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := b.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ASVS 1.2.4
func TestEverythingMovesFromAnEmbeddedDatabaseAndBack(t *testing.T) {
	t.Parallel()
	storetest.RunPortable(t, embedded(t), open(t), embedded(t))
}

func TestEverythingMovesToAnEmbeddedDatabaseAndBack(t *testing.T) {
	t.Parallel()
	storetest.RunPortable(t, open(t), embedded(t), open(t))
}

// A record whose content was lost long ago must not keep the others from moving.
func TestARecordMovesThoughItsContentIsNowhere(t *testing.T) {
	t.Parallel()
	from, to, back := embedded(t), open(t), embedded(t)
	user := store.User{ID: uuid.New(), FullName: "Ada"}
	product := store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a"}
	if _, err := from.Put(t.Context(), user, store.Space{Slug: "a"}, product); err != nil {
		t.Fatal(err)
	}
	a := store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: product.Parent, FileName: "lost", Size: 7, Type: "text/plain", SHA256: [32]byte{1}, UploaderID: user.ID}
	if err := from.CreateAttachment(t.Context(), a, []byte("sums"), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := portable.Copy(t.Context(), from, to, nil); err != nil {
		t.Fatal(err)
	}
	if marked := to.Marked(); !slices.Equal(marked, []blobs.Ref{a.SHA256}) {
		t.Errorf("damaged are %v", marked)
	}
	if _, err := portable.Copy(t.Context(), to, back, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := back.Place(t.Context(), a.SHA256); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("the place of a content that is nowhere: %v", err)
	}
	object := blobs.NewObject(a.SHA256) // which somebody uploads again
	err := errors.Join(to.Intend(t.Context(), []blobs.Object{object}), to.Settle(t.Context(), []blobs.Place{{Object: object, Size: 7, Stored: time.Unix(1, 0)}}))
	if err != nil || len(to.Marked()) > 0 {
		t.Errorf("after the upload: %v, damaged are %v", err, to.Marked())
	}
}

func TestAStreamThatBreaksOffLeavesNothing(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, end := range map[string]func(yield func(portable.Row, error) bool) bool{
		"with an error":  func(yield func(portable.Row, error) bool) bool { return yield(nil, broken) },
		"without an end": func(func(portable.Row, error) bool) bool { return true },
		"with one of another stream": func(yield func(portable.Row, error) bool) bool {
			return yield(portable.End{}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			err := s.Import(t.Context(), func(yield func(portable.Row, error) bool) {
				_ = yield(portable.User{User: store.User{ID: uuid.New()}}, nil) && end(yield)
			})
			users, failed := s.Users(t.Context(), uuid.Nil, 10)
			if err == nil || failed != nil || len(users) > 0 {
				t.Errorf("it is %v; then there are %v, %v", err, users, failed)
			}
		})
	}
}
