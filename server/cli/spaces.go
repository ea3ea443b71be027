package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/remote"
	"attachd/store"
)

// space is a space as the API answers and takes it.
type space struct {
	Slug       string `json:"slug"`
	Name       string `json:"name"`
	QuotaBytes *int64 `json:"quota_bytes"`
	QuotaFiles *int64 `json:"quota_files"`
}

func spacePath(slug string) string { return "/directory/spaces/" + url.PathEscape(slug) }

// isSlug refuses an argument that is not the slug of a space.
func isSlug(s string) error {
	if !store.ValidSlug(s) {
		return command.Usage("%q is not a space's slug: a slug has up to 63 lower-case letters, digits and hyphens, as in research; --name is for people", s)
	}
	return nil
}

// spaceFlags are what can be set of a space.
type spaceFlags struct{ name, quotaBytes, quotaFiles string }

func (f *spaceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "name", "", "the `name` that people see")
	cmd.Flags().StringVar(&f.quotaBytes, "quota-bytes", "", "how much its files may have together, a `size` as in 10GB, or none")
	cmd.Flags().StringVar(&f.quotaFiles, "quota-files", "", "how many files it may have, a `number`, or none")
}

// apply changes what the flags give.
func (f *spaceFlags) apply(cmd *cobra.Command, to *space) (err error) {
	if cmd.Flags().Changed("name") {
		to.Name = f.name
	}
	if cmd.Flags().Changed("quota-bytes") {
		to.QuotaBytes, err = quota("--quota-bytes", f.quotaBytes, func(s string) (int64, error) {
			size, err := config.ParseSize(s)
			return int64(size), err
		})
	}
	if err == nil && cmd.Flags().Changed("quota-files") {
		to.QuotaFiles, err = quota("--quota-files", f.quotaFiles, func(s string) (int64, error) {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				err = fmt.Errorf("%q is not a whole number", s)
			}
			return n, err
		})
	}
	return err
}

func quota(flag, given string, parse func(string) (int64, error)) (*int64, error) {
	if given == "none" {
		return nil, nil
	}
	n, err := parse(given)
	switch {
	case err != nil:
		return nil, command.Usage("%s: %v; or none", flag, err)
	case n < 1:
		return nil, command.Usage("%s must be above 0, or none", flag)
	}
	return &n, nil
}

// Space is the group of commands about spaces.
func (a *App) Space() *cobra.Command {
	return a.onDirectory("space", "add, list, change and remove spaces", a.spaceAdd(), a.spaceList(), a.spaceRemove(), a.spaceSet())
}

func (a *App) spaceAdd() *cobra.Command {
	var flags spaceFlags
	var asJSON bool
	var made space
	cmd := a.calling(orNew, &cobra.Command{
		Use:     "add SLUG",
		Short:   "add a space and print its slug",
		Example: `  attachd space add research --name "Research" --quota-bytes 10GB`,
		Args:    command.Exactly("a slug, as in research"),
		PreRunE: func(cmd *cobra.Command, args []string) error {
			made.Slug = args[0]
			if err := isSlug(made.Slug); err != nil {
				return err
			}
			return flags.apply(cmd, &made)
		},
	}, func(ctx context.Context, call caller, args []string) error {
		var known space
		switch err := call(ctx, "GET", spacePath(made.Slug), nil, &known); {
		case err == nil:
			return fmt.Errorf("there is a space %s already, %q; `attachd space set` changes it", made.Slug, known.Name)
		case codeOf(err) != "not_found":
			return err
		}
		return a.put(ctx, call, spacePath(made.Slug), made, made.Slug, asJSON)
	})
	flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the space as JSON")
	return cmd
}

func (a *App) spaceSet() *cobra.Command {
	var flags spaceFlags
	var asJSON bool
	var change func(*space) error
	cmd := a.calling(existing, &cobra.Command{
		Use:     "set SLUG",
		Short:   "change the name or the quotas of a space",
		Example: `  attachd space set research --quota-files 100000 --quota-bytes none`,
		Args:    command.Exactly("a space's slug"),
		PreRunE: func(cmd *cobra.Command, args []string) error {
			change = func(to *space) error { return flags.apply(cmd, to) }
			return cmp.Or(isSlug(args[0]), oneChanged(cmd, "name", "quota-bytes", "quota-files"), change(new(space)))
		},
	}, func(ctx context.Context, call caller, args []string) error {
		var known space
		if err := call(ctx, "GET", spacePath(args[0]), nil, &known); err != nil {
			return err
		}
		if err := change(&known); err != nil {
			return err
		}
		return a.put(ctx, call, spacePath(args[0]), known, known.Slug, asJSON)
	})
	flags.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the space as JSON")
	return cmd
}

