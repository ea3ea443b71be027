package bolt_test

import (
	"path/filepath"
	"testing"

	"attachd/store/bolt"
	"attachd/store/storetest"
)

// whole opens a new database with its catalog.
func whole(t *testing.T) *bolt.Catalog {
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

func TestEverythingMovesToAnotherDatabase(t *testing.T) {
	t.Parallel()
	storetest.RunPortable(t, whole(t), whole(t), whole(t))
}
