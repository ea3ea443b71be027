package bolt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/store"
	"attachd/store/bolt/schema"
)

// housed returns a database with a product to upload to.
func housed(t testing.TB, path string) (b *Store, file func(content []byte) store.Attachment) {
	t.Helper()
	b = OpenAt(t, path)
	return b, house(t, b)
}

// house creates the product.
func house(t testing.TB, b *Store) (file func(content []byte) store.Attachment) {
	t.Helper()
	ada := store.User{ID: uuid.New()}
	product := store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a"}
	if _, err := b.Put(t.Context(), ada, store.Space{Slug: "a"}, product); err != nil {
		t.Fatal(err)
	}
	return func(content []byte) store.Attachment {
		return store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: product.Parent, FileName: "a.txt", Type: "text/plain",
			Size: int64(len(content)), SHA256: sha256.Sum256(content), UploaderID: ada.ID}
	}
}

func TestWhatWaitsIsCountedAgainAfterARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, file := housed(t, path)
	for n := range 3 {
		content := fmt.Append(nil, "content ", n)
		if err := b.CreateStaged(t.Context(), file(content), content, nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := OpenAt(t, path)
	if got := again.Staged().Bytes; got != 27 {
		t.Errorf("%d bytes wait, not 27", got)
	}
	if got, err := again.StagedContent(t.Context(), sha256.Sum256([]byte("content 1"))); err != nil || string(got) != "content 1" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestADatabaseWithoutABucketForWhatWaitsGetsOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, file := housed(t, path)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(schema.Staged) }), db.Close()); err != nil {
		t.Fatal(err)
	}
	copied, err := Open(path, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	_, none := copied.StagedContent(t.Context(), [32]byte{1})
	sizes, err := copied.StagedSizes(t.Context())
	faults, unchecked := copied.Check(t.Context(), nil)
	if !errors.Is(none, store.ErrNotFound) || len(sizes) > 0 || len(faults) > 0 {
		t.Errorf("in a copy: %v, %v, %v", none, sizes, faults)
	}
	if err := errors.Join(err, unchecked, copied.Close()); err != nil {
		t.Error(err)
	}
	again := OpenAt(t, path)
	if err := again.CreateStaged(t.Context(), file([]byte("a")), []byte("a"), nil, ""); err != nil {
		t.Error(err)
	}
}

// The pages of flushed contents are reused.
func TestTheDatabaseDoesNotGrowByWhatHasWaited(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, file := housed(t, path)
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	round := func(n int) {
		var ids []uuid.UUID
		for i := range 40 {
			content := fmt.Appendf(make([]byte, 10<<10), "%d %d", n, i)
			a := file(content)
			if err := b.CreateStaged(t.Context(), a, content, nil, ""); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, a.ID)
		}
		if _, err := b.Unstage(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		round(n)
	}
	before := size()
	for n := range 6 {
		round(3 + n)
	}
	if after := size(); after > before+1<<20 {
		t.Errorf("the file grew from %d bytes to %d", before, after)
	}
}

// BenchmarkCreatePending commits records with contents of 10 KB one after the
// other, and flushes them as a server does.
func BenchmarkCreatePending(b *testing.B) {
	records, file := housed(b, filepath.Join(b.TempDir(), "attachd.db"))
	content := make([]byte, 10<<10)
	var ids []uuid.UUID
	for n := 0; b.Loop(); n++ {
		copy(content, fmt.Append(nil, n, " "))
		a := file(content)
		if err := records.CreateStaged(b.Context(), a, content, nil, ""); err != nil {
			b.Fatal(err)
		}
		if ids = append(ids, a.ID); len(ids) == 400 {
			if _, err := records.Unstage(b.Context(), ids); err != nil {
				b.Fatal(err)
			}
			ids = ids[:0]
		}
	}
}
