package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// cluster is a store that replicas share, of which only the leases are there.
type cluster struct {
	mu     sync.Mutex
	leases map[string]store.Lease
}

// member is what one replica sees of it.
type member struct {
	store.Shared
	*cluster
	id  uuid.UUID
	cut atomic.Bool // from the store
	far bool        // from the store, so that each call takes a second
}

func (m *member) TakeLeases(ctx context.Context, names ...string) (map[string]int64, error) {
	if m.cut.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if m.far {
		time.Sleep(time.Second)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	epochs := map[string]int64{}
	for _, name := range names {
		l := m.leases[name]
		if l.Holder != m.id && l.Until.After(time.Now()) {
			continue
		}
		if l.Holder != m.id {
			l.Epoch++
		}
		l.Holder, l.Until = m.id, time.Now().Add(store.LeaseTime)
		m.leases[name], epochs[name] = l, l.Epoch
	}
	return epochs, nil
}

func (m *member) GiveBack(ctx context.Context, names ...string) error {
	if m.cut.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if l := m.leases[name]; l.Holder == m.id {
			m.leases[name] = store.Lease{Epoch: l.Epoch}
		}
	}
	return nil
}

// replica runs a job that only one may run.
type replica struct {
	*member
	*Leases
	log strings.Builder // to be read at rest
	end func()          // ends it, in order
}

// join starts a replica with a job that is on from when it begins until its context ends.
func (c *cluster) join(t *testing.T, on *atomic.Int32) *replica {
	r := &replica{member: &member{cluster: c, id: uuid.New()}}
	r.Leases = NewLeases(r.member, slog.New(slog.NewTextHandler(&r.log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		Run(ctx, t.Context(), t.Context(), slog.New(slog.DiscardHandler), r.Leases, Job{Name: "work", Exclusive: true, Run: Loop(func(ctx context.Context) {
			if now := on.Add(1); now != 1 {
				t.Errorf("%d replicas do the work", now)
			}
			if lease, is := store.LeaseOf(ctx); !is || lease.Name != "work" {
				t.Errorf("changes are protected by the lease %+v", lease)
			}
			<-ctx.Done()
			on.Add(-1)
		})})
	})
	r.end = func() {
		cancel()
		running.Wait()
	}
	synctest.Wait()
	return r
}

func (r *replica) works() bool { return r.States()["work"].Held }

func TestOneReplicaDoesTheWorkUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var on atomic.Int32
		c := &cluster{leases: map[string]store.Lease{}}
		a, b := c.join(t, &on), c.join(t, &on)
		for range 100 {
			time.Sleep(time.Second)
			if !a.works() || b.works() || on.Load() != 1 {
				t.Fatalf("the first works: %t, the second: %t, jobs: %d", a.works(), b.works(), on.Load())
			}
		}
		a.end()
		time.Sleep(renewEvery)
		synctest.Wait()
		if !b.works() || on.Load() != 1 {
			t.Error("nobody has taken over from a replica that ended")
		}
		b.end()
		if on.Load() != 0 {
			t.Error("the job goes on")
		}
		if log := a.log.String(); !strings.Contains(log, "does work for all") || strings.Contains(log, "WARN") {
			t.Errorf("the first has logged: %s", log)
		}
	})
}

// A replica that cannot reach the store is like one that was killed, except that it has to
// stop by itself before another begins, which the job sees.
func TestAReplicaThatIsCutOffIsFollowedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for wait := time.Duration(0); wait < renewEvery; wait += 700 * time.Millisecond {
			var on atomic.Int32
			c := &cluster{leases: map[string]store.Lease{}}
			a, b := c.join(t, &on), c.join(t, &on)
			time.Sleep(12*time.Second + wait)
			a.cut.Store(true)
			time.Sleep(store.LeaseTime + renewEvery)
			synctest.Wait()
			if a.works() || !b.works() || on.Load() != 1 {
				t.Fatalf("20 s later the first works: %t, the second: %t, jobs: %d", a.works(), b.works(), on.Load())
			}
			a.cut.Store(false)
			time.Sleep(time.Minute)
			if a.works() {
				t.Error("the first has taken it back")
			}
			b.end()
			time.Sleep(renewEvery)
			synctest.Wait()
			if !a.works() || on.Load() != 1 {
				t.Error("the first has not taken over again")
			}
			a.end()
			for _, want := range []string{"cannot take or renew", "another takes over", "again"} {
				if log := a.log.String(); !strings.Contains(log, want) {
					t.Errorf("the first has not logged %q: %s", want, log)
				}
			}
		}
	})
}

func TestManyJobsEndSoonThoughTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{leases: map[string]store.Lease{}}
		m := &member{cluster: c, id: uuid.New()}
		leases := NewLeases(m, slog.New(slog.DiscardHandler))
		var jobs []Job
		for n := range 20 {
			jobs = append(jobs, Job{Name: fmt.Sprint("work ", n), Exclusive: true, Run: Loop(func(ctx context.Context) { <-ctx.Done() })})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { Run(ctx, t.Context(), t.Context(), slog.New(slog.DiscardHandler), leases, jobs...) })
		synctest.Wait()
		if n := len(c.leases); n != len(jobs) {
			t.Fatalf("%d leases are held", n)
		}
		m.cut.Store(true)
		began := time.Now()
		cancel()
		running.Wait()
		if took := time.Since(began); took > 3*leasePatience { // of a renewal, of one that is given back, of the others
			t.Errorf("the jobs took %v to end", took)
		}
	})
}

func TestWorkThatSomebodyDoesIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var on atomic.Int32
		c := &cluster{leases: map[string]store.Lease{}}
		a, b := c.join(t, &on), c.join(t, &on)
		held, release, err := a.Try(t.Context(), "once")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*replica{a, b} {
			if _, _, err := r.Try(t.Context(), "once"); !errors.Is(err, ErrBusy) {
				t.Errorf("begun a second time: %v", err)
			}
		}
		time.Sleep(time.Minute)
		if held.Err() != nil {
			t.Error("the lease has ended")
		}
		release()
		if _, release, err = b.Try(t.Context(), "once"); err != nil {
			t.Fatalf("after the end: %v", err)
		}
		b.cut.Store(true)
		if _, _, err := b.Try(t.Context(), "other"); err == nil || errors.Is(err, ErrBusy) {
			t.Errorf("without the store: %v", err)
		}
		b.cut.Store(false)
		release()
		a.end()
		b.end()
	})
}

// A store that a process has for itself needs no leases.
func TestAProcessAloneDoesAllWork(t *testing.T) {
	t.Parallel()
	l := NewLeases(nil, nil)
	ran := errors.New("ran")
	ctx, cancel := context.WithCancelCause(t.Context())
	Run(ctx, t.Context(), t.Context(), slog.New(slog.DiscardHandler), l, Job{Name: "work", Exclusive: true, Run: func(context.Context) error {
		cancel(ran)
		return nil
	}})
	if err := context.Cause(ctx); err != ran {
		t.Error(err)
	}
	for i := range 2 {
		_, release, err := l.Try(t.Context(), "once")
		if err != nil {
			t.Fatal(fmt.Errorf("the time %d: %w", i, err))
		}
		if _, _, err := l.Try(t.Context(), "once"); !errors.Is(err, ErrBusy) {
			t.Errorf("a second time: %v", err)
		}
		release()
	}
}

// Work that ends while its lease is being renewed leaves none behind.
func TestQuickWorkCanBeDoneByAnotherAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{leases: map[string]store.Lease{}}
		one, other := &member{cluster: c, id: uuid.New(), far: true}, &member{cluster: c, id: uuid.New()}
		for n := range 20 {
			for _, m := range []*member{one, other} {
				_, release, err := NewLeases(m, slog.New(slog.DiscardHandler)).Try(t.Context(), "work")
				if err != nil {
					t.Fatalf("round %d: %v", n, err)
				}
				release()
				time.Sleep(2 * time.Second)
			}
		}
	})
}
