package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
)

// A proxy keeps the deletion of an object back; the client times out, and tries again. Then
// the same content is uploaded again, and acknowledged. Whatever the first deletion does
// when it comes at last, it must not do it to that.
func TestALateDeletionMeetsNothingThatWasAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowDeletion{}
		s := open(t, func(o *s3.Options) { slow.Bucket, o.Bucket, o.KeepDeleted = o.Bucket, slow, 0 })
		content := []byte("uploaded, deleted, uploaded")
		ref := keep(t, s.Store, content)
		if removed, err := s.Remove(t.Context(), ref, nobody); !removed || err != nil {
			t.Fatalf("Remove: %v, %v", removed, err)
		}
		time.Sleep(2 * time.Second)
		if err := s.Sweep(t.Context(), time.Now()); !errors.Is(err, s3.ErrStalled) {
			t.Fatalf("the first deletion: %v", err)
		}
		if err := s.Sweep(t.Context(), time.Now()); err != nil || s.Unswept() != 0 {
			t.Fatalf("the second deletion: %v, %d are left", err, s.Unswept())
		}
		keep(t, s.Store, content)
		slow.arrives(t)
		wantContent(t, s.Store, content)
	})
}

// An object from which somebody reads is not deleted before they are done, however soon after
// the removal, or the replacement, of its content.
func TestASweepLeavesWhatIsBeingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, func(o *s3.Options) { o.KeepDeleted = 0 })
		content := bytes.Repeat([]byte("read slowly. "), 50_000)
		for _, goes := range []func() error{
			func() error { return tryKeep(t, s.Store, content) },
			func() error { _, err := s.Remove(t.Context(), blobs.RefOf(content), nobody); return err },
		} {
			ref := keep(t, s.Store, content)
			sweep(t, s, 0)
			c, err := s.Open(t.Context(), ref, int64(len(content)))
			if err != nil {
				t.Fatal(err)
			}
			if err := goes(); err != nil {
				t.Fatal(err)
			}
			sweep(t, s, 1)
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes were read: %v", len(got), err)
			}
			for range 2 {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
			sweep(t, s, 0)
		}
	})
}

// sweep sweeps, and wants that many objects to be left for the next time.
func sweep(t *testing.T, s opened, left int64) {
	t.Helper()
	time.Sleep(2 * time.Second)
	if err := s.Sweep(t.Context(), time.Now()); err != nil || s.Unswept() != left {
		t.Errorf("a sweep leaves %d: %v", s.Unswept(), err)
	}
}

// slowDeletion is a bucket whose first deletion is carried out when it arrives.
type slowDeletion struct {
	s3.Bucket
	name string
}

func (b *slowDeletion) Delete(ctx context.Context, name string) error {
	if b.name == "" {
		b.name = name
		return s3.ErrStalled
	}
	return b.Bucket.Delete(ctx, name)
}

func (b *slowDeletion) arrives(t *testing.T) {
	t.Helper()
	if err := b.Bucket.Delete(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
}

func nobody() (bool, error) { return false, nil }

// keep keeps a content, and releases it.
func keep(t *testing.T, s *s3.Store, content []byte) blobs.Ref {
	t.Helper()
	if err := tryKeep(t, s, content); err != nil {
		t.Fatal(err)
	}
	return blobs.RefOf(content)
}

func tryKeep(t *testing.T, s *s3.Store, content []byte) error {
	t.Helper()
	spool, err := s.Create(t.Context())
	if err != nil {
		return err
	}
	_, err = spool.Write(content)
	if err == nil {
		var release func()
		if release, err = spool.Keep(t.Context()); err == nil {
			release()
		}
	}
	return errors.Join(err, spool.Close())
}

func tryRead(t *testing.T, s *s3.Store, content []byte) (got []byte, err error) {
	t.Helper()
	c, err := s.Open(t.Context(), blobs.RefOf(content), int64(len(content)))
	if err != nil {
		return nil, err
	}
	got, err = io.ReadAll(c)
	return got, errors.Join(err, c.Close())
}

func wantContent(t *testing.T, s *s3.Store, content []byte) {
	t.Helper()
	if got, err := tryRead(t, s, content); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%.40q is read as %d bytes, %.40q, %v", content, len(got), got, err)
	}
}

