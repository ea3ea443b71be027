// Package backends opens what a configuration names: the data directory with its database,
// and the contents, on the disk or in a bucket. It is the only package that knows which
// backends there are.
package backends

import (
	"context"
	"errors"
	"fmt"

	"attachd/blobs/disk"
	"attachd/server"
	"attachd/server/backup"
	"attachd/server/cli"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
	"attachd/server/migrate"
	"attachd/server/ops"
	"attachd/store"
	"attachd/store/bolt"
)

// Opener opens storages.
type Opener struct {
	// Lost is called when this process cannot use a database any more. It must end the
	// process.
	Lost func(error)
}

// Open opens what a configuration names.
func (o Opener) Open(ctx context.Context, cfg config.Config, how daemon.Opening) (daemon.Storage, error) {
	if cfg.Metadata.Backend == "postgres" {
		return o.openShared(ctx, cfg, how)
	}
	return o.openOwn(ctx, cfg, how)
}

// openOwn opens a data directory with its database, and the bucket where contents are in
// one. The database comes first: its lock keeps a second process from touching anything
// else.
func (o Opener) openOwn(ctx context.Context, cfg config.Config, how daemon.Opening) (daemon.Storage, error) {
	dir, err := cli.OpenDir(cfg)
	if err != nil {
		return daemon.Storage{}, err
	}
	if err := dir.CheckKind(false); err != nil {
		return daemon.Storage{}, err
	}
	if err := dir.CheckDatabase(); err != nil {
		return daemon.Storage{}, err
	}
	ballast, err := dir.Ballast()
	if err != nil {
		return daemon.Storage{}, err
	}
	room, err := disk.CapacityOf(dir.Path())
	if err != nil {
		return daemon.Storage{}, err
	}
	times := ops.NewStorageTimes()
	mayTake := func() int64 {
		room, err := disk.CapacityOf(dir.Path())
		if err != nil {
			return 0 // uploads into files say what is wrong with the disk
		}
		return room.Free - int64(cfg.Limits.DiskReserve) - ballast.Missing(room.Total)
	}
	db, err := bolt.Open(dir.Join("attachd.db"), bolt.Options{Log: dir.Join(datadir.LogFolder), LogSize: logSize(int64(cfg.Storage.LogSize), room.Total), OlderLog: dir.Join(datadir.OlderLog), LogRoom: mayTake, TakeOver: dir.TakeOver, Own: dir.Own, MakeRoom: ballast.GiveUp, Committed: times.Committed, LogFailed: times.LogFailed, Lost: o.Lost})
	switch {
	case errors.Is(err, bolt.ErrLocked):
		return daemon.Storage{}, fmt.Errorf("%s is in use by %s", dir.Path(), dir.Holder())
	case errors.Is(err, store.ErrDamaged):
		return daemon.Storage{}, fmt.Errorf("%w. %s", err, dir.Rescue())
	case err != nil:
		return daemon.Storage{}, err
	}
	if err := dir.CleanUp(); err != nil {
		return daemon.Storage{}, errors.Join(err, db.Close())
	}
	err = checkHome(ctx, db, cfg, how)
	var contents *opened
	if err == nil {
		contents, err = openContents(cfg, dir, db, times)
	}
	if err != nil {
		return daemon.Storage{}, errors.Join(err, db.Close())
	}
	storage := daemon.Storage{Dir: dir, Ballast: ballast, Store: db, Blobs: contents.Store, Abilities: server.AbilitiesOf(db, contents.Store), Times: times}
	storage.MoveTo = func(ctx context.Context, settings map[string]string) (migrate.Target, error) {
		to, _, err := config.Load("", nil, settings)
		if err != nil {
			return migrate.Target{}, err
		}
		if to.Metadata.Backend == "postgres" {
			return o.moveElsewhere(ctx, cfg, storage, to)
		}
		return contents.moveTo(ctx, to)
	}
	return storage, nil
}

const (
	// logShare is the part of the disk that the write-ahead log may take.
	logShare = 16
	// leastLog is how many bytes the log may take of any disk: two segments.
	leastLog = 8 << 20
)

// logSize returns how many bytes the write-ahead log may take of a disk.
func logSize(configured, disk int64) int64 { return min(configured, max(leastLog, disk/logShare)) }

// OpenCopy opens a copy of a database to write to it.
func (o Opener) OpenCopy(path string) (backup.Records, error) {
	return bolt.Open(path, bolt.Options{Lost: o.Lost})
}

// OpenSnapshot opens a copy of a database, which may be on a read-only medium.
func (o Opener) OpenSnapshot(path string) (backup.Records, error) {
	return bolt.Open(path, bolt.Options{ReadOnly: true, Lost: o.Lost})
}
