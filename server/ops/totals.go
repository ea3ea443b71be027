package ops

import (
	"context"
	"fmt"
	"sync"
	"time"

	"attachd/server/api"
	"attachd/store"
)

// totals caches the last count. A job in the background counts again on demand,
// using at most a hundredth of the time.
type totals struct {
	wanted chan struct{} // signalled when a count is asked for
	first  chan struct{} // closed after the first count

	mu    sync.Mutex
	last  counted
	err   error         // of the last count
	tried time.Time     // when the last count was made
	took  time.Duration // how long the last count worked, without its rests
}

// counted is one count.
type counted struct {
	store.Totals
	at time.Time // zero before the first one
}

const (
	countFor   = time.Minute // how long a count is fresh, at least
	countShare = 100         // ratio of how long a count is fresh to how long it took
	countRest  = 4           // ratio of sleep to work while counting
)

func newTotals() totals {
	return totals{wanted: make(chan struct{}, 1), first: make(chan struct{})}
}

// count counts attachments and contents, unless that was done lately.
func (s *Service) count(ctx context.Context) error {
	if !s.totals.old(s.Now()) {
		return nil // another count has finished since this one was asked for
	}
	began, rested := time.Now(), time.Duration(0)
	at := s.Now().UTC()
	sums, err := s.Store.Totals(ctx, func(took time.Duration) {
		rested += countRest * took
		wait(ctx, countRest*took)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t := &s.totals
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tried.IsZero() {
		close(t.first)
	}
	t.err, t.tried, t.took = err, s.Now(), time.Since(began)-rested
	if err != nil {
		return fmt.Errorf("attachments could not be counted: %w", err)
	}
	t.last = counted{sums, at}
	return nil
}

// old says whether the last count is not fresh any more.
func (t *totals) old(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tried.IsZero() || now.Sub(t.tried) >= max(countFor, countShare*t.took)
}

// latest returns the last count, if there is one, and asks for another when it is
// old.
func (t *totals) latest(now time.Time) (counted, error) {
	if t.old(now) {
		select {
		case t.wanted <- struct{}{}:
		default:
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last.at.IsZero() {
		return counted{}, t.err
	}
	return t.last, nil
}

// counted returns the last count, and waits for the first one.
func (s *Service) counted(ctx context.Context) (counted, error) {
	last, err := s.totals.latest(s.Now())
	if !last.at.IsZero() || err != nil {
		return last, err
	}
	select {
	case <-s.totals.first:
		return s.totals.latest(s.Now())
	case <-ctx.Done():
		return counted{}, ctx.Err()
	case <-s.upkeep.running.Done():
		return counted{}, api.ShuttingDown()
	}
}
