package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// withServer makes a command of what speaks to the server.
func (a *App) withServer(run func(ctx context.Context, c *client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		c, done, err := a.reach(cmd.Context())
		if err != nil {
			return err
		}
		err = run(cmd.Context(), c, args)
		c.CloseIdleConnections()
		if closing := done(); err == nil {
			err = closing
		}
		return err
	}
}

// The user and the key as the API answers them.
type (
	user struct {
		ID           uuid.UUID `json:"id"`
		FullName     string    `json:"full_name"`
		IsSuperadmin bool      `json:"is_superadmin"`
	}
	key struct {
		ID         uuid.UUID `json:"id"`
		Name       string    `json:"name"`
		KeyPrefix  string    `json:"key_prefix"`
		FullKey    string    `json:"full_key"`
		ExpiresAt  *string   `json:"expires_at"`
		LastUsedAt *string   `json:"last_used_at"`
	}
)

// User is the group of commands about users.
func (a *App) User() *cobra.Command {
	return group("user", "add, list and remove users", a.userAdd(), a.userList(), a.userRemove())
}

func (a *App) userAdd() *cobra.Command {
	var id string
	var superadmin bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "add a user and print the id",
		Args:  exactly("a full name"),
		RunE: a.withServer(func(ctx context.Context, c *client, args []string) error {
			if id == "" {
				id = uuid.NewString()
			} else if _, err := uuid.Parse(id); err != nil {
				return usage("--id must be a UUID")
			}
			body := map[string]any{"full_name": args[0], "is_superadmin": superadmin}
			if err := c.call(ctx, "PUT", "/directory/users/"+id, body, nil); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, id)
			return nil
		}),
	}
	cmd.Flags().StringVar(&id, "id", "", "the `UUID` by which another system knows the user; one is made without it")
	cmd.Flags().BoolVar(&superadmin, "superadmin", false, "the user may do anything")
	return cmd
}

func (a *App) userList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the users",
		Args:  exactly(),
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			var users []user
			if err := c.call(ctx, "GET", "/directory/users", nil, &users); err != nil {
				return err
			}
			rows := [][]string{{"ID", "NAME", "SUPERADMIN"}}
			for _, u := range users {
				rows = append(rows, []string{u.ID.String(), u.FullName, yes(u.IsSuperadmin)})
			}
			return a.table(rows)
		}),
	}
}

func (a *App) userRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove USER",
		Short: "remove a user with their keys; their uploads stay",
		Args:  exactly("a user's id or full name"),
		RunE: a.withServer(func(ctx context.Context, c *client, args []string) error {
			u, err := findUser(ctx, c, args[0])
			if err != nil {
				return err
			}
			return c.call(ctx, "DELETE", "/directory/users/"+u.ID.String(), nil, nil)
		}),
	}
}

// Key is the group of commands about keys.
func (a *App) Key() *cobra.Command {
	return group("key", "create, list and revoke API keys, and change the key that signs links", a.keyCreate(), a.keyList(), a.keyRevoke(), a.keyRotateSigning())
}

// The most days that a key may live, if it does not live until it is revoked.
const longestKey = 36500

func (a *App) keyCreate() *cobra.Command {
	var name string
	var days int
	cmd := &cobra.Command{
		Use:   "create USER",
		Short: "make an API key and print it, this once",
		Args:  exactly("a user's id or full name"),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(name) == "" {
				return usage("--name must say what the key is for")
			}
			if cmd.Flags().Changed("expires-in-days") && (days < 1 || days > longestKey) {
				return usage("--expires-in-days must be from 1 to %d; without it, the key lives until it is revoked", longestKey)
			}
			return nil
		},
		RunE: a.withServer(func(ctx context.Context, c *client, args []string) error {
			u, err := findUser(ctx, c, args[0])
			if err != nil {
				return err
			}
			body := map[string]any{"name": name}
			if days > 0 {
				body["expires_in_days"] = days
			}
			var made key
			if err := c.call(ctx, "POST", "/directory/users/"+u.ID.String()+"/api-keys", body, &made); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, made.FullKey)
			return nil
		}),
	}
	cmd.Flags().StringVar(&name, "name", "made on the command line", "what the key is for")
	cmd.Flags().IntVar(&days, "expires-in-days", 0, "how many `days` the key lives; without it, until it is revoked")
	return cmd
}

