package bolt

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// A disk may take seconds for a commit. Who reads what was acknowledged a moment before
// does not wait for it, and gets the same answers as after it.
func TestReadsDoNotWaitForACommit(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	c, err := l.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.upload("one", "two", "one")
	first, two := l.made[1], l.made[2]
	// Its id is before those of all others, as that of an imported file may be.
	old := l.file([]byte("four"))
	old.ID = uuid.UUID{1}
	if err := l.CreateStaged(t.Context(), old, []byte("four"), []byte("checksums"), ""); err != nil {
		t.Fatal(err)
	}
	place := blobs.Place{Object: blobs.NewObject(blobs.RefOf([]byte("large"))), Size: 5, Stored: time.Unix(1_700_000_000, 0)}
	if err := errors.Join(c.Intend(t.Context(), []blobs.Object{place.Object}), c.Settle(t.Context(), []blobs.Place{place})); err != nil {
		t.Fatal(err)
	}
	list := func(after uuid.UUID, limit int) (string, error) {
		list, err := l.AttachmentsOf(t.Context(), old.Parent, after, limit)
		names := ""
		for _, a := range list {
			names += fmt.Sprint(slices.IndexFunc(l.made, func(b store.Attachment) bool { return a.ID == b.ID }))
		}
		return names, err
	}
	content := func(sum [32]byte) (string, error) {
		content, err := l.StagedContent(t.Context(), sum)
		return string(content), err
	}
	reads := []struct {
		name string
		read func() (string, error)
		want string
	}{
		{"a record", func() (string, error) { a, err := l.Attachment(t.Context(), two.ID); return a.FileName, err }, "a.txt"},
		{"a list", func() (string, error) { return list(uuid.Nil, 100) }, "-10123"},
		{"a list behind one", func() (string, error) { return list(first.ID, 100) }, "23"},
		{"a page of a list", func() (string, error) { return list(uuid.Nil, 2) }, "-10"},
		{"a page behind one", func() (string, error) { return list(old.ID, 2) }, "01"},
		{"a content", func() (string, error) { return content(two.SHA256) }, "two"},
		{"a content that two have", func() (string, error) { return content(first.SHA256) }, "one"},
		{"checksums", func() (string, error) { sums, err := l.Checksums(t.Context(), old.SHA256); return string(sums), err }, "checksums"},
		{"a space", func() (string, error) { _, u, err := l.Space(t.Context(), "a"); return fmt.Sprint(u), err }, "{22 5}"},
		{"a place", func() (string, error) { p, err := c.Place(t.Context(), place.Ref); return fmt.Sprint(p == place), err }, "true"},
	}
	answers := func(when string) {
		for _, r := range reads {
			if got, err := r.read(); err != nil || got != r.want {
				t.Errorf("%s, %s is %q, not %q: %v", when, r.name, got, r.want, err)
			}
		}
	}
	h := &held{make(chan struct{}, 10), make(chan struct{})}
	l.held.Store(h)
	var changing sync.WaitGroup
	changing.Go(func() {
		if err := l.Probe(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-h.begun
	read := make(chan struct{})
	go func() { answers("during the commit"); close(read) }()
	select {
	case <-read:
	case <-time.After(time.Minute):
		t.Error("reads wait for the commit")
	}
	l.held.Store(nil)
	close(h.end)
	changing.Wait()
	<-read
	answers("after the commit")
}

// However commits and reads meet, what was acknowledged is seen until it is deleted, and
// not afterwards.
func TestWhatIsAcknowledgedIsSeenUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	var working, compacting sync.WaitGroup
	done := make(chan struct{})
	compacting.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := l.Compact(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for worker := range 4 {
		working.Go(func() {
			for n := range 25 {
				content := fmt.Append(nil, worker, " ", n)
				a := l.file(content)
				if err := l.CreateStaged(t.Context(), a, content, nil, ""); err != nil {
					t.Error(err)
					return
				}
				for _, want := range []bool{true, false} {
					_, err := l.Attachment(t.Context(), a.ID)
					list, listErr := l.AttachmentsOf(t.Context(), a.Parent, uuid.Nil, 1000)
					_, contentErr := l.StagedContent(t.Context(), a.SHA256)
					times := 0
					for _, b := range list {
						if b.ID == a.ID {
							times++
						}
					}
					if want && (err != nil || listErr != nil || times != 1 || contentErr != nil) {
						t.Errorf("it was acknowledged: %v, %v, %v, and %d times in the list", err, listErr, contentErr, times)
					}
					if !want && (!errors.Is(err, store.ErrNotFound) || listErr != nil || times != 0) {
						t.Errorf("it was deleted: %v, %v, and %d times in the list", err, listErr, times)
					}
					if _, err := l.DeleteAttachment(t.Context(), a.ID); want && err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	working.Wait()
	close(done)
	compacting.Wait()
}
