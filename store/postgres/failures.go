package postgres

import (
	"context"
	"errors"
	"time"

	"attachd/store"
)

// failures logs when work in the background begins to fail, and when it succeeds again: what is
// tried each second would fill the log. It belongs to one goroutine.
type failures struct {
	store   *Store
	failing map[string]bool // by what is done
}

func (s *Store) newFailures() *failures { return &failures{s, map[string]bool{}} }

// backgroundFor is how long a piece of work in the background may take before it is given up, to
// be tried again over another connection.
const backgroundFor = time.Minute

// try does some work.
func (f *failures) try(work string, do func(ctx context.Context) error) {
	f.note(work, within(f.store.life, backgroundFor, do))
}

// note takes what has become of some work. What waits until the database is no longer frozen,
// or ends with the Store, has not failed.
func (f *failures) note(work string, err error) {
	switch {
	case errors.Is(err, store.ErrFrozen), errors.Is(err, context.Canceled):
	case err != nil && !f.failing[work]:
		f.failing[work] = true
		f.store.log.Error("work on the database in the background fails, and is tried again until it succeeds", "work", work, "error", err)
	case err == nil && f.failing[work]:
		f.failing[work] = false
		f.store.log.Info("work on the database in the background succeeds again", "work", work)
	}
}
