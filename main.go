// Command attachd keeps the files that belong to products, tickets and
// meetings of a data catalog: one binary, one directory, nothing else running.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"attachd/blobs"
	"attachd/server"
	"attachd/server/cli"
	"attachd/server/config"
	"attachd/server/datadir"
	"attachd/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(cli.Report(err, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	app := cli.New(open, openSnapshot, stdin, stdout, stderr)
	root := app.Root(
		app.Serve(),
		app.Check(),
		app.Doctor(),
		app.GC(),
		app.Backup(),
		app.Restore(),
		app.User(),
		app.Key(),
		app.Audit(),
		app.Directory(),
		app.Config(),
		app.Put(),
		app.Get(),
		app.Ls(),
		app.Rm(),
		app.Link(),
		app.Version(),
	)
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// open opens the data directory. The database comes first: its lock keeps a
// second process from touching anything else.
func open(cfg config.Config) (cli.Storage, error) {
	dir, err := datadir.Open(cfg.DataDir)
	if err != nil {
		return cli.Storage{}, err
	}
	if err := dir.CheckDatabase(); err != nil {
		return cli.Storage{}, err
	}
	ballast, err := dir.Ballast()
	if err != nil {
		return cli.Storage{}, err
	}
	times := server.NewStorageTimes()
	db, err := store.OpenBolt(dir.Join("attachd.db"), store.BoltOptions{Own: dir.Own, MakeRoom: ballast.GiveUp, Committed: times.Committed})
	switch {
	case errors.Is(err, store.ErrLocked):
		return cli.Storage{}, fmt.Errorf("%s is in use by %s", dir.Path(), dir.Holder())
	case errors.Is(err, store.ErrDamaged):
		return cli.Storage{}, fmt.Errorf("%w. %s", err, dir.Rescue())
	case err != nil:
		return cli.Storage{}, err
	}
	disk, err := blobs.OpenDisk(dir.Path(), blobs.DiskOptions{Own: dir.Own, Synced: times.Synced})
	if err != nil {
		return cli.Storage{}, errors.Join(err, db.Close())
	}
	return cli.Storage{Dir: dir, Ballast: ballast, Store: db, Blobs: disk, Times: times}, nil
}

// openSnapshot opens a copy of a database, which may lie on a medium that
// cannot be written.
func openSnapshot(path string) (store.Store, error) {
	return store.OpenBolt(path, store.BoltOptions{ReadOnly: true})
}
