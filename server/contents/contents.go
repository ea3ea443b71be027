// Package contents manages contents from upload to removal: a content is spooled, kept
// together with its record, read, and removed once no record refers to it.
//
// Small contents are staged: each is committed to the metadata together with its
// record, and flushed to a blob later, in batches.
//
// # Why a content can be read at every moment
//
// The invariant: the content of every record is either a blob on stable storage or
// staged in the same commit as the record. (Its bytes are in the write-ahead log, and the
// commit too at first; package store takes care of that.) A staged content is deleted in
// two ways only: with its record, or in a commit that begins after its blob is on stable
// storage and held; its bytes can be read, or are not found, but are never others.
// And a blob is removed only while nothing refers to it, which is checked while nobody
// holds it (see blobs.Store.Remove). So, while a record exists, its blob stays once it
// has been written; and a reader that tries the blob, then the staged content, and then
// the blob again, finds the content.
package contents

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"golang.org/x/sync/semaphore"

	"attachd/blobs"
	"attachd/store"
)

// tellManyLostEvery is how long the log says nothing more of contents that are missing.
const tellManyLostEvery = 6 * time.Hour

// Options configure a Store.
type Options struct {
	Stager    store.Stager    // optional, like Batcher
	Batcher   blobs.Batcher   // without both, nothing is staged
	Versioner blobs.Versioner // optional: without it, every read is verified anew
	Marker    blobs.Marker    // optional: without it, damaged blobs are not remembered
	// StageBelow is the size in bytes below which a content may be staged; 0
	// stages none. With a Batcher and no Stager, smaller contents go to the Batcher from
	// memory, without a file of their own.
	StageBelow int64
	// Leases defaults to those of this process.
	Leases     Leases
	Thumbnails Thumbnails // optional
	// Reserve returns how many bytes must stay free on a disk of a given total size;
	// optional.
	Reserve func(total int64) int64
	// FreesRoom says that removing a content makes room on that disk at once.
	FreesRoom bool
	// WithEvents returns a context in which what is removed from the trash enqueues events;
	// optional.
	WithEvents func(context.Context) context.Context
	// OnPurgedEarly is called with what was removed from the trash to make room; optional.
	OnPurgedEarly func(store.Usage)
	// VerifyReads has Readers verify the bytes that they return.
	VerifyReads bool
	// SettleTime is how long ago a file must have been changed for its version to be
	// relied on: file systems keep time in steps, so a file changed more recently could
	// be changed again and keep its version. 2 s when zero.
	SettleTime time.Duration
	// OnDamaged and OnUnreadable are called when a Reader finds that a content is
	// missing or damaged, or that the storage cannot read it; optional.
	OnDamaged    func(ref blobs.Ref)
	OnUnreadable func()
	Log          *slog.Logger
}

// Records is the methods of a store.Store that a Store uses.
type Records interface {
	CreateAttachment(ctx context.Context, a store.Attachment, checksums []byte, autoCreate string) error
	Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	Referenced(ctx context.Context, sha256 [32]byte) (bool, error)
	Checksums(ctx context.Context, sha256 [32]byte) ([]byte, error)
	AddChecksums(ctx context.Context, checksums map[[32]byte][]byte) error
	Remove(ctx context.Context) (freed [][32]byte, more bool, err error)
	PurgeUntil(ctx context.Context, until, held time.Time, limit int) (freed [][32]byte, purged store.Usage, more bool, err error)
	TrashSize(ctx context.Context) (size store.Usage, earliest time.Time, err error)
	HeldInTrash(ctx context.Context) (store.Usage, error)
}

// Store is a store of all contents: blobs and staged ones. It keeps the promises of a
// blobs.Store for both.
type Store struct {
	blobs.Store
	blobs.Marker // of the blobs
	Options
	records Records

	// Deleted has an element when there may be work for RemoveDeleted.
	Deleted chan struct{}
	// Trashed has an element when something was put into the trash.
	Trashed    chan struct{}
	makingRoom chan struct{} // has an element while MakeRoom removes what is in the trash

	stagings atomic.Int64  // contents that have been staged since the start
	wake     chan struct{} // has an element when something was staged
	much     chan struct{} // has an element when staging is half full
	flushing sync.Mutex    // held while a batch is flushed
	// stagingGate is held for reading while a content is staged, and for writing while
	// none may be.
	stagingGate sync.RWMutex
	// changes is held in part while attachments are added or deleted, and as a whole while
	// none may be; paused is why, then.
	changes *semaphore.Weighted
	paused  atomic.Pointer[error]

	hashed hashCache

	toldManyLost atomic.Pointer[time.Time] // when tellManyLost has logged

	mu      sync.Mutex
	corrupt map[blobs.Ref]struct{} // whose staged bytes have the wrong hash
	failing time.Time              // since when flushes fail; zero when they do not
	failure error                  // of the last flush
}

