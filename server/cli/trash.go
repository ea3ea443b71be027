package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/remote"
)

// trashed is something in the trash as the API answers it.
type trashed struct {
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	Name   string `json:"name"`
	Parent *struct {
		Kind string `json:"kind"`
		ID   string `json:"id"`
	} `json:"parent"`
	Files     int64   `json:"files"`
	Bytes     int64   `json:"bytes"`
	DeletedAt string  `json:"deleted_at"`
	DeletedBy *person `json:"deleted_by"`
	ExpiresAt string  `json:"expires_at"`
}

// path is the address of what is in the trash, without its end.
func (t trashed) path() string {
	id, parent := url.PathEscape(t.ID), ""
	if t.Parent != nil {
		parent = url.PathEscape(t.Parent.ID)
	}
	switch t.Kind {
	case "attachment":
		switch t.Parent.Kind {
		case "ticket":
			return "/issues/attachments/" + id
		case "meeting":
			return "/meetings/" + parent + "/attachments/" + id
		}
		return "/catalog/attachments/" + id
	case "space":
		return spacePath(t.ID)
	}
	return placeKind{word: t.Kind, label: labelOf(t.Kind)}.path(parent, id)
}

func labelOf(kind string) string {
	if kind == product.word {
		return product.label
	}
	return ticket.label
}

// person is who did something; nil stands for the operator.
type person struct {
	ID       string `json:"id"`
	FullName string `json:"full_name"`
}

func (p *person) name() string {
	if p == nil {
		return "operator"
	}
	return remote.Printable(cmp.Or(p.FullName, p.ID))
}

// Trash is the group of commands about what was deleted.
func (a *App) Trash() *cobra.Command {
	return a.onDirectory("trash", "list, restore and remove for good what was deleted", a.trashList(), a.trashRestore(), a.trashEmpty())
}

// eachTrashed calls do with what is in the trash of a space, or of all with the spaces in the
// trash if it is empty.
func eachTrashed(ctx context.Context, call caller, slug string, do func(trashed) error) error {
	paths := []string{spacePath(slug) + "/trash"}
	if slug == "" {
		var spaces []space
		if err := call(ctx, "GET", "/directory/spaces", nil, &spaces); err != nil {
			return err
		}
		paths = []string{"/directory/trash"}
		for _, s := range spaces {
			paths = append(paths, spacePath(s.Slug)+"/trash")
		}
	}
	for _, path := range paths {
		var found []trashed
		if err := call(ctx, "GET", path, nil, &found); slug == "" && codeOf(err) == "forbidden" {
			continue // of a space that the caller is no admin of
		} else if err != nil {
			return err
		}
		for _, t := range found {
			if err := do(t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *App) trashList() *cobra.Command {
	var asJSON bool
	cmd := a.calling(existing, &cobra.Command{
		Use:     "list [SPACE]",
		Short:   "list what was deleted and can be restored, in a space or everywhere, the latest first",
		Args:    command.AtMostOne("a space's slug"),
		PreRunE: slugIfGiven,
	}, func(ctx context.Context, call caller, args []string) error {
		list := []trashed{}
		rows := [][]string{{"KIND", "NAME", "FILES", "BYTES", "DELETED", "BY", "UNTIL", "ID"}}
		err := eachTrashed(ctx, call, strings.Join(args, ""), func(t trashed) error {
			list = append(list, t)
			rows = append(rows, []string{t.Kind, remote.Printable(t.Name), strconv.FormatInt(t.Files, 10), strconv.FormatInt(t.Bytes, 10),
				remote.Printable(t.DeletedAt), t.DeletedBy.name(), remote.Printable(t.ExpiresAt), remote.Printable(t.ID)})
			return nil
		})
		switch {
		case err != nil:
			return err
		case asJSON:
			return printLines(a.Out, list)
		}
		return a.Table(rows)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each thing")
	return cmd
}

func slugIfGiven(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return isSlug(args[0])
}

func (a *App) trashRestore() *cobra.Command {
	return a.calling(existing, &cobra.Command{
		Use:   "restore ID...",
		Short: "bring back what was deleted: attachments, products, tickets, meetings by id, spaces by slug",
		Example: `  attachd trash restore 01a20a71-d239-787f-8519-361a21571acd
  attachd trash restore research`,
		Args: command.AtLeastOne("an id"),
		PreRunE: func(_ *cobra.Command, args []string) error {
			for _, id := range args {
				if err := isSlug(id); err != nil { // which ids are, too
					return command.Usage("%q is neither an id nor a space's slug; `attachd trash list` shows them", id)
				}
			}
			return nil
		},
	}, func(ctx context.Context, call caller, args []string) error {
		for _, id := range args {
			if err := restoreTrashed(ctx, call, id); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			if _, err := fmt.Fprintln(a.Out, "restored "+id); err != nil {
				return err
			}
		}
		return nil
	})
}

// restoreTrashed brings back what has an id. Those who may restore an attachment need not see
// the whole trash of its space: it is tried first.
func restoreTrashed(ctx context.Context, call caller, id string) error {
	if _, is := parseID(id); is {
		for _, path := range []string{"/catalog/attachments/", "/issues/attachments/"} {
			if err := call(ctx, "POST", path+id+"/restore", nil, nil); codeOf(err) != "not_found" {
				return err
			}
		}
	}
	var found *trashed
	err := eachTrashed(ctx, call, "", func(t trashed) error {
		if t.ID == id {
			found = &t
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case found == nil:
		return fmt.Errorf("there is nothing in the trash with that id; `attachd trash list` shows what is")
	}
	return call(ctx, "POST", found.path()+"/restore", nil, nil)
}

func (a *App) trashEmpty() *cobra.Command {
	var all bool
	cmd := a.calling(existing, &cobra.Command{
		Use:     "empty SPACE",
		Short:   "remove for good what is in the trash of a space, or everywhere with --all",
		Example: `  attachd trash empty research`,
		Args:    command.AtMostOne("a space's slug"),
		PreRunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return command.Usage("say whose trash to empty: a space's slug, or --all")
			}
			return slugIfGiven(cmd, args)
		},
	}, func(ctx context.Context, call caller, args []string) error {
		var list []trashed
		err := eachTrashed(ctx, call, strings.Join(args, ""), func(t trashed) error {
			list = append(list, t)
			return nil
		})
		if err != nil {
			return err
		}
		var files, failed int64
		for _, t := range list {
			err := call(ctx, "DELETE", t.path()+purgeQuery(t), nil, nil)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err == nil:
				files += t.Files
			case codeOf(err) != "not_found": // else somebody was faster
				failed++
				fmt.Fprintf(a.Err, "attachd: %s %s: %v\n", t.Kind, remote.Printable(t.Name), err)
			}
		}
		if failed > 0 {
			return fmt.Errorf("%d of %s not removed", failed, command.Count(int64(len(list)), "thing"))
		}
		_, err = fmt.Fprintf(a.Out, "removed %s for good\n", command.Count(files, "file"))
		return err
	})
	cmd.Flags().BoolVar(&all, "all", false, "the trash of all spaces, and the spaces in the trash")
	return cmd
}

// purgeQuery has a deletion remove something in the trash for good.
func purgeQuery(t trashed) string {
	if slices.Contains([]string{"product", "ticket", "meeting", "space"}, t.Kind) {
		return "?attachments=delete&permanent=true"
	}
	return "?permanent=true"
}
