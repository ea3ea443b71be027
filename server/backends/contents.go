package backends

import (
	"context"
	"errors"
	"time"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/blobs/s3"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
	"attachd/server/migrate"
	"attachd/server/ops"
	"attachd/server/upkeep"
	"attachd/store/bolt"
)

// opened is the opened contents, with what it takes to open them elsewhere.
type opened struct {
	blobs.Store
	backend string
	local   *disk.Store // the contents, or where they are spooled for a bucket
	db      *bolt.Store
	times   *ops.StorageTimes
}

// openContents opens the contents: on the disk, or in a bucket.
func openContents(cfg config.Config, dir *datadir.Dir, db *bolt.Store, times *ops.StorageTimes) (*opened, error) {
	ctx := context.Background()
	if err := upkeep.CheckHome(ctx, db, cfg.Storage.Backend); err != nil {
		return nil, err
	}
	local, err := disk.Open(dir.Path(), disk.Options{Own: dir.Own, Shared: dir.Shared(), Synced: times.Synced})
	if err != nil {
		return nil, dir.Explain(err)
	}
	o := &opened{local, cfg.Storage.Backend, local, db, times}
	if o.backend == "disk" {
		return o, nil
	}
	if o.Store, err = o.openBucket(ctx, cfg); err != nil {
		return nil, errors.Join(err, local.Close())
	}
	return o, nil
}

func (o *opened) openBucket(ctx context.Context, cfg config.Config) (*s3.Store, error) {
	account, err := daemon.Account(cfg)
	if err != nil {
		return nil, err
	}
	bucket, err := s3.Connect(account)
	if err != nil {
		return nil, err
	}
	catalog, err := o.db.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	return s3.Open(ctx, s3.Options{
		Bucket: s3.Observe(bucket, o.times.Called), Catalog: catalog, Local: o.local, Prefix: cfg.Storage.S3Prefix,
		Installation: func(ctx context.Context) (string, error) {
			id, err := upkeep.Installation(ctx, o.db)
			return id.String(), err
		},
		Tenant: func(ctx context.Context) (string, error) {
			id, err := upkeep.Tenant(ctx, o.db)
			return id.String(), err
		},
		MayDelete: func(ctx context.Context) (bool, error) {
			putBack, err := upkeep.IsCopy(ctx, o.db)
			return !putBack, err
		},
		KeepDeleted: time.Duration(cfg.Storage.KeepDeleted), Patience: time.Duration(cfg.Storage.S3Timeout),
	})
}

// moveTo opens the storage of other settings, to move the contents there.
func (o *opened) moveTo(ctx context.Context, settings map[string]string) (migrate.Target, error) {
	cfg, _, err := config.Load("", nil, settings)
	switch {
	case err != nil:
		return migrate.Target{}, err
	case cfg.Storage.Backend == "disk" && o.backend == "disk":
		return migrate.Target{}, errors.New("they are on the disk already")
	case cfg.Storage.Backend == o.backend:
		return migrate.Target{}, errors.New("they are in a bucket already; to move them to another one, move them to the disk first")
	case cfg.Storage.Backend == "disk":
		return migrate.OnDisk(o.local), nil
	}
	bucket, err := o.claimBucket(ctx, cfg)
	if errors.Is(err, s3.ErrEmptied) { // an earlier migration began elsewhere, or was deleted
		if err := upkeep.LeaveBucket(ctx, o.db); err != nil {
			return migrate.Target{}, err
		}
		bucket, err = o.claimBucket(ctx, cfg)
	}
	return migrate.InBucket(bucket), err
}

// claimBucket opens a bucket and sees that it can be written.
func (o *opened) claimBucket(ctx context.Context, cfg config.Config) (*s3.Store, error) {
	bucket, err := o.openBucket(ctx, cfg)
	if err == nil {
		err = bucket.Claim(ctx)
	}
	if err == nil {
		err = bucket.Probe(ctx)
	}
	return bucket, err
}