// Each call to the bucket and to the catalog fails once, at each point of a script: before
// it does something, after it, and by a time-out after which it is done later. Whoever uses
// the Store is never told what is not so, and once calls work again nothing is left over.
func TestEachCallFailsOnce(t *testing.T) {
	t.Run("of both, with the next one", func(t *testing.T) {
		t.Parallel()
		failOnce(t, s3test.Before, 0, func(o *s3.Options, f *s3test.Schedule) {
			f.Other = 1
			o.Bucket, o.Catalog = s3test.Bucket{Bucket: o.Bucket, Schedule: f}, s3test.Catalog{Catalog: o.Catalog, Schedule: f}
		})
	})
	for fault, kind := range s3test.Faults {
		for _, patience := range []time.Duration{0, time.Minute} { // without and with tries
			t.Run(fmt.Sprintf("of the bucket, %s, patience %s", fault, patience), func(t *testing.T) {
				t.Parallel()
				failOnce(t, kind, patience, func(o *s3.Options, f *s3test.Schedule) { o.Bucket = s3test.Bucket{Bucket: o.Bucket, Schedule: f} })
			})
		}
		if kind == s3test.Late { // a transaction is not carried out after it has failed
			continue
		}
		t.Run("of the catalog, "+fault, func(t *testing.T) {
			t.Parallel()
			failOnce(t, kind, 0, func(o *s3.Options, f *s3test.Schedule) { o.Catalog = s3test.Catalog{Catalog: o.Catalog, Schedule: f} })
		})
	}
}

func failOnce(t *testing.T, kind s3test.Fault, patience time.Duration, wrap func(*s3.Options, *s3test.Schedule)) {
	synctest.Test(t, func(t *testing.T) {
		faults := &s3test.Schedule{Kind: kind}
		var options s3.Options
		s := open(t, func(o *s3.Options) {
			o.Patience, o.KeepDeleted = patience, 0
			wrap(o, faults)
			options = *o
		})
		script := func(n int) *user {
			u := &user{T: t, store: s.Store, knows: map[string]state{}}
			u.script(n)
			return u
		}
		calls := 0
		for n := 1; ; n++ {
			faults.Begin(n)
			u := script(n)
			struck := faults.Struck()
			faults.Begin(0)
			faults.Deliver()
			u.everythingHolds(s, kind)
			reopened, err := s3.Open(t.Context(), options) // as by a new process
			if err != nil {
				t.Fatal(err)
			}
			s.Store, u.store = reopened, reopened
			u.everythingHolds(s, kind)
			if t.Failed() {
				t.Fatalf("when call %d fails, %s", n, struck)
			}
			if struck == "" {
				break
			}
			calls++
		}
		t.Logf("%d calls failed, one at a time", calls)
	})
}

// state is what a user of a Store knows of a content.
type state struct {
	there, gone       bool // neither: it is not known
	damaged, notMarks bool // likewise, of a mark
}

// user uses a Store, and knows what it was told.
type user struct {
	*testing.T
	store *s3.Store
	all   [][]byte
	knows map[string]state
}

// script does everything that there is to do.
func (u *user) script(n int) {
	text := func(name string, size int) []byte {
		content := bytes.Repeat([]byte(fmt.Sprintf("%s of %d. ", name, n)), size)
		u.all = append(u.all, content)
		u.knows[string(content)] = state{gone: true, notMarks: true}
		return content
	}
	a, b, c, large := text("a", 1), text("b", 1), text("c", 1), text("large", 40_000)
	u.keep(a)
	u.keep(large)
	u.keepAll(a, b, c)
	u.read(a)
	u.ranges(large)
	u.list()
	u.mark(b, true)
	u.read(b)
	u.keep(b)
	u.read(b)
	u.mark(c, true)
	u.mark(c, false)
	u.remove(a)
	u.remove(large)
	u.tell(u.store.Probe(u.Context()))
	u.pass()
	u.tell(u.store.Sweep(u.Context(), time.Now()))
	u.keep(a)
	u.read(a)
	u.keepAll(large, b)
	u.remove(c)
	u.pass()
	u.tell(u.store.Sweep(u.Context(), time.Now()))
	u.read(large)
}

// pass lets the clock go on, so that garbage is older than now, and probes are due.
func (u *user) pass() { time.Sleep(time.Minute) }

// tell reports an error that is not of the call that was made to fail.
func (u *user) tell(err error) {
	u.Helper()
	if err != nil && (!errors.Is(err, s3test.ErrInjected) || errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged)) {
		u.Errorf("a wrong answer: %v", err)
	}
}

func (u *user) kept(content []byte, err error) {
	u.Helper()
	u.tell(err)
	know := u.knows[string(content)]
	switch {
	case err == nil:
		know = state{there: true, notMarks: true}
	case know.gone:
		know.gone = false
	default: // it may have been replaced, with its mark
		know.damaged = false
	}
	u.knows[string(content)] = know
}

func (u *user) keep(content []byte) {
	u.Helper()
	u.kept(content, tryKeep(u.T, u.store, content))
}

func (u *user) keepAll(contents ...[]byte) {
	u.Helper()
	release, err := u.store.KeepAll(u.Context(), func(yield func(blobs.Ref, []byte) bool) {
		for _, content := range contents {
			if !yield(blobs.RefOf(content), content) {
				return
			}
		}
	})
	if err == nil {
		release()
	}
	for _, content := range contents {
		u.kept(content, err)
	}
}

