package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"attachd/store"
)

const (
	// renewEvery is how often leases are renewed, and how often a replica that waits for
	// one tries to take it.
	renewEvery = 5 * time.Second
	// leaseMargin is how long before the end of a lease its holder stops what it does, so
	// that it has ended when another begins.
	leaseMargin = 3 * time.Second
	// leasePatience is how long a call about leases may take.
	leasePatience = 4 * time.Second
)

// ErrBusy means that the work is being done already, here or by another replica.
var ErrBusy = errors.New("the work is being done already")

// Leases say which work this replica does for all that share its store. Of one that is not
// shared, this process does all.
type Leases struct {
	shared store.Shared // nil where the store is this process's own
	log    *slog.Logger
	wake   chan struct{}

	talking  chan struct{} // has a value while leases are taken or given back; before mu
	mu       sync.Mutex
	wanted   map[string]*lease
	leaving  []string // names in wanted that are to be given back
	renewing bool     // while any is wanted
}

// lease is one that this replica wants or holds.
type lease struct {
	taken   chan tenure // gets each new tenure
	tenure              // the last one
	renewed time.Time
	over    *time.Timer // ends it
}

// tenure is the time from when a lease was taken until it was lost or given back.
type tenure struct {
	epoch int64
	held  context.Context // nil before the first; ends with the tenure
	end   context.CancelFunc
}

// LeaseState is what this replica knows of a lease that it wants.
type LeaseState struct {
	Held    bool
	Renewed time.Time // zero: never
}

// NewLeases returns the leases of a replica; shared is nil for a store that is the
// process's own.
func NewLeases(shared store.Shared, log *slog.Logger) *Leases {
	return &Leases{shared: shared, log: log, wake: make(chan struct{}, 1), talking: make(chan struct{}, 1), wanted: map[string]*lease{}}
}

// States returns the leases that this replica wants, by name.
func (l *Leases) States() map[string]LeaseState {
	l.mu.Lock()
	defer l.mu.Unlock()
	states := map[string]LeaseState{}
	for name, of := range l.wanted {
		states[name] = LeaseState{of.held != nil && of.held.Err() == nil, of.renewed}
	}
	return states
}

// want adds a lease to those that are wanted; false if it is one already.
func (l *Leases) want(name string) (*lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wanted[name] != nil {
		return nil, false
	}
	of := &lease{taken: make(chan tenure, 1)}
	l.wanted[name] = of
	if l.shared != nil && !l.renewing {
		l.renewing = true
		go l.renew()
	}
	l.look()
	return of, true
}

// giveBack ends a lease that this replica wants, and lets others take it at once. What is
// given back while the store is being talked to goes together: a store that hangs holds up
// the end of many jobs once, and not once for each.
func (l *Leases) giveBack(name string) {
	l.mu.Lock()
	l.leaving = append(l.leaving, name)
	l.mu.Unlock()
	l.talking <- struct{}{}
	defer func() { <-l.talking }()
	held := l.leave()
	l.look()
	if l.shared == nil || len(held) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leasePatience)
	defer cancel()
	if err := l.shared.GiveBack(ctx, held...); err != nil {
		l.log.Warn("work could not be given back to the other replicas, which take it over a little later", "work", strings.Join(held, ", "), "error", err)
	}
}

// leave ends the leases that are to be given back, and returns those of them that were held.
func (l *Leases) leave() (held []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range l.leaving {
		of := l.wanted[name]
		delete(l.wanted, name)
		if of.held != nil {
			of.over.Stop()
			of.end()
			held = append(held, name)
		}
	}
	l.leaving = nil
	return held
}

