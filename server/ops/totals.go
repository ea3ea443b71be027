package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"attachd/server/api"
	"attachd/server/jobs"
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
	switch {
	case !s.totals.old(s.Now()):
		return nil // another count has finished since this one was asked for
	case s.Shared != nil:
		return s.countForAll(ctx)
	}
	return s.countNow(ctx)
}

// countNow counts attachments and contents.
func (s *Service) countNow(ctx context.Context) error {
	began, rested := time.Now(), time.Duration(0)
	at := s.Now().UTC()
	sums, err := s.Store.Totals(ctx, func(took time.Duration) {
		rested += countRest * took
		wait(ctx, countRest*took)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.totals.set(counted{sums, at}, s.Now(), time.Since(began)-rested, err)
	if err != nil {
		return fmt.Errorf("attachments could not be counted: %w", err)
	}
	return nil
}

// set sets the result of a count that ended at a time.
func (t *totals) set(last counted, ended time.Time, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tried.IsZero() {
		close(t.first)
	}
	t.err, t.tried, t.took = err, ended, took
	if err == nil {
		t.last = last
	}
}

const (
	// counting is the lease of the replica that counts for all.
	counting = "counting"
	// countNote is the name of the note with the last such count.
	countNote = "totals"
	// countPoll is how often the others look whether it has ended.
	countPoll = 250 * time.Millisecond
)

// notedCount is a count that a replica has made for all.
type notedCount struct {
	Totals store.Totals
	At     time.Time
	Ended  time.Time
	Took   time.Duration
}

// countForAll counts, unless another replica has done so lately or does so now: then its
// count is taken.
func (s *Service) countForAll(ctx context.Context) error {
	for {
		var noted notedCount
		note, err := s.Store.Note(ctx, countNote)
		if err == nil {
			err = json.Unmarshal(note, &noted)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("the note of the last count: %w", err)
		}
		if s.Now().Sub(noted.Ended).Abs() < max(countFor, countShare*noted.Took) {
			s.totals.set(counted{noted.Totals, noted.At}, noted.Ended, noted.Took, nil)
			return nil
		}
		held, release, err := s.Leases.Try(ctx, counting)
		if err == nil {
			defer release()
			if err = s.countNow(held); err == nil {
				err = s.noteCount(held)
			}
			return err
		}
		if !errors.Is(err, jobs.ErrBusy) {
			return err
		}
		if wait(ctx, countPoll); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// noteCount notes the last count for the other replicas.
func (s *Service) noteCount(ctx context.Context) error {
	t := &s.totals
	t.mu.Lock()
	note, err := json.Marshal(notedCount{t.last.Totals, t.last.at, t.tried, t.took})
	t.mu.Unlock()
	if err == nil {
		err = s.Store.SetNote(ctx, countNote, note)
	}
	return err
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
