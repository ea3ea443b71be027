package contents

import (
	"context"
	"fmt"
	"log/slog"

	"attachd/blobs"
)

// Remove implements blobs.Store. It removes the content's thumbnail first.
func (c *Store) Remove(ctx context.Context, ref blobs.Ref, referenced func() (bool, error)) (removed bool, err error) {
	return c.Store.Remove(ctx, ref, func() (bool, error) {
		found, err := referenced()
		if err == nil && !found {
			if err := c.Thumbnails.Drop(ref); err != nil {
				c.Log.Warn("a thumbnail could not be removed", "blob", ref.String(), "error", err)
			}
		}
		return found, err
	})
}

// removeUnreferenced removes a content unless a record refers to it, or a backup may
// need it. What was begun is finished, even if ctx ends.
func (c *Store) removeUnreferenced(ctx context.Context, ref blobs.Ref) error {
	ctx = context.WithoutCancel(ctx)
	removed, err := c.Remove(ctx, ref, func() (bool, error) {
		found, err := c.records.Referenced(ctx, ref)
		if err != nil || found {
			return found, err
		}
		return c.Leases.Postpone(ctx, ref)
	})
	if err == nil {
		c.Log.Debug("a content that nothing may refer to", "blob", ref.String(), "removed", removed)
	}
	return err
}

// Forget removes contents that may have lost their last record, until ctx ends.
// While a backup is under way they are postponed. One that cannot be removed is
// logged, and left for a collection with those that follow.
func (c *Store) Forget(ctx context.Context, log func() *slog.Logger, sums ...[32]byte) {
	for _, sum := range sums {
		if ctx.Err() != nil {
			return
		}
		if err := c.removeUnreferenced(ctx, sum); err != nil {
			log().Error("a content that nothing refers to could not be removed", "blob", blobs.Ref(sum).String(), "error", err)
			return
		}
	}
}

// Lease postpones all removals until end is called, which makes up for them until its
// own context ends. Once held ends, nothing may be postponed any more.
func (c *Store) Lease(ctx context.Context) (held context.Context, end func(ctx context.Context, log func() *slog.Logger), err error) {
	held, endLease, err := c.Leases.Begin(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("beginning a lease: %w", err)
	}
	return held, func(ctx context.Context, log func() *slog.Logger) { c.Forget(ctx, log, endLease()...) }, nil
}

// RemoveDeleted removes the attachments of deleted products, tickets, meetings and
// spaces, in parts, so that other changes need not wait for all of it.
func (c *Store) RemoveDeleted(ctx context.Context) error {
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = c.removeSome(ctx); err != nil {
			return fmt.Errorf("what was deleted with a product, ticket, meeting or space could not be removed; it is tried again in a minute: %w", err)
		}
	}
	return nil
}

// removeSome removes a part of them, and reports whether there may be more.
func (c *Store) removeSome(ctx context.Context) (more bool, err error) {
	var freed [][32]byte
	paused := c.Change(func() error {
		freed, more, err = c.records.Remove(ctx)
		return nil
	})
	if paused != nil {
		return false, nil // the end of the pause wakes the job
	}
	if failed := c.removeFreed(ctx, freed); failed != nil {
		return more, failed
	}
	return more && err == nil, err
}

// removeFreed removes contents that may have lost their last record. When one cannot be
// removed, those that follow are left to a collection.
func (c *Store) removeFreed(ctx context.Context, freed [][32]byte) error {
	for _, sum := range freed {
		if err := c.removeUnreferenced(ctx, sum); err != nil {
			return err
		}
	}
	return nil
}

// WakeRemoval wakes the job that runs RemoveDeleted.
func (c *Store) WakeRemoval() { awake(c.Deleted) }
