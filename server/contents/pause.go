package contents

import (
	"cmp"
	"context"
	"errors"
	"math"
)

var (
	// ErrPaused means that no attachment can be uploaded or deleted for some seconds.
	ErrPaused = errors.New("uploads and deletions wait for the end of a migration")
	// ErrMoved means that the contents are elsewhere now, and that this process must be
	// followed by one that knows where.
	ErrMoved = errors.New("the contents were moved, and the server was not restarted since")
	// ErrPerhapsMoved means the same where only the next start finds out where they are.
	ErrPerhapsMoved = errors.New("it is not known whether the contents were moved")
)

// allChanges is the weight of a pause in Store.changes, in which each change weighs 1.
const allChanges = math.MaxInt64

// Change calls do, which adds or deletes attachments, unless that is not possible now: then
// it returns ErrPaused, ErrMoved or ErrPerhapsMoved.
func (c *Store) Change(do func() error) error {
	if c.changes.TryAcquire(1) { // which fails while a pause waits, too
		defer c.changes.Release(1)
		return do()
	}
	return cmp.Or(c.MayChange(), ErrPaused) // which ended just now
}

// MayChange returns why Change is not possible now, if it is not.
func (c *Store) MayChange() error {
	if why := c.paused.Load(); why != nil {
		return *why
	}
	return nil
}

// Pause waits until no change is under way, or ctx ends, and admits no other one until end is
// called, which says why it stays so: nil when changes are possible again.
func (c *Store) Pause(ctx context.Context) (end func(refuse error), err error) {
	c.paused.Store(&ErrPaused)
	if err := c.changes.Acquire(ctx, allChanges); err != nil {
		c.paused.Store(nil)
		return nil, err
	}
	return func(refuse error) {
		if refuse != nil {
			c.paused.Store(&refuse)
			return
		}
		c.paused.Store(nil)
		c.changes.Release(allChanges)
		c.WakeRemoval()
	}, nil
}

// SetMoved has changes refused with ErrMoved, once those under way have ended, after another
// process has moved the contents and their records.
func (c *Store) SetMoved(ctx context.Context) error {
	if c.MayChange() != nil {
		return nil
	}
	end, err := c.Pause(ctx)
	if err == nil {
		end(ErrMoved)
	}
	return err
}
