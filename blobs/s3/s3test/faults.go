package s3test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
)

// Fault is a way in which a call fails.
type Fault int

// The ways in which a call fails. In the last two, nobody who made the call can tell what
// was done.
const (
	Before Fault = iota // nothing was done
	After               // it was done, and the answer was lost
	Late                // it timed out, and is done later
)

// Faults are all of them.
var Faults = map[string]Fault{"before": Before, "after": After, "late": Late}

// ErrInjected is the error of a call that fails.
var ErrInjected = errors.New("injected")

// Schedule makes one call fail, of all that those who share it make, or a few in a row.
type Schedule struct {
	Kind  Fault
	Other int // how many calls fail beside the first

	mu     sync.Mutex
	at, n  int // the number of the call that fails, and of the last one
	struck string
	late   []func()
}

// Begin makes the n-th call from now on fail; with 0, none does.
func (f *Schedule) Begin(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.n, f.struck = n, 0, ""
}

// Struck is the first call that has failed, if one has.
func (f *Schedule) Struck() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.struck
}

// Deliver does what was late.
func (f *Schedule) Deliver() {
	f.mu.Lock()
	late := f.late
	f.late = nil
	f.mu.Unlock()
	for _, do := range late {
		do()
	}
}

// call makes a call, or lets it fail.
func (f *Schedule) call(what string, do func() error) error {
	f.mu.Lock()
	f.n++
	is := f.at > 0 && f.n >= f.at && f.n <= f.at+f.Other
	if is && f.struck == "" {
		f.struck = what
	}
	if is && f.Kind == Late {
		f.late = append(f.late, func() { _ = do() }) // nobody is told
	}
	f.mu.Unlock()
	if is && f.Kind == After || !is {
		if err := do(); err != nil || !is {
			return err
		}
	}
	return fmt.Errorf("%w: %s", ErrInjected, what)
}

// Bucket is a bucket whose calls may fail.
type Bucket struct {
	s3.Bucket
	*Schedule
}

// Put implements s3.Bucket.
func (b Bucket) Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error {
	raw, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	return b.call("PUT "+name, func() error {
		return b.Bucket.Put(context.WithoutCancel(ctx), name, bytes.NewReader(raw), size, sum)
	})
}

// Get implements s3.Bucket.
func (b Bucket) Get(ctx context.Context, name string, from, end int64) (content io.ReadCloser, size int64, err error) {
	err = b.call("GET "+name, func() (err error) {
		content, size, err = b.Bucket.Get(ctx, name, from, end)
		return err
	})
	if err != nil && content != nil {
		err = errors.Join(err, content.Close())
	}
	return content, size, err
}

// Stat implements s3.Bucket.
func (b Bucket) Stat(ctx context.Context, name string) (size int64, sum blobs.Ref, err error) {
	err = b.call("HEAD "+name, func() (err error) {
		size, sum, err = b.Bucket.Stat(ctx, name)
		return err
	})
	return size, sum, err
}

// Delete implements s3.Bucket.
func (b Bucket) Delete(ctx context.Context, name string) error {
	return b.call("DELETE "+name, func() error { return b.Bucket.Delete(context.WithoutCancel(ctx), name) })
}

// Catalog is a catalog whose calls may fail.
type Catalog struct {
	blobs.Catalog
	*Schedule
}

// Intend implements blobs.Catalog.
func (c Catalog) Intend(ctx context.Context, objects []blobs.Object) error {
	return c.call("Intend", func() error { return c.Catalog.Intend(ctx, objects) })
}

// Settle implements blobs.Catalog.
func (c Catalog) Settle(ctx context.Context, places []blobs.Place) error {
	return c.call("Settle", func() error { return c.Catalog.Settle(ctx, places) })
}

// Discard implements blobs.Catalog.
func (c Catalog) Discard(ctx context.Context, objects []blobs.Object) error {
	return c.call("Discard", func() error { return c.Catalog.Discard(ctx, objects) })
}

// Place implements blobs.Catalog.
func (c Catalog) Place(ctx context.Context, ref blobs.Ref) (p blobs.Place, err error) {
	err = c.call("Place", func() (err error) {
		p, err = c.Catalog.Place(ctx, ref)
		return err
	})
	return p, err
}

// Places implements blobs.Catalog.
func (c Catalog) Places(ctx context.Context, from blobs.Ref) iter.Seq2[blobs.Place, error] {
	return func(yield func(blobs.Place, error) bool) {
		if err := c.call("Places", func() error { return nil }); err != nil {
			yield(blobs.Place{}, err)
			return
		}
		c.Catalog.Places(ctx, from)(yield)
	}
}

// Release implements blobs.Catalog.
func (c Catalog) Release(ctx context.Context, ref blobs.Ref) (was bool, err error) {
	err = c.call("Release", func() (err error) {
		was, err = c.Catalog.Release(ctx, ref)
		return err
	})
	return was && err == nil, err
}

// Mark implements blobs.Catalog.
func (c Catalog) Mark(ctx context.Context, object blobs.Object, damaged bool) error {
	return c.call("Mark", func() error { return c.Catalog.Mark(ctx, object, damaged) })
}

// Garbage implements blobs.Catalog.
func (c Catalog) Garbage(ctx context.Context, before time.Time, limit int) (list []blobs.Object, err error) {
	err = c.call("Garbage", func() (err error) {
		list, err = c.Catalog.Garbage(ctx, before, limit)
		return err
	})
	return list, err
}

// Forget implements blobs.Catalog.
func (c Catalog) Forget(ctx context.Context, objects []blobs.Object) error {
	return c.call("Forget", func() error { return c.Catalog.Forget(ctx, objects) })
}
