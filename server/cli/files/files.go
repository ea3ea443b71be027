// Package files has the commands for the files of any server, which they call over the
// network with an API key.
package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/remote"
)

// about is the part of the help that the commands for files share.
const about = `
The server is named by --server or ATTACHD_SERVER. The API key comes from the
file that --key-file names or from ATTACHD_KEY.

A PLACE is product:SPACE/UUID, ticket:UUID or meeting:UUID; attachd ls lists
them. For the UUID its name may stand if only one has it, as in
"product:analytics/Customer 360". An ATTACHMENT is PLACE/ID, PLACE/NAME if only
one there has that name, or the download path that the server gave, as in
/catalog/attachments/ID/download.

The exit code is 0 when everything was done, 1 when something failed, 2 when
the command was wrong.`

// clientFlags are the flags of the commands for files, with their output streams.
type clientFlags struct {
	command.Streams
	command.Server
	asJSON bool
	quiet  bool
	line   *command.ProgressLine
}

// forFiles completes a command that calls a server over the network.
func forFiles(s command.Streams, cmd *cobra.Command, run func(ctx context.Context, n *clientFlags, c *remote.Client, args []string) error) *cobra.Command {
	n := &clientFlags{Streams: s}
	cmd.Long = cmd.Short + ".\n" + about
	cmd.GroupID = command.OnFiles
	command.WithoutInstallation(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n.line = s.NewProgressLine(n.quiet)
		defer n.line.Clear()
		c, err := n.Client(n.retrying)
		if err != nil {
			return err
		}
		return run(cmd.Context(), n, c, args)
	}
	n.AddFlags(cmd)
	cmd.Flags().BoolVarP(&n.quiet, "quiet", "q", false, "show no progress on a terminal, and say nothing of what is tried again")
	cmd.Flags().BoolVar(&n.asJSON, "json", false, "print JSON, a line for each thing")
	return cmd
}

func (n *clientFlags) retrying(why error, in time.Duration) {
	if !n.quiet {
		n.line.Say(func() { n.Retrying(why, in) })
	}
}

// print prints a line: as JSON, or the text.
func (n *clientFlags) print(text string, asJSON any) (err error) {
	n.line.Say(func() {
		if !n.asJSON {
			_, err = fmt.Fprintln(n.Out, text)
			return
		}
		encoder := json.NewEncoder(n.Out)
		encoder.SetEscapeHTML(false) // keep the & of URLs readable
		err = encoder.Encode(asJSON)
	})
	return err
}

// failed reports why one of several operations failed.
func (n *clientFlags) failed(what string, why error) {
	n.line.Say(func() { fmt.Fprintf(n.Err, "attachd: %s: %v\n", what, why) })
}

// failure is the error of an operation, as JSON.
type failure struct {
	Detail    string `json:"detail"`
	Code      string `json:"code,omitempty"`       // the server's
	RequestID string `json:"request_id,omitempty"` // the server's
}

func failureOf(err error) *failure {
	f := &failure{Detail: err.Error()}
	var r *remote.Refusal
	if errors.As(err, &r) {
		f.Code, f.RequestID = r.Code, r.RequestID
	}
	return f
}
