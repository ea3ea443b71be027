package s3_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
)

func TestAPrefixIsOfOneInstallation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := open(t, nil)
		if err := first.Claim(t.Context()); err != nil {
			t.Fatal(err)
		}
		other := open(t, func(o *s3.Options) {
			o.Bucket = first.bucket
			o.Installation = func(context.Context) (string, error) { return "another one", nil }
		})
		_, kept := other.KeepAll(t.Context(), func(yield func(blobs.Ref, []byte) bool) { yield(blobs.RefOf([]byte("b")), []byte("b")) })
		for what, err := range map[string]error{
			"Claim": other.Claim(t.Context()), "Probe": other.Probe(t.Context()), "Keep": tryKeep(t, other.Store, []byte("a")), "KeepAll": kept,
		} {
			if !errors.Is(err, s3.ErrForeign) || !errors.Is(err, blobs.ErrUnavailable) || !strings.Contains(err.Error(), "this one is another one") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if names := first.bucket.Names(); len(names) > 0 {
			t.Errorf("it has written %v", names)
		}
		again := open(t, func(o *s3.Options) { o.Bucket = first.bucket })
		if err := again.Claim(t.Context()); err != nil {
			t.Errorf("its own prefix, after a restart: %v", err)
		}
		elsewhere := open(t, func(o *s3.Options) {
			o.Bucket, o.Prefix = first.bucket, "elsewhere/"
			o.Installation = func(context.Context) (string, error) { return "another one", nil }
		})
		keep(t, elsewhere.Store, []byte("a"))
	})
}

// What a newer version or somebody else has written there is not overwritten either, nor
// what a store shows late.
func TestAMarkerIsNotOverwritten(t *testing.T) {
	for name, marker := range map[string]string{
		"of a newer version": `{"installation":"this one","layout":7}`,
		"of somebody else":   `not JSON`,
		"empty":              ``,
		"of another one":     `{"installation":"another one","layout":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, func(o *s3.Options) { o.Bucket = &lateGet{Bucket: o.Bucket} })
				s.bucket.Change("files/attachd.json", []byte(marker))
				if err := tryKeep(t, s.Store, []byte("a")); !errors.Is(err, blobs.ErrUnavailable) {
					t.Errorf("Keep: %v", err)
				}
				if got := s.bucket.Content("files/attachd.json"); string(got) != marker {
					t.Errorf("it is %q now", got)
				}
			})
		})
	}
}

// lateGet is a bucket that does not know an object the first time that it is asked for it.
type lateGet struct {
	s3.Bucket
	asked sync.Map
}

func (b *lateGet) Get(ctx context.Context, name string, from, end int64) (content io.ReadCloser, size int64, err error) {
	if _, asked := b.asked.LoadOrStore(name, true); !asked {
		return nil, 0, blobs.ErrNotFound
	}
	return b.Bucket.Get(ctx, name, from, end)
}

// A store that is down at the start stops nothing but what needs it, and many who wait for it
// wait together.
func TestAStoreMayBeDownAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := &s3test.Schedule{}
		s := open(t, func(o *s3.Options) { o.Bucket = down{s3test.Bucket{Bucket: o.Bucket, Schedule: faults}} })
		began := time.Now()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := tryKeep(t, s.Store, []byte("a")); !errors.Is(err, blobs.ErrUnavailable) {
					t.Errorf("Keep: %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the last one was refused after %s", took)
		}
		if err := s.Probe(t.Context()); !errors.Is(err, blobs.ErrUnavailable) {
			t.Errorf("Probe: %v", err)
		}
		if err := s.Sweep(t.Context(), time.Now()); err != nil {
			t.Errorf("a sweep of nothing: %v", err)
		}
	})
}

// down is a store that does not answer for 8 s.
type down struct{ s3.Bucket }

func (down) Get(ctx context.Context, _ string, _, _ int64) (io.ReadCloser, int64, error) {
	select {
	case <-time.After(8 * time.Second):
	case <-ctx.Done():
	}
	return nil, 0, s3.ErrStalled
}

// Objects that a store refuses to delete, by a rule of the bucket or for lack of the right,
// do not keep back the others, and are not asked for at each sweep.
func TestWhatAStoreRefusesToDeleteKeepsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locked := &lockedBucket{locked: map[string]bool{}}
		s := open(t, func(o *s3.Options) { locked.Bucket, o.Bucket, o.KeepDeleted = o.Bucket, locked, 0 })
		var contents [][]byte
		for i := range 300 {
			contents = append(contents, []byte{byte(i), byte(i >> 8)})
		}
		for _, content := range contents[:280] {
			keep(t, s.Store, content)
		}
		for _, name := range s.bucket.Names() {
			locked.locked[name] = true
		}
		for _, content := range contents[280:] {
			keep(t, s.Store, content)
		}
		for _, content := range contents {
			if _, err := s.Remove(t.Context(), blobs.RefOf(content), nobody); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if err := s.Sweep(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("the first sweep: %v", err)
		}
		if left := s.Unswept(); left != 280 {
			t.Errorf("%d are left", left)
		}
		asked := locked.asked
		if err := s.Sweep(t.Context(), time.Now()); err != nil || locked.asked != asked {
			t.Errorf("the next sweep asks for %d objects again: %v", locked.asked-asked, err)
		}
		locked.locked = nil
		time.Sleep(time.Hour)
		if err := s.Sweep(t.Context(), time.Now()); err != nil || s.Unswept() != 0 {
			t.Errorf("once it may: %v, and %d are left", err, s.Unswept())
		}
	})
}

// lockedBucket refuses to delete some objects.
type lockedBucket struct {
	s3.Bucket
	mu     sync.Mutex
	locked map[string]bool
	asked  int
}

func (b *lockedBucket) Delete(ctx context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.locked[name] {
		return &s3.StoreError{Status: 403, Code: "AccessDenied"}
	}
	return b.Bucket.Delete(ctx, name)
}

// A store that fails now and then does not keep a sweep from the others, and one that deletes
// nothing is not asked for all.
func TestAFailedDeletionKeepsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := &flakyBucket{}
		s := open(t, func(o *s3.Options) { flaky.Bucket, o.Bucket, o.KeepDeleted = o.Bucket, flaky, 0 })
		for i := range 600 {
			content := []byte{byte(i), byte(i >> 8)}
			keep(t, s.Store, content)
			if _, err := s.Remove(t.Context(), blobs.RefOf(content), nobody); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		flaky.fails = func(n int) bool { return true }
		if err := s.Sweep(t.Context(), time.Now()); err == nil || s.Unswept() != 600 || flaky.asked > 40 {
			t.Errorf("a store that deletes nothing was asked %d times: %v", flaky.asked, err)
		}
		flaky.fails = func(n int) bool { return n%10 == 0 }
		flaky.asked = 0
		if err := s.Sweep(t.Context(), time.Now()); !errors.Is(err, s3.ErrStalled) || s.Unswept() != 60 {
			t.Errorf("a sweep of which each tenth deletion fails leaves %d: %v", s.Unswept(), err)
		}
	})
}

// flakyBucket fails to delete some objects.
type flakyBucket struct {
	s3.Bucket
	mu    sync.Mutex
	fails func(n int) bool
	asked int
}

func (b *flakyBucket) Delete(ctx context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked++; b.fails(b.asked) {
		return s3.ErrStalled
	}
	return b.Bucket.Delete(ctx, name)
}
