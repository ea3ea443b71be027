package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/token"
)

// A user and a key as the API answers them.
type (
	user struct {
		ID               uuid.UUID `json:"id"`
		FullName         string    `json:"full_name"`
		IsSuperadmin     bool      `json:"is_superadmin"`
		IsRecordsManager bool      `json:"is_records_manager,omitempty"`
	}
	key struct {
		ID         uuid.UUID `json:"id"`
		Name       string    `json:"name"`
		KeyPrefix  string    `json:"key_prefix"`
		FullKey    string    `json:"full_key,omitempty"` // of a new key only
		CreatedAt  string    `json:"created_at"`
		ExpiresAt  *string   `json:"expires_at"`
		LastUsedAt *string   `json:"last_used_at"`
	}
)

// User is the group of commands about users.
func (a *App) User() *cobra.Command {
	return a.onDirectory("user", "add, list, change and remove users", a.userAdd(), a.userList(), a.userRemove(), a.userSet())
}

func (a *App) userAdd() *cobra.Command {
	var id string
	var superadmin, records bool
	cmd := a.calling(orNew, &cobra.Command{
		Use:   "add NAME",
		Short: "add a user and print the id",
		Args:  command.Exactly("a full name"),
		PreRunE: func(cmd *cobra.Command, args []string) error {
			return cmp.Or(isFullName(args[0]), validID(cmd, id))
		},
	}, func(ctx context.Context, call caller, args []string) error {
		given, isGiven := parseID(id)
		var err error
		if isGiven {
			err = unknownUser(ctx, call, given)
		} else {
			given, err = uuid.NewV7()
		}
		if err != nil {
			return err
		}
		return a.putUser(ctx, call, user{given, args[0], superadmin, records}, false)
	})
	cmd.Flags().StringVar(&id, "id", "", "the `UUID` by which another system knows the user; one is made without it")
	cmd.Flags().BoolVar(&superadmin, "superadmin", false, "the user may do anything")
	cmd.Flags().BoolVar(&records, "records-manager", false, "the user may set and lift legal holds")
	return cmd
}

func isFullName(given string) error {
	if strings.TrimSpace(given) == "" {
		return command.Usage("a user needs a full name")
	}
	return nil
}

func (a *App) putUser(ctx context.Context, call caller, u user, asJSON bool) error {
	body := map[string]any{"full_name": u.FullName, "is_superadmin": u.IsSuperadmin, "is_records_manager": u.IsRecordsManager}
	return a.put(ctx, call, "/directory/users/"+u.ID.String(), body, u.ID.String(), asJSON)
}

func (a *App) userSet() *cobra.Command {
	var name string
	var superadmin, records, asJSON bool
	changes := func(string) bool { return false }
	cmd := a.calling(existing, &cobra.Command{
		Use:     "set USER",
		Short:   "change the name of a user, or what the user may do everywhere",
		Example: `  attachd user set "Ada Lovelace" --name "Ada King" --superadmin=false`,
		Args:    command.Exactly("a user's id or full name"),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			changes = cmd.Flags().Changed
			if changes("name") {
				return isFullName(name)
			}
			return oneChanged(cmd, "name", "superadmin", "records-manager")
		},
	}, func(ctx context.Context, call caller, args []string) error {
		u, err := findUser(ctx, call, args[0])
		if err != nil {
			return err
		}
		if changes("name") {
			u.FullName = name
		}
		if changes("superadmin") {
			u.IsSuperadmin = superadmin
		}
		if changes("records-manager") {
			u.IsRecordsManager = records
		}
		return a.putUser(ctx, call, u, asJSON)
	})
	cmd.Flags().StringVar(&name, "name", "", "the new full `name`")
	cmd.Flags().BoolVar(&superadmin, "superadmin", false, "the user may do anything; --superadmin=false takes that back")
	cmd.Flags().BoolVar(&records, "records-manager", false, "the user may set and lift legal holds; --records-manager=false takes that back")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the user as JSON")
	return cmd
}

// validID refuses a value of --id that is no UUID.
func validID(cmd *cobra.Command, id string) error {
	if _, ok := parseID(id); cmd.Flags().Changed("id") && !ok {
		return command.Usage("--id must be a UUID in its usual form, as in 0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01, and not the one of zeros")
	}
	return nil
}

// unknownUser refuses the id of an existing user: adding them again would change their
// name and rights.
func unknownUser(ctx context.Context, call caller, id uuid.UUID) error {
	var known user
	err := call(ctx, "GET", "/directory/users/"+id.String(), nil, &known)
	switch {
	case err == nil:
		return fmt.Errorf("there is a user %s already, %q; `attachd user set` changes users", id, known.FullName)
	case codeOf(err) == "not_found":
		return nil
	}
	return err
}

