package cli

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"attachd/docs"
	"attachd/server/cli/command"
)

// Docs is the command that prints the manual, which is in the program.
func (a *App) Docs() *cobra.Command {
	cmd := command.WithoutInstallation(&cobra.Command{
		Use:   "docs [PAGE]",
		Short: "read the manual: without PAGE, the list of its pages",
		Long:  "Read the manual. Without PAGE, the list of its pages.\n\nOn a terminal, a page is shown by the program that PAGER names, if it is set.",
		Args:  command.AtMostOne("the name of a page"),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listDocs()
			}
			page, ok := docs.Find(strings.TrimSuffix(strings.TrimPrefix(args[0], "docs/"), ".md"))
			if !ok {
				return command.Usage("the manual has no page %q; `attachd docs` lists them", args[0])
			}
			return a.show(page.Text)
		},
	})
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
		for _, group := range docs.Manual() {
			for _, page := range group.Pages {
				names = append(names, page.Name+"\t"+page.Title)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func (a *App) listDocs() error {
	rows := [][]string{{"PAGE", "FOR", "TITLE"}}
	for _, group := range docs.Manual() {
		for _, page := range group.Pages {
			rows = append(rows, []string{page.Name, group.Readers, page.Title})
		}
	}
	return a.Table(rows)
}

// show prints a text, by the user's pager if there is one and somebody to use it.
func (a *App) show(text string) error {
	pager := strings.Fields(os.Getenv("PAGER"))
	if out, ok := a.Out.(*os.File); !ok || !term.IsTerminal(int(out.Fd())) || len(pager) == 0 {
		_, err := io.WriteString(a.Out, text)
		return err
	}
	// Ctrl-C is for the pager, which decides what it does.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	cmd := exec.Command(pager[0], pager[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), a.Out, a.Err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the pager %q (PAGER): %w", pager[0], err)
	}
	return nil
}
