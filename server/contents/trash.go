package contents

import (
	"context"
	"errors"
	"fmt"
	"time"

	"attachd/blobs"
	"attachd/store"
)

const (
	// purgeBatch is how many attachments in the trash are removed for good in one commit,
	// for which other changes wait.
	purgeBatch = 100
	// purgeRest is the ratio of sleep to work while what is due is removed.
	purgeRest = 3
	// heldFor is how much longer than until now something held stays in the trash, when its
	// time there is over: after that, it is looked at again.
	heldFor = 24 * time.Hour
	// roomPatience is how long a request waits at most for room to be made.
	roomPatience = 5 * time.Second
)

// always is later than the end of any deletion's time in the trash.
var always = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// WakeTrash wakes the job that empties the trash, after something was put there.
func (c *Store) WakeTrash() { awake(c.Trashed) }

// PurgeDue removes for good what was to stay in the trash until now, in parts, so that other
// changes and reads need not wait for all of it.
func (c *Store) PurgeDue(ctx context.Context, now time.Time) (purged store.Usage, err error) {
	_, earliest, err := c.records.TrashSize(ctx)
	for more := err == nil && !earliest.IsZero() && !earliest.After(now); more && ctx.Err() == nil; {
		began := time.Now()
		var some store.Usage
		some, more, err = c.purge(ctx, now, now.Add(heldFor).Truncate(time.Second), purgeBatch)
		purged = purged.Plus(some)
		if err != nil {
			break
		}
		if more && c.RoomFor(ctx, 0) == nil {
			pause(ctx, purgeRest*time.Since(began), nil)
		}
	}
	if err != nil {
		err = fmt.Errorf("what had been in the trash long enough could not be removed; it is tried again: %w", err)
	}
	return purged, err
}

// purge removes at most limit attachments in the trash for good that were to stay there until
// a time, with their contents; see store.Trash for what is held. Parents and spaces are left
// to RemoveDeleted, which it wakes.
func (c *Store) purge(ctx context.Context, until, held time.Time, limit int) (purged store.Usage, more bool, err error) {
	if c.WithEvents != nil {
		ctx = c.WithEvents(ctx)
	}
	var freed [][32]byte
	paused := c.Change(func() error {
		freed, purged, more, err = c.records.PurgeUntil(ctx, until, held, limit)
		return nil
	})
	if paused != nil {
		return store.Usage{}, false, nil
	}
	c.WakeRemoval() // a parent may have nothing that is counted, but what was deleted of it before
	if failed := c.removeFreed(ctx, freed); failed != nil {
		return purged, more, failed
	}
	return purged, more, err
}

// MakeRoom is RoomFor, and removes the oldest of the trash for good where that makes room. It
// gives up after a while, and where nothing would become free because a backup is under way.
func (c *Store) MakeRoom(ctx context.Context, bytes int64) error {
	full := c.RoomFor(ctx, bytes)
	if !errors.Is(full, blobs.ErrFull) || !c.FreesRoom || !c.couldMakeRoom(ctx, bytes) {
		return full
	}
	// What this removes is no part of the request that it makes room for: not of its entry in
	// the audit log, nor of its end.
	limited, cancel := context.WithTimeout(context.Background(), roomPatience)
	defer cancel()
	select {
	case c.makingRoom <- struct{}{}:
		defer func() { <-c.makingRoom }()
	case <-ctx.Done():
		return full
	case <-limited.Done():
		return full
	}
	var all store.Usage
	defer func() {
		if all.Files > 0 && c.OnPurgedEarly != nil {
			c.OnPurgedEarly(all)
		}
	}()
	// It is not known how much room each makes: one is removed, then two, then four.
	for n := 1; ; n = min(2*n, purgeBatch) {
		full = c.RoomFor(ctx, bytes)
		if !errors.Is(full, blobs.ErrFull) || limited.Err() != nil || ctx.Err() != nil {
			return full
		}
		purged, more, err := c.purgeOldest(limited, n)
		all = all.Plus(purged)
		if err != nil {
			c.Log.Error("the trash could not be emptied to make room", "error", err)
			return full
		}
		if purged.Files == 0 && !more {
			return c.RoomFor(ctx, bytes)
		}
	}
}

// block is how many bytes a file takes up on most disks besides its own, at most.
const block = 4 << 10

// couldMakeRoom reports whether all of the trash might be as large as the room that lacks for
// so many bytes: for what is refused anyway, nothing is removed. For no bytes, any room helps.
func (c *Store) couldMakeRoom(ctx context.Context, bytes int64) bool {
	size, _, err := c.records.TrashSize(ctx)
	if err != nil || size.Files == 0 {
		return false
	}
	room, err := c.Capacity(ctx)
	if err != nil {
		return false
	}
	could := func(removed store.Usage) bool {
		return removed.Files > 0 && (bytes == 0 || removed.Bytes+block*removed.Files >= bytes+c.ReserveOf(room)-room.Free)
	}
	if !could(size) { // what is held need not be counted
		return false
	}
	held, err := c.records.HeldInTrash(ctx)
	return err == nil && could(size.Minus(held))
}

// purgeOldest removes at most n of the oldest of the trash for good, with the contents of
// parents and spaces; nothing where the contents would stay.
func (c *Store) purgeOldest(ctx context.Context, n int) (purged store.Usage, more bool, err error) {
	leased, err := c.Leases.Any(ctx)
	if err != nil || leased {
		return purged, false, err
	}
	purged, more, err = c.purge(ctx, always, time.Time{}, n)
	for left := true; left && err == nil && ctx.Err() == nil; {
		left, err = c.removeSome(ctx)
	}
	return purged, more, err
}
