package backends

import (
	"errors"
	"testing"

	"attachd/blobs/disk"
	"attachd/server/config"
	"attachd/server/ops"
	"attachd/store/bolt"
)

// The server goes on with the storage that it has, whatever becomes of a migration.
func TestTheContentsStayOpenAfterAMigration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	local, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(dir+"/attachd.db", bolt.Options{Log: dir + "/wal", LogSize: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(local.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	o := &opened{local, "disk", local, db, ops.NewStorageTimes()}
	unreachable := map[string]string{"storage.backend": "s3", "storage.s3_endpoint": "http://127.0.0.1:1", "storage.s3_bucket": "bucket", "storage.s3_access_key": "key", "storage.s3_secret_key": "secret", "storage.s3_timeout": "1s"}
	if to, err := o.moveTo(t.Context(), loaded(t, unreachable)); err == nil || to.Target != nil {
		t.Errorf("a bucket that cannot be reached is %v, %v", to, err)
	}
	o.backend = "s3"
	to, err := o.moveTo(t.Context(), loaded(t, map[string]string{"storage.backend": "disk"}))
	if err == nil {
		err = to.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := local.Probe(t.Context()); err != nil {
		t.Errorf("the disk afterwards: %v", err)
	}
}

func loaded(t *testing.T, settings map[string]string) config.Config {
	t.Helper()
	cfg, _, err := config.Load("", nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
