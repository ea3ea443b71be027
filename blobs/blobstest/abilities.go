package blobstest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs"
)

// batcher is a backend with the ability to keep many contents at once.
type batcher interface {
	blobs.Store
	blobs.Batcher
}

var batching = []promise[batcher]{
	{"many contents may be kept with one call, as each of them would be", keptTogether},
	{"what was kept with one call is held until release", heldTogether},
	{"many may keep the same contents with one call each, in any order, while they are removed", keptInAnyOrder},
}

// marker is a backend with the ability to remember what is damaged.
type marker interface {
	blobs.Store
	blobs.Marker
}

var marking = []promise[marker]{
	{"a marked content cannot be opened but is still there", marked},
	{"keeping a marked content again repairs it", repaired},
	{"a repaired content is not marked for what was read before", notCondemned},
	{"a marked content that is right is unmarked, unless it was replaced meanwhile", unmarked},
	{"a mark goes with its content", markGoes},
	{"Damaged counts the marked that are neither repaired nor removed", damagedCounted},
}

// Named returns contents with their names.
func Named(contents ...[]byte) iter.Seq2[blobs.Ref, []byte] {
	return func(yield func(blobs.Ref, []byte) bool) {
		for _, content := range contents {
			if !yield(sha256.Sum256(content), content) {
				return
			}
		}
	}
}