func (a *App) userList() *cobra.Command {
	return list(a, "user", &cobra.Command{
		Use:   "list",
		Short: "list the users",
		Args:  command.Exactly(),
	}, func(ctx context.Context, call caller, _ []string) (users []user, err error) {
		err = call(ctx, "GET", "/directory/users", nil, &users)
		return users, err
	}, func(_ context.Context, _ caller, users []user) ([][]string, error) {
		rows := [][]string{{"ID", "NAME", "SUPERADMIN", "RECORDS MANAGER"}}
		for _, u := range users {
			rows = append(rows, []string{u.ID.String(), u.FullName, yes(u.IsSuperadmin), yes(u.IsRecordsManager)})
		}
		return rows, nil
	})
}

// list completes a command that prints what it reads: as a table, or with --json as
// lines of JSON.
func list[T any](a *App, word string, cmd *cobra.Command, read func(ctx context.Context, call caller, args []string) ([]T, error),
	table func(ctx context.Context, call caller, all []T) (rows [][]string, err error)) *cobra.Command {
	var asJSON bool
	cmd = a.calling(existing, cmd, func(ctx context.Context, call caller, args []string) error {
		all, err := read(ctx, call, args)
		if err != nil {
			return err
		}
		if asJSON {
			return printLines(a.Out, all)
		}
		rows, err := table(ctx, call, all)
		if err != nil {
			return err
		}
		return a.Table(rows)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, a line for each "+word)
	return cmd
}

func (a *App) userRemove() *cobra.Command {
	return a.calling(existing, &cobra.Command{
		Use:   "remove USER",
		Short: "remove a user with their keys; their uploads stay",
		Args:  command.Exactly("a user's id or full name"),
	}, func(ctx context.Context, call caller, args []string) error {
		u, err := findUser(ctx, call, args[0])
		if err != nil {
			return err
		}
		return call(ctx, "DELETE", "/directory/users/"+u.ID.String(), nil, nil)
	})
}

// Key is the group of commands about keys.
func (a *App) Key() *cobra.Command {
	return a.onDirectory("key", "create, list and revoke API keys, and change the key that signs links", a.keyCreate(), a.keyList(), a.keyRevoke(), a.keyRotateSigning())
}

// longestKey is the maximum lifetime of a key in days, unless it lives until it is
// revoked.
const longestKey = 36500

func (a *App) keyCreate() *cobra.Command {
	var name string
	var days int
	cmd := a.calling(orNew, &cobra.Command{
		Use:   "create USER",
		Short: "make an API key and print it, this once",
		Args:  command.Exactly("a user's id or full name"),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(name) == "" {
				return command.Usage("--name must say what the key is for")
			}
			if cmd.Flags().Changed("expires-in-days") && (days < 1 || days > longestKey) {
				return command.Usage("--expires-in-days must be from 1 to %d; without it, the key lives until it is revoked", longestKey)
			}
			return nil
		},
	}, func(ctx context.Context, call caller, args []string) error {
		u, err := findUser(ctx, call, args[0])
		if err != nil {
			return err
		}
		body := map[string]any{"name": name}
		if days > 0 {
			body["expires_in_days"] = days
		}
		var made key
		if err := call(ctx, "POST", "/directory/users/"+u.ID.String()+"/api-keys", body, &made); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, made.FullKey)
		return nil
	})
	cmd.Flags().StringVar(&name, "name", "made on the command line", "what the key is for, a `name`")
	cmd.Flags().IntVar(&days, "expires-in-days", 0, "how many `days` the key lives; without it, until it is revoked")
	return cmd
}

func (a *App) keyList() *cobra.Command {
	return list(a, "key", &cobra.Command{
		Use:   "list USER",
		Short: "list a user's API keys",
		Args:  command.Exactly("a user's id or full name"),
	}, func(ctx context.Context, call caller, args []string) ([]key, error) {
		u, err := findUser(ctx, call, args[0])
		if err != nil {
			return nil, err
		}
		return keysOf(ctx, call, u)
	}, func(_ context.Context, _ caller, keys []key) ([][]string, error) {
		rows := [][]string{{"ID", "KEY", "NAME", "EXPIRES", "LAST USED"}}
		for _, k := range keys {
			rows = append(rows, []string{k.ID.String(), k.KeyPrefix + "…", k.Name, orNever(k.ExpiresAt), orNever(k.LastUsedAt)})
		}
		return rows, nil
	})
}

func keysOf(ctx context.Context, call caller, u user) (keys []key, err error) {
	err = call(ctx, "GET", "/directory/users/"+u.ID.String()+"/api-keys", nil, &keys)
	return keys, err
}

