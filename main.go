// Command attachd stores the files that belong to products, tickets and meetings of a
// data catalog: one binary and one data directory, without any other service.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"attachd/server/backends"
	"attachd/server/cli"
	"attachd/server/cli/command"
	"attachd/server/cli/files"
	"attachd/server/memory"
	"attachd/server/preview"
)

// gcPercent is GOGC. The live memory is a few megabytes, so Go would collect garbage
// again and again under load by default. This lets some tens of megabytes of garbage
// accumulate first; where memory is scarce, the soft limit prevents that.
const gcPercent = 400

// reportTime is how long the last line may block on standard error. A server whose
// reader of standard error has stalled exits all the same, with code 1.
const reportTime = 5 * time.Second

func main() {
	preview.DecodeIfAsked()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	memory.NewWatch() // sets the soft limit
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	end(err)
}

// end ends the process, and reports the reason on standard error if it is a failure: a
// service manager may restart the process.
func end(err error) {
	time.AfterFunc(reportTime, func() { os.Exit(1) })
	os.Exit(command.Report(err, os.Stderr))
}

func run(ctx context.Context, args []string, streams command.Streams) error {
	storage := backends.Opener{Lost: end}
	app := cli.New(storage.Open, storage.OpenSnapshot, storage.OpenCopy, streams)
	root := app.Root(
		app.Serve(),
		app.Init(),
		app.Check(),
		app.Doctor(),
		app.GC(),
		app.Compact(),
		app.Backup(),
		app.Restore(),
		app.Migrate(),
		app.Audit(),
		app.Webhooks(),
		app.User(),
		app.Key(),
		app.Space(),
		app.Member(),
		app.Product(),
		app.Ticket(),
		app.Meeting(),
		app.Trash(),
		app.Hold(),
		app.Directory(),
		app.Config(),
		files.Put(streams),
		files.Get(streams),
		files.Ls(streams),
		files.Rm(streams),
		files.Link(streams),
		files.Export(streams),
		app.Import(),
		app.Docs(),
		app.Completion(),
		app.Licenses(),
		app.SBOM(),
		app.VerifyRelease(),
		app.Version(),
		app.Man(),
	)
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}
