// Package jobs runs the background jobs of a server.
package jobs

import (
	"context"
	"log/slog"
	"slices"
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
	// Finish, when set, is called when all jobs have ended, in their order: with a context
	// that ends when the process has to, and not after another one that failed, which it
	// builds on.
	Finish func(ctx context.Context) error
}

// Loop makes a job's Run of a loop that never fails.
func Loop(run func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		run(ctx)
		return nil
	}
}

// Run runs all jobs until ctx ends, or draining for those without ThroughDrain, and
// returns when they have ended and finished. When last ends before that, those that have
// not ended are logged. A job that fails is logged and run again. One that panics ends the
// process, because the state of its locks and data is unknown.
func Run(ctx, draining, last context.Context, log *slog.Logger, leases *Leases, all ...Job) {
	early, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(draining, cancel)()
	var running sync.WaitGroup
	unended := newNames(all)
	defer context.AfterFunc(last, func() {
		if left := unended.sorted(); len(left) > 0 {
			log.Error("background jobs have not ended in time", "jobs", left, "reason", context.Cause(last))
		}
	})()
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
			if j.Finish == nil {
				unended.remove(j.Name)
			}
		})
	}
	running.Wait()
	failed := ""
	for _, j := range all {
		switch {
		case j.Finish == nil:
			continue
		case failed != "":
			log.Error("a job did not do its last work, since another one before it failed", "job", j.Name, "failed", failed)
		default:
			if err := j.Finish(last); err != nil {
				failed = j.Name
				log.Error("a job did not do all of its last work", "job", j.Name, "error", err)
			}
		}
		unended.remove(j.Name)
	}
}

// names are those of jobs. They are safe for concurrent use.
type names struct {
	mu  sync.Mutex
	all []string
}

func newNames(of []Job) *names {
	n := &names{}
	for _, j := range of {
		n.all = append(n.all, j.Name)
	}
	slices.Sort(n.all)
	return n
}

func (n *names) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.Index(n.all, name)
	n.all = slices.Delete(n.all, i, i+1)
}

func (n *names) sorted() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.all)
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
