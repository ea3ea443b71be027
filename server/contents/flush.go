package contents

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

const (
	// batchBytes and batchContents limit a batch, and batchShare its part of the room
	// for staging. A larger batch costs less for each content, and makes room later.
	batchBytes    = 32 << 20
	batchContents = 2048
	batchShare    = 8
	// pageBytes and pageContents limit how much of a batch is in memory at once.
	pageBytes    = 4 << 20
	pageContents = 512
	// leftFree is how many bytes a flush leaves free on the disk: half-written files
	// must not take the room that a deletion needs.
	leftFree = 1 << 20
)

// errStopped means that a flush cannot find out what is staged, or what there is room for.
var errStopped = errors.New("staged contents cannot be flushed at present")

// Flush writes everything that is staged when it begins to blobs. A content that cannot
// be written, or whose record cannot be read, stays staged and does not keep back the
// others. When ctx ends, so does the flush, with the cause as its error.
func (c *Store) Flush(ctx context.Context) error {
	var after uuid.UUID
	var failed error
	for left := c.Staged().Contents; ; {
		b, err := c.flushSome(ctx, ctx, after)
		failed = cmp.Or(failed, err) // any one of the errors is enough
		// What was staged since then is left to the next flush: while more comes than
		// the disk can write, this one would never end.
		if left -= int64(b.count); stopsAll(err) || !b.more || left <= 0 {
			return failed
		}
		if ctx.Err() != nil {
			return cmp.Or(failed, context.Cause(ctx))
		}
		after = b.last
	}
}

// WhileFlushed calls do while nothing is staged, so that a copy of the metadata which do
// makes refers to blobs alone. Uploads go on meanwhile, without staging. flushed is why
// some contents are staged nevertheless, other than damaged ones.
func (c *Store) WhileFlushed(ctx context.Context, do func(flushed error) error) error {
	flushed := c.Flush(ctx) // most of it, while others are staged
	c.stagingGate.Lock()
	defer c.stagingGate.Unlock()
	if !stopsAll(flushed) { // else another one fails too
		flushed = c.Flush(ctx)
	}
	return do(flushed)
}

// FlushLast is the flush at the end of the process, in which nothing else is staged or
// flushed. Its error says what stays staged.
func (c *Store) FlushLast(ctx context.Context) error {
	err := c.Flush(ctx)
	c.recordOutcome(err)
	if err != nil {
		return fmt.Errorf("%d small contents have no files yet; they stay in the write-ahead log until the next start: %w", c.Staged().Contents, err)
	}
	return nil
}

// stopsAll reports whether the error would occur for other contents too.
func stopsAll(err error) bool {
	for _, all := range []error{store.ErrUnavailable, store.ErrFull, blobs.ErrFull, blobs.ErrUnavailable, blobs.ErrReplaced, errStopped} {
		if errors.Is(err, all) {
			return true
		}
	}
	return false
}

// flushSome flushes a batch of what is staged after the given id: where some of its
// contents cannot be written, one by one, until goOn ends: that can take long.
func (c *Store) flushSome(ctx, goOn context.Context, after uuid.UUID) (*batch, error) {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	b := c.newBatch(ctx, after, batchContents)
	err := b.flush()
	if err == nil || stopsAll(err) || b.count == 0 {
		return b, cmp.Or(err, b.unreadable)
	}
	for failed := error(nil); ; {
		if goOn.Err() != nil {
			return b, err
		}
		one := c.newBatch(ctx, after, 1)
		if err := one.flush(); stopsAll(err) {
			return b, err
		} else if err != nil {
			failed = fmt.Errorf("blob %s: %w", one.ref, err)
		}
		if after = one.last; one.count == 0 || slices.Compare(after[:], b.last[:]) >= 0 { // which may be deleted by now
			return b, cmp.Or(failed, b.unreadable)
		}
	}
}

// batch is some staged contents on their way to blobs.
type batch struct {
	contents *Store
	ctx      context.Context
	limit    int // contents
	maxBytes int64

	last       uuid.UUID               // of the contents listed, or the one that they follow
	more       bool                    // others may follow
	count      int                     // contents listed
	bytes      int64                   // their length
	ref        blobs.Ref               // of the last one
	refs       map[uuid.UUID]blobs.Ref // of those that will have a blob
	rotten     []store.StagedContent   // whose bytes are not the content
	unreadable error                   // a store.ErrUnreadable, when some were skipped
	stopped    error                   // why no more could be read
}