// oneChanged refuses a command to which none of these flags is given.
func oneChanged(cmd *cobra.Command, flags ...string) error {
	if slices.ContainsFunc(flags, cmd.Flags().Changed) {
		return nil
	}
	return command.Usage("say what to change: --%s", strings.Join(flags, ", --"))
}

// put puts an object, and prints the answer as JSON, or what it is called by.
func (a *App) put(ctx context.Context, call caller, path string, object any, called string, asJSON bool) error {
	var answer json.RawMessage
	if err := call(ctx, "PUT", path, object, &answer); err != nil {
		return err
	}
	if asJSON {
		called = strings.TrimSpace(string(answer))
	}
	_, err := fmt.Fprintln(a.Out, called)
	return err
}

func (a *App) spaceList() *cobra.Command {
	return list(a, "space", &cobra.Command{
		Use:   "list",
		Short: "list the spaces",
		Args:  command.Exactly(),
	}, func(ctx context.Context, call caller, _ []string) (spaces []space, err error) {
		err = call(ctx, "GET", "/directory/spaces", nil, &spaces)
		return spaces, err
	}, func(_ context.Context, _ caller, spaces []space) ([][]string, error) {
		rows := [][]string{{"SLUG", "NAME", "BYTES AT MOST", "FILES AT MOST"}}
		for _, s := range spaces {
			rows = append(rows, []string{s.Slug, remote.Printable(s.Name), orNone(s.QuotaBytes), orNone(s.QuotaFiles)})
		}
		return rows, nil
	})
}

func orNone(n *int64) string {
	if n == nil {
		return "none"
	}
	return strconv.FormatInt(*n, 10)
}

func (a *App) spaceRemove() *cobra.Command {
	var flags removalFlags
	cmd := a.calling(existing, &cobra.Command{
		Use:     "remove SLUG",
		Short:   "remove a space with what is in it",
		Args:    command.Exactly("a space's slug"),
		PreRunE: func(_ *cobra.Command, args []string) error { return cmp.Or(isSlug(args[0]), flags.check()) },
	}, func(ctx context.Context, call caller, args []string) error {
		return flags.remove(ctx, call, spacePath(args[0]))
	})
	flags.add(cmd)
	return cmd
}

// removalFlags say what the removal of an object does with its attachments.
type removalFlags struct {
	attachments string
	permanent   bool
}

func (f *removalFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.attachments, "attachments", "", "`delete` removes it even if it has attachments, and deletes these; attachd trash restore brings all of it back for a while")
	cmd.Flags().BoolVar(&f.permanent, "permanent", false, "for good, leaving out the trash")
}

func (f *removalFlags) check() error {
	if f.attachments != "" && f.attachments != "delete" {
		return command.Usage("--attachments can only be delete")
	}
	return nil
}

