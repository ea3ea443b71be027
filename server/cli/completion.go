package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

// Completion is the command that prints what a shell needs to complete commands.
func (a *App) Completion() *cobra.Command {
	return command.WithoutInstallation(&cobra.Command{
		Use:   "completion SHELL",
		Short: "print a script with which a shell completes commands: " + strings.Join(shells, ", "),
		Example: `  source <(attachd completion bash)     # in this shell
  attachd completion zsh > "${fpath[1]}/_attachd"
  attachd completion fish > ~/.config/fish/completions/attachd.fish
  attachd completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return command.Usage("say for which shell: %s", strings.Join(shells, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Out, true)
			case "zsh":
				return root.GenZshCompletion(a.Out)
			case "fish":
				return root.GenFishCompletion(a.Out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(a.Out)
			}
		},
	})
}
