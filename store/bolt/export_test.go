package bolt

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"attachd/store"
)

// EncodeEntry is the stored form of an entry, without its hash.
func EncodeEntry(e store.Entry) []byte { return e.Encode() }

// OpenTemp opens a new database for the test.
func OpenTemp(t testing.TB) *Store {
	t.Helper()
	return OpenAt(t, filepath.Join(t.TempDir(), "attachd.db"))
}

// OpenAt opens a database that is closed when the test is done, and then opened
// again and checked, as after a restart.
func OpenAt(t testing.TB, path string) *Store {
	t.Helper()
	b := open(t, path)
	t.Cleanup(func() {
		if err := b.Close(); err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("close: %v", err)
		}
		again := open(t, path)
		faults, err := again.Check(context.Background(), nil)
		if err := errors.Join(err, again.Close()); err != nil {
			t.Errorf("looking the database over: %v", err)
		}
		for _, fault := range faults {
			t.Errorf("after the test: %s", fault)
		}
	})
	return b
}

func open(t testing.TB, path string) *Store {
	t.Helper()
	b, err := Open(path, Options{Log: logOf(path), LogSize: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func logOf(path string) string { return path + ".log" }