func (c *Store) newBatch(ctx context.Context, after uuid.UUID, limit int) *batch {
	most := min(batchBytes, max(1, c.Staged().MaxRoom/batchShare))
	return &batch{contents: c, ctx: ctx, limit: limit, maxBytes: most, last: after, refs: map[uuid.UUID]blobs.Ref{}}
}

// flush writes and syncs the blobs of the batch, holds them, deletes the staged
// contents in one commit, and releases the blobs.
func (b *batch) flush() error {
	c := b.contents
	release, err := c.Batcher.KeepAll(b.ctx, b.each)
	if err != nil {
		return cmp.Or(b.stopped, err)
	}
	defer release()
	for _, p := range b.rotten { // of some, this batch has the right bytes too
		if c.isRepaired(b.ctx, p) {
			b.refs[p.ID] = p.SHA256
		}
	}
	if len(b.refs) == 0 {
		return b.stopped
	}
	gone, err := c.Stager.Unstage(b.ctx, slices.Collect(maps.Keys(b.refs)))
	release()
	if err != nil {
		return err
	}
	for _, ref := range b.refs {
		c.unmarkCorrupt(ref)
	}
	// A record deleted after its content was read here took the staged content with it,
	// and its deletion may have looked for the blob before it was written.
	for _, id := range gone {
		if err := c.removeUnreferenced(b.ctx, b.refs[id]); err != nil {
			return err
		}
	}
	return b.stopped
}

// each reads the contents of the batch page by page, and yields each content once.
func (b *batch) each(yield func(blobs.Ref, []byte) bool) {
	seen := map[blobs.Ref]bool{}
	for b.more = true; b.more && b.count < b.limit && b.bytes < b.maxBytes; {
		page, err := b.page()
		if err != nil {
			b.stopped = err
			return
		}
		for _, p := range page {
			b.last, b.ref = p.ID, p.SHA256
			b.count++
			b.bytes += p.Size
			switch {
			case errors.Is(p.Err, store.ErrNotFound):
				continue // it was deleted meanwhile
			case p.Err != nil && !errors.Is(p.Err, store.ErrRotten):
				b.unreadable = cmp.Or(b.unreadable, p.Err)
				continue
			case p.Err != nil || sha256.Sum256(p.Content) != p.SHA256:
				p.Content = nil // there is nothing to keep, and nothing to lose
				b.rotten = append(b.rotten, p)
				continue
			case !seen[p.SHA256]:
				seen[p.SHA256] = true
				if !yield(p.SHA256, p.Content) {
					b.more = true
					return
				}
			}
			b.refs[p.ID] = p.SHA256
		}
	}
}

// page reads the next contents, if the disk has room for them.
func (b *batch) page() ([]store.StagedContent, error) {
	limit, most := min(pageContents, b.limit-b.count), min(pageBytes, b.maxBytes-b.bytes)
	page, err := b.contents.Stager.StagedAfter(b.ctx, b.last, limit, most)
	if errors.Is(err, store.ErrUnreadable) {
		b.unreadable, err = err, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStopped, err)
	}
	var bytes int64
	for _, p := range page {
		bytes += p.Size
	}
	b.more = len(page) >= limit || bytes >= most
	if len(page) == 0 {
		return nil, nil
	}
	return page, b.contents.hasRoom(b.ctx, bytes)
}

// hasRoom returns blobs.ErrFull when the disk has no room for that many bytes more.
func (c *Store) hasRoom(ctx context.Context, bytes int64) error {
	room, err := c.Store.Capacity(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errStopped, err)
	}
	if room.Free < bytes+leftFree {
		return fmt.Errorf("%w: %d bytes are free, and staged contents need %d", blobs.ErrFull, room.Free, bytes+leftFree)
	}
	return nil
}

// isRepaired reports whether staged bytes with the wrong hash are superseded: another
// upload has made the blob, so nobody needs them.
func (c *Store) isRepaired(ctx context.Context, p store.StagedContent) bool {
	if !c.isCorrupt(p.SHA256) {
		c.Log.Error("a staged content is damaged", "attachment", p.ID.String(), "blob", blobs.Ref(p.SHA256).String())
		c.markCorrupt(p.SHA256)
	}
	file, err := c.Store.Stat(ctx, p.SHA256)
	return err == nil && !file.Damaged && file.Size == p.Size
}