// remove removes an object, with its attachments if the flags say so.
func (f *removalFlags) remove(ctx context.Context, call caller, path string) error {
	query := url.Values{}
	if f.attachments != "" {
		query.Set("attachments", f.attachments)
	}
	if f.permanent {
		query.Set("permanent", "true")
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	err := call(ctx, "DELETE", path, nil, nil)
	if codeOf(err) == "conflict" && f.attachments == "" {
		err = fmt.Errorf("%w; --attachments=delete deletes these too", err)
	}
	return err
}

// Member is the group of commands about the members of a space.
func (a *App) Member() *cobra.Command {
	return a.onDirectory("member", "add, list, change and remove the members of a space", a.memberAdd(), a.memberList(), a.memberRemove(), a.memberSet())
}

// member is a member of a space as the API answers it, with the name for people.
type member struct {
	UserID   string `json:"user_id"`
	FullName string `json:"full_name"`
	Role     string `json:"role"`
}

func memberPath(slug string, who uuid.UUID) string {
	return spacePath(slug) + "/members/" + who.String()
}

func (a *App) memberAdd() *cobra.Command {
	return a.memberPut("add", "make a user a member of a space", func(who user, slug, role string) error {
		if role == "" {
			return nil
		}
		return fmt.Errorf("%s is a member of %s already, as %s; `attachd member set` changes the role", who.FullName, slug, role)
	})
}

func (a *App) memberSet() *cobra.Command {
	return a.memberPut("set", "change the role of a member", func(who user, slug, role string) error {
		if role != "" {
			return nil
		}
		return fmt.Errorf("%s is no member of %s; `attachd member add` makes one", who.FullName, slug)
	})
}

// memberPut gives a user a role, unless refuse refuses the role that they have, which
// is empty for others than members.
func (a *App) memberPut(verb, short string, refuse func(who user, slug, role string) error) *cobra.Command {
	var asJSON bool
	cmd := a.calling(existing, &cobra.Command{
		Use:     verb + " SPACE USER ROLE",
		Short:   short + ": viewer, editor or admin",
		Example: "  attachd member " + verb + ` research "Ada Lovelace" editor`,
		Args:    command.Exactly("a space's slug", "a user's id or full name", "a role: viewer, editor or admin"),
		PreRunE: func(_ *cobra.Command, args []string) error {
			if _, ok := store.ParseRole(args[2]); !ok {
				return command.Usage("%q is not a role: there are viewer, editor and admin", args[2])
			}
			return isSlug(args[0])
		},
	}, func(ctx context.Context, call caller, args []string) error {
		slug := args[0]
		who, err := findUser(ctx, call, args[1])
		if err != nil {
			return err
		}
		// A missing space is reported as such, before a missing member.
		if err := call(ctx, "GET", spacePath(slug), nil, nil); err != nil {
			return err
		}
		var known member
		if err := call(ctx, "GET", memberPath(slug, who.ID), nil, &known); err != nil && codeOf(err) != "not_found" {
			return err
		}
		if err := refuse(who, slug, known.Role); err != nil {
			return err
		}
		return a.put(ctx, call, memberPath(slug, who.ID), map[string]string{"role": args[2]}, who.ID.String(), asJSON)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the member as JSON")
	return cmd
}

func (a *App) memberList() *cobra.Command {
	return list(a, "member", &cobra.Command{
		Use:     "list SPACE",
		Short:   "list the members of a space",
		Args:    command.Exactly("a space's slug"),
		PreRunE: func(_ *cobra.Command, args []string) error { return isSlug(args[0]) },
	}, func(ctx context.Context, call caller, args []string) (members []member, err error) {
		if err := call(ctx, "GET", spacePath(args[0])+"/members", nil, &members); err != nil {
			return nil, err
		}
		names, err := fullNames(ctx, call)
		for i := range members {
			members[i].FullName = names[members[i].UserID]
		}
		return members, err
	}, func(_ context.Context, _ caller, members []member) ([][]string, error) {
		rows := [][]string{{"ID", "NAME", "ROLE"}}
		for _, m := range members {
			rows = append(rows, []string{m.UserID, remote.Printable(m.FullName), m.Role})
		}
		return rows, nil
	})
}

// fullNames returns the full names of all users by id.
func fullNames(ctx context.Context, call caller) (map[string]string, error) {
	var users []user
	if err := call(ctx, "GET", "/directory/users", nil, &users); err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, u := range users {
		names[u.ID.String()] = u.FullName
	}
	return names, nil
}

func (a *App) memberRemove() *cobra.Command {
	return a.calling(existing, &cobra.Command{
		Use:     "remove SPACE USER",
		Short:   "end a membership; the user stays, and so do their uploads",
		Args:    command.Exactly("a space's slug", "a user's id or full name"),
		PreRunE: func(_ *cobra.Command, args []string) error { return isSlug(args[0]) },
	}, func(ctx context.Context, call caller, args []string) error {
		who, err := findUser(ctx, call, args[1])
		if err != nil {
			return err
		}
		return call(ctx, "DELETE", memberPath(args[0], who.ID), nil, nil)
	})
}
