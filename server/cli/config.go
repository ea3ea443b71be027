package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
)

// Config is the group of commands about the configuration.
func (a *App) Config() *cobra.Command {
	return command.Group("config", "check and show the configuration", a.configCheck(), a.configShow())
}

func (a *App) configCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "look for faults in the configuration",
		Args:  command.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			_, warnings, err := a.config(nil)
			for _, warning := range warnings {
				fmt.Fprintln(a.Err, "attachd: warning:", warning)
			}
			if err != nil {
				return command.Fault(err)
			}
			fmt.Fprintln(a.Out, "The configuration is good.")
			return nil
		},
	}
}

func (a *App) configShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "print the configuration in effect",
		Args:  command.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			cfg, _, err := a.config(nil)
			if err != nil {
				return err
			}
			return cfg.Show(a.Out)
		},
	}
}

// Version is the command that prints the version.
func (a *App) Version() *cobra.Command {
	return command.WithoutInstallation(&cobra.Command{
		Use:   "version",
		Short: "print the version",
		Args:  command.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(a.Out, "attachd", version())
			return nil
		},
	})
}

// version returns the version of the build: a tag, or a commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				v += "-" + setting.Value[:12]
			}
		}
	}
	return v + " " + info.GoVersion
}
