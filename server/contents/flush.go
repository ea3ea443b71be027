package contents

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
	// gatherTime is how long a flush waits for more contents to batch, unless
	// manyBytes are staged.
	gatherTime = 500 * time.Millisecond
	// manyBytes are the staged bytes that start a flush at once.
	manyBytes = 4 << 20
	// longestWait limits how many bytes are staged: no more than can be flushed in this
	// time at the last measured rate, so that each content has its file within five
	// seconds of its commit even on a slow disk.
	longestWait = 3 * time.Second
	// minMeasured is how many contents a batch must have for its rate to be used.
	minMeasured = 16
	// batchBytes and batchContents limit a batch, and so the memory that a flush takes
	// and how long a Remove of one of its contents waits.
	batchBytes    = 4 << 20
	batchContents = 512
	// leftFree is how many bytes a flush leaves free on the disk: half-written files
	// must not take the room that a deletion needs.
	leftFree = 1 << 20
	// retryTime is the pause after a failed flush.
	retryTime = 2 * time.Second
	// logTime is the minimum interval between log lines about failed flushes.
	logTime = time.Minute
)

// committed wakes RunFlush: a content was staged.
func (c *Store) committed() {
	awake(c.wake)
	if c.Stager.StagedBytes() >= manyBytes {
		awake(c.many)
	}
}

func awake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// RunFlush flushes what is staged until ctx ends, and then once more. Failures are
// logged and retried, as long as the metadata can be changed.
func (c *Store) RunFlush(ctx context.Context) {
	var logged time.Time
	for {
		last := ctx.Err() != nil // checked before: should ctx end during this flush, another one follows
		err := c.Flush(context.WithoutCancel(ctx))
		c.recordOutcome(err)
		if err != nil && time.Since(logged) >= logTime {
			logged = time.Now()
			c.Log.Error("staged contents could not all be written to files", "error", err)
		}
		switch {
		case last, errors.Is(err, store.ErrUnavailable):
			return
		case err != nil:
			pause(ctx, retryTime, nil)
		default:
			c.awaitBatch(ctx)
		}
	}
}

// recordOutcome records whether the last flush failed, and since when they have.
func (c *Store) recordOutcome(err error) {
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

// Failing returns since when flushes have failed, and the error of the last one; no
// error when it succeeded.
func (c *Store) Failing() (since time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failing, c.failure
}

// awaitBatch returns when something has been staged for gatherTime, or manyBytes are
// staged.
func (c *Store) awaitBatch(ctx context.Context) {
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

// Flush writes everything that is staged when it begins to blobs. A content that cannot
// be written, or whose record cannot be read, stays staged and does not keep back the
// others.
func (c *Store) Flush(ctx context.Context) error {
	var after uuid.UUID
	var failed error
	for {
		batch, err := c.Stager.StagedAfter(ctx, after, batchContents, batchBytes)
		if errors.Is(err, store.ErrUnreadable) {
			failed, err = cmp.Or(failed, err), nil
		}
		if err != nil || len(batch) == 0 {
			return errors.Join(failed, err)
		}
		after = batch[len(batch)-1].ID
		if err = c.flushBatch(ctx, batch); err != nil && !stopsAll(err) {
			err = c.flushEach(ctx, batch)
		}
		if stopsAll(err) {
			return errors.Join(failed, err)
		}
		failed = cmp.Or(err, failed) // any one of the errors is enough
		if !mayBeMore(batch) {
			return failed // what was staged since then is left to the next flush, as one batch
		}
	}
}

// mayBeMore reports whether more than this batch may be staged.
func mayBeMore(batch []store.StagedContent) bool {
	bytes := 0
	for _, p := range batch {
		bytes += len(p.Content)
	}
	return len(batch) >= batchContents || bytes >= batchBytes
}

// stopsAll reports whether the error would occur for other contents too.
func stopsAll(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrFull) || errors.Is(err, blobs.ErrFull)
}

// flushEach flushes the contents of a batch one by one, since some cannot be written.
func (c *Store) flushEach(ctx context.Context, batch []store.StagedContent) error {
	var failed error
	for _, p := range batch {
		if err := c.flushBatch(ctx, []store.StagedContent{p}); err != nil {
			failed = fmt.Errorf("blob %s: %w", blobs.Ref(p.SHA256), err)
		}
	}
	return failed
}

// flushBatch writes and syncs the blobs of contents, holds them, deletes the staged
// contents in one commit, and releases the blobs.
func (c *Store) flushBatch(ctx context.Context, batch []store.StagedContent) error {
	var contents [][]byte
	var ids []uuid.UUID
	refs := make(map[uuid.UUID]blobs.Ref, len(batch))
	seen := make(map[blobs.Ref]bool, len(batch))
	for _, p := range batch {
		switch {
		case sha256.Sum256(p.Content) != p.SHA256:
			if !c.isRepaired(ctx, p) {
				continue // its hash is wrong: there is nothing to keep, and nothing to lose
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
	release, err := c.Batcher.KeepAll(ctx, contents)
	if err != nil {
		return err
	}
	defer release()
	gone, err := c.Stager.Unstage(ctx, ids)
	release()
	if err != nil {
		return err
	}
	c.measure(contents, time.Since(begun))
	for _, ref := range refs {
		c.unmarkCorrupt(ref)
	}
	// A record deleted after its content was read here took the staged content with it,
	// and its deletion may have looked for the blob before it was written.
	for _, id := range gone {
		if err := c.removeUnreferenced(ctx, refs[id]); err != nil {
			return err
		}
	}
	return nil
}

// hasRoom returns blobs.ErrFull when the disk has no room for contents.
func (c *Store) hasRoom(ctx context.Context, contents [][]byte) error {
	room, err := c.Store.Capacity(ctx)
	if err != nil {
		return err
	}
	needed := int64(leftFree)
	for _, content := range contents {
		needed += int64(len(content))
	}
	if room.Free < needed {
		return fmt.Errorf("%w: %d bytes are free, and staged contents need %d", blobs.ErrFull, room.Free, needed)
	}
	return nil
}

// measure sets how much may be staged, from how long these contents took to flush.
func (c *Store) measure(contents [][]byte, took time.Duration) {
	if len(contents) < minMeasured {
		return
	}
	var bytes int64
	for _, content := range contents {
		bytes += int64(len(content))
	}
	c.maxStaged.Store(int64(float64(bytes) * longestWait.Seconds() / max(took, time.Millisecond).Seconds()))
}

// isRepaired reports whether staged bytes with the wrong hash are superseded: another
// upload has made the blob, so nobody needs them.
func (c *Store) isRepaired(ctx context.Context, p store.StagedContent) bool {
	if !c.isCorrupt(p.SHA256) {
		c.Log.Error("a staged content is damaged", "attachment", p.ID.String(), "blob", blobs.Ref(p.SHA256).String())
		c.markCorrupt(p.SHA256)
	}
	file, err := c.Store.Stat(ctx, p.SHA256)
	return err == nil && !file.Damaged && file.Size == int64(len(p.Content))
}
