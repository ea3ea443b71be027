package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/remote"
)

// placeKind is a kind of place for files in a space.
type placeKind struct {
	word  string // product, ticket or meeting
	label string // the member of its name, and the flag for it
}

var (
	product = placeKind{"product", "name"}
	ticket  = placeKind{"ticket", "title"}
	meeting = placeKind{"meeting", "title"}
)

// place is a product, ticket or meeting as the API answers and takes it.
type place struct {
	ID      string `json:"id,omitempty"`
	Space   string `json:"space,omitempty"`
	OwnerID string `json:"owner_id,omitempty"` // of tickets
	Name    string `json:"name,omitempty"`     // of products
	Title   string `json:"title,omitempty"`    // of tickets and meetings
	raw     json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler; raw becomes the API's JSON.
func (p *place) UnmarshalJSON(raw []byte) error {
	type plain place // without this method
	p.raw = bytes.Clone(raw)
	return json.Unmarshal(raw, (*plain)(p))
}

func (p place) called() string { return p.Name + p.Title }

// call gives the place a name.
func (k placeKind) call(p *place, name string) {
	if k == product {
		p.Name = name
	} else {
		p.Title = name
	}
}

func (k placeKind) path(slug, id string) string {
	if k == product {
		return spacePath(slug) + "/products/" + id
	}
	return "/directory/" + k.word + "s/" + id
}

// all returns the places of a space, or of all spaces if it is empty.
func (k placeKind) all(ctx context.Context, call caller, slug string) (found []place, err error) {
	switch {
	case k != product && slug == "":
		err = call(ctx, "GET", "/directory/"+k.word+"s", nil, &found)
	case k != product:
		err = call(ctx, "GET", "/directory/"+k.word+"s?space="+url.QueryEscape(slug), nil, &found)
	case slug != "":
		err = call(ctx, "GET", spacePath(slug)+"/products", nil, &found)
	default:
		var spaces []space
		if err = call(ctx, "GET", "/directory/spaces", nil, &spaces); err != nil {
			return nil, err
		}
		for _, s := range spaces {
			more, err := k.all(ctx, call, s.Slug)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
	}
	return found, err
}

// find returns the place that the arguments [SPACE] PLACE name: by its id, by a name
// that only one has, or as `attachd ls` prints it.
func (k placeKind) find(ctx context.Context, call caller, args []string) (place, error) {
	which, slug := args[len(args)-1], ""
	if len(args) > 1 {
		slug = args[0]
	}
	if rest, is := strings.CutPrefix(which, k.word+":"); is {
		which = rest
		if k == product && slug == "" {
			slug, which, _ = strings.Cut(rest, "/")
		}
	}
	all, err := k.all(ctx, call, slug)
	if err != nil {
		return place{}, err
	}
	id, isID := parseID(which)
	var found []place
	var ids []string
	for _, p := range all {
		if isID && p.ID == id.String() || !isID && p.called() == which {
			found, ids = append(found, p), append(ids, p.ID)
		}
	}
	switch len(found) {
	case 0:
		return place{}, fmt.Errorf("there is no %s %q; `attachd %s list` shows them", k.word, which, k.word)
	case 1:
		return found[0], nil
	}
	return place{}, fmt.Errorf("%d %ss are called %q; say which by id: %s", len(found), k.word, which, strings.Join(ids, " or "))
}

// findArgs are the arguments of find.
func (k placeKind) findArgs(cmd *cobra.Command, args []string) error {
	if len(args) != 1 && len(args) != 2 {
		return command.Usage("%s takes a %s's id or %s, after its space's slug if you like", cmd.CommandPath(), k.word, k.label)
	}
	if len(args) == 2 {
		return isSlug(args[0])
	}
	return nil
}

// Product is the group of commands about products.
func (a *App) Product() *cobra.Command { return a.places(product) }

// Ticket is the group of commands about tickets.
func (a *App) Ticket() *cobra.Command { return a.places(ticket) }

// Meeting is the group of commands about meetings.
func (a *App) Meeting() *cobra.Command { return a.places(meeting) }

func (a *App) places(k placeKind) *cobra.Command {
	return a.onDirectory(k.word, "add, list, change and remove "+k.word+"s", a.placeAdd(k), a.placeList(k), a.placeRemove(k), a.placeSet(k))
}

func (a *App) placeAdd(k placeKind) *cobra.Command {
	var id, owner string
	var asJSON bool
	word := strings.ToUpper(k.label)
	cmd := a.calling(existing, &cobra.Command{
		Use:     "add SPACE " + word,
		Short:   "add a " + k.word + " and print its id",
		Example: "  attachd " + k.word + ` add research "Engine"`,
		Args:    command.Exactly("a space's slug", "a "+k.label),
		PreRunE: func(cmd *cobra.Command, args []string) error {
			var noOwner error
			if k == ticket && owner == "" {
				noOwner = command.Usage("a ticket has an owner: --owner takes a user's id or full name")
			}
			return cmp.Or(isSlug(args[0]), isLabel(k, args[1]), validID(cmd, id), noOwner)
		},
	}, func(ctx context.Context, call caller, args []string) error {
		slug := args[0]
		if err := call(ctx, "GET", spacePath(slug), nil, nil); err != nil {
			return err
		}
		made, err := k.newID(ctx, call, slug, id)
		if err != nil {
			return err
		}
		p := place{Space: slug}
		k.call(&p, args[1])
		if err := k.own(ctx, call, &p, owner); err != nil {
			return err
		}
		return a.put(ctx, call, k.path(slug, made), p, made, asJSON)
	})
	if k == ticket {
		cmd.Example += ` --owner "Ada Lovelace"`
	}
	cmd.Flags().StringVar(&id, "id", "", "the `UUID` by which another system knows it; one is made without it")
	k.addOwnerFlag(cmd, &owner)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the "+k.word+" as JSON")
	return cmd
}

func isLabel(k placeKind, given string) error {
	if strings.TrimSpace(given) == "" {
		return command.Usage("a %s needs a %s", k.word, k.label)
	}
	return nil
}

// newID returns the given id, unless a place has it already, or a new one.
func (k placeKind) newID(ctx context.Context, call caller, slug, given string) (string, error) {
	id, isGiven := parseID(given)
	if !isGiven {
		id, err := uuid.NewV7()
		return id.String(), err
	}
	var known place
	switch err := call(ctx, "GET", k.path(slug, id.String()), nil, &known); {
	case err == nil:
		return "", fmt.Errorf("there is a %s %s already, %q; `attachd %s set` changes it", k.word, id, known.called(), k.word)
	case codeOf(err) != "not_found":
		return "", err
	}
	return id.String(), nil
}

func (k placeKind) addOwnerFlag(cmd *cobra.Command, owner *string) {
	if k == ticket {
		cmd.Flags().StringVar(owner, "owner", "", "the `USER` whose ticket it is, by id or full name")
	}
}

// own makes a user the owner, if one is named.
func (k placeKind) own(ctx context.Context, call caller, p *place, owner string) error {
	if owner == "" {
		return nil
	}
	who, err := findUser(ctx, call, owner)
	p.OwnerID = who.ID.String()
	return err
}

// listedPlace is a place that is printed as the API answered it.
type listedPlace struct{ place }

func (p listedPlace) MarshalJSON() ([]byte, error) { return p.raw, nil }

func (a *App) placeList(k placeKind) *cobra.Command {
	return list(a, k.word, &cobra.Command{
		Use:     "list [SPACE]",
		Short:   "list the " + k.word + "s of a space, or of all",
		Args:    command.AtMostOne("a space's slug"),
		PreRunE: slugIfGiven,
	}, func(ctx context.Context, call caller, args []string) (listed []listedPlace, err error) {
		all, err := k.all(ctx, call, strings.Join(args, ""))
		for _, p := range all {
			listed = append(listed, listedPlace{p})
		}
		return listed, err
	}, k.table)
}

// table has the owners of tickets, too, by name where the caller may see the users.
func (k placeKind) table(ctx context.Context, call caller, all []listedPlace) ([][]string, error) {
	rows := [][]string{{"ID", "SPACE", strings.ToUpper(k.label)}}
	var names map[string]string
	if k == ticket {
		rows[0] = append(rows[0], "OWNER")
		var err error
		if names, err = fullNames(ctx, call); err != nil && codeOf(err) != "forbidden" { // a member who is no superadmin sees the owners' ids
			return nil, err
		}
	}
	for _, p := range all {
		row := []string{p.ID, p.Space, remote.Printable(p.called())}
		if k == ticket {
			row = append(row, cmp.Or(remote.Printable(names[p.OwnerID]), p.OwnerID))
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (a *App) placeSet(k placeKind) *cobra.Command {
	var name, owner string
	var asJSON bool
	flags := []string{k.label}
	if k == ticket {
		flags = append(flags, "owner")
	}
	cmd := a.calling(existing, &cobra.Command{
		Use:     "set [SPACE] " + strings.ToUpper(k.word),
		Short:   "change the " + strings.Join(flags, " or the ") + " of a " + k.word,
		Example: "  attachd " + k.word + ` set research "Engine" --` + k.label + ` "Analytical engine"`,
		Args:    k.findArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			noName := oneChanged(cmd, flags...)
			if cmd.Flags().Changed(k.label) {
				noName = isLabel(k, name)
			}
			return noName
		},
	}, func(ctx context.Context, call caller, args []string) error {
		p, err := k.find(ctx, call, args)
		if err != nil {
			return err
		}
		if name != "" {
			k.call(&p, name)
		}
		if err := k.own(ctx, call, &p, owner); err != nil {
			return err
		}
		return a.put(ctx, call, k.path(p.Space, p.ID), p, p.ID, asJSON)
	})
	cmd.Flags().StringVar(&name, k.label, "", "the new `"+k.label+"`")
	k.addOwnerFlag(cmd, &owner)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the "+k.word+" as JSON")
	return cmd
}

func (a *App) placeRemove(k placeKind) *cobra.Command {
	var flags removalFlags
	cmd := a.calling(existing, &cobra.Command{
		Use:     "remove [SPACE] " + strings.ToUpper(k.word),
		Short:   "remove a " + k.word,
		Args:    k.findArgs,
		PreRunE: func(*cobra.Command, []string) error { return flags.check() },
	}, func(ctx context.Context, call caller, args []string) error {
		p, err := k.find(ctx, call, args)
		if err != nil {
			return err
		}
		return flags.remove(ctx, call, k.path(p.Space, p.ID))
	})
	flags.add(cmd)
	return cmd
}
