package cli

import (
	"crypto/fips140"
	_ "embed" // of archived.txt
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/daemon"
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
			cfg, warnings, err := a.config(nil)
			if err == nil {
				err = daemon.CheckServices(cfg)
			}
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
		RunE:  func(*cobra.Command, []string) error { return a.printVersion() },
	})
}

func (a *App) printVersion() error {
	_, err := fmt.Fprintln(a.Out, "attachd", version()+ofFIPS())
	return err
}

// ofFIPS says whether the cryptography is that of Go's FIPS 140-3 module, and of which version.
func ofFIPS() string {
	switch {
	case fips140.Enforced():
		return " with FIPS 140-3 only, module " + fips140.Version()
	case fips140.Enabled():
		return " with FIPS 140-3, module " + fips140.Version()
	}
	return ""
}

// version returns the version of the build: a tag, or a commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = archivedVersion(archived)
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				v = "devel-" + setting.Value[:12]
			}
		}
	}
	return v + " " + info.GoVersion
}

// archived says which commit the sources are of where they came without a repository: git
// archive puts it in.
//
//go:embed archived.txt
var archived string

// afterTag is in what git describe prints of a commit that has no tag itself.
var afterTag = regexp.MustCompile(`-\d+-g[0-9a-f]+$`)

// archivedVersion is the version of sources that git archive put into an archive: the tag
// of their commit, or the commit.
func archivedVersion(text string) string {
	commit, tag, _ := strings.Cut(strings.TrimSpace(text), "\n")
	switch {
	case strings.HasPrefix(commit, "$") || len(commit) < 12: // in a repository
		return "devel"
	case strings.HasPrefix(tag, "v") && !afterTag.MatchString(tag):
		return tag
	}
	return "devel-" + commit[:12]
}
