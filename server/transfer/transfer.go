// Package transfer copies the contents that records refer to from one place to another,
// and hashes each on its way.
package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"golang.org/x/sync/errgroup"

	"attachd/blobs"
	"attachd/server/upkeep"
)

const (
	// smallContent is the size in bytes up to which contents are held in memory and
	// synced in batches.
	smallContent = 256 << 10
	// batchContents and batchBytes limit a batch.
	batchContents = 64
	batchBytes    = 4 << 20
	// copiers is how many batches or larger contents are copied at the same time. So at
	// most copiers*batchBytes are in memory.
	copiers = 4
)

// Transfer copies contents from one place to another concurrently.
type Transfer struct {
	To Target
	// Open returns a content's bytes, or describes in a sentence why it is lost. Where they
	// cannot be read at the moment, its error is an Unreadable.
	Open func(ctx context.Context, n Need) (content io.ReadCloser, lost string, err error)
	// Readers is how many contents of a batch are read at the same time; 0 is one.
	Readers int
	// Strict ends Run at a content that cannot be read, which is otherwise lost.
	Strict bool
	// GiveUp is after how many contents in a row that cannot be read at the moment Run ends
	// with ErrNothingReadable; 0 is never. A single one is lost.
	GiveUp   int
	Progress upkeep.ProgressFunc
	Done     upkeep.Progress // of all wanted contents

	wanted []Need

	mu         sync.Mutex
	unreadable int // contents since the last that was read
	// What Run has copied, and why the others are lost.
	Contents, Bytes int64
	Lost            map[blobs.Ref]string
}

// Target is where contents are copied to.
type Target interface {
	blobs.Store
	blobs.Batcher
}

