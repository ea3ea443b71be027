// Command attachd stores the files that belong to products, tickets and meetings of a
// data catalog: one binary and one data directory, without any other service.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/blobs/s3"
	"attachd/server"
	"attachd/server/backup"
	"attachd/server/cli"
	"attachd/server/cli/command"
	"attachd/server/cli/files"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
	"attachd/server/memory"
	"attachd/server/migrate"
	"attachd/server/ops"
	"attachd/server/preview"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/bolt"
)

// gcPercent is GOGC. The live memory is a few megabytes, so Go would collect garbage
// again and again under load by default. This lets some tens of megabytes of garbage
// accumulate first; where memory is scarce, the soft limit prevents that.
const gcPercent = 400

// reportTime is how long the last line may block on standard error. A server whose
// reader of standard error has stalled exits all the same, with code 1.
const reportTime = 5 * time.Second

func main() {
	preview.DecodeIfAsked()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	memory.NewWatch() // sets the soft limit
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	end(err)
}

// end ends the process, and reports the reason on standard error if it is a failure: a
// service manager may restart the process.
func end(err error) {
	time.AfterFunc(reportTime, func() { os.Exit(1) })
	os.Exit(command.Report(err, os.Stderr))
}

func run(ctx context.Context, args []string, streams command.Streams) error {
	app := cli.New(open, openSnapshot, openCopy, streams)
	root := app.Root(
		app.Serve(),
		app.Init(),
		app.Check(),
		app.Doctor(),
		app.GC(),
		app.Compact(),
		app.Backup(),
		app.Restore(),
		app.Migrate(),
		app.Audit(),
		app.Webhooks(),
		app.User(),
		app.Key(),
		app.Space(),
		app.Member(),
		app.Product(),
		app.Ticket(),
		app.Meeting(),
		app.Directory(),
		app.Config(),
		files.Put(streams),
		files.Get(streams),
		files.Ls(streams),
		files.Rm(streams),
		files.Link(streams),
		files.Export(streams),
		app.Docs(),
		app.Completion(),
		app.Licenses(),
		app.SBOM(),
		app.VerifyRelease(),
		app.Version(),
		app.Man(),
	)
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// open opens the data directory. The database comes first: its lock keeps a
// second process from touching anything else.
func open(cfg config.Config) (daemon.Storage, error) {
	dir, err := cli.OpenDir(cfg)
	if err != nil {
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
	db, err := bolt.Open(dir.Join("attachd.db"), bolt.Options{Log: dir.Join(datadir.LogFolder), LogSize: logSize(int64(cfg.Storage.LogSize), room.Total), OlderLog: dir.Join(datadir.OlderLog), LogRoom: mayTake, TakeOver: dir.TakeOver, Own: dir.Own, MakeRoom: ballast.GiveUp, Committed: times.Committed, LogFailed: times.LogFailed, Lost: end})
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
	contents, err := openContents(cfg, dir, db, times)
	if err != nil {
		return daemon.Storage{}, errors.Join(err, db.Close())
	}
	return daemon.Storage{Dir: dir, Ballast: ballast, Store: db, Blobs: contents.Store, Abilities: server.AbilitiesOf(db, contents.Store), Times: times, MoveTo: contents.moveTo}, nil
}

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

const (
	// logShare is the part of the disk that the write-ahead log may take.
	logShare = 16
	// leastLog is how many bytes the log may take of any disk: two segments.
	leastLog = 8 << 20
)

// logSize returns how many bytes the write-ahead log may take of a disk.
func logSize(configured, disk int64) int64 { return min(configured, max(leastLog, disk/logShare)) }

// openCopy opens a copy of a database to write to it.
func openCopy(path string) (backup.Records, error) {
	return bolt.Open(path, bolt.Options{Lost: end})
}

// openSnapshot opens a copy of a database, which may be on a read-only medium.
func openSnapshot(path string) (backup.Records, error) {
	return bolt.Open(path, bolt.Options{ReadOnly: true, Lost: end})
}
