package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"attachd/blobs"
	"attachd/blobs/disk"
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

// transfer copies contents from one place to another concurrently.
type transfer struct {
	to *disk.Store
	// open returns a content's bytes, or describes in a sentence why it is lost.
	open func(ctx context.Context, n need) (content io.ReadCloser, lost string, err error)
	tell upkeep.ProgressFunc

	mu       sync.Mutex
	done     upkeep.Progress // of all wanted contents
	contents int64           // contents copied
	bytes    int64           // bytes of these
	lost     map[blobs.Ref]string
}

// run ensures that all wanted contents that are not lost are on stable storage in t.to.
// Contents that are there already, judging by their length, are not copied. The first
// error ends it.
func (t *transfer) run(ctx context.Context, wanted []need) error {
	t.lost, t.done.AllContents = map[blobs.Ref]string{}, int64(len(wanted))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan []need)
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
func (t *transfer) deal(ctx context.Context, wanted []need, jobs chan<- []need) error {
	var batch []need
	var size int64
	hand := func(job []need) error {
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
			return fmt.Errorf("looking for blob %s: %w", n.ref, err)
		case there:
			t.count(n.size, 1)
		case n.size > smallContent:
			err = hand([]need{n})
		default:
			batch, size = append(batch, n), size+n.size
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

func (t *transfer) has(ctx context.Context, n need) (bool, error) {
	info, err := t.to.Stat(ctx, n.ref)
	if errors.Is(err, blobs.ErrNotFound) {
		return false, nil
	}
	return err == nil && !info.Damaged && info.Size == n.size, err
}

// copy copies a batch of small contents, or a larger one.
func (t *transfer) copy(ctx context.Context, job []need) error {
	if len(job) == 1 {
		n := job[0]
		return t.one(ctx, n, func(content io.Reader) (string, error) { return keepAs(ctx, t.to, n, content) })
	}
	batch, err := t.take(ctx, job)
	if len(batch) == 0 {
		return err
	}
	// What was read before an error stays for the next backup or restore.
	release, failed := t.to.KeepAll(context.WithoutCancel(ctx), maps.All(batch))
	if failed == nil {
		release()
	}
	return errors.Join(err, failed)
}

// take reads small contents into memory.
func (t *transfer) take(ctx context.Context, job []need) (batch map[blobs.Ref][]byte, err error) {
	batch = make(map[blobs.Ref][]byte, len(job))
	for _, n := range job {
		err := t.one(ctx, n, func(content io.Reader) (string, error) {
			in, err := io.ReadAll(io.LimitReader(content, n.size+1))
			if err != nil {
				return "", unreadable{err}
			}
			lost := n.differs(int64(len(in)), blobs.Ref(sha256.Sum256(in)))
			if lost == "" {
				batch[n.ref] = in
			}
			return lost, nil
		})
		if err != nil {
			return batch, err
		}
	}
	return batch, nil
}

// one opens a content for take, and once more if the first read breaks off: that
// distinguishes a lost content from an interrupted connection. Lost ones are noted.
func (t *transfer) one(ctx context.Context, n need, take func(io.Reader) (lost string, err error)) error {
	lost, err := t.try(ctx, n, take)
	var cut unreadable
	if errors.As(err, &cut) && ctx.Err() == nil {
		lost, err = t.try(ctx, n, take)
	}
	if errors.As(err, &cut) && ctx.Err() == nil {
		lost, err = cut.sentence(), nil
	}
	if err != nil {
		return fmt.Errorf("copying blob %s: %w", n.ref, err)
	}
	t.count(n.size, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if lost != "" {
		t.lost[n.ref] = lost
		return nil
	}
	t.contents++
	t.bytes += n.size
	return nil
}

// try calls take with a content, and counts the bytes read in the progress only while
// take runs; the caller counts them for good once the content is done.
func (t *transfer) try(ctx context.Context, n need, take func(io.Reader) (lost string, err error)) (lost string, err error) {
	content, lost, err := t.open(ctx, n)
	if err != nil || lost != "" {
		return lost, err
	}
	defer content.Close() // only read
	var read int64
	defer func() { t.count(-read, 0) }()
	return take(&counted{content, ctx, func(n int) {
		read += int64(n)
		t.count(int64(n), 0)
	}})
}

// count adds bytes read, and contents of which nothing more is to be read, to the
// progress.
func (t *transfer) count(bytes, contents int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done.Bytes += bytes
	t.done.Contents += contents
	if bytes >= 0 {
		t.tell.Call(t.done)
	}
}