// answered compares what was said of a content with what is known of it.
func (u *user) answered(content []byte, err error) {
	u.Helper()
	know := u.knows[string(content)]
	switch {
	case err == nil && know.gone, errors.Is(err, blobs.ErrNotFound) && know.there:
		u.Errorf("%.12q is there: %v; and was read with %v", content, know.there, err)
	case err == nil && know.damaged, errors.Is(err, blobs.ErrDamaged) && know.notMarks:
		u.Errorf("%.12q is marked: %v; and was read with %v", content, know.damaged, err)
	case err != nil && !errors.Is(err, blobs.ErrNotFound) && !errors.Is(err, blobs.ErrDamaged):
		u.tell(err)
	}
}

func (u *user) read(content []byte) {
	u.Helper()
	got, err := tryRead(u.T, u.store, content)
	if err == nil && !bytes.Equal(got, content) {
		u.Errorf("%.12q is read as %.12q", content, got)
	}
	u.answered(content, err)
}

// ranges reads parts of a content, and looks around in it.
func (u *user) ranges(content []byte) {
	u.Helper()
	c, err := u.store.Open(u.Context(), blobs.RefOf(content), int64(len(content)))
	if err != nil {
		u.answered(content, err)
		return
	}
	for _, at := range []int{len(content) - 7, 100, 300_000, 5} {
		part := make([]byte, min(100, len(content)-at))
		n, err := c.ReadAt(part, int64(at))
		if err == nil && !bytes.Equal(part, content[at:at+n]) {
			u.Errorf("another part at %d", at)
		}
		u.tell(err)
		_, err = c.Seek(int64(at), io.SeekStart)
		u.tell(err)
		n, err = io.ReadFull(c, part)
		if !bytes.Equal(part[:n], content[at:at+n]) {
			u.Errorf("another part read from %d", at)
		}
		u.tell(err)
	}
	u.tell(c.Close())
}

func (u *user) list() {
	u.Helper()
	listed := map[blobs.Ref]bool{}
	for info, err := range u.store.All(u.Context(), blobs.Ref{}) {
		if err != nil {
			u.tell(err)
			return
		}
		listed[info.Ref] = true
	}
	for content, know := range u.knows {
		if is := listed[blobs.RefOf([]byte(content))]; know.there && !is || know.gone && is {
			u.Errorf("%.12q is listed: %v; it is there: %v", content, is, know.there)
		}
	}
}

func (u *user) remove(content []byte) {
	u.Helper()
	know := u.knows[string(content)]
	removed, err := u.store.Remove(u.Context(), blobs.RefOf(content), nobody)
	u.tell(err)
	switch {
	case err == nil && !removed && know.there, removed && know.gone:
		u.Errorf("%.12q was removed: %v; it was there: %v", content, removed, know.there)
	case err == nil:
		u.knows[string(content)] = state{gone: true, notMarks: true}
	default:
		u.knows[string(content)] = state{}
	}
}

func (u *user) mark(content []byte, damaged bool) {
	u.Helper()
	do := u.store.MarkDamaged
	if !damaged {
		do = u.store.Unmark
	}
	err := do(u.Context(), blobs.RefOf(content), nil)
	know := u.knows[string(content)]
	if !errors.Is(err, blobs.ErrNotFound) || know.there {
		u.tell(err)
		know.damaged, know.notMarks = damaged && err == nil, !damaged && err == nil
		u.knows[string(content)] = know
	}
}

// everythingHolds checks the Store, whose calls work again. Only what is done late may leave
// an object behind that nothing names.
func (u *user) everythingHolds(s opened, kind s3test.Fault) {
	u.Helper()
	u.pass()
	if err := u.store.Sweep(u.Context(), time.Now()); err != nil {
		u.Errorf("later, Sweep: %v", err)
	}
	for _, content := range u.all {
		u.read(content)
	}
	u.list()
	if intended, garbage := s.catalog.Waiting(); intended != 0 || garbage != 0 {
		u.Errorf("after a sweep, %d objects are intended and %d are garbage", intended, garbage)
	}
	left := s.bucket.Names()
	for p, err := range s.catalog.Places(u.Context(), blobs.Ref{}) {
		if err != nil {
			u.Fatal(err)
		}
		name := "files/blobs/sha256/" + p.Ref.String()[:2] + "/" + p.Ref.String() + "/" + p.Key.String()
		if !slices.Contains(left, name) {
			u.Errorf("%s is not in the bucket", name)
		}
		left = slices.DeleteFunc(left, func(n string) bool { return n == name })
	}
	if len(left) > 0 && kind != s3test.Late {
		u.Errorf("nothing names %v", left)
	}
	faults, err := s.catalog.Check(u.Context(), nil)
	if err != nil || len(faults) > 0 {
		u.Errorf("the catalog has faults: %v, %v", faults, err)
	}
}
