package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/datadir"
)

// Init is the command that prepares a data directory for a server with
// require_existing.
func (a *App) Init() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "prepare an empty data directory, for a server with require_existing",
		Args:  command.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			cfg, _, err := a.config(nil)
			if err != nil {
				return err
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

// openDir is a function that opens the data directory of a configuration.
type openDir func(config.Config) (*datadir.Dir, error)

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
