// Package cli is the command line: what each command of attachd does.
//
// Commands speak to the server's own API. While a server runs, they reach it
// over the socket in its data directory; otherwise they open the files
// themselves and start the same server for as long as the command takes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"attachd/server"
	"attachd/server/config"
	"attachd/server/content"
	"attachd/server/daemon"
	"attachd/server/upkeep"
	"attachd/server/webhooks"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
	exitFault  = 3 // a check found something
)

// App is the command line with what it stands on.
type App struct {
	open           func(config.Config) (daemon.Storage, error)
	openSnapshot   upkeep.Open
	openCopy       upkeep.Open
	stdin          io.Reader
	stdout, stderr io.Writer

	configFile string
	dataDir    string
}

// New makes an App; open opens the storage that a configuration names, and
// openSnapshot a copy of its database, for reading, and openCopy one that may be
// written.
func New(open func(config.Config) (daemon.Storage, error), openSnapshot, openCopy upkeep.Open, stdin io.Reader, stdout, stderr io.Writer) *App {
	return &App{open: open, openSnapshot: openSnapshot, openCopy: openCopy, stdin: stdin, stdout: stdout, stderr: stderr}
}

// openStorage opens what cfg names and leaves a note for others of who has it.
func (a *App) openStorage(cfg config.Config, who string) (daemon.Held, error) {
	storage, err := a.open(cfg)
	if err != nil {
		return daemon.Held{}, err
	}
	return daemon.Hold(storage, who)
}

// Root is the command that holds the others.
func (a *App) Root(commands ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:           "attachd",
		Short:         "attachd keeps the files that belong to products, tickets and meetings",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%s\nSee: %s --help", flagError(err), cmd.CommandPath())
	})
	root.PersistentFlags().StringVar(&a.configFile, "config", "", "configuration `file`")
	root.PersistentFlags().StringVar(&a.dataDir, "data-dir", "", "the data directory's `path` (overrides the configuration)")
	root.SetVersionTemplate("attachd {{.Version}}\n")
	root.AddGroup(&cobra.Group{ID: onInstallation, Title: "Commands for the server on this machine:"},
		&cobra.Group{ID: onFiles, Title: "Commands for the files of any server, with an API key:"})
	for _, cmd := range commands {
		if cmd.GroupID == "" {
			cmd.GroupID = onInstallation
		}
	}
	root.AddCommand(commands...)
	return root
}

// Groups of commands in the help.
const (
	onInstallation = "installation"
	onFiles        = "files"
)

// withoutInstallation keeps the flags that say which installation is meant out of
// the help of a command that needs none.
func withoutInstallation(cmd *cobra.Command) *cobra.Command {
	cmd.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		for _, name := range []string{"config", "data-dir"} {
			cmd.InheritedFlags().Lookup(name).Hidden = true
		}
		cmd.Root().HelpFunc()(cmd, args)
	})
	return cmd
}

// flagError tells a person what is wrong with a flag, without the words of
// package strconv.
func flagError(err error) string {
	var value *strconv.NumError
	if !errors.As(err, &value) {
		return err.Error()
	}
	takes := "it takes a whole number"
	if value.Func == "ParseBool" {
		takes = "it takes true or false"
	}
	return strings.TrimSuffix(err.Error(), value.Error()) + takes
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(cmd.Help(), usage("say what to do: %s", subcommands(cmd)))
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage("%q is not a command of %s. There are: %s", args[0], cmd.CommandPath(), subcommands(cmd))
}

func subcommands(cmd *cobra.Command) string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return strings.Join(names, ", ")
}

// exactly wants these arguments, by name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if len(names) == 0 {
			return usage("%s takes no arguments", cmd.CommandPath())
		}
		return usage("%s takes %s", cmd.CommandPath(), strings.Join(names, " and "))
	}
}

// atMostOne takes one argument or none.
func atMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usage("%s takes %s, or nothing", cmd.CommandPath(), name)
		}
		return nil
	}
}

// config loads what is configured, and warns of variables that mean nothing.
func (a *App) config(flags map[string]string) (cfg config.Config, warnings []string, err error) {
	if flags == nil {
		flags = map[string]string{}
	}
	if a.dataDir != "" {
		flags["data_dir"] = a.dataDir
	}
	return config.Load(a.configFile, os.Environ(), flags, checks...)
}

// checks are what the rest of the program knows of values.
var checks = []config.Check{
	{Key: "content.allowed", Of: func(cfg config.Config) error {
		_, err := content.NewPolicy(cfg.Content.Allowed, cfg.Content.AllowExecutables)
		return err
	}},
	{Key: "scan.clamd", Of: func(cfg config.Config) error {
		_, err := daemon.Scanner(cfg)
		return err
	}},
	{Key: "downloads.content_url", Of: func(cfg config.Config) error {
		return server.CheckContentURL(cfg.PublicURL, cfg.Listen, cfg.Downloads.ContentURL)
	}},
	{Key: "webhooks.url", Of: func(cfg config.Config) error {
		if cfg.Webhooks.URL == "" {
			return nil
		}
		if cfg.Webhooks.SecretFile == "" {
			return errors.New("needs webhooks.secret_file too")
		}
		return webhooks.CheckURL(cfg.Webhooks.URL, cfg.Webhooks.AllowPrivate)
	}},
	{Key: "tls.cert_file", Of: func(cfg config.Config) error {
		if cfg.TLS.CertFile != "" && cfg.TLS.KeyFile == "" {
			return errors.New("needs tls.key_file too")
		}
		return nil
	}},
	{Key: "tls.key_file", Of: func(cfg config.Config) error {
		if cfg.TLS.KeyFile != "" && cfg.TLS.CertFile == "" {
			return errors.New("needs tls.cert_file too")
		}
		return nil
	}},
}

// exit is an error that asks for an exit code of its own.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exit{exitUsage, fmt.Errorf(format, args...)}
}

// Report tells a person what went wrong, if anything did, and gives the exit
// code.
func Report(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(stderr, "attachd: %v\n", err)
	var e *exit
	if errors.As(err, &e) {
		return e.code
	}
	return exitFailed
}
