package contents_test

import (
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/google/uuid"

	"attachd/server/contents"
	"attachd/store"
)

// tryUpload is upload where that may be refused.
func (h *house) tryUpload(content string) error {
	spool := h.Spool(h.Context())
	defer spool.Close()
	if _, err := io.WriteString(spool, content); err != nil {
		return err
	}
	a := store.Attachment{Parent: h.product.Parent, FileName: "a.txt", Type: "text/plain", Size: spool.Size(), SHA256: spool.Ref(), UploaderID: h.user.ID}
	return spool.Record(h.Context(), h.log, &a, "", func() uuid.UUID { return uuid.Must(uuid.NewV7()) })
}

func TestNothingIsUploadedOrDeletedDuringAPauseNorAfterAMove(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const there = "there"
	h.upload(there)
	change := func() error { return h.Change(func() error { return nil }) }
	for _, c := range []struct {
		moved bool
		after error
	}{{false, nil}, {true, contents.ErrMoved}} {
		end := h.Pause()
		for what, err := range map[string]error{"an upload": h.tryUpload("during"), "another change": change(), "a look": h.MayChange()} {
			if !errors.Is(err, contents.ErrPaused) {
				t.Errorf("during a pause, %s: %v", what, err)
			}
		}
		if err := h.read(there); err != nil {
			t.Errorf("during a pause, reading: %v", err)
		}
		end(c.moved)
		for what, err := range map[string]error{"an upload": h.tryUpload("after"), "another change": change(), "a look": h.MayChange()} {
			if !errors.Is(err, c.after) {
				t.Errorf("after it, %s: %v", what, err)
			}
		}
	}
	if err := h.read(there); err != nil {
		t.Errorf("after the move, reading: %v", err)
	}
	if err := h.read("during"); err == nil {
		t.Error("an upload that was refused is there")
	}
}

// What the migration finds must be all that was acknowledged.
func TestAPauseBeginsWhenNoChangeIsUnderWay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var ended bool
	var all sync.WaitGroup
	all.Go(func() {
		err := h.Change(func() error {
			close(begun)
			<-goOn
			ended = true
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-begun
	paused := make(chan func(bool))
	go func() { paused <- h.Pause() }()
	for !errors.Is(h.MayChange(), contents.ErrPaused) {
	}
	select {
	case <-paused:
		t.Error("it did not wait for the change")
	default:
	}
	close(goOn)
	end := <-paused
	if !ended {
		t.Error("it did not wait for the change")
	}
	end(false)
	all.Wait()
}
