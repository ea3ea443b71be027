package contents_test

import (
	"context"
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
	for _, after := range []error{nil, contents.ErrMoved} {
		end, err := h.Pause(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"an upload": h.tryUpload("during"), "another change": change(), "a look": h.MayChange()} {
			if !errors.Is(err, contents.ErrPaused) {
				t.Errorf("during a pause, %s: %v", what, err)
			}
		}
		if err := h.read(there); err != nil {
			t.Errorf("during a pause, reading: %v", err)
		}
		end(after)
		for what, err := range map[string]error{"an upload": h.tryUpload("after"), "another change": change(), "a look": h.MayChange()} {
			if !errors.Is(err, after) {
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
	paused := make(chan func(error))
	go func() {
		end, err := h.Pause(t.Context())
		if err != nil {
			t.Error(err)
		}
		paused <- end
	}()
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
	end(nil)
	all.Wait()
}

// An upload that hangs must not have all others refused for as long.
func TestAPauseThatIsGivenUpLeavesEverythingAsItWas(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	err := h.Change(func() error {
		ctx, giveUp := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := h.Pause(ctx)
			ended <- err
		}()
		for !errors.Is(h.MayChange(), contents.ErrPaused) {
		}
		giveUp()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
		return errors.Join(h.MayChange(), h.tryUpload("meanwhile"))
	})
	if err != nil {
		t.Errorf("while the change goes on: %v", err)
	}
	end, err := h.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	end(nil)
}
