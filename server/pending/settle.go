package pending

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

const (
	// A content waits so long for others to get their files together with it,
	// unless there are many.
	gatherTime = 500 * time.Millisecond
	// So many bytes are many.
	manyBytes = 4 << 20
	// No more wait than were settled in so long when it was last measured, so
	// that each has its file within five seconds of its commit also on a slow
	// disk.
	longestWait = 3 * time.Second
	// A batch says something of the speed when it has so many contents.
	telling = 16
	// No more get their files at once, so that memory is bounded, and a Remove
	// of one of them waits for a moment only.
	batchBytes    = 4 << 20
	batchContents = 512
	// On a disk without room for a batch and so many bytes more, nothing is
	// tried: half-written files would take from a deletion what it needs.
	leftForOthers = 1 << 20
	// What failed is tried again after so long,
	retryTime = 2 * time.Second
	// and told again after so long.
	tellTime = time.Minute
)

// committed wakes Run.
func (c *Contents) committed() {
	awake(c.wake)
	if c.records.PendingBytes() >= manyBytes {
		awake(c.many)
	}
}

func awake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run settles what waits until ctx ends, and what then waits too. What fails
// is logged and tried again, as long as the metadata can be changed. It may be
// called once.
func (c *Contents) Run(ctx context.Context) {
	var told time.Time
	for {
		last := ctx.Err() != nil // what comes in during this round is for another otherwise
		err := c.Settle(context.WithoutCancel(ctx))
		c.went(err)
		if err != nil && time.Since(told) >= tellTime {
			told = time.Now()
			c.Log.Error("contents that wait for their files could not all be written", "error", err)
		}
		switch {
		case last, errors.Is(err, store.ErrUnavailable):
			return
		case err != nil:
			pause(ctx, retryTime, nil)
		default:
			c.gather(ctx)
		}
	}
}

// went remembers how Run fares.
func (c *Contents) went(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = err
	switch {
	case err == nil:
		c.failing = time.Time{}
	case c.failing.IsZero():
		c.failing = time.Now()
	}
}

// Failing tells since when Run has not been able to settle all that waits, and
// why; no error when it is.
func (c *Contents) Failing() (since time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failing, c.failure
}

// gather returns when something waits, and has done so for a while or is much.
func (c *Contents) gather(ctx context.Context) {
	select {
	case <-c.wake:
		pause(ctx, gatherTime, c.many)
	case <-ctx.Done():
	}
}

func pause(ctx context.Context, d time.Duration, enough <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-enough:
	case <-ctx.Done():
	}
}

// Settle writes everything that waits when it begins to files of their own. A
// content that cannot be written does not keep back the others, nor does one
// whose record cannot be read: it stays where it is.
func (c *Contents) Settle(ctx context.Context) error {
	var after uuid.UUID
	var failed error
	for {
		batch, err := c.records.PendingAfter(ctx, after, batchContents, batchBytes)
		if errors.Is(err, store.ErrUnreadable) {
			failed, err = cmp.Or(failed, err), nil
		}
		if err != nil || len(batch) == 0 {
			return errors.Join(failed, err)
		}
		after = batch[len(batch)-1].ID
		if err = c.settleAll(ctx, batch); err != nil && !hopeless(err) {
			err = c.settleEach(ctx, batch)
		}
		if hopeless(err) {
			return errors.Join(failed, err)
		}
		failed = cmp.Or(err, failed) // one of them tells what is wrong
		if !mayBeMore(batch) {
			return failed // what came since then is for the next time, and many at once
		}
	}
}

// mayBeMore says whether there may be more than these.
func mayBeMore(batch []store.PendingContent) bool {
	bytes := 0
	for _, p := range batch {
		bytes += len(p.Content)
	}
	return len(batch) >= batchContents || bytes >= batchBytes
}

// hopeless says whether other contents would fare no better.
func hopeless(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrFull) || errors.Is(err, blobs.ErrFull)
}

// settleEach is for contents of which some cannot be written.
func (c *Contents) settleEach(ctx context.Context, batch []store.PendingContent) error {
	var failed error
	for _, p := range batch {
		if err := c.settleAll(ctx, []store.PendingContent{p}); err != nil {
			failed = fmt.Errorf("blob %s: %w", blobs.Ref(p.SHA256), err)
		}
	}
	return failed
}

// settleAll gives contents their files, and then says so in one commit.
func (c *Contents) settleAll(ctx context.Context, batch []store.PendingContent) error {
	var contents [][]byte
	var ids []uuid.UUID
	refs := make(map[uuid.UUID]blobs.Ref, len(batch))
	seen := make(map[blobs.Ref]bool, len(batch))
	for _, p := range batch {
		switch {
		case sha256.Sum256(p.Content) != p.SHA256:
			if !c.isRepaired(ctx, p) {
				continue // it is not the content: nothing to keep, and nothing to lose
			}
		case !seen[p.SHA256]:
			seen[p.SHA256] = true
			contents = append(contents, p.Content)
		}
		ids = append(ids, p.ID)
		refs[p.ID] = p.SHA256
	}
	if err := c.hasRoom(ctx, contents); err != nil {
		return err
	}
	begun := time.Now()
	release, err := c.KeepAll(ctx, contents)
	if err != nil {
		return err
	}
	gone, err := c.records.Settle(ctx, ids)
	release()
	if err != nil {
		return err
	}
	c.measure(contents, time.Since(begun))
	for _, ref := range refs {
		c.unspoil(ref)
	}
	// A record that went after its content was read here took with it what
	// waited. Whoever deleted it may have looked for the file too early.
	for _, id := range gone {
		if err := c.Spare(ctx, refs[id]); err != nil {
			return err
		}
	}
	return nil
}

// hasRoom fails with blobs.ErrFull when the disk has no room for contents.
func (c *Contents) hasRoom(ctx context.Context, contents [][]byte) error {
	room, err := c.Store.Capacity(ctx)
	if err != nil {
		return err
	}
	needed := int64(leftForOthers)
	for _, content := range contents {
		needed += int64(len(content))
	}
	if room.Free < needed {
		return fmt.Errorf("%w: %d bytes are free, and contents that wait for their files need %d", blobs.ErrFull, room.Free, needed)
	}
	return nil
}

// measure learns how much may wait from how long it took to settle these.
func (c *Contents) measure(contents [][]byte, took time.Duration) {
	if len(contents) < telling {
		return
	}
	var bytes int64
	for _, content := range contents {
		bytes += int64(len(content))
	}
	c.mostBytes.Store(int64(float64(bytes) * longestWait.Seconds() / max(took, time.Millisecond).Seconds()))
}

// isRepaired says of bytes that are not the content whether another upload has
// made the file, so that nobody needs them.
func (c *Contents) isRepaired(ctx context.Context, p store.PendingContent) bool {
	if !c.isSpoiled(p.SHA256) {
		c.Log.Error("a content that waits for its file is damaged", "attachment", p.ID.String(), "blob", blobs.Ref(p.SHA256).String())
		c.spoil(p.SHA256)
	}
	file, err := c.Store.Stat(ctx, p.SHA256)
	return err == nil && !file.Damaged && file.Size == int64(len(p.Content))
}
