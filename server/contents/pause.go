package contents

import (
	"cmp"
	"errors"
)

var (
	// ErrPaused means that no attachment can be uploaded or deleted for some seconds.
	ErrPaused = errors.New("uploads and deletions wait for the end of a migration")
	// ErrMoved means that the contents are elsewhere now, and that this process must be
	// followed by one that knows where.
	ErrMoved = errors.New("the contents were moved, and the server was not restarted since")
)

// Change calls do, which adds or deletes attachments, unless that is not possible now: then
// it returns ErrPaused or ErrMoved.
func (c *Store) Change(do func() error) error {
	if c.changes.TryRLock() {
		defer c.changes.RUnlock()
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

// Pause waits until no change is under way and admits no other one, until end is called,
// which says whether the contents were moved: then it stays so.
func (c *Store) Pause() (end func(moved bool)) {
	c.paused.Store(&ErrPaused)
	c.changes.Lock()
	return func(moved bool) {
		if moved {
			c.paused.Store(&ErrMoved)
			return
		}
		c.paused.Store(nil)
		c.changes.Unlock()
		c.WakeRemoval()
	}
}
