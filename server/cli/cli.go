// Package cli has the commands for the server on this machine.
//
// Commands use the server's own API. While a server runs, they reach it over the socket
// in its data directory; otherwise they open the files themselves and start the same
// server for the duration of the command.
package cli

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"attachd/server"
	"attachd/server/backup"
	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/content"
	"attachd/server/daemon"
	"attachd/server/webhooks"
)

// App is the command line with its dependencies.
type App struct {
	command.Streams
	open         Open
	openSnapshot backup.Open
	openCopy     backup.Open

	configFile string
	dataDir    string
	quiet      bool // show no progress
	moving     bool // open a database too from which the records were moved away
}

// addQuietFlag adds the flag for commands that show progress on a terminal.
func (a *App) addQuietFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "show no progress on a terminal")
}

// Open opens the storage of a configuration.
type Open func(context.Context, config.Config, daemon.Opening) (daemon.Storage, error)

// New returns an App; open opens the storage of a configuration, openSnapshot a copy of
// its database, read-only, and openCopy a copy that may be written.
func New(open Open, openSnapshot, openCopy backup.Open, streams command.Streams) *App {
	return &App{open: open, openSnapshot: openSnapshot, openCopy: openCopy, Streams: streams}
}

// openStorage opens the storage of cfg and leaves a note for others of which process
// has it.
func (a *App) openStorage(ctx context.Context, cfg config.Config, who string, how daemon.Opening) (daemon.Held, error) {
	storage, err := a.open(ctx, cfg, how)
	if err != nil {
		return daemon.Held{}, noInstallation(err)
	}
	return daemon.Hold(storage, who)
}

// Root is the root command, which holds the others.
func (a *App) Root(commands ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:           "attachd",
		Short:         "attachd keeps the files that belong to products, tickets and meetings",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          command.NoCommand,
	}
	// Not cobra's: with a template of its own, the linker would keep all methods of all types,
	// which is a quarter of the program.
	versionOnly := root.Flags().Bool("version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *versionOnly {
			return a.printVersion()
		}
		return cmd.Help()
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return command.Usage("%s\nSee: %s --help", flagError(err), cmd.CommandPath())
	})
	root.PersistentFlags().StringVar(&a.configFile, "config", "", "configuration `file`")
	root.PersistentFlags().StringVar(&a.dataDir, "data-dir", "", "the data directory's `path` (overrides the configuration)")
	root.AddGroup(&cobra.Group{ID: command.OnInstallation, Title: "Commands for the server on this machine:"},
		&cobra.Group{ID: command.OnDirectory, Title: "Commands for users, keys, spaces and places, here or on any server:"},
		&cobra.Group{ID: command.OnFiles, Title: "Commands for the files of any server, with an API key:"})
	for _, cmd := range commands {
		if cmd.GroupID == "" {
			cmd.GroupID = command.OnInstallation
		}
	}
	root.AddCommand(commands...)
	return root
}

// flagError describes what is wrong with a flag, without the wording of package
// strconv.
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

// config loads the configuration, and returns warnings about environment variables
// without effect.
func (a *App) config(flags map[string]string) (cfg config.Config, warnings []string, err error) {
	if flags == nil {
		flags = map[string]string{}
	}
	if a.dataDir != "" {
		flags["data_dir"] = a.dataDir
	}
	return config.Load(a.configFile, os.Environ(), flags, checks...)
}

// checks validate values of the configuration by the rules of other packages.
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
	{Key: "storage.backend", Of: func(cfg config.Config) error {
		if cfg.Storage.Backend == "s3" && (cfg.Storage.S3Endpoint == "" || cfg.Storage.S3Bucket == "") {
			return errors.New("\"s3\" needs storage.s3_endpoint and storage.s3_bucket too")
		}
		return nil
	}},
	{Key: "metadata.backend", Of: func(cfg config.Config) error {
		switch {
		case cfg.Metadata.Backend != "postgres":
			return nil
		case cfg.Metadata.DSN == "" && cfg.Metadata.DSNFile == "":
			return errors.New("\"postgres\" needs metadata.dsn or metadata.dsn_file too")
		case cfg.Storage.Backend != "s3":
			return errors.New("\"postgres\" needs storage.backend = \"s3\" too: servers that share a database share the files as well, which are in an object store then")
		}
		return nil
	}},
	{Key: "metadata.dsn", Of: func(cfg config.Config) error {
		if cfg.Metadata.DSN != "" && cfg.Metadata.DSNFile != "" {
			return errors.New("is set, and metadata.dsn_file too: remove one of them")
		}
		return nil
	}},
	{Key: "storage.s3_access_key", Of: func(cfg config.Config) error {
		secret := cfg.Storage.S3SecretKey != "" || cfg.Storage.S3SecretKeyFile != ""
		switch {
		case cfg.Storage.S3AccessKey != "" && !secret:
			return errors.New("needs storage.s3_secret_key or storage.s3_secret_key_file too")
		case cfg.Storage.S3AccessKey == "" && secret:
			return errors.New("is missing: there is a secret for it")
		}
		return nil
	}},
	{Key: "storage.s3_secret_key", Of: func(cfg config.Config) error {
		if cfg.Storage.S3SecretKey != "" && cfg.Storage.S3SecretKeyFile != "" {
			return errors.New("is set, and storage.s3_secret_key_file too: remove one of them")
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
