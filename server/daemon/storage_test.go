package daemon

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"attachd/blobs/disk"
	"attachd/server"
	"attachd/server/datadir"
	"attachd/server/token"
	"attachd/store"
	"attachd/store/bolt"
)

// A start interrupted at any step is completed by the next, which leaves one
// superadmin, and a key in the file that works.
func TestTheFirstSuperadminSurvivesACrash(t *testing.T) {
	crash := errors.New("crash")
	for step, spoil := range map[string]func(store.Store) store.Store{
		"before the user": func(s store.Store) store.Store { return crashing{Store: s, put: crash} },
		"before the key":  func(s store.Store) store.Store { return crashing{Store: s, createKey: crash} },
	} {
		t.Run(step, func(t *testing.T) {
			storage := openStorage(t, t.TempDir())
			broken := storage
			broken.Store = spoil(storage.Store)
			if made, err := makeFirstAdmin(t.Context(), broken); made || !errors.Is(err, crash) {
				t.Fatalf("made: %v, %v", made, err)
			}
			if made, err := makeFirstAdmin(t.Context(), storage); !made || err != nil {
				t.Fatalf("the next start made one: %v, %v", made, err)
			}
			secret, err := os.ReadFile(storage.Dir.Join(AdminKeyFile))
			if err != nil {
				t.Fatal(err)
			}
			_, user, err := storage.Store.KeyByHash(t.Context(), token.Hash(strings.TrimSpace(string(secret))))
			if err != nil || !user.IsSuperadmin {
				t.Errorf("the key is of %+v (%v)", user, err)
			}
			if users, err := storage.Store.Users(t.Context(), uuid.Nil, 10); len(users) != 1 {
				t.Errorf("there are %d users (%v)", len(users), err)
			}
			if made, err := makeFirstAdmin(t.Context(), storage); made || err != nil {
				t.Errorf("a later start made another: %v, %v", made, err)
			}
		})
	}
}

func TestSomebodyElsesStoreGetsNoSuperadmin(t *testing.T) {
	storage := openStorage(t, t.TempDir())
	if _, err := storage.Store.Put(t.Context(), store.User{ID: uuid.New(), FullName: "Ada Lovelace"}); err != nil {
		t.Fatal(err)
	}
	if made, err := makeFirstAdmin(t.Context(), storage); made || err != nil {
		t.Errorf("made: %v, %v", made, err)
	}
	if _, err := os.Stat(storage.Dir.Join(AdminKeyFile)); err == nil {
		t.Error("there is a key")
	}
}

// crashing is a store whose process ends before a given step.
type crashing struct {
	store.Store
	put, createKey error
}

func (c crashing) Put(ctx context.Context, objects ...store.Object) ([]bool, error) {
	if c.put != nil {
		return nil, c.put
	}
	return c.Store.Put(ctx, objects...)
}

func (c crashing) CreateKey(ctx context.Context, k store.Key) error {
	if c.createKey != nil {
		return c.createKey
	}
	return c.Store.CreateKey(ctx, k)
}

// A directory is released in such an order that the note of its holder is never the
// previous holder's.
func TestTheNoteGoesBeforeTheLock(t *testing.T) {
	dir := t.TempDir()
	held, err := Hold(openStorage(t, dir), "attachd test")
	if err != nil {
		t.Fatal(err)
	}
	if who := held.Dir.Holder(); !strings.HasPrefix(who, "attachd test (process ") {
		t.Errorf("the holder is %q", who)
	}
	held.Store = closing{held.Store, func() {
		if who := held.Dir.Holder(); who != "another process" {
			t.Errorf("while the lock is let go, the holder is still %q", who)
		}
	}}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
}

// closing is a store that reports when it is closed.
type closing struct {
	store.Store
	now func()
}

func (c closing) Close() error {
	c.now()
	return c.Store.Close()
}

func openStorage(t *testing.T, path string) Storage {
	t.Helper()
	dir, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(dir.Join("attachd.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // may be closed
	disk, err := disk.Open(path, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	return Storage{Dir: dir, Store: db, Blobs: disk, Abilities: server.AbilitiesOf(db, disk)}
}
