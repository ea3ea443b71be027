package files

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/remote"
	"attachd/server/token"
)

// Ls is the command that lists attachments.
func Ls(s command.Streams) *cobra.Command {
	var comment string
	cmd := forFiles(s, &cobra.Command{
		Use:   "ls [PLACE | SPACE]",
		Short: "list the attachments of a place on a server, oldest first, or the places that you may see",
		Example: `  attachd ls                                      # all places
  attachd ls analytics                            # those of a space
  attachd ls "product:analytics/Customer 360"     # the attachments of a product
  attachd ls --json ticket:550e8400-e29b-41d4-a716-446655440001`,
		Args: command.AtMostOne("a place or the slug of a space"),
	}, func(ctx context.Context, n *clientFlags, c *remote.Client, args []string) error {
		slug := strings.Join(args, "")
		if slug == "" || remote.IsSlug(slug) {
			if comment != "" {
				return command.Usage("--comment needs a ticket")
			}
			return n.places(ctx, c, slug)
		}
		place, err := remote.ParsePlace(args[0])
		if err != nil {
			return command.Usage("%v", err)
		}
		if comment != "" && (!place.IsTicket() || uuid.Validate(comment) != nil) {
			return command.Usage("--comment takes the UUID of a comment of a ticket")
		}
		if place, err = c.FindPlace(ctx, place); err != nil {
			return err
		}
		rows := [][]string{{"NAME", "BYTES", "WHEN", "WHO", "ID"}}
		err = c.List(ctx, place, comment, func(at remote.Attachment) error {
			if n.asJSON {
				return n.print("", at.Raw)
			}
			rows = append(rows, []string{remote.Printable(at.FileName), fmt.Sprint(at.FileSize), remote.Printable(at.CreatedAt), remote.Printable(at.UploadedBy.FullName), at.ID})
			return nil
		})
		if err != nil || n.asJSON {
			return err
		}
		return s.Table(rows)
	})
	cmd.Flags().StringVar(&comment, "comment", "", "only those of the ticket's comment with this `UUID`")
	return cmd
}

// places lists the places of a space, or of all spaces.
func (n *clientFlags) places(ctx context.Context, c *remote.Client, slug string) error {
	rows := [][]string{{"PLACE", "SPACE", "NAME"}}
	err := c.Parents(ctx, slug, "", func(p remote.Parent) error {
		if n.asJSON {
			return n.print("", struct {
				Place string `json:"place"`
				Space string `json:"space"`
				Name  string `json:"name"`
			}{p.Place.String(), p.Space, p.Name})
		}
		rows = append(rows, []string{p.Place.String(), p.Space, remote.Printable(p.Name)})
		return nil
	})
	if err != nil || n.asJSON {
		return err
	}
	return n.Table(rows)
}

// Rm is the command that deletes attachments.
func Rm(s command.Streams) *cobra.Command {
	var permanent bool
	cmd := forFiles(s, &cobra.Command{
		Use:   "rm ATTACHMENT...",
		Short: "delete attachments from a server; attachd trash restore brings them back for a while",
		Example: `  attachd rm "product:analytics/Customer 360/report.csv"
  attachd rm /catalog/attachments/01a20a71-d239-787f-8519-361a21571acd/download`,
		Args: command.AtLeastOne("an attachment"),
	}, func(ctx context.Context, n *clientFlags, c *remote.Client, args []string) error {
		for _, typed := range args {
			if _, err := c.ParseAddress(typed); err != nil {
				return command.Usage("%v", err) // report usage errors before anything is deleted
			}
		}
		failures := 0
		for _, typed := range args {
			line := struct {
				Attachment string   `json:"attachment"`
				Deleted    string   `json:"deleted,omitempty"` // the id
				Error      *failure `json:"error,omitempty"`
			}{Attachment: typed}
			address, err := n.attachment(ctx, c, typed)
			if err == nil {
				err = c.Delete(ctx, address, permanent)
			}
			switch {
			case ctx.Err() != nil && err != nil:
				return ctx.Err()
			case err != nil:
				failures++
				n.failed(typed, err)
				line.Error = failureOf(err)
				if !n.asJSON {
					continue
				}
			default:
				line.Deleted = address.ID()
			}
			if err := n.print("deleted "+typed, line); err != nil {
				return err
			}
		}
		return someFailed(failures, len(args), "attachment", "deleted")
	})
	cmd.Flags().BoolVar(&permanent, "permanent", false, "for good, also what is in the trash")
	return cmd
}

// Link is the command that makes a URL for people without a key.
func Link(s command.Streams) *cobra.Command {
	var expiresIn time.Duration
	var inline bool
	cmd := forFiles(s, &cobra.Command{
		Use:     "link ATTACHMENT",
		Short:   "print a URL under which a file can be had without a key, for a while",
		Example: `  attachd link "product:analytics/Customer 360/report.csv" --expires-in 24h`,
		Args:    command.Exactly("an attachment"),
	}, func(ctx context.Context, n *clientFlags, c *remote.Client, args []string) error {
		if expiresIn < 0 || expiresIn%time.Second != 0 || expiresIn > token.MaxLinkTTL {
			return command.Usage("--expires-in must be whole seconds, up to %s", token.MaxLinkTTL)
		}
		address, err := n.attachment(ctx, c, args[0])
		if err != nil {
			return err
		}
		url, document, err := c.Link(ctx, address, int64(expiresIn/time.Second), inline)
		if err != nil {
			return err
		}
		return n.print(remote.Printable(url), document)
	})
	cmd.Flags().DurationVar(&expiresIn, "expires-in", 0, "how long it lives, as in 24h; without it, what the server is set up for")
	cmd.Flags().BoolVar(&inline, "inline", false, "browsers show the file instead of saving it, where its type is safe")
	return cmd
}
