package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"attachd/server/api"
	"attachd/store"
)

// totals are what was counted last. Counting goes on beside everything else,
// when somebody asks, and takes a hundredth of the time at most.
type totals struct {
	wanted chan struct{} // somebody asked for newer ones
	first  chan struct{} // closed when they were counted for the first time

	mu    sync.Mutex
	last  counted
	err   error         // of the last try
	tried time.Time     // when that was
	took  time.Duration // of it, without the rests
}

type counted struct {
	store.Totals
	at time.Time // zero when they never were
}

const (
	countFor   = time.Minute // so long nobody counts again
	countShare = 100         // nor for so many times as long as it took
	countRest  = 4           // nor does it work without resting so many times as long
)

func newTotals() totals {
	return totals{wanted: make(chan struct{}, 1), first: make(chan struct{})}
}

// count counts attachments and contents, unless that was done lately.
func (s *Server) count(ctx context.Context) error {
	if !s.totals.old(s.Now()) {
		return nil // they asked while somebody else's were being counted
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

// old says whether it is time to count again.
func (t *totals) old(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tried.IsZero() || now.Sub(t.tried) >= max(countFor, countShare*t.took)
}

// latest gives what was counted last, which may be nothing, and has it counted
// anew where that was too long ago.
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

// counted gives what was counted last. Only the first who ask wait for it.
func (s *Server) counted(ctx context.Context) (counted, error) {
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
