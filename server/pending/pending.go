// Package pending lets small contents wait in the metadata, where they were
// committed together with their record, until they are written to files of
// their own, many at once.
//
// # Why a content can be read at every moment
//
// A record has its content in a file that was on stable storage before the
// record was committed, or it has the content waiting with it, from the same
// commit on. (Record and content may be in the log of the metadata before; that
// is the business of package store.) The content goes from there in two ways
// only: with the record, or in a commit that is begun when its file is on
// stable storage and held. And the file goes only while nothing refers to it,
// which is asked when nobody holds it (see blobs.Store.Remove). So, while a record is there, once the file
// is there it stays; and who looks for the file, then for what waits, and then
// for the file again, finds the content.
package pending

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"attachd/blobs"
	"attachd/store"
)

// Options say which contents wait, and who is told of trouble.
type Options struct {
	// Below is the size in bytes from which on a content does not wait; 0 lets
	// none wait.
	Below int64
	// Spare removes the file of a content unless somebody wants it.
	Spare func(ctx context.Context, ref blobs.Ref) error
	Log   *slog.Logger
}

// Contents is all contents: those that have their own files, and those that
// wait. What a blobs.Store promises holds for both.
type Contents struct {
	blobs.Store // the files
	Options
	records store.Pending

	wake chan struct{} // something waits
	many chan struct{} // so much that it should not wait long

	mostBytes atomic.Int64 // that may wait, as far as the speed of the disk is concerned

	mu      sync.Mutex
	spoiled map[blobs.Ref]struct{} // of which the bytes that wait are wrong
	failing time.Time              // since when Run fails; zero when it does not
	failure error                  // its last
}

// New joins the files with what waits in records.
func New(records store.Pending, files blobs.Store, opts Options) *Contents {
	c := &Contents{Store: files, Options: opts, records: records,
		wake: make(chan struct{}, 1), many: make(chan struct{}, 1), spoiled: map[blobs.Ref]struct{}{}}
	c.mostBytes.Store(manyBytes)
	return c
}

// Open implements blobs.Store.
func (c *Contents) Open(ctx context.Context, ref blobs.Ref, size int64) (blobs.Content, error) {
	file, err := c.Store.Open(ctx, ref, size)
	if err == nil {
		return file, nil
	}
	waiting, noneWaits := c.waiting(ctx, ref)
	switch {
	case errors.Is(noneWaits, blobs.ErrNotFound):
		return c.Store.Open(ctx, ref, size) // it may have got its file just now
	case noneWaits != nil:
		return nil, noneWaits
	case int64(len(waiting)) != size || c.isSpoiled(ref):
		return nil, fmt.Errorf("%w: %s waits for its file with bytes that are not the content", blobs.ErrDamaged, ref)
	}
	return memory{bytes.NewReader(waiting)}, nil
}

// waiting gives the bytes that wait as the content of ref. blobs.ErrNotFound
// when there are none.
func (c *Contents) waiting(ctx context.Context, ref blobs.Ref) ([]byte, error) {
	content, err := c.records.PendingContent(ctx, ref)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s does not wait either", blobs.ErrNotFound, ref)
	}
	return content, err
}

// memory is a content that waits. It is a copy, so it outlives the original.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// Stat implements blobs.Store.
func (c *Contents) Stat(ctx context.Context, ref blobs.Ref) (blobs.Info, error) {
	info, err := c.Store.Stat(ctx, ref)
	if err == nil && !info.Damaged {
		return info, nil
	}
	waiting, noneWaits := c.waiting(ctx, ref)
	switch {
	case noneWaits == nil:
		return c.describe(ref, int64(len(waiting))), nil
	case !errors.Is(noneWaits, blobs.ErrNotFound):
		return blobs.Info{}, noneWaits
	}
	return c.Store.Stat(ctx, ref) // it may have got its file just now
}

func (c *Contents) describe(ref blobs.Ref, size int64) blobs.Info {
	return blobs.Info{Ref: ref, Size: size, Modified: time.Now(), Damaged: c.isSpoiled(ref)}
}

// All implements blobs.Store. What waits is listed first: what gets its file
// after that is known already, what had it before is found among the files.
func (c *Contents) All(ctx context.Context, from blobs.Ref) iter.Seq2[blobs.Info, error] {
	return func(yield func(blobs.Info, error) bool) {
		sizes, err := c.records.PendingSizes(ctx)
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

// MarkDamaged implements blobs.Store. That the bytes which wait are wrong is
// found out anew after a restart, when they are to be written to their file.
func (c *Contents) MarkDamaged(ctx context.Context, ref blobs.Ref, read blobs.Content) error {
	if _, waited := read.(memory); waited {
		c.spoil(ref)
		return nil
	}
	err := c.Store.MarkDamaged(ctx, ref, read)
	if !errors.Is(err, blobs.ErrNotFound) {
		return err
	}
	if _, noneWaits := c.waiting(ctx, ref); noneWaits != nil {
		return noneWaits
	}
	c.spoil(ref)
	return nil
}

// Damaged implements blobs.Store.
func (c *Contents) Damaged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Store.Damaged() + len(c.spoiled)
}

// Capacity implements blobs.Store: what waits will take up room once more.
func (c *Contents) Capacity(ctx context.Context) (blobs.Capacity, error) {
	room, err := c.Store.Capacity(ctx)
	room.Free -= c.records.PendingBytes()
	return room, err
}

func (c *Contents) spoil(ref blobs.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spoiled[ref] = struct{}{}
}

func (c *Contents) unspoil(ref blobs.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.spoiled, ref)
}

func (c *Contents) isSpoiled(ref blobs.Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, is := c.spoiled[ref]
	return is
}