func keptTogether(t *testing.T, s batcher) {
	there, damaged, short := []byte("there before"), []byte("marked damaged"), []byte("")
	keep(t, s, there)
	ref := keep(t, s, damaged)
	if s, able := s.(marker); able {
		mark(t, s, ref)
	}
	contents := [][]byte{there, damaged, short}
	for n := range 100 {
		contents = append(contents, fmt.Append(nil, "content ", n))
	}
	release, err := s.KeepAll(t.Context(), Named(contents...))
	if err != nil {
		t.Fatal(err)
	}
	release()
	for _, content := range contents {
		wantContent(t, s, content)
	}
	if got := len(all(t, s)); got != len(contents) {
		t.Errorf("%d contents are there; %d were kept", got, len(contents))
	}
	if release, err = s.KeepAll(t.Context(), Named()); err != nil {
		t.Fatal(err)
	}
	release()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.KeepAll(cancelled, Named([]byte("too late"))); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func heldTogether(t *testing.T, s batcher) {
	content := []byte("held")
	release, err := s.KeepAll(t.Context(), Named(content, []byte("another")))
	if err != nil {
		t.Fatal(err)
	}
	released := atomic.Bool{}
	gone := make(chan error)
	go func() {
		_, err := s.Remove(t.Context(), sha256.Sum256(content), func() (bool, error) {
			if !released.Load() {
				return true, errors.New("Remove did not wait")
			}
			return false, nil
		})
		gone <- err
	}()
	giveWay()
	released.Store(true)
	release()
	release() // does nothing
	if err := <-gone; err != nil {
		t.Error(err)
	}
}

func keptInAnyOrder(t *testing.T, s batcher) {
	one, two := []byte("one"), []byte("two")
	orders := [][][]byte{{one, two}, {two, one}, {one, two, one}}
	var keeping, removing sync.WaitGroup
	for n := range 6 {
		keeping.Go(func() {
			for range 25 {
				release, err := s.KeepAll(t.Context(), Named(orders[n%len(orders)]...))
				if err != nil {
					t.Error(err)
					return
				}
				release()
			}
		})
	}
	kept := make(chan struct{})
	go func() {
		keeping.Wait()
		close(kept)
	}()
	for n := range 4 {
		removing.Go(func() {
			ref := blobs.Ref(sha256.Sum256(orders[0][n%2]))
			for {
				select {
				case <-kept:
					return
				default:
				}
				if _, err := s.Remove(t.Context(), ref, unwanted); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	select {
	case <-kept:
		removing.Wait()
	case <-time.After(time.Minute):
		t.Fatal("they wait for each other")
	}
}

func marked(t *testing.T, s marker) {
	if err := s.MarkDamaged(t.Context(), blobs.Ref{1}, nil); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("MarkDamaged of nothing: %v", err)
	}
	sound := keep(t, s, []byte("sound"))
	ref := keep(t, s, []byte("rotten"))
	for range 2 { // marking twice changes nothing
		mark(t, s, ref)
	}
	if _, err := s.Open(t.Context(), ref, 6); !errors.Is(err, blobs.ErrDamaged) {
		t.Errorf("Open: %v", err)
	}
	if info := stat(t, s, ref); !info.Damaged || info.Size != 6 {
		t.Errorf("Stat: %+v", info)
	}
	for _, info := range all(t, s) {
		if info.Damaged != (info.Ref == ref) {
			t.Errorf("All: %+v", info)
		}
	}
	if stat(t, s, sound).Damaged {
		t.Error("another content is damaged too")
	}
	wantContent(t, s, []byte("sound"))
}

func repaired(t *testing.T, s marker) {
	ref := keep(t, s, []byte("mended"))
	mark(t, s, ref)
	keep(t, s, []byte("mended"))
	wantContent(t, s, []byte("mended"))
}

func notCondemned(t *testing.T, s marker) {
	ref := keep(t, s, []byte("content"))
	before, err := s.Open(t.Context(), ref, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	mark(t, s, ref)
	keep(t, s, []byte("content"))
	if err := s.MarkDamaged(t.Context(), ref, before); err != nil {
		t.Fatal(err)
	}
	if stat(t, s, ref).Damaged {
		t.Error("the repaired content was marked for the sake of the old one")
	}
	now, err := s.Open(t.Context(), ref, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	if err := s.MarkDamaged(t.Context(), ref, now); err != nil || !stat(t, s, ref).Damaged {
		t.Errorf("what was read now is not marked: %v", err)
	}
}

func unmarked(t *testing.T, s marker) {
	if _, err := s.OpenMarked(t.Context(), blobs.Ref{1}); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("OpenMarked of nothing: %v", err)
	}
	ref := keep(t, s, []byte("content"))
	read := func() blobs.Content {
		t.Helper()
		marked, err := s.OpenMarked(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { marked.Close() })
		if got, err := io.ReadAll(marked); err != nil || string(got) != "content" {
			t.Errorf("read %q, %v", got, err)
		}
		return marked
	}
	unmark := func(read blobs.Content) {
		t.Helper()
		if err := s.Unmark(t.Context(), ref, read); err != nil {
			t.Fatal(err)
		}
	}
	mark(t, s, ref)
	before := read()
	unmark(before)
	wantContent(t, s, []byte("content"))
	unmark(before) // the mark is gone already
	mark(t, s, ref)
	keep(t, s, []byte("content")) // in a new file
	mark(t, s, ref)
	if unmark(before); !stat(t, s, ref).Damaged {
		t.Error("the mark went for the sake of what was read before")
	}
	unmark(read())
	wantContent(t, s, []byte("content"))
	remove(t, s, ref)
	if err := s.Unmark(t.Context(), ref, before); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("Unmark of nothing: %v", err)
	}
}

func markGoes(t *testing.T, s marker) {
	ref := keep(t, s, []byte("rotten"))
	mark(t, s, ref)
	remove(t, s, ref)
	if _, err := s.Open(t.Context(), ref, 6); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("Open: %v", err)
	}
	keep(t, s, []byte("rotten"))
	wantContent(t, s, []byte("rotten"))
}

func damagedCounted(t *testing.T, s marker) {
	want := func(n int) {
		t.Helper()
		if got, listed := s.Damaged(), len(s.Marked()); got != n || listed != n {
			t.Errorf("%d are damaged and %d listed, not %d", got, listed, n)
		}
	}
	keep(t, s, []byte("sound"))
	first, second := keep(t, s, []byte("first")), keep(t, s, []byte("second"))
	want(0)
	mark(t, s, first)
	mark(t, s, first)
	mark(t, s, second)
	want(2)
	keep(t, s, []byte("first"))
	want(1)
	remove(t, s, second)
	want(0)
}

func mark(t *testing.T, s marker, ref blobs.Ref) {
	t.Helper()
	if err := s.MarkDamaged(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
}
