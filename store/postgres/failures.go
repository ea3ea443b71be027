package postgres

import (
	"context"
	"errors"
	"log/slog"

	"attachd/store"
)

// failures logs when work in the background begins to fail, and when it succeeds again: what is
// tried each second would fill the log. It belongs to one goroutine.
type failures struct {
	log     *slog.Logger
	failing map[string]bool // by what is done
}

func (s *Store) newFailures() *failures { return &failures{s.log, map[string]bool{}} }

// note takes what has become of some work. What waits until the database is no longer frozen,
// or ends with the Store, has not failed.
func (f *failures) note(work string, err error) {
	switch {
	case errors.Is(err, store.ErrFrozen), errors.Is(err, context.Canceled):
	case err != nil && !f.failing[work]:
		f.failing[work] = true
		f.log.Error("work on the database in the background fails, and is tried again until it succeeds", "work", work, "error", err)
	case err == nil && f.failing[work]:
		f.failing[work] = false
		f.log.Info("work on the database in the background succeeds again", "work", work)
	}
}