func (a *App) keyRevoke() *cobra.Command {
	return a.calling(existing, &cobra.Command{
		Use:   "revoke [USER] KEY",
		Short: "revoke an API key, at once",
		Long: `Revoke an API key, at once.

KEY is the key's id or its beginning, as ` + "`attachd key list`" + ` shows them, or the
whole key, for whoever finds one that leaked. USER need not be known.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return command.Usage("%s takes a key's id or beginning, after its user's id or full name if you like", cmd.CommandPath())
			}
			which := args[len(args)-1]
			if _, isID := parseID(which); !isID && !strings.HasPrefix(which, token.KeyPrefix) {
				return command.Usage("%q is neither the id of a key nor the beginning of one; `attachd key list` shows them", which)
			}
			return nil
		},
	}, func(ctx context.Context, call caller, args []string) error {
		which := args[len(args)-1]
		owners, err := ownersOf(ctx, call, args[:len(args)-1])
		if err != nil {
			return err
		}
		var found []string // addresses of keys
		for _, u := range owners {
			keys, err := keysOf(ctx, call, u)
			if err != nil {
				return err
			}
			for _, k := range keys {
				if k.is(which) {
					found = append(found, "/directory/users/"+u.ID.String()+"/api-keys/"+k.ID.String())
				}
			}
		}
		switch len(found) {
		case 0:
			return errors.New("there is no such key; `attachd key list` shows a user's keys")
		case 1:
			return call(ctx, "DELETE", found[0], nil, nil)
		}
		return fmt.Errorf("%d keys begin so; say which by id", len(found))
	})
}

// ownersOf returns the named user, if one is named, or all.
func ownersOf(ctx context.Context, call caller, named []string) (users []user, err error) {
	if len(named) == 0 {
		err = call(ctx, "GET", "/directory/users", nil, &users)
		return users, err
	}
	u, err := findUser(ctx, call, named[0])
	return []user{u}, err
}

// is reports whether which identifies the key: by its id, by its displayed prefix, or
// as the whole key.
func (k key) is(which string) bool {
	if id, isID := parseID(which); isID {
		return k.ID == id
	}
	return k.KeyPrefix != "" && strings.HasPrefix(which, k.KeyPrefix)
}

func (a *App) keyRotateSigning() *cobra.Command {
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "rotate-signing",
		Short: "sign links with a new key, and let those signed so far end",
		Args:  command.Exactly(),
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			if grace < 0 || grace > token.MaxLinkTTL {
				return command.Usage("--grace must be from 0 to %s", token.MaxLinkTTL)
			}
			var rotated struct {
				PreviousUntil string `json:"previous_until"`
			}
			body := map[string]any{"grace": int64(grace / time.Second)}
			if err := c.call(ctx, "POST", "/upkeep/signing-key", body, &rotated); err != nil {
				return err
			}
			fmt.Fprintln(a.Out, "links given out so far end by", rotated.PreviousUntil)
			return nil
		}),
	}
	cmd.Flags().DurationVar(&grace, "grace", token.MaxLinkTTL, "how long links given out so far may go on working; 0 ends them all now")
	return cmd
}

// findUser returns the user with this id or full name; a name must be unique.
func findUser(ctx context.Context, call caller, who string) (user, error) {
	if id, isID := parseID(who); isID {
		var u user
		return u, call(ctx, "GET", "/directory/users/"+id.String(), nil, &u)
	}
	var users []user
	if err := call(ctx, "GET", "/directory/users", nil, &users); err != nil {
		return user{}, err
	}
	users = slices.DeleteFunc(users, func(u user) bool { return u.FullName != who })
	switch len(users) {
	case 0:
		return user{}, fmt.Errorf("there is no user %q; `attachd user list` shows them", who)
	case 1:
		return users[0], nil
	}
	return user{}, fmt.Errorf("%d users are called %q; say which by id", len(users), who)
}

// parseID parses a UUID in its usual form only, as the server does; the nil UUID is
// refused, since it names nothing.
func parseID(s string) (uuid.UUID, bool) {
	id, err := uuid.Parse(s)
	return id, err == nil && len(s) == 36 && id != uuid.Nil
}

// Directory is the group of commands about the directory.
func (a *App) Directory() *cobra.Command {
	return a.onDirectory("directory", "import spaces, members, products, tickets, meetings and users", a.directoryImport())
}

func (a *App) directoryImport() *cobra.Command {
	from := a.In
	cmd := a.calling(orNew, &cobra.Command{
		Use:   "import FILE",
		Short: "write every object of an NDJSON file, or none; - reads standard input",
		Args:  command.Exactly("a file"),
	}, func(ctx context.Context, call caller, _ []string) error { return a.importFrom(ctx, call, from) })
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if args[0] != "-" {
			f, err := os.Open(args[0]) // before root's rights are given up: the file may be root's own
			if err != nil {
				return err
			}
			defer f.Close() // only read
			from = f
		}
		return run(cmd, args)
	}
	return cmd
}

func (a *App) importFrom(ctx context.Context, call caller, from io.Reader) error {
	var answer struct {
		Lines   int            `json:"lines"`
		Created int            `json:"created"`
		Updated int            `json:"updated"`
		Kinds   map[string]int `json:"kinds"`
	}
	if err := call(ctx, "POST", "/directory/import", from, &answer); err != nil {
		return err
	}
	kinds, err := json.Marshal(answer.Kinds) // sorted by name
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "%d lines: %d created, %d updated %s\n", answer.Lines, answer.Created, answer.Updated, kinds)
	return nil
}

// printLines prints JSON, one line for each element.
func printLines[T any](w io.Writer, things []T) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, thing := range things {
		if err := encoder.Encode(thing); err != nil {
			return err
		}
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func orNever(s *string) string {
	if s == nil {
		return "never"
	}
	return *s
}