// Run ensures that all wanted contents that are not lost are on stable storage in t.To.
// Contents that are there already, judging by their length, are not copied. The first
// error ends it.
func (t *Transfer) Run(ctx context.Context, wanted []Need) error {
	t.Lost, t.Done.AllContents, t.wanted = map[blobs.Ref]string{}, int64(len(wanted)), wanted
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan []Need)
	var all sync.WaitGroup
	for range copiers {
		all.Go(func() {
			for job := range jobs {
				if err := t.copy(ctx, job); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	err := t.deal(ctx, wanted, jobs)
	close(jobs)
	all.Wait()
	if failed := context.Cause(ctx); failed != nil {
		return failed
	}
	return err
}

// deal queues what has to be copied: small contents in batches.
func (t *Transfer) deal(ctx context.Context, wanted []Need, jobs chan<- []Need) error {
	var batch []Need
	var size int64
	hand := func(job []Need) error {
		select {
		case jobs <- job:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, n := range wanted {
		there, err := t.has(ctx, n)
		switch {
		case err != nil:
			return fmt.Errorf("looking for blob %s: %w", n.Ref, err)
		case there:
			t.count(n.Size, 1)
		case n.Size > smallContent:
			err = hand([]Need{n})
		default:
			batch, size = append(batch, n), size+n.Size
		}
		if len(batch) == batchContents || size >= batchBytes {
			err = errors.Join(err, hand(batch))
			batch, size = nil, 0
		}
		if err != nil {
			return err
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return hand(batch)
}

func (t *Transfer) has(ctx context.Context, n Need) (bool, error) {
	info, err := t.To.Stat(ctx, n.Ref)
	if errors.Is(err, blobs.ErrNotFound) {
		return false, nil
	}
	return err == nil && !info.Damaged && info.Size == n.Size, err
}

// copy copies a batch of small contents, or a larger one.
func (t *Transfer) copy(ctx context.Context, job []Need) error {
	if len(job) == 1 {
		n := job[0]
		return t.one(ctx, n, func(content io.Reader) (string, error) { return keepAs(ctx, t.To, n, content) })
	}
	batch, err := t.take(ctx, job)
	if len(batch) == 0 {
		return err
	}
	// What was read before an error stays for the next Run.
	release, failed := t.To.KeepAll(context.WithoutCancel(ctx), maps.All(batch))
	if failed == nil {
		release()
	}
	return errors.Join(err, failed)
}

// take reads small contents into memory.
func (t *Transfer) take(ctx context.Context, job []Need) (batch map[blobs.Ref][]byte, err error) {
	batch = make(map[blobs.Ref][]byte, len(job))
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(1, t.Readers))
	for _, n := range job {
		group.Go(func() error {
			return t.one(ctx, n, func(content io.Reader) (string, error) {
				in, err := io.ReadAll(io.LimitReader(content, n.Size+1))
				if err != nil {
					return "", Unreadable{err}
				}
				lost := n.differs(int64(len(in)), blobs.Ref(sha256.Sum256(in)))
				if lost == "" {
					mu.Lock()
					defer mu.Unlock()
					batch[n.Ref] = in
				}
				return lost, nil
			})
		})
	}
	return batch, group.Wait()
}

// one opens a content for take, and once more if the first read breaks off: that
// distinguishes a lost content from an interrupted connection. Lost ones are noted. While
// one content after the other fails, each is opened once.
func (t *Transfer) one(ctx context.Context, n Need, take func(io.Reader) (lost string, err error)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	lost, err := t.try(ctx, n, take)
	var cut Unreadable
	if errors.As(err, &cut) && ctx.Err() == nil && !t.failing() {
		lost, err = t.try(ctx, n, take)
	}
	known := errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged)
	if errors.As(err, &cut) && ctx.Err() == nil && (known || !t.Strict) {
		if !known && t.fails() && !t.reads(ctx) {
			return fmt.Errorf("%w: %w", ErrNothingReadable, cut)
		}
		lost, err = cut.sentence(), nil
	}
	if err != nil {
		return fmt.Errorf("copying blob %s: %w", n.Ref, err)
	}
	t.count(n.Size, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if lost != "" {
		t.Lost[n.Ref] = lost
		return nil
	}
	t.unreadable = 0
	t.Contents++
	t.Bytes += n.Size
	return nil
}

// ErrNothingReadable means that not some contents, but the place where they are cannot be
// read.
var ErrNothingReadable = errors.New("one content after the other cannot be read")

// failing reports whether the last content could not be read, where that counts.
func (t *Transfer) failing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.GiveUp > 0 && t.unreadable > 0
}

// fails counts a content that cannot be read, and reports whether these are so many in a
// row that it may be the whole place.
func (t *Transfer) fails() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unreadable++
	return t.GiveUp > 0 && t.unreadable >= t.GiveUp
}

// probes is how many contents reads opens.
const probes = 3

// reads reports whether the place has a readable content among those that need no copy:
// where everything else was copied earlier, all that is left to copy may be damaged files
// of a disk that works otherwise.
func (t *Transfer) reads(ctx context.Context) bool {
	left := probes
	for _, n := range t.wanted {
		if left == 0 || ctx.Err() != nil {
			return false
		}
		if there, err := t.has(ctx, n); err != nil || !there {
			continue
		}
		left--
		lost, err := t.try(ctx, n, func(content io.Reader) (string, error) {
			_, err := io.CopyN(io.Discard, content, min(1, n.Size))
			return "", err
		})
		if err == nil && lost == "" {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.unreadable = 0
			return true
		}
	}
	return false
}

// try calls take with a content, and counts the bytes read in the progress only while
// take runs; the caller counts them for good once the content is done.
func (t *Transfer) try(ctx context.Context, n Need, take func(io.Reader) (lost string, err error)) (lost string, err error) {
	content, lost, err := t.Open(ctx, n)
	if err != nil || lost != "" {
		return lost, err
	}
	defer content.Close() // only read
	var read int64
	defer func() { t.count(-read, 0) }()
	return take(&Counted{content, ctx, func(n int) {
		read += int64(n)
		t.count(int64(n), 0)
	}})
}

// count adds bytes read, and contents of which nothing more is to be read, to the
// progress.
func (t *Transfer) count(bytes, contents int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Done.Bytes += bytes
	t.Done.Contents += contents
	if bytes >= 0 {
		t.Progress.Call(t.Done)
	}
}

// Unreadable is the error of a content that could not be read to its end.
type Unreadable struct{ Cause error }

func (u Unreadable) Error() string { return u.Cause.Error() }
func (u Unreadable) Unwrap() error { return u.Cause }

// sentence says why a content that cannot be read is lost.
func (u Unreadable) sentence() string {
	switch {
	case errors.Is(u.Cause, blobs.ErrNotFound):
		return upkeep.Missing
	case errors.Is(u.Cause, blobs.ErrDamaged):
		return DamagedContent
	}
	return fmt.Sprintf("The content cannot be read: %v.", u.Cause)
}

// DamagedContent is the sentence for a content that is known to be damaged.
const DamagedContent = "The content is damaged."

// keepAs stores what a reader returns, if it is the content n; otherwise it describes
// in a sentence why the content is lost. When the reader fails, keepAs returns an
// Unreadable error.
func keepAs(ctx context.Context, to blobs.Store, n Need, from io.Reader) (lost string, err error) {
	spool, err := to.Create(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	in := &remembering{Reader: from}
	if _, err := io.Copy(spool, in); err != nil {
		if in.err != nil && ctx.Err() == nil {
			return "", Unreadable{in.err}
		}
		return "", err
	}
	if lost := n.differs(spool.Size(), spool.Ref()); lost != "" {
		return lost, nil
	}
	release, err := spool.Keep(ctx)
	if err != nil {
		return "", err
	}
	release()
	return "", nil
}

// differs describes in a sentence what is wrong with the bytes that were read.
func (n Need) differs(size int64, ref blobs.Ref) string {
	switch {
	case size != n.Size:
		return upkeep.WrongLength(size, n.Size)
	case ref != n.Ref:
		return upkeep.Damaged
	}
	return ""
}

// remembering is a reader that records its error.
type remembering struct {
	io.Reader
	err error
}

func (r *remembering) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// Counted is a reader that ends with its context and reports how many bytes were read.
type Counted struct {
	io.Reader
	Ctx  context.Context
	Tell func(n int)
}

func (c *Counted) Read(p []byte) (int, error) {
	if err := c.Ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.Reader.Read(p)
	c.Tell(n)
	return n, err
}
