package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/ops"
)

// Webhooks is the group of commands about webhooks.
func (a *App) Webhooks() *cobra.Command {
	return command.Group("webhooks", "webhook delivery: status, test event, dead letters", a.webhooksStatus(), a.webhooksRedeliver(), a.webhooksPing())
}

func (a *App) webhooksStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show how many events wait or were given up, and what went wrong last",
		Args:  command.Exactly(),
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			var state ops.WebhookState
			if err := c.call(ctx, "GET", "/webhooks", nil, &state); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(a.Out).Encode(state)
			}
			if state.URL == "" {
				fmt.Fprintln(a.Out, "webhooks are off (webhooks.url is not set)")
			} else {
				fmt.Fprintln(a.Out, "receiver:", state.URL)
			}
			fmt.Fprintf(a.Out, "%s to deliver, %s\n", command.Count(state.Pending, "event"), command.Count(state.Dead, "dead letter"))
			for _, line := range []struct {
				what string
				at   *string
				more string
			}{{"waiting since", state.Oldest, ""}, {"last delivered", state.LastSuccess, ""}, {"last failed", state.LastFailure, ": " + state.LastError}} {
				if line.at != nil {
					fmt.Fprintf(a.Out, "%s %s%s\n", line.what, *line.at, line.more)
				}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func (a *App) webhooksRedeliver() *cobra.Command {
	return &cobra.Command{
		Use:   "redeliver",
		Short: "send the dead letters again",
		Args:  command.Exactly(),
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			var answer struct{ Events int64 }
			if err := c.call(ctx, "POST", "/webhooks/redeliver", nil, &answer); err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "%s to send again\n", command.Count(answer.Events, "event"))
			return nil
		}),
	}
}

func (a *App) webhooksPing() *cobra.Command {
	return &cobra.Command{
		Use:   "ping",
		Short: "send the receiver a test event, and see whether it takes it",
		Args:  command.Exactly(),
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			var report ops.PingReport
			if err := c.call(ctx, "POST", "/webhooks/ping", nil, &report); err != nil {
				return err
			}
			if !report.Delivered {
				return fmt.Errorf("the receiver did not take it: %s", report.Error)
			}
			fmt.Fprintf(a.Out, "the receiver took it in %.0f ms\n", report.Seconds*1000)
			return nil
		}),
	}
}
