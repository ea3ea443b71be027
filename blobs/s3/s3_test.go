package s3_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/blobs/disk"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
	"attachd/store/bolt"
)

func TestMain(m *testing.M) {
	flag.Parse()
	blobstest.TempInMemory()
	os.Exit(m.Run())
}

// opened is a Store with what it stands on.
type opened struct {
	*s3.Store
	bucket  *s3test.Memory
	catalog *bolt.Catalog
}

// open returns a new Store whose objects are in memory. configure may change its options.
func open(t *testing.T, configure func(*s3.Options)) opened {
	t.Helper()
	dir := t.TempDir()
	db, err := bolt.Open(filepath.Join(dir, "attachd.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := db.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	local, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := opened{bucket: new(s3test.Memory), catalog: catalog}
	options := s3.Options{
		Bucket: o.bucket, Catalog: catalog, Local: local, Prefix: "files/", Patience: time.Second, KeepDeleted: time.Hour,
		Installation: func(context.Context) (string, error) { return "this one", nil },
	}
	if configure != nil {
		configure(&options)
	}
	if o.Store, err = s3.Open(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func TestPromises(t *testing.T) {
	blobstest.Run(t, func(t *testing.T) blobs.Store { return open(t, nil).Store })
}
