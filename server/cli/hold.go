package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/remote"
)

// hold is a legal hold as the API answers it.
type hold struct {
	ID     string  `json:"id"`
	On     held    `json:"on"`
	Space  string  `json:"space"`
	Reason string  `json:"reason"`
	SetAt  string  `json:"set_at"`
	SetBy  *person `json:"set_by"`
}

// held is what a hold is on; the id of a space is its slug.
type held struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// Hold is the group of commands about legal holds.
func (a *App) Hold() *cobra.Command {
	return a.onDirectory("hold", "add, list and lift legal holds, which keep files from being deleted", a.holdAdd(), a.holdList(), a.holdLift())
}

func (a *App) holdAdd() *cobra.Command {
	var reason string
	var asJSON bool
	cmd := a.calling(existing, &cobra.Command{
		Use:   "add KIND:WHICH --reason REASON",
		Short: "put a legal hold on a space, product, ticket, meeting or attachment, and print its id",
		Long: `Puts a legal hold on a space, product, ticket, meeting or attachment, and prints
its id. Until it is lifted nobody, superadmins included, can delete that, what is
in it, or what it is in, nor remove anything of it from the trash.`,
		Example: `  attachd hold add space:research --reason "Case 4711"
  attachd hold add product:research/Engine --reason "Case 4711"
  attachd hold add attachment:01a20a71-d239-787f-8519-361a21571acd --reason "Case 4711"`,
		Args: command.Exactly("space:SLUG, product:ID, ticket:ID, meeting:ID or attachment:ID"),
		PreRunE: func(_ *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return command.Usage("a hold needs a reason, for those who have to decide later whether it can be lifted: --reason")
			}
			_, err := readHeld(args[0])
			return err
		},
	}, func(ctx context.Context, call caller, args []string) error {
		on, err := readHeld(args[0])
		if err != nil {
			return err
		}
		for _, k := range []placeKind{product, ticket, meeting} {
			if k.word == on.Kind && !isID(on.ID) {
				p, err := k.find(ctx, call, args) // which needs the list of all places
				if err != nil {
					return err
				}
				on.ID = p.ID
			}
		}
		var set hold
		if err := call(ctx, "POST", "/holds", map[string]any{"on": on, "reason": reason}, &set); err != nil {
			return err
		}
		if asJSON {
			return printLines(a.Out, []hold{set})
		}
		_, err = fmt.Fprintln(a.Out, set.ID)
		return err
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, which records managers and superadmins see")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the hold as JSON")
	return cmd
}

func isID(s string) bool {
	_, is := parseID(s)
	return is
}

// readHeld reads KIND:WHICH.
func readHeld(arg string) (held, error) {
	kind, which, _ := strings.Cut(arg, ":")
	on := held{kind, which}
	switch kind {
	case "space":
		return on, isSlug(which)
	case "attachment":
		if _, ok := parseID(which); !ok {
			return on, command.Usage("attachment: takes an id, as the list of its place has it")
		}
		return on, nil
	case product.word, ticket.word, meeting.word:
		if which != "" {
			return on, nil
		}
	}
	return on, command.Usage("%q is neither space:SLUG nor product:, ticket:, meeting: or attachment: with an id", arg)
}

func (a *App) holdList() *cobra.Command {
	return list(a, "hold", &cobra.Command{
		Use:     "list [SPACE]",
		Short:   "list the legal holds in a space, or in all",
		Args:    command.AtMostOne("a space's slug"),
		PreRunE: slugIfGiven,
	}, func(ctx context.Context, call caller, args []string) (holds []hold, err error) {
		path := "/holds"
		if len(args) > 0 {
			path += "?space=" + url.QueryEscape(args[0])
		}
		err = call(ctx, "GET", path, nil, &holds)
		return holds, err
	}, func(_ context.Context, _ caller, holds []hold) ([][]string, error) {
		rows := [][]string{{"ID", "SPACE", "ON", "REASON", "SET", "BY"}}
		for _, h := range holds {
			rows = append(rows, []string{h.ID, h.Space, h.On.Kind + ":" + h.On.ID, remote.Printable(h.Reason), h.SetAt, h.SetBy.name()})
		}
		return rows, nil
	})
}

func (a *App) holdLift() *cobra.Command {
	return a.calling(existing, &cobra.Command{
		Use:   "lift HOLD...",
		Short: "lift legal holds",
		Args:  command.AtLeastOne("a hold's id"),
		PreRunE: func(_ *cobra.Command, args []string) error {
			for _, id := range args {
				if _, ok := parseID(id); !ok {
					return command.Usage("%q is no id of a hold; `attachd hold list` shows them", id)
				}
			}
			return nil
		},
	}, func(ctx context.Context, call caller, args []string) error {
		for _, id := range args {
			if err := call(ctx, "DELETE", "/holds/"+id, nil, nil); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			if _, err := fmt.Fprintln(a.Out, "lifted "+id); err != nil {
				return err
			}
		}
		return nil
	})
}