// New returns a Store of blobs and staged contents.
func New(records Records, files blobs.Store, opts Options) *Store {
	if opts.Stager == nil {
		opts.Stager = noStager{}
	}
	if opts.Batcher == nil { // what is staged already is still flushed
		opts.Batcher, opts.StageBelow = oneByOne{files}, 0
	}
	if opts.Thumbnails == nil {
		opts.Thumbnails = noThumbnails{}
	}
	if opts.Marker == nil {
		opts.Marker = noMarker{}
	}
	if opts.Leases == nil {
		opts.Leases = new(localLeases)
	}
	if opts.OnDamaged == nil {
		opts.OnDamaged = func(blobs.Ref) {}
	}
	if opts.OnUnreadable == nil {
		opts.OnUnreadable = func() {}
	}
	if opts.SettleTime == 0 {
		opts.SettleTime = settleTime
	}
	return &Store{Store: files, Marker: opts.Marker, Options: opts, records: records,
		wake: make(chan struct{}, 1), much: make(chan struct{}, 1), Deleted: make(chan struct{}, 1),
		Trashed: make(chan struct{}, 1), makingRoom: make(chan struct{}, 1), corrupt: map[blobs.Ref]struct{}{}, changes: semaphore.NewWeighted(allChanges)}
}

// Open implements blobs.Store.
func (c *Store) Open(ctx context.Context, ref blobs.Ref, size int64) (blobs.Content, error) {
	file, err := c.Store.Open(ctx, ref, size)
	if err == nil {
		return file, nil
	}
	content, notStaged := c.staged(ctx, ref)
	switch {
	case errors.Is(notStaged, blobs.ErrNotFound):
		return c.Store.Open(ctx, ref, size) // it may have been flushed since
	case notStaged != nil:
		return nil, notStaged
	case int64(len(content)) != size || c.isCorrupt(ref) && sha256.Sum256(content) != ref: // else another upload has staged it anew
		return nil, fmt.Errorf("%w: %s is staged with bytes that are not the content", blobs.ErrDamaged, ref)
	}
	return staged{bytes.NewReader(content)}, nil
}

// staged returns the staged bytes of a content: blobs.ErrNotFound when there are none,
// blobs.ErrDamaged when they are damaged or lost.
func (c *Store) staged(ctx context.Context, ref blobs.Ref) ([]byte, error) {
	content, err := c.Stager.StagedContent(ctx, ref)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fmt.Errorf("%w: %s is not staged either", blobs.ErrNotFound, ref)
	case errors.Is(err, store.ErrRotten):
		c.markCorrupt(ref)
		return nil, fmt.Errorf("%w: %w", blobs.ErrDamaged, err)
	}
	return content, err
}

// staged is an open staged content: a copy, so it outlives the original.
type staged struct{ *bytes.Reader }

func (staged) Close() error { return nil }

// Stat implements blobs.Store.
func (c *Store) Stat(ctx context.Context, ref blobs.Ref) (blobs.Info, error) {
	info, err := c.Store.Stat(ctx, ref)
	if err == nil && !info.Damaged {
		return info, nil
	}
	content, notStaged := c.staged(ctx, ref)
	switch {
	case notStaged == nil, errors.Is(notStaged, blobs.ErrDamaged):
		return c.describe(ref, int64(len(content))), nil
	case !errors.Is(notStaged, blobs.ErrNotFound):
		return blobs.Info{}, notStaged
	}
	return c.Store.Stat(ctx, ref) // it may have been flushed since
}

func (c *Store) describe(ref blobs.Ref, size int64) blobs.Info {
	return blobs.Info{Ref: ref, Size: size, Modified: time.Now(), Damaged: c.isCorrupt(ref)}
}

