package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
)

// notes are metadata in which claims are noted.
type notes struct {
	s3.Epoch
	outdated bool
}

func (n *notes) of(o *s3.Options) {
	o.Epochs, o.KeepDeleted = claims{n}, 0
	o.MayDelete = func(context.Context) (bool, error) { return !n.outdated, nil }
}

type claims struct{ *notes }

func (c claims) Epoch(context.Context) (s3.Epoch, error)      { return c.notes.Epoch, nil }
func (c claims) SetEpoch(_ context.Context, e s3.Epoch) error { c.notes.Epoch = e; return nil }
func (c claims) Outdated(context.Context) error               { c.outdated = true; return nil }

// start opens a bucket as a new process does.
func (o opened) start(t *testing.T, n *notes) opened {
	t.Helper()
	options := o.Options
	n.of(&options)
	var err error
	if o.Store, err = s3.Open(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	return o
}

// garbage makes an object garbage.
func (o opened) garbage(t *testing.T, content string) (name string) {
	t.Helper()
	ref, name := o.keep(t, content)
	if removed, err := o.Remove(t.Context(), ref, nobody); !removed || err != nil {
		t.Fatalf("%v, %v", removed, err)
	}
	return name
}

func (o opened) has(name string) bool {
	_, _, err := o.bucket.Stat(context.Background(), name)
	return err == nil
}

// A clone has the same ids, and would delete what only the other one has.
func TestNothingIsDeletedOnceACloneOfTheDatabaseHasClaimedTheBucket(t *testing.T) {
	t.Parallel()
	n := &notes{}
	live := open(t, n.of)
	ref, kept := live.keep(t, "kept")
	if err := live.Sweep(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	cloned := *n
	if err := live.start(t, &cloned).Claim(t.Context()); err != nil {
		t.Fatalf("the clone: %v", err)
	}
	removed := live.garbage(t, "removed")
	for i, want := range []error{s3.ErrShared, nil, nil} {
		if err := live.Sweep(t.Context(), time.Now()); !errors.Is(err, want) || !live.has(removed) {
			t.Errorf("sweep %d: %v; the object is there: %t", i, err, live.has(removed))
		}
	}
	if removed, err := live.RemoveStrays(t.Context(), []blobs.Difference{{Name: kept}}); len(removed) != 0 || !errors.Is(err, s3.ErrShared) {
		t.Errorf("RemoveStrays: %v, %v", removed, err)
	}
	live.keep(t, "another")
	if c, err := live.Open(t.Context(), ref, 4); err != nil {
		t.Error(err)
	} else if got, err := io.ReadAll(c); string(got) != "kept" || errors.Join(err, c.Close()) != nil {
		t.Errorf("read %q, %v", got, err)
	}

	again := live.start(t, n)
	if err := again.Sweep(t.Context(), time.Now()); err != nil || !n.outdated || !again.has(removed) {
		t.Errorf("after a restart: %v, outdated %t, there %t", err, n.outdated, again.has(removed))
	}
	again.keep(t, "one more")
	n.outdated = false // as a person says
	if err := again.Sweep(t.Context(), time.Now()); err != nil || again.has(removed) {
		t.Errorf("once confirmed: %v, there %t", err, again.has(removed))
	}
}

// Neither knows which of them is the copy.
func TestOfTwoCopiesOfADatabaseNeitherDeletes(t *testing.T) {
	for name, c := range map[string]struct {
		keeps func(live, clone opened, n, cloned *notes) (opened, *notes) // who is restarted, once the other one has stopped
	}{
		"the first is the right one": {func(live, _ opened, n, _ *notes) (opened, *notes) { return live, n }},
		"the clone is the right one": {func(_, clone opened, _, cloned *notes) (opened, *notes) { return clone, cloned }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sweep := func(who string, o opened, want error) {
					t.Helper()
					if err := o.Sweep(t.Context(), time.Now()); !errors.Is(err, want) {
						t.Errorf("a sweep of %s: %v, not %v", who, err, want)
					}
				}
				n := &notes{}
				live := open(t, n.of)
				live.keep(t, "kept")
				cloned := *n
				clone := live.start(t, &cloned)
				if err := clone.Claim(t.Context()); err != nil {
					t.Fatal(err)
				}
				sweep("the clone, before it is known", clone, nil)
				time.Sleep(time.Minute) // in which the first has nothing to delete
				sweep("the first", live, s3.ErrShared)
				removed := clone.garbage(t, "removed")
				sweep("the clone", clone, s3.ErrShared)
				sweep("the clone, again", clone, nil)
				if _, err := clone.RemoveStrays(t.Context(), nil); !errors.Is(err, s3.ErrShared) || !clone.has(removed) {
					t.Errorf("the clone: %v, the object is there: %t", err, clone.has(removed))
				}

				// A restart alone says nothing, and while the other one is at work, nor does a person.
				again, notes := c.keeps(live, clone, n, &cloned)
				other, _ := c.keeps(clone, live, &cloned, n)
				again = again.start(t, notes)
				sweep("the one that was restarted", again, nil)
				if !notes.outdated || !again.has(removed) {
					t.Errorf("after a restart: outdated %t, there %t", notes.outdated, again.has(removed))
				}
				notes.outdated = false
				time.Sleep(time.Minute)
				_ = other.Sweep(t.Context(), time.Now())
				sweep("the one that was restarted, with the other at work", again, s3.ErrShared)

				again = again.start(t, notes)
				sweep("the one that is left", again, nil)
				notes.outdated = false // as a person says
				sweep("the one that is left, once a person has said so", again, nil)
				if again.has(removed) {
					t.Error("it does not delete either")
				}
			})
		})
	}
}

