package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"attachd/server/cli/command"
)

// Man is the hidden command with which packages make their man pages. cobra's own
// generator would bring three modules into the program.
func (a *App) Man() *cobra.Command {
	return command.WithoutInstallation(&cobra.Command{
		Use:    "man DIR",
		Short:  "write a man page for each command into a folder",
		Hidden: true,
		Args:   command.Exactly("a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeManPages(cmd.Root(), args[0])
		},
	})
}

func writeManPages(cmd *cobra.Command, dir string) error {
	if !cmd.IsAvailableCommand() && cmd.HasParent() {
		return nil
	}
	cmd.InitDefaultHelpFlag()
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(manPage(cmd, name)), 0o644); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if err := writeManPages(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

// manPage describes a command in roff, as man(7) has it.
func manPage(cmd *cobra.Command, name string) string {
	var page strings.Builder
	section := func(title string) { fmt.Fprintf(&page, ".SH %s\n", title) }
	fmt.Fprintf(&page, ".TH %s 1 \"\" attachd\n", roff(strings.ToUpper(name)))
	section("NAME")
	fmt.Fprintf(&page, "%s \\- %s\n", roff(name), roff(cmd.Short))
	section("SYNOPSIS")
	fmt.Fprintf(&page, "\\fB%s\\fR\n", roff(cmd.UseLine()))
	if cmd.Long != "" {
		section("DESCRIPTION")
		fmt.Fprintf(&page, ".nf\n%s\n.fi\n", roff(cmd.Long))
	}
	if cmd.HasAvailableSubCommands() {
		section("COMMANDS")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&page, ".TP\n\\fB%s\\fR\n%s\n", roff(sub.Name()), roff(sub.Short))
			}
		}
	}
	if cmd.HasExample() {
		section("EXAMPLES")
		fmt.Fprintf(&page, ".nf\n%s\n.fi\n", roff(cmd.Example))
	}
	section("OPTIONS")
	flags := func(f *pflag.Flag) {
		if f.Hidden || !command.IsFlagOf(cmd, f.Name) {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		fmt.Fprintf(&page, ".TP\n\\fB%s\\fR %s\n%s\n", roff(short+"--"+f.Name), roff(value), roff(usage))
	}
	cmd.NonInheritedFlags().VisitAll(flags)
	cmd.InheritedFlags().VisitAll(flags)
	section("SEE ALSO")
	fmt.Fprintf(&page, "The manual: \\fBattachd docs\\fR\n")
	if parent := cmd.Parent(); parent != nil {
		fmt.Fprintf(&page, ".br\n\\fB%s\\fR(1)\n", roff(strings.ReplaceAll(parent.CommandPath(), " ", "-")))
	}
	return page.String()
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n.", "\n\\&.", "\n'", "\n\\&'")

// roff escapes a text, of which a line may begin with what roff takes for a request.
func roff(text string) string {
	return strings.TrimPrefix(roffEscapes.Replace("\n"+text), "\n")
}
