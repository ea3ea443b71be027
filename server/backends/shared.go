package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"

	"attachd/blobs/disk"
	"attachd/blobs/s3"
	"attachd/server"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
	"attachd/server/migrate"
	"attachd/server/ops"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/portable"
	"attachd/store/postgres"
)

// askAgain is how often a database is asked that is not there yet.
const askAgain = time.Second

// openShared opens a PostgreSQL database and the bucket that belongs to it. The data
// directory has nothing of value then, and a command has one of its own.
func (o Opener) openShared(ctx context.Context, cfg config.Config, how daemon.Opening) (_ daemon.Storage, err error) {
	dsn, err := daemon.DSN(cfg)
	if err != nil {
		return daemon.Storage{}, err
	}
	dir, leave, err := openScratch(cfg, how.Beside)
	if err != nil {
		return daemon.Storage{}, err
	}
	closing := []func() error{leave}
	defer func() {
		if err == nil {
			return
		}
		for i := len(closing) - 1; i >= 0; i-- {
			err = errors.Join(err, closing[i]())
		}
	}()
	times := ops.NewStorageTimes()
	db, err := openDatabase(ctx, postgres.Options{
		DSN: dsn, MaxConnections: cfg.Metadata.MaxConnections, Pooler: cfg.Metadata.Pooler, Existing: how.Existing, Log: how.Log, Called: times.Asked,
	}, how.Waiting)
	if err != nil {
		return daemon.Storage{}, err
	}
	closing = append(closing, db.Close)
	if err := checkHome(ctx, db, cfg, how); err != nil {
		return daemon.Storage{}, err
	}
	local, err := disk.OpenSpools(dir.Path(), disk.Options{Own: dir.Own, Shared: dir.Shared(), Synced: times.Synced})
	if err != nil {
		return daemon.Storage{}, dir.Explain(err)
	}
	closing = append(closing, local.Close)
	contents, err := openBucket(ctx, cfg, local, db, s3.Options{Catalog: db, Shared: true}, times)
	if err != nil {
		return daemon.Storage{}, err
	}
	storage := daemon.Storage{Dir: dir, Ballast: noBallast{}, Store: db, Blobs: contents, Abilities: server.AbilitiesOf(db, contents), Times: times, Leave: leave}
	if how.Beside {
		storage.Snapshotter = copier{db, dir.Join(datadir.DatabaseFile), o.Lost}
	}
	storage.Prepare = func(ctx context.Context, id uuid.UUID) error {
		err := upkeep.Prepare(ctx, db, id)
		if err == nil {
			_, err = arriveInBucket(ctx, storage)
		}
		return err
	}
	storage.MoveTo = func(ctx context.Context, settings map[string]string) (migrate.Target, error) {
		to, _, err := config.Load("", nil, settings)
		if err == nil && to.Metadata.Backend == "postgres" {
			err = errors.New("both are in PostgreSQL: move the database with its own tools, such as pg_dump")
		}
		if err != nil {
			return migrate.Target{}, err
		}
		return o.moveElsewhere(ctx, cfg, storage, to)
	}
	return storage, nil
}

// copier is the store.Snapshotter of a command: it copies the records of a database that
// servers share into one of the kind that a data directory has, which every backup has.
type copier struct {
	from *postgres.Store
	path string // of the copy, while it is made
	lost func(error)
}

// Snapshot implements store.Snapshotter. The records are read as of one moment, and once more
// where they were written.
func (c copier) Snapshot(ctx context.Context, w io.Writer) (err error) {
	to, err := bolt.Open(c.path, bolt.Options{Lost: c.lost})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close(), os.Remove(c.path)) }()
	if _, err := portable.Copy(ctx, c.from, to, nil); err != nil {
		return err
	}
	// Each point would keep the free pages that the import has left, which are many.
	if _, err := to.Compact(ctx); err != nil && !errors.Is(err, store.ErrFull) {
		return err
	}
	return to.Snapshot(ctx, w)
}

// openScratch opens the data directory for what is of no value: for a server, which locks it,
// that of the configuration, which may have been lost; for a command a new one, since it may
// run on any machine, and beside a server.
func openScratch(cfg config.Config, forCommand bool) (dir *datadir.Dir, leave func() error, err error) {
	if forCommand {
		path, err := os.MkdirTemp("", "attachd-")
		if err != nil {
			return nil, nil, err
		}
		leave = func() error { return os.RemoveAll(path) }
		if dir, err = datadir.Open(path); err != nil {
			return nil, nil, errors.Join(err, leave())
		}
		return dir, leave, nil
	}
	if dir, err = datadir.Open(cfg.DataDir); err != nil {
		return nil, nil, err
	}
	if err := dir.CheckKind(true); err != nil {
		return nil, nil, err
	}
	if leave, err = dir.Lock(); err != nil {
		return nil, nil, err
	}
	if err := dir.CleanUp(); err != nil {
		return nil, nil, errors.Join(err, leave())
	}
	return dir, leave, nil
}

// openDatabase opens a database, and waits for one that is not there yet where waiting is
// set.
func openDatabase(ctx context.Context, opts postgres.Options, waiting func(error)) (*postgres.Store, error) {
	until := time.Now().Add(daemon.DatabaseWait)
	for told := false; ; {
		db, err := postgres.Open(ctx, opts)
		switch {
		case err == nil && told:
			waiting(nil)
			return db, nil
		case waiting == nil || !errors.Is(err, store.ErrAway) || ctx.Err() != nil:
			return db, err
		case time.Now().After(until):
			return nil, fmt.Errorf("%w. It was waited for, for %s. See that PostgreSQL runs and can be reached, and that metadata.dsn is right", err, daemon.DatabaseWait)
		case !told:
			waiting(err)
			told = true
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
		}
	}
}

// noBallast is the ballast of a data directory without a database.
type noBallast struct{}

func (noBallast) Missing(int64) int64 { return 0 }
func (noBallast) Refill(int64) error  { return nil }
func (noBallast) GiveUp() bool        { return false }
