// Package command has what all commands share: standard streams, arguments, exit codes,
// tables and a progress line.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// Streams are the standard streams of a process.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
	exitFault  = 3 // a check found something
)

// exit is an error with an exit code.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

// Fault returns an error for what a check found, with its exit code.
func Fault(err error) error { return &exit{exitFault, err} }

// Usage returns an error about the usage of a command, with its exit code.
func Usage(format string, args ...any) error {
	return &exit{exitUsage, fmt.Errorf(format, args...)}
}

// Report prints what went wrong, if anything did, and returns the exit code.
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

// Retrying reports why a request is to be repeated.
func (s Streams) Retrying(why error, in time.Duration) {
	fmt.Fprintf(s.Err, "attachd: %v; trying again in %v\n", why, in.Round(100*time.Millisecond))
}

// Groups of commands in the help.
const (
	OnDirectory    = "directory"
	OnInstallation = "installation"
	OnFiles        = "files"
)

// installationFlags are the flags that select an installation.
var installationFlags = []string{"config", "data-dir"}

// needsNone is the annotation of a command that needs no installation.
const needsNone = "needs no installation"

// IsFlagOf reports whether a flag has a meaning for a command.
func IsFlagOf(cmd *cobra.Command, flag string) bool {
	return cmd.Annotations[needsNone] == "" || !slices.Contains(installationFlags, flag)
}

// WithoutInstallation hides the flags that select an installation in the help of a
// command that needs none.
func WithoutInstallation(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{needsNone: "yes"}
	cmd.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		for _, name := range installationFlags {
			cmd.InheritedFlags().Lookup(name).Hidden = true
		}
		cmd.Root().HelpFunc()(cmd, args)
	})
	return cmd
}

// Group returns a command that only has subcommands.
func Group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  NoCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(cmd.Help(), Usage("say what to do: %s", subcommands(cmd)))
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}

// NoCommand refuses arguments of a command that only has subcommands.
func NoCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return Usage("%q is not a command of %s. There are: %s", args[0], cmd.CommandPath(), subcommands(cmd))
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

// Exactly requires these arguments; names are for the error.
func Exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if len(names) == 0 {
			return Usage("%s takes no arguments", cmd.CommandPath())
		}
		return Usage("%s takes %s", cmd.CommandPath(), strings.Join(names, " and "))
	}
}

// AtMostOne accepts one argument or none.
func AtMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return Usage("%s takes %s, or nothing", cmd.CommandPath(), name)
		}
		return nil
	}
}

// AtLeastOne requires one or more arguments of a kind.
func AtLeastOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return Usage("%s takes %s, or several", cmd.CommandPath(), name)
		}
		return nil
	}
}

// Table prints rows in columns. The first row has the columns' names.
func (s Streams) Table(rows [][]string) error {
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// Count formats a number of things in words.
func Count(n int64, thing string) string {
	switch n {
	case 0:
		return "no " + thing + "s"
	case 1:
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// WithoutPath returns a path error without its path, which is printed anyway.
func WithoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
