// Package jobs runs what a server does in the background.
package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// retryAfter is after how long a failed run of a job without a period is
// repeated.
const retryAfter = time.Minute

// Job is work in the background. One with neither Every nor Wake is a loop of its
// own: its Run goes on until its context ends.
type Job struct {
	Name  string          // in the log
	Every time.Duration   // period; 0 for none
	Wake  <-chan struct{} // optional: each receive starts a run
	// AtStart is whether it also runs at start, not only when it is due.
	AtStart bool
	// Exclusive says that two replicas must not run it at the same time, because
	// they would do the same work twice or against each other. A single process
	// need not heed it.
	Exclusive bool
	// ThroughDrain is whether it goes on while a server that stops answers its last
	// requests, because they need it or it has to finish what they leave. Others
	// end as soon as the server drains.
	ThroughDrain bool
	// Run does the work. Its error is logged, unless the job was told to end.
	Run func(ctx context.Context) error
}

// Loop makes a loop that never fails the Run of a job.
func Loop(run func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		run(ctx)
		return nil
	}
}

// Run runs all jobs until ctx ends, or draining for those that end with it, and
// returns when the last has ended. A job that fails is logged and run again. One
// that panics ends the process, because nobody knows what it has left locked or half
// done.
func Run(ctx, draining context.Context, log *slog.Logger, all ...Job) {
	early, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(draining, cancel)()
	var running sync.WaitGroup
	defer running.Wait()
	for _, j := range all {
		until := early
		if j.ThroughDrain {
			until = ctx
		}
		running.Go(func() { j.loop(until, log) })
	}
}

// loop runs a job at start, at each tick, when it is woken and after a failure.
func (j Job) loop(ctx context.Context, log *slog.Logger) {
	var tick <-chan time.Time
	if j.Every > 0 {
		ticker := time.NewTicker(j.Every)
		defer ticker.Stop()
		tick = ticker.C
	}
	endless := j.Every == 0 && j.Wake == nil
	for due := j.AtStart || endless; ; due = true {
		var retry <-chan time.Time
		if due {
			switch failed := j.once(ctx, log); {
			case failed && j.Every == 0:
				retry = time.After(retryAfter)
			case endless && !failed:
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		case <-j.Wake:
		case <-retry:
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// once runs a job and logs its failure.
func (j Job) once(ctx context.Context, log *slog.Logger) (failed bool) {
	err := j.Run(ctx)
	if err != nil && ctx.Err() == nil {
		log.Error("background job failed", "job", j.Name, "error", err)
	}
	return err != nil
}