// take takes and renews leases, but for those that were given back since it was called.
func (l *Leases) take(names []string) error {
	l.talking <- struct{}{}
	defer func() { <-l.talking }()
	l.mu.Lock()
	names = slices.DeleteFunc(names, func(name string) bool { return l.wanted[name] == nil || slices.Contains(l.leaving, name) })
	l.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leasePatience)
	defer cancel()
	asked := time.Now()
	epochs, err := l.shared.TakeLeases(ctx, names...)
	if err != nil {
		return fmt.Errorf("taking and renewing leases: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, epoch := range epochs {
		if of := l.wanted[name]; of != nil {
			of.confirm(epoch, asked)
		}
	}
	return nil
}

// confirm begins a tenure, or prolongs it, as of the time when that was asked for: the
// store's clock began to count later.
func (of *lease) confirm(epoch int64, asked time.Time) {
	of.renewed = asked
	left := time.Until(asked.Add(store.LeaseTime - leaseMargin))
	if of.held != nil {
		if of.over.Stop() && of.epoch == epoch {
			of.over.Reset(left)
			return
		}
		of.end()
	}
	of.epoch = epoch
	of.held, of.end = context.WithCancel(context.Background())
	of.over = time.AfterFunc(left, of.end)
	select {
	case <-of.taken: // nobody has begun with the one before
	default:
	}
	of.taken <- of.tenure
}

// look has the leases renewed at once.
func (l *Leases) look() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// renew renews the leases that are wanted until there are none.
func (l *Leases) renew() {
	for failing := false; ; {
		l.mu.Lock()
		names := slices.Sorted(maps.Keys(l.wanted))
		l.renewing = len(names) > 0
		l.mu.Unlock()
		if len(names) == 0 {
			return
		}
		err := l.take(names)
		switch {
		case err != nil && !failing:
			l.log.Error("this replica cannot take or renew its share of the background work", "error", err)
		case err == nil && failing:
			l.log.Info("this replica can take and renew its share of the background work again")
		}
		failing = err != nil
		select {
		case <-l.wake:
		case <-time.After(renewEvery):
		}
	}
}

// while does work whenever this replica has its lease, until ctx ends or the work does. The
// context of the work ends with the lease.
func (l *Leases) while(ctx context.Context, name string, work func(ctx context.Context)) {
	if l.shared == nil {
		work(ctx)
		return
	}
	of, is := l.want(name)
	if !is {
		panic("two jobs have the name " + name)
	}
	defer l.giveBack(name)
	for {
		select {
		case <-ctx.Done():
			return
		case got := <-of.taken:
			l.log.Info("this replica does work for all", "work", name, "epoch", got.epoch)
			within, end := got.within(ctx, name)
			work(within)
			end()
			if ctx.Err() != nil || got.held.Err() == nil {
				return
			}
			l.log.Warn("this replica has stopped to do work for all, since it could not renew its lease: another takes over", "work", name, "epoch", got.epoch)
		}
	}
}

// within returns a context of the tenure: it ends with that and with ctx, and changes of the
// store that are made with it are protected by the lease.
func (t tenure) within(ctx context.Context, name string) (context.Context, context.CancelFunc) {
	within, end := context.WithCancel(store.WithLease(ctx, name, t.epoch))
	stop := context.AfterFunc(t.held, end)
	return within, func() {
		stop()
		end()
	}
}

// Try takes the lease of work that is done once, and not while anybody does it. The context
// ends with the lease. release must be called once the work has ended. ErrBusy when the lease
// is another's.
func (l *Leases) Try(ctx context.Context, name string) (held context.Context, release func(), err error) {
	of, is := l.want(name)
	switch {
	case !is:
		return nil, nil, fmt.Errorf("%w: by this server", ErrBusy)
	case l.shared == nil:
		return ctx, func() { l.giveBack(name) }, nil
	}
	if err := l.take([]string{name}); err != nil {
		l.giveBack(name)
		return nil, nil, err
	}
	select {
	case got := <-of.taken:
		within, end := got.within(ctx, name)
		return within, func() {
			end()
			l.giveBack(name)
		}, nil
	default:
		l.giveBack(name)
		return nil, nil, fmt.Errorf("%w: by another replica", ErrBusy)
	}
}
