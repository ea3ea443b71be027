// Package jobs runs the background jobs of a server.
package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// retryAfter is the pause before a failed run of a job without a period is repeated.
const retryAfter = time.Minute

// Job is background work. One with neither Every nor Wake is a loop: its Run goes on
// until its context ends.
type Job struct {
	Name  string          // in the log
	Every time.Duration   // period; 0 for none
	Wake  <-chan struct{} // optional: each receive starts a run
	// AtStart is whether it also runs at start, not only after its first period.
	AtStart bool
	// Exclusive says that of all replicas only one may run it at a time, since they would
	// repeat or undo each other's work. Its Run is called again whenever this replica takes
	// over, and its context ends when another may.
	Exclusive bool
	// ThroughDrain is whether it goes on while a draining server answers its last
	// requests, because they need it or it has to finish their work. Other jobs end as
	// soon as the server drains.
	ThroughDrain bool
	// Run does the work. Its error is logged, unless the job was told to end.
	Run func(ctx context.Context) error
}

// Loop makes a job's Run of a loop that never fails.
func Loop(run func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		run(ctx)
		return nil
	}
}

// Run runs all jobs until ctx ends, or draining for those without ThroughDrain, and
// returns when the last has ended. A job that fails is logged and run again. One that
// panics ends the process, because the state of its locks and data is unknown.
func Run(ctx, draining context.Context, log *slog.Logger, leases *Leases, all ...Job) {
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
		running.Go(func() {
			if j.Exclusive {
				leases.while(until, j.Name, func(ctx context.Context) { j.loop(ctx, log) })
			} else {
				j.loop(until, log)
			}
		})
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

// once runs a job and logs its error.
func (j Job) once(ctx context.Context, log *slog.Logger) (failed bool) {
	err := j.Run(ctx)
	if err != nil && ctx.Err() == nil {
		log.Error("background job failed", "job", j.Name, "error", err)
	}
	return err != nil
}