// All implements blobs.Store. Staged contents are listed before blobs: one flushed after
// that is known already, and one flushed before is found among the blobs.
func (c *Store) All(ctx context.Context, from blobs.Ref) iter.Seq2[blobs.Info, error] {
	return func(yield func(blobs.Info, error) bool) {
		sizes, err := c.Stager.StagedSizes(ctx)
		if err != nil {
			yield(blobs.Info{}, err)
			return
		}
		refs := slices.SortedFunc(maps.Keys(sizes), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
		at, _ := slices.BinarySearchFunc(refs, from, func(a [32]byte, b blobs.Ref) int { return bytes.Compare(a[:], b[:]) })
		refs = refs[at:]
		for info, err := range c.Store.All(ctx, from) {
			if err != nil {
				yield(info, err)
				return
			}
			for len(refs) > 0 && bytes.Compare(refs[0][:], info.Ref[:]) < 0 {
				if !yield(c.describe(refs[0], sizes[refs[0]]), nil) {
					return
				}
				refs = refs[1:]
			}
			if len(refs) > 0 && refs[0] == info.Ref {
				if info.Damaged {
					info = c.describe(refs[0], sizes[refs[0]])
				}
				refs = refs[1:]
			}
			if !yield(info, nil) {
				return
			}
		}
		for _, ref := range refs {
			if !yield(c.describe(ref, sizes[ref]), nil) {
				return
			}
		}
	}
}

// MarkDamaged implements blobs.Marker. Marks on staged bytes do not survive a restart:
// the next flush finds again that they are wrong.
func (c *Store) MarkDamaged(ctx context.Context, ref blobs.Ref, read blobs.Content) error {
	if _, is := read.(staged); is {
		c.markCorrupt(ref)
		return nil
	}
	err := c.Marker.MarkDamaged(ctx, ref, read)
	if errors.Is(err, blobs.ErrManyLost) {
		c.tellManyLost(err)
	}
	if !errors.Is(err, blobs.ErrNotFound) {
		return err
	}
	if _, notStaged := c.staged(ctx, ref); notStaged != nil {
		return notStaged
	}
	c.markCorrupt(ref)
	return nil
}

// tellManyLost logs why contents are not marked, once in a while.
func (c *Store) tellManyLost(why error) {
	now, told := time.Now(), c.toldManyLost.Load()
	if told != nil && now.Sub(*told) < tellManyLostEvery || !c.toldManyLost.CompareAndSwap(told, &now) {
		return
	}
	c.Log.Error("contents that are missing are not marked damaged any more: see that nothing deletes objects in the bucket, put them back, and run `attachd check`", "error", why)
}

// Damaged implements blobs.Marker.
func (c *Store) Damaged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Marker.Damaged() + len(c.corrupt)
}

// Staged says how much is staged, in O(1).
func (c *Store) Staged() store.Staged { return c.Stager.Staged() }

// Capacity implements blobs.Store. Staged contents count as used twice, since their
// blobs will take up room too.
func (c *Store) Capacity(ctx context.Context) (blobs.Capacity, error) {
	room, err := c.Store.Capacity(ctx)
	room.Free -= c.Staged().Bytes
	return room, err
}

// ReserveOf returns how many bytes must stay free on a disk.
func (c *Store) ReserveOf(room blobs.Capacity) int64 {
	if c.Reserve == nil {
		return 0
	}
	return c.Reserve(room.Total)
}

// RoomFor returns blobs.ErrFull where writing that many bytes would leave less of the
// disk free than its reserve, which is kept for deletions.
func (c *Store) RoomFor(ctx context.Context, bytes int64) error {
	room, err := c.Capacity(ctx)
	if err != nil {
		return fmt.Errorf("looking at the disk: %w", err)
	}
	if reserve := c.ReserveOf(room); room.Free-bytes < reserve {
		return fmt.Errorf("%w: %d bytes are free, the reserve is %d, and %d more are to be written", blobs.ErrFull, room.Free, reserve, bytes)
	}
	return nil
}

func (c *Store) markCorrupt(ref blobs.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corrupt[ref] = struct{}{}
}

func (c *Store) unmarkCorrupt(ref blobs.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.corrupt, ref)
}

func (c *Store) isCorrupt(ref blobs.Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, is := c.corrupt[ref]
	return is
}
