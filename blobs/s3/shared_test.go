package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
)

// sharedNotes are metadata that several processes share.
type sharedNotes struct {
	mu sync.Mutex
	notes
}

func (n *sharedNotes) Epoch(context.Context) (s3.Epoch, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notes.Epoch, nil
}

func (n *sharedNotes) SetEpoch(_ context.Context, e s3.Epoch) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Number <= n.notes.Epoch.Number {
		return s3.ErrRaised
	}
	n.notes.Epoch = e
	return nil
}

func (n *sharedNotes) Outdated(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outdated = true
	return nil
}

func (n *sharedNotes) of(o *s3.Options) {
	o.Shared, o.Epochs, o.KeepDeleted = true, n, 0
	o.MayDelete = func(context.Context) (bool, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return !n.outdated, nil
	}
}

// copied is an earlier state of the metadata, or a clone of them.
func (n *sharedNotes) copied() *sharedNotes { return &sharedNotes{notes: n.notes} }

// process opens the same catalog and bucket as another process does.
func (o opened) process(t *testing.T, n *sharedNotes) opened {
	t.Helper()
	options := o.Options
	n.of(&options)
	var err error
	if o.Store, err = s3.Open(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	return o
}

// Processes that share the metadata claim the bucket together, also a prefix that was
// nobody's, and each deletes.
func TestProcessesThatShareTheMetadataAreNoCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &sharedNotes{}
		first := open(t, n.of)
		all := []opened{first}
		for range 3 {
			all = append(all, first.process(t, n))
		}
		var starting sync.WaitGroup
		for _, p := range all {
			starting.Go(func() {
				if err := p.Claim(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		starting.Wait()
		all = append(all, first.process(t, n)) // later
		for i, p := range all {
			removed := p.garbage(t, fmt.Sprint(i))
			time.Sleep(2 * time.Second)
			if err := p.Sweep(t.Context(), time.Now()); err != nil || p.has(removed) || n.outdated {
				t.Errorf("process %d: %v; the object is there: %t; outdated %t", i, err, p.has(removed), n.outdated)
			}
		}
	})
}

// A copy of the metadata is told from a process that shares them, also where a claim that was
// written late has taken the bucket's epoch back.
func TestACopyOfSharedMetadataIsFound(t *testing.T) {
	for name, c := range map[string]struct{ late, restarted bool }{
		"while processes run":            {},
		"after a late claim":             {late: true},
		"at the start of a process":      {restarted: true},
		"at a start, after a late claim": {late: true, restarted: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &sharedNotes{}
				live := open(t, n.of)
				if err := live.Claim(t.Context()); err != nil {
					t.Fatal(err)
				}
				cloned, early := n.copied(), live.bucket.Content("files/attachd.json")
				for range 2 {
					if err := live.process(t, n).Claim(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				copied := live.process(t, cloned)
				removed := live.garbage(t, "removed")
				time.Sleep(2 * time.Second)
				if c.late {
					live.bucket.Change("files/attachd.json", early)
				}
				if err := live.Sweep(t.Context(), time.Now()); err != nil || live.has(removed) {
					t.Errorf("before there was a copy: %v, there %t", err, live.has(removed))
				}
				if err := copied.Claim(t.Context()); err != nil {
					t.Fatal(err)
				}
				if !cloned.outdated {
					t.Error("the copy holds its metadata for the latest")
				}
				of := live.garbage(t, "removed, too")
				time.Sleep(2 * time.Second)
				if c.restarted {
					live = live.process(t, n)
				}
				err := live.Sweep(t.Context(), time.Now())
				if live.has(of) == false || errors.Is(err, s3.ErrShared) == c.restarted || n.outdated != c.restarted {
					t.Errorf("beside a copy: %v, there %t, outdated %t", err, live.has(of), n.outdated)
				}
			})
		})
	}
}

// What a process intends is given up by none that starts beside it, but a day later, when it
// is gone.
func TestAnUploadIsNotGivenUpByAProcessThatStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &sharedNotes{}
		var beside opened
		first := open(t, func(o *s3.Options) {
			n.of(o)
			o.Bucket = &duringPut{o.Bucket, func() { beside = opened{}.with(*o).process(t, n) }}
		})
		ref := keep(t, first.Store, []byte("sent while another one starts"))
		if given := first.Unswept(); given != 0 {
			t.Errorf("%d were given up", given)
		}
		intended := blobs.NewObject(ref) // by a process that was killed
		if err := first.Catalog.Intend(t.Context(), []blobs.Object{intended}); err != nil {
			t.Fatal(err)
		}
		for _, left := range []int64{1, 0} {
			time.Sleep(23 * time.Hour)
			for range 2 {
				if err := beside.Sweep(t.Context(), time.Now()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
			}
			if got := first.Unswept(); got != left {
				t.Errorf("%d are left, not %d", got, left)
			}
		}
	})
}

// with is a Store that is not open yet.
func (o opened) with(options s3.Options) opened {
	o.Store = &s3.Store{Options: options}
	return o
}

// duringPut is a bucket that does something once while an object of a content is written.
type duringPut struct {
	s3.Bucket
	do func()
}

func (b *duringPut) Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error {
	err := b.Bucket.Put(ctx, name, content, size, sum)
	if name != "files/attachd.json" && b.do != nil {
		b.do()
		b.do = nil
	}
	return err
}

// Another process deletes an object from which somebody reads: the reader goes on where the
// content is now, however often that has changed, and else is told that it is gone.
func TestAReaderFollowsAContentThatAnotherProcessHasMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &sharedNotes{}
		moving := &duringGet{}
		reading := open(t, func(o *s3.Options) {
			n.of(o)
			moving.Bucket, o.Bucket = o.Bucket, moving
		})
		other := reading.process(t, n)
		text := bytes.Repeat([]byte("read slowly. "), 50_000)
		ref := keep(t, reading.Store, text)
		moves := 0
		moving.do = func() {
			if moves++; moves <= 3 {
				keep(t, other.Store, text)
				sweep(t, other, 0)
			}
		}
		wantContent(t, reading.Store, text)
		if moves < 4 {
			t.Errorf("it has followed %d times", moves)
		}
		moving.do = nil
		c, err := reading.Open(t.Context(), ref, int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := other.Remove(t.Context(), ref, nobody); err != nil {
			t.Fatal(err)
		}
		sweep(t, other, 0)
		if got, err := io.ReadAll(c); !errors.Is(err, blobs.ErrNotFound) {
			t.Errorf("%d bytes of what is gone, %v", len(got), err)
		}
	})
}

// duringGet is a bucket that does something before an object of a content is read.
type duringGet struct {
	s3.Bucket
	do func()
}

func (b *duringGet) Get(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
	if name != "files/attachd.json" && b.do != nil {
		b.do()
	}
	return b.Bucket.Get(ctx, name, from, end)
}

// What another process has removed, or moved, is still there for who reads it, for as long as
// the bucket keeps what is deleted.
func TestWhatAnotherProcessRemovesIsReadToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &sharedNotes{}
		reading := open(t, func(o *s3.Options) { n.of(o); o.KeepDeleted = time.Hour })
		options := reading.Options
		other := opened{}.with(options)
		var err error
		if other.Store, err = s3.Open(t.Context(), options); err != nil {
			t.Fatal(err)
		}
		text := bytes.Repeat([]byte("read slowly. "), 50_000)
		ref := keep(t, reading.Store, text)
		c, err := reading.Open(t.Context(), ref, int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := other.Remove(t.Context(), ref, nobody); err != nil {
			t.Fatal(err)
		}
		sweep(t, opened{Store: other.Store}, 1)
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}
