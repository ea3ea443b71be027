package cli

import (
	_ "embed" // of notices.txt

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
)

// notices are the licences of what is linked into the program: packaging/notices.sh
// writes them.
//
//go:embed notices.txt
var notices string

// Licenses is the command that prints the licences of what the program is made of.
func (a *App) Licenses() *cobra.Command {
	return command.WithoutInstallation(&cobra.Command{
		Use:     "licenses",
		Aliases: []string{"licences"},
		Short:   "print the licences of Go and the modules in this program",
		Args:    command.Exactly(),
		RunE:    func(*cobra.Command, []string) error { return a.show(notices) },
	})
}
