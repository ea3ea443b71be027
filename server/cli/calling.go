package cli

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/remote"
)

// caller calls the API: it sends a body, encoded as JSON unless it is an io.Reader, and
// decodes the answer into answer, if that is not nil. A refusal is returned with the
// server's own sentence.
type caller func(ctx context.Context, method, path string, body, answer any) error

// aboutServers is the part of the help that the commands for the directory share.
const aboutServers = `
This is done on the server of this machine, running or not, unless --server or
ATTACHD_SERVER names another one. That takes a superadmin's API key, from the
file that --key-file names or from ATTACHD_KEY. Where an installation is named
(--data-dir, --config, ATTACHD_DATA_DIR or ATTACHD_CONFIG), ATTACHD_SERVER is
not looked at.`

// onDirectory is a group of commands about the directory.
func (a *App) onDirectory(use, short string, commands ...*cobra.Command) *cobra.Command {
	group := command.Group(use, short, commands...)
	group.GroupID = command.OnDirectory
	return group
}

// calling completes a command that calls the API of the server on this machine, or of
// another one that is named.
func (a *App) calling(on target, cmd *cobra.Command, run func(ctx context.Context, call caller, args []string) error) *cobra.Command {
	return a.reaching(cmd, a.with(on, func(ctx context.Context, c *client, args []string) error {
		call := func(ctx context.Context, method, path string, body, answer any) error {
			return c.call(ctx, method, path, body, answer)
		}
		return run(ctx, call, args)
	}), func(ctx context.Context, c *remote.Client, args []string) error { return run(ctx, c.Call, args) })
}

// transferring is calling for a command that moves files, too.
func (a *App) transferring(on target, cmd *cobra.Command, run func(ctx context.Context, c *remote.Client, args []string) error) *cobra.Command {
	return a.reaching(cmd, a.with(on, func(ctx context.Context, c *client, args []string) error {
		operator, err := remote.New(remote.Options{Server: "http://attachd", Transport: c.Transport, RetryFor: time.Minute, Retrying: a.Retrying})
		if err != nil {
			return err
		}
		return run(ctx, operator, args)
	}), run)
}

// reaching completes a command that is run here on the server of this machine, or there
// on another one that is named.
func (a *App) reaching(cmd *cobra.Command, here func(*cobra.Command, []string) error, there func(ctx context.Context, c *remote.Client, args []string) error) *cobra.Command {
	var other command.Server
	cmd.Long = cmp.Or(cmd.Long, cmd.Short+".") + "\n" + aboutServers
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		isGiven := cmd.Flags().Changed
		byFlag := isGiven("data-dir") || isGiven("config")
		switch {
		case byFlag && isGiven("server"):
			return command.Usage("--server names another server, --data-dir and --config the one of this machine: give one of them")
		case byFlag, !isGiven("server") && (os.Getenv(config.EnvConfig) != "" || os.Getenv(config.EnvDataDir) != ""):
			return here(cmd, args)
		case !other.IsNamed() && !isGiven("key-file"):
			return here(cmd, args)
		}
		c, err := other.Client(a.Retrying)
		if err != nil {
			return err
		}
		return there(cmd.Context(), c, args)
	}
	other.AddFlags(cmd)
	return cmd
}