func (a *App) keyList() *cobra.Command {
	return &cobra.Command{
		Use:   "list USER",
		Short: "list a user's API keys",
		Args:  exactly("a user's id or full name"),
		RunE: a.withServer(func(ctx context.Context, c *client, args []string) error {
			u, err := findUser(ctx, c, args[0])
			if err != nil {
				return err
			}
			var keys []key
			if err := c.call(ctx, "GET", "/directory/users/"+u.ID.String()+"/api-keys", nil, &keys); err != nil {
				return err
			}
			rows := [][]string{{"ID", "KEY", "NAME", "EXPIRES", "LAST USED"}}
			for _, k := range keys {
				rows = append(rows, []string{k.ID.String(), k.KeyPrefix + "…", k.Name, orNever(k.ExpiresAt), orNever(k.LastUsedAt)})
			}
			return a.table(rows)
		}),
	}
}

func (a *App) keyRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke USER KEY",
		Short: "revoke an API key, at once",
		Args:  exactly("a user's id or full name", "a key's id"),
		RunE: a.withServer(func(ctx context.Context, c *client, args []string) error {
			u, err := findUser(ctx, c, args[0])
			if err != nil {
				return err
			}
			if _, err := uuid.Parse(args[1]); err != nil {
				return usage("%q is not the id of a key; `attachd key list` shows them", args[1])
			}
			return c.call(ctx, "DELETE", "/directory/users/"+u.ID.String()+"/api-keys/"+args[1], nil, nil)
		}),
	}
}

// The longest that a link may live: with this grace, none ends before its time.
const longestLink = 7 * 24 * time.Hour

func (a *App) keyRotateSigning() *cobra.Command {
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "rotate-signing",
		Short: "sign links with a new key, and let those signed so far end",
		Args:  exactly(),
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			if grace < 0 || grace > longestLink {
				return usage("--grace must be from 0 to %s", longestLink)
			}
			var rotated struct {
				PreviousUntil string `json:"previous_until"`
			}
			body := map[string]any{"grace": int64(grace / time.Second)}
			if err := c.call(ctx, "POST", "/upkeep/signing-key", body, &rotated); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "links given out so far end by", rotated.PreviousUntil)
			return nil
		}),
	}
	cmd.Flags().DurationVar(&grace, "grace", longestLink, "how long links given out so far may go on working; 0 ends them all now")
	return cmd
}

// findUser gives the user with this id or full name, if only one has it.
func findUser(ctx context.Context, c *client, who string) (user, error) {
	if id, err := uuid.Parse(who); err == nil {
		var u user
		return u, c.call(ctx, "GET", "/directory/users/"+id.String(), nil, &u)
	}
	var users []user
	if err := c.call(ctx, "GET", "/directory/users", nil, &users); err != nil {
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

// Directory is the group of commands about the directory.
func (a *App) Directory() *cobra.Command {
	return group("directory", "tell attachd of the world around it", a.directoryImport())
}

func (a *App) directoryImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "write every object of an NDJSON file, or none; - reads standard input",
		Args:  exactly("a file"),
		RunE: a.withServer(func(ctx context.Context, c *client, args []string) error {
			var from io.Reader = a.stdin
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close() // only read
				from = f
			}
			var answer struct {
				Lines   int            `json:"lines"`
				Created int            `json:"created"`
				Updated int            `json:"updated"`
				Kinds   map[string]int `json:"kinds"`
			}
			if err := c.call(ctx, "POST", "/directory/import", from, &answer); err != nil {
				return err
			}
			kinds, err := json.Marshal(answer.Kinds) // in order of their names
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%d lines: %d created, %d updated %s\n", answer.Lines, answer.Created, answer.Updated, kinds)
			return nil
		}),
	}
}

func (a *App) table(rows [][]string) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
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
