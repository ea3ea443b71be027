package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/ops"
)

// Audit is the group of commands about the audit log.
func (a *App) Audit() *cobra.Command {
	return command.Group("audit", "look at who did what", a.auditVerify(), a.auditExport())
}

func (a *App) auditVerify() *cobra.Command {
	var head string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "see that no entry of the audit log was changed or removed",
		Long: `See that no entry of the audit log was changed or removed.

Each entry holds the hash of the one before, and the database remembers which
was the last. Whoever can write the data directory could still write all of
that anew: keep the number and hash that this prints elsewhere, and give them
with --head the next time.`,
		Args: command.Exactly(),
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			if _, err := ops.ParseHead(head); err != nil {
				return command.Usage("--head takes %v, not %q", err, head)
			}
			var report ops.AuditReport
			if err := a.work(ctx, c, "/upkeep/audit", map[string]any{"head": head}, &report); err != nil {
				return err
			}
			if asJSON {
				if err := json.NewEncoder(a.Out).Encode(report); err != nil {
					return err
				}
			} else {
				for _, fault := range report.Faults {
					fmt.Fprintln(a.Out, fault)
				}
				for _, note := range report.Notes {
					fmt.Fprintln(a.Out, note)
				}
				fmt.Fprintf(a.Out, "%s: %s\nhead %s\n", entries(report.Entries), command.Count(int64(len(report.Faults)), "fault"), report.Head)
			}
			if n := len(report.Faults); n > 0 {
				return command.Fault(fmt.Errorf("%s found", command.Count(int64(n), "fault")))
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&head, "head", "", "a `number:hash` that this printed before, which must still be there")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func (a *App) auditExport() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "print the audit log as lines of JSON, oldest first",
		Args:  command.Exactly(),
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			query := url.Values{}
			if since != "" {
				from, err := parseSince(since, time.Now())
				if err != nil {
					return err
				}
				query.Set("since", from.UTC().Format(time.RFC3339))
			}
			response, err := c.send(ctx, "GET", "/audit-logs/export?"+query.Encode(), nil)
			if err != nil {
				return err
			}
			defer response.Body.Close() // a failure shows when it is read to its end
			if response.StatusCode != http.StatusOK {
				return readRefusal(response)
			}
			if _, err := io.Copy(a.Out, response.Body); err != nil {
				return cutOff(err)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&since, "since", "", "leave out what is older: a `time` such as 2026-01-31T00:00:00Z, a day such as 2026-01-31, or a duration such as 24h")
	return cmd
}

func parseSince(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, command.Usage("--since takes a time such as 2026-01-31T00:00:00Z, a day or a duration such as 24h, not %q", text)
}