// Starts after which everything goes on as before, or once a person has said so.
func TestAStartIsNoCloneOfTheOneBefore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		between  func(o opened, n *notes, before notes, marker []byte)
		outdated bool
	}{
		"after a stop": {between: func(opened, *notes, notes, []byte) {}},
		"after a crash before the marker was written": {between: func(o opened, _ *notes, _ notes, marker []byte) {
			o.bucket.Change("files/attachd.json", marker)
		}},
		"over a marker without an epoch": {between: func(o opened, n *notes, _ notes, _ []byte) {
			*n = notes{}
			o.bucket.Change("files/attachd.json", []byte(`{"installation":"this one","layout":1}`))
		}},
		"with an earlier database": {func(_ opened, n *notes, before notes, _ []byte) { *n = before }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := &notes{}
			o := open(t, n.of)
			removed := o.garbage(t, "removed")
			before, marker := *n, o.bucket.Content("files/attachd.json")
			o = o.start(t, n)
			if err := o.Claim(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.between(o, n, before, marker)
			o = o.start(t, n)
			if err := o.Claim(t.Context()); err != nil || n.outdated != c.outdated {
				t.Errorf("%v, outdated %t", err, n.outdated)
			}
			n.outdated = false
			if err := o.Sweep(t.Context(), time.Now()); err != nil || o.has(removed) {
				t.Errorf("%v, there %t", err, o.has(removed))
			}
		})
	}
}

// While nobody's marker is there, two may write it.
func TestOneOfTwoThatTakeAPrefixAtTheSameTimeIsRefused(t *testing.T) {
	t.Parallel()
	late := &overtaken{}
	o := open(t, func(o *s3.Options) { late.Bucket, o.Bucket = o.Bucket, late })
	for range 2 {
		if err := o.Claim(t.Context()); !errors.Is(err, s3.ErrForeign) {
			t.Errorf("the one that was overtaken: %v", err)
		}
	}
}

// overtaken is a bucket in which somebody else writes each object a moment later.
type overtaken struct{ s3.Bucket }

func (b *overtaken) Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error {
	raw := []byte(`{"installation":"another one","layout":1}`)
	return errors.Join(b.Bucket.Put(ctx, name, content, size, sum), b.Bucket.Put(ctx, name, bytes.NewReader(raw), int64(len(raw)), blobs.RefOf(raw)))
}

// A store whose calls take long is claimed all the same.
func TestASlowStoreCanBeClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, func(o *s3.Options) { o.Bucket, o.Patience = slowly{o.Bucket}, 8*time.Second })
		if err := o.Claim(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// slowly is a bucket whose calls take 1.5 s.
type slowly struct{ s3.Bucket }

func (b slowly) Get(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
	time.Sleep(1500 * time.Millisecond)
	return b.Bucket.Get(ctx, name, from, end)
}

func (b slowly) Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error {
	time.Sleep(1500 * time.Millisecond)
	return b.Bucket.Put(ctx, name, content, size, sum)
}
