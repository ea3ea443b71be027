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
	"attachd/store"
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
	local, err := disk.Open(dir.Path(), disk.Options{Own: dir.Own, Shared: dir.Shared(), Synced: times.Synced})
	if err != nil {
		return nil, dir.Explain(err)
	}
	o := &opened{local, cfg.Storage.Backend, local, db, times}
	if o.backend == "disk" {
		return o, nil
	}
	if o.Store, err = o.openBucket(ctx, cfg, local); err != nil {
		return nil, errors.Join(err, local.Close())
	}
	return o, nil
}

// openBucket opens a bucket whose Close closes local, too.
func (o *opened) openBucket(ctx context.Context, cfg config.Config, local s3.Local) (*s3.Store, error) {
	catalog, err := o.db.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	return openBucket(ctx, cfg, local, o.db, s3.Options{Catalog: catalog}, o.times)
}

// openBucket opens a bucket whose Close closes local, too. The options have its catalog.
func openBucket(ctx context.Context, cfg config.Config, local s3.Local, records store.Notes, opts s3.Options, times *ops.StorageTimes) (*s3.Store, error) {
	account, err := daemon.Account(cfg)
	if err != nil {
		return nil, err
	}
	bucket, err := s3.Connect(account)
	if err != nil {
		return nil, err
	}
	opts.Bucket, opts.Local, opts.Prefix, opts.Epochs = s3.Observe(bucket, times.Called), local, cfg.Storage.S3Prefix, epochs{records}
	opts.KeepDeleted, opts.Patience = time.Duration(cfg.Storage.KeepDeleted), time.Duration(cfg.Storage.S3Timeout)
	opts.Installation = func(ctx context.Context) (string, error) {
		id, err := upkeep.Installation(ctx, records)
		return id.String(), err
	}
	opts.Tenant = func(ctx context.Context) (string, error) {
		id, err := upkeep.Tenant(ctx, records)
		return id.String(), err
	}
	opts.MayDelete = func(ctx context.Context) (bool, error) {
		putBack, err := upkeep.IsCopy(ctx, records)
		return !putBack, err
	}
	return s3.Open(ctx, opts)
}

// borrowed is a storage on the disk that stays open after Close, since others use it.
type borrowed struct{ *disk.Store }

// Close implements blobs.Store.
func (borrowed) Close() error { return nil }

// moveTo opens the storage of other settings, to move the contents there. Whoever gets it
// closes it.
func (o *opened) moveTo(ctx context.Context, cfg config.Config) (migrate.Target, error) {
	switch {
	case cfg.Storage.Backend == "disk" && o.backend == "disk":
		return migrate.Target{}, errors.New("they are on the disk already")
	case cfg.Storage.Backend == o.backend:
		return migrate.Target{}, errors.New("they are in a bucket already; to move them to another one, move them to the disk first")
	case cfg.Storage.Backend == "disk":
		return migrate.OnDisk(borrowed{o.local}), nil
	}
	bucket, err := o.claimBucket(ctx, cfg)
	if errors.Is(err, s3.ErrEmptied) {
		// An earlier migration began elsewhere, or what it copied was deleted. That is copied
		// again. The prefix where it began stays this installation's: it may be the right one.
		if err := o.db.ForgetObjects(ctx); err != nil {
			return migrate.Target{}, err
		}
		bucket, err = o.claimBucket(ctx, cfg)
	}
	if err != nil {
		return migrate.Target{}, err
	}
	return migrate.InBucket(bucket), nil
}

// claimBucket opens a bucket and sees that it can be written.
func (o *opened) claimBucket(ctx context.Context, cfg config.Config) (*s3.Store, error) {
	bucket, err := o.openBucket(ctx, cfg, borrowed{o.local})
	if err != nil {
		return nil, err
	}
	if err = bucket.Claim(ctx); err == nil {
		err = bucket.Probe(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, bucket.Close())
	}
	return bucket, nil
}
