package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
	"attachd/store"
)

// Init is the command that prepares a data directory for a server with
// require_existing.
func (a *App) Init() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "prepare an empty data directory or database, for a server with require_existing",
		Args:  command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := a.config(nil)
			if err != nil {
				return err
			}
			if cfg.Metadata.Backend == "postgres" {
				return a.initDatabase(cmd.Context(), cfg)
			}
			dir, err := datadir.Open(cfg.DataDir)
			if err != nil {
				return err
			}
			if dir.Fresh() {
				fmt.Fprintf(a.Out, "prepared %s for a new installation\n", dir.Path())
			} else {
				fmt.Fprintf(a.Out, "%s is a data directory of attachd already: nothing was changed\n", dir.Path())
			}
			return nil
		},
	}
}

// initDatabase is Init where the records are in PostgreSQL.
func (a *App) initDatabase(ctx context.Context, cfg config.Config) error {
	storage, err := a.open(ctx, cfg, daemon.Opening{Beside: true, Existing: true})
	said := "the database has an installation of attachd already: nothing was changed"
	if errors.Is(err, store.ErrNotFound) {
		storage, err = a.open(ctx, cfg, daemon.Opening{Beside: true})
		said = "prepared the database for a new installation"
	}
	if err == nil {
		err = storage.Close()
	}
	if err == nil {
		fmt.Fprintln(a.Out, said)
	}
	return err
}

// noInstallation adds to an error what to do about a database without an installation.
func noInstallation(err error) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w. See that metadata.dsn names the right one; where a new installation is meant: attachd init", err)
}

// target is which installation a command works on.
type target int

const (
	existing target = iota // one that is there: a mistyped name makes none
	orNew                  // or one that it begins, unless the configuration says no
)

// openDir opens the data directory of a configuration.
func (t target) openDir(cfg config.Config) (*datadir.Dir, error) {
	if t == orNew {
		return OpenDir(cfg)
	}
	return openExisting(cfg)
}

func openExisting(cfg config.Config) (*datadir.Dir, error) { return datadir.OpenExisting(cfg.DataDir) }

// OpenDir opens the data directory of a configuration, and creates it unless the
// configuration requires it to exist.
func OpenDir(cfg config.Config) (*datadir.Dir, error) {
	if !cfg.RequireExisting {
		return datadir.Open(cfg.DataDir)
	}
	dir, err := datadir.OpenExisting(cfg.DataDir)
	if errors.Is(err, datadir.ErrNoInstallation) {
		err = fmt.Errorf("%w: it is missing or empty, and require_existing is set, so that no new installation is begun there. Is the disk mounted that it is on (findmnt --target %s)? Where a new installation is meant, prepare it: attachd init --data-dir %s",
			err, cfg.DataDir, cfg.DataDir)
	}
	return dir, err
}
