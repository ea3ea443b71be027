package bolt

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/store"
	"attachd/store/bolt/dbfile"
)

// What is cached is what the last commit left behind: whoever changes something and then
// asks, sees it, also after the file was replaced by a copy whose commits count anew.
func TestACachedAnswerEndsWithTheChangeOfWhatItTells(t *testing.T) {
	t.Parallel()
	b := OpenTemp(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	user := store.User{ID: uuid.New(), FullName: "One"}
	product := store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a", Name: "First"}
	key := store.Key{ID: uuid.New(), UserID: user.ID, Name: "key", Hash: [32]byte{1}}
	answer := func() string {
		t.Helper()
		said := ""
		for range 2 { // read, and cached
			_, byHash, hashErr := b.KeyByHash(t.Context(), key.Hash)
			_, byID, idErr := b.Key(t.Context(), key.ID)
			role, roleErr := b.Role(t.Context(), "a", user.ID)
			entity, entityErr := b.Entity(t.Context(), product.Parent)
			must(roleErr)
			for _, err := range []error{hashErr, idErr, entityErr} {
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					t.Fatal(err)
				}
			}
			now := fmt.Sprintf("%s%v %s%v %d %s", byHash.FullName, byHash.IsSuperadmin, byID.FullName, hashErr == nil && idErr == nil, role, entity.Name)
			if said != "" && now != said {
				t.Errorf("it says %q, and then %q", said, now)
			}
			said = now
		}
		return said
	}
	put := func(objects ...store.Object) func() error {
		return func() error { _, err := b.Put(t.Context(), objects...); return err }
	}
	renamed := product
	renamed.Name = "Second"
	for _, step := range []struct {
		name string
		do   func() error
		want string
	}{
		{"nothing", func() error { return nil }, "false false 0 "},
		{"all are made", put(user, store.Space{Slug: "a"}, product, store.Member{Space: "a", UserID: user.ID, Role: store.Admin}), "false false 3 First"},
		{"the key too", func() error { return b.CreateKey(t.Context(), key) }, "Onefalse Onetrue 3 First"},
		{"the user has another name and right", put(store.User{ID: user.ID, FullName: "Two", IsSuperadmin: true}), "Twotrue Twotrue 3 First"},
		{"the role", put(store.Member{Space: "a", UserID: user.ID, Role: store.Viewer}), "Twotrue Twotrue 1 First"},
		{"the product", put(renamed), "Twotrue Twotrue 1 Second"},
		{"the file", func() error { _, err := b.Compact(t.Context()); return err }, "Twotrue Twotrue 1 Second"},
		{"the role again", put(store.Member{Space: "a", UserID: user.ID, Role: store.Editor}), "Twotrue Twotrue 2 Second"},
		{"no member", func() error { return b.DeleteMember(t.Context(), "a", user.ID) }, "Twotrue Twotrue 0 Second"},
		{"no key", func() error { return b.DeleteKey(t.Context(), key.ID) }, "false false 0 Second"},
		{"the key again", func() error { return b.CreateKey(t.Context(), key) }, "Twotrue Twotrue 0 Second"},
		{"no product", func() error { _, err := b.DeleteEntity(t.Context(), product.Parent, false); return err }, "Twotrue Twotrue 0 "},
		{"no user", func() error { return b.DeleteUser(t.Context(), user.ID) }, "false false 0 "},
	} {
		must(step.do())
		if got := answer(); got != step.want {
			t.Errorf("%s: it says %q, not %q", step.name, got, step.want)
		}
	}
}

// After a commit that failed it is unknown whether readers see its changes: what was
// cached before may be what it took away.
func TestNothingIsCachedOnceACommitHasFailed(t *testing.T) {
	t.Parallel()
	var fails error
	b, err := Open(filepath.Join(t.TempDir(), "attachd.db"), Options{Commit: func(tx *bbolt.Tx) error {
		return errors.Join(tx.Commit(), fails)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	key := newKey(t, b)
	if _, _, err := b.KeyByHash(t.Context(), key.Hash); err != nil {
		t.Fatal(err)
	}
	fails = errors.New("the disk could not say whether it has the commit")
	if err := b.DeleteKey(t.Context(), key.ID); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("the revocation: %v", err)
	}
	if _, _, err := b.KeyByHash(t.Context(), key.Hash); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the revoked key: %v", err)
	}
}

// Whoever reads slowly, and finds what has changed meanwhile, does not cache that.
func TestWhatWasReadBeforeACommitIsNotCachedAfterIt(t *testing.T) {
	t.Parallel()
	b := OpenTemp(t)
	key := newKey(t, b)
	err := b.file.View(func(tx *dbfile.Tx) error {
		before, err := b.loadKeyAndUser(tx, key.ID)
		if err == nil {
			err = b.DeleteKey(t.Context(), key.ID)
		}
		b.keysByID.Put(b.file, tx, key.ID, before)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Key(t.Context(), key.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the key is there: %v", err)
	}
}

// A key that others use all the time is refused from its revocation on.
func TestARevokedKeyIsRefusedThoughOthersUseItMeanwhile(t *testing.T) {
	t.Parallel()
	b := OpenAt(t, filepath.Join(t.TempDir(), "attachd.db"))
	user := store.User{ID: uuid.New()}
	if _, err := b.Put(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	var using sync.WaitGroup
	defer using.Wait()
	defer close(done)
	for range 4 {
		using.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_, _, _ = b.KeyByHash(t.Context(), [32]byte{1}) // there or not
				}
			}
		})
	}
	for n := range 20 {
		key := store.Key{ID: uuid.New(), UserID: user.ID, Hash: [32]byte{1}}
		if err := b.CreateKey(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.KeyByHash(t.Context(), key.Hash); err != nil {
			t.Fatalf("key %d: %v", n, err)
		}
		if err := b.DeleteKey(t.Context(), key.ID); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.KeyByHash(t.Context(), key.Hash); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("key %d was revoked, and is there: %v", n, err)
		}
	}
}

func BenchmarkKeyByHash(b *testing.B) {
	s := OpenTemp(b)
	user := store.User{ID: uuid.New()}
	key := store.Key{ID: uuid.New(), UserID: user.ID, Hash: [32]byte{1}}
	_, err := s.Put(b.Context(), user)
	if err := errors.Join(err, s.CreateKey(b.Context(), key)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.KeyByHash(b.Context(), key.Hash); err != nil {
			b.Fatal(err)
		}
	}
}
