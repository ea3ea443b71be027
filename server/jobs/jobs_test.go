package jobs

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// started is a list of jobs that run.
type started struct {
	drain, end context.CancelFunc
	ended      chan struct{}
	log        strings.Builder // to be read at rest
}

func start(t *testing.T, all ...Job) *started {
	s := &started{ended: make(chan struct{})}
	var ctx, draining context.Context
	ctx, s.end = context.WithCancel(t.Context())
	draining, s.drain = context.WithCancel(t.Context())
	go func() {
		defer close(s.ended)
		Run(ctx, draining, context.WithoutCancel(ctx), slog.New(slog.NewTextHandler(&s.log, nil)), NewLeases(nil, nil), all...)
	}()
	return s
}

// runs counts the runs of a job.
type runs struct {
	mu   sync.Mutex
	n    int
	then func(n int) error
}

func (r *runs) run(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	if r.then == nil {
		return nil
	}
	return r.then(r.n)
}

func (r *runs) want(t *testing.T, n int) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n != n {
		t.Errorf("it ran %d times, not %d", r.n, n)
	}
}

func TestAJobRunsWhenItIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var later, atOnce, woken runs
		wake := make(chan struct{}, 1)
		s := start(t,
			Job{Name: "later", Every: time.Hour, Run: later.run},
			Job{Name: "at once", Every: time.Hour, AtStart: true, Run: atOnce.run},
			Job{Name: "woken", Wake: wake, Run: woken.run})
		atOnce.want(t, 1)
		later.want(t, 0)
		time.Sleep(2*time.Hour + time.Second)
		atOnce.want(t, 3)
		later.want(t, 2)
		woken.want(t, 0)
		wake <- struct{}{}
		woken.want(t, 1)
		s.end()
		<-s.ended
		if s.log.Len() > 0 {
			t.Errorf("it logged %s", s.log.String())
		}
	})
}

func TestAFailedJobIsLoggedAndRunsAgain(t *testing.T) {
	t.Parallel()
	failing := func(n int) error {
		switch n {
		case 1:
			return errors.New("no such disk")
		case 2:
			return errors.New("no such file")
		}
		return nil
	}
	for _, c := range []struct {
		name  string
		job   Job
		pause time.Duration
		ends  bool
	}{
		{"with a period", Job{Every: time.Second, AtStart: true}, time.Second, false},
		{"that is woken", Job{AtStart: true}, retryAfter, false},
		{"a loop", Job{}, retryAfter, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := runs{then: failing}
				c.job.Name, c.job.Run = "clean", r.run
				if c.job.AtStart && c.job.Every == 0 {
					c.job.Wake = make(chan struct{}) // of this clock
				}
				s := start(t, c.job)
				r.want(t, 1)
				time.Sleep(c.pause)
				r.want(t, 2)
				time.Sleep(c.pause)
				r.want(t, 3)
				select {
				case <-s.ended:
					if !c.ends {
						t.Error("it ended")
					}
				default:
					if c.ends {
						t.Error("it goes on")
					}
				}
				s.end()
				<-s.ended
				log := s.log.String()
				for _, want := range []string{`msg="background job failed" job=clean error="no such disk"`, `msg="background job failed" job=clean error="no such file"`} {
					if !strings.Contains(log, want) {
						t.Errorf("the log has no %s:\n%s", want, log)
					}
				}
				if strings.Count(log, "\n") != 2 {
					t.Errorf("it logged:\n%s", log)
				}
			})
		})
	}
}

func TestJobsFinishInOrderAndNotAfterOneThatFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var began []string
		finishing := func(name string, err error) Job {
			return Job{Name: name, Wake: make(chan struct{}), Run: (&runs{}).run, Finish: func(context.Context) error {
				began = append(began, name)
				return err
			}}
		}
		s := start(t, finishing("first", nil), finishing("second", errors.New("no such disk")), finishing("third", nil))
		synctest.Wait()
		if len(began) > 0 {
			t.Errorf("while they run, %v finish", began)
		}
		s.end()
		<-s.ended
		if got := strings.Join(began, " "); got != "first second" {
			t.Errorf("there finished: %s", got)
		}
		for _, want := range []string{`job=second error="no such disk"`, "job=third failed=second"} {
			if !strings.Contains(s.log.String(), want) {
				t.Errorf("the log has no %s:\n%s", want, s.log.String())
			}
		}
	})
}

func TestJobsThatHangAreLoggedWhenTheTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &started{ended: make(chan struct{})}
		ctx, end := context.WithCancel(t.Context())
		last, over := context.WithCancelCause(context.WithoutCancel(ctx))
		free := make(chan struct{})
		go func() {
			defer close(s.ended)
			Run(ctx, t.Context(), last, slog.New(slog.NewTextHandler(&s.log, nil)), NewLeases(nil, nil),
				Job{Name: "hanging", Run: Loop(func(context.Context) { <-free })},
				Job{Name: "quick", Run: Loop(func(ctx context.Context) { <-ctx.Done() })})
		}()
		end()
		synctest.Wait()
		over(errors.New("it is late"))
		synctest.Wait()
		if log := s.log.String(); !strings.Contains(log, `jobs=[hanging] reason="it is late"`) {
			t.Errorf("the log is %s", log)
		}
		close(free)
		<-s.ended
	})
}

func TestADrainEndsAllButWhatTheLastRequestsNeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		waiting := func(ended *bool) func(context.Context) error {
			return func(ctx context.Context) error {
				<-ctx.Done()
				*ended = true
				return ctx.Err() // no failure: it was told to end
			}
		}
		var early, late bool
		var periodic runs
		s := start(t,
			Job{Name: "early", Run: waiting(&early)},
			Job{Name: "periodic", Every: time.Second, Run: periodic.run},
			Job{Name: "late", ThroughDrain: true, Run: waiting(&late)})
		s.drain()
		synctest.Wait()
		if !early || late {
			t.Errorf("the drain ended early: %v, late: %v", early, late)
		}
		time.Sleep(time.Hour)
		periodic.want(t, 0)
		s.end()
		<-s.ended
		if !late || s.log.Len() > 0 {
			t.Errorf("late ended: %v; the log: %s", late, s.log.String())
		}
	})
}
