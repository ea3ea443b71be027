package backends

import (
	"context"
	"errors"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/migrate"
	"attachd/server/ops"
	"attachd/server/token"
	"attachd/server/transfer"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/portable"
)

// checkHome returns an error where the records or contents of a database are elsewhere.
func checkHome(ctx context.Context, db store.Store, cfg config.Config, how daemon.Opening) error {
	if how.Arriving {
		return nil
	}
	if how.Moved {
		if moved, err := upkeep.IsMoved(ctx, db); moved || err != nil {
			return err
		}
	}
	return upkeep.CheckHome(ctx, db, cfg.Storage.Backend)
}

// movable is a store to which records can be moved.
type movable interface {
	store.Store
	portable.Source
	portable.Target
}

// moveElsewhere opens what another configuration names, to move records and contents there.
func (o Opener) moveElsewhere(ctx context.Context, cfg config.Config, from daemon.Storage, to config.Config) (_ migrate.Target, err error) {
	sameBucket := cfg.Storage.Backend == "s3" && to.Storage.Backend == "s3" && cfg.Storage.S3Endpoint == to.Storage.S3Endpoint &&
		cfg.Storage.S3Bucket == to.Storage.S3Bucket && cfg.Storage.S3Prefix == to.Storage.S3Prefix
	storage, err := o.Open(ctx, to, daemon.Opening{Beside: true, Arriving: true})
	if err != nil {
		return migrate.Target{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, storage.Close())
		}
	}()
	db, is := storage.Store.(movable)
	if !is {
		return migrate.Target{}, errors.New("no records can be moved there")
	}
	whole, err := upkeep.Arrive(ctx, from.Store, db)
	if err != nil {
		return migrate.Target{}, err
	}
	target := migrate.Target{Home: to.Storage.Backend}
	switch {
	case whole:
	case sameBucket:
		err = forgetObjects(ctx, db)
	case to.Storage.Backend == "disk":
		target = migrate.OnDisk(storage.Blobs.(transfer.Target))
		target.OnDisk = false // that disk is another one
	default:
		target, err = arriveInBucket(ctx, storage)
	}
	if err != nil {
		return migrate.Target{}, err
	}
	where := "PostgreSQL"
	if to.Metadata.Backend != "postgres" {
		where = storage.Dir.Path()
	}
	target.Elsewhere = &migrate.Elsewhere{Store: db, Where: where, SameBucket: sameBucket, Whole: whole, Close: storage.Close,
		MoveSecrets: func(ctx context.Context) error { return moveSigningKeys(ctx, from, storage) }}
	return target, nil
}

// arriveInBucket claims the bucket to which contents are to be moved. What an earlier attempt
// has left in another one is forgotten.
func arriveInBucket(ctx context.Context, storage daemon.Storage) (migrate.Target, error) {
	bucket, is := storage.Blobs.(*s3.Store)
	if !is {
		return migrate.Target{}, errors.New("the contents of the new configuration are in no bucket")
	}
	err := bucket.Claim(ctx)
	if errors.Is(err, s3.ErrEmptied) {
		if err = forgetObjects(ctx, storage.Store); err == nil {
			err = bucket.Claim(ctx)
		}
	}
	if err == nil {
		err = bucket.Probe(ctx)
	}
	return migrate.InBucket(bucket), err
}

// forgetObjects empties the catalog of a database.
func forgetObjects(ctx context.Context, db store.Store) error {
	switch db := db.(type) {
	case *bolt.Store:
		return db.ForgetObjects(ctx)
	case blobs.Catalog:
		return db.Clear(ctx)
	}
	return nil
}

// moveSigningKeys has links go on working that were given out.
func moveSigningKeys(ctx context.Context, from, to daemon.Storage) (err error) {
	var keys []token.SigningKey
	if from.Shared == nil {
		keys, err = from.Dir.SigningKeys()
	} else {
		var shared []store.SigningKey
		shared, err = from.Shared.SigningKeys(ctx)
		keys = ops.OwnKeys(shared)
	}
	if err != nil || len(keys) == 0 {
		return err
	}
	if to.Shared == nil {
		return to.Dir.WriteSigningKeys(keys)
	}
	_, err = to.Shared.ChangeSigningKeys(ctx, func([]store.SigningKey) []store.SigningKey { return ops.StoreKeys(keys) })
	return err
}
