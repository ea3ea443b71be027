package cli

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/daemon"
)

// Serve is the command that runs the server.
func (a *App) Serve() *cobra.Command {
	var listen string
	var demo, requireExisting bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the server",
		Args:  command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := map[string]string{}
			if listen != "" {
				flags["listen"] = listen
			}
			if requireExisting {
				flags["require_existing"] = "true"
			}
			cfg, warnings, err := a.config(flags)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), cfg, warnings, demo)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "`address` to listen on, as host:port or unix:/path; port 0 picks a free one")
	cmd.Flags().BoolVar(&requireExisting, "require-existing", false, "refuse to begin anew where there is no installation, as while its disk is not mounted")
	cmd.Flags().BoolVar(&demo, "demo", false, "fill an empty data directory with something to look at")
	return cmd
}

func (a *App) serve(ctx context.Context, cfg config.Config, warnings []string, demo bool) error {
	o := daemon.Options{
		Config: cfg, Warnings: warnings, OpenCopy: a.openCopy, Stderr: a.Err, Version: version(),
		Storage: func(ctx context.Context, log *slog.Logger, waiting func(error)) (daemon.Held, error) {
			return a.openStorage(ctx, cfg, "attachd serve", daemon.Opening{Existing: cfg.RequireExisting, Waiting: waiting, Log: log})
		},
	}
	if demo {
		o.Demo = &daemon.Demo{KeysFile: demoKeysFile, Keys: readDemoKeys,
			Fill: func(ctx context.Context, storage daemon.Storage, wasEmpty bool) ([]string, error) {
				return a.makeDemo(ctx, cfg, storage, wasEmpty)
			}}
	}
	return daemon.Serve(ctx, o)
}
