package bolt_test

import (
	"path/filepath"
	"testing"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/store/bolt"
)

func TestCatalogPromises(t *testing.T) {
	blobstest.RunCatalog(t, func(t *testing.T) blobs.Catalog {
		db, err := bolt.Open(filepath.Join(t.TempDir(), "attachd.db"), bolt.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		c, err := db.Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}
