package upkeep_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/server/upkeep"
	"attachd/server/upkeep/upkeeptest"
)

func TestTheStatusTellsWhatWasDoneLast(t *testing.T) {
	h := upkeeptest.New(t)
	ctx := context.Background()
	status, err := upkeep.ReadStatus(ctx, h.Records, time.Now())
	h.OK(err)
	if !status.LastBackup.IsZero() || !status.Ahead.IsZero() {
		t.Errorf("of a new House: %+v", status)
	}
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, made := range []time.Time{first, first.Add(time.Hour)} {
		h.OK(upkeep.NoteDone(ctx, h.Records, upkeep.Backup, made))
		status, err = upkeep.ReadStatus(ctx, h.Records, time.Now())
		h.OK(err)
		if !status.LastBackup.Equal(made) {
			t.Errorf("noted %v, read %v", made, status.LastBackup)
		}
	}
	if !status.LastCheck.IsZero() || !status.LastGC.IsZero() {
		t.Errorf("what was not done: %+v", status)
	}
	h.OK(upkeep.NoteDone(ctx, h.Records, upkeep.Checking, first))
	h.OK(upkeep.NoteDone(ctx, h.Records, upkeep.Collecting, first.Add(time.Minute)))
	status, err = upkeep.ReadStatus(ctx, h.Records, time.Now())
	h.OK(err)
	if !status.LastCheck.Equal(first) || !status.LastGC.Equal(first.Add(time.Minute)) {
		t.Errorf("after a check and a collection: %+v", status)
	}
	h.OK(h.Records.SetNote(ctx, "backup", []byte("yesterday")))
	if _, err := upkeep.ReadStatus(ctx, h.Records, time.Now()); err == nil {
		t.Error("a note that is no time is no error")
	}
}

func TestTheStatusTellsOfAttachmentsFromTheFuture(t *testing.T) {
	h := upkeeptest.New(t)
	a := h.Keep("now", true)
	for _, c := range []struct {
		now   time.Time
		ahead bool
	}{
		{time.Now(), false},
		{time.Now().Add(-30 * time.Second), false}, // clocks are adjusted in steps
		{time.Now().Add(-2 * time.Minute), true},
		{time.Now().Add(-10 * 365 * 24 * time.Hour), true},
	} {
		status, err := upkeep.ReadStatus(context.Background(), h.Records, c.now)
		h.OK(err)
		if !status.Ahead.IsZero() != c.ahead || c.ahead && !status.Ahead.Equal(a.CreatedAt()) {
			t.Errorf("at %v: %+v", c.now, status)
		}
	}
}

func TestADatabaseKeepsItsInstallationsID(t *testing.T) {
	h := upkeeptest.New(t)
	id, err := upkeep.Installation(t.Context(), h.Records)
	h.OK(err)
	h.Close()
	h.Open()
	again, err := upkeep.Installation(t.Context(), h.Records)
	h.OK(err)
	status, err := upkeep.ReadStatus(t.Context(), h.Records, time.Now())
	h.OK(err)
	if id == uuid.Nil || again != id || status.Installation != id {
		t.Errorf("%v, then %v, and the status says %v", id, again, status.Installation)
	}
	h.OK(upkeep.KeepInstallation(t.Context(), h.Records, uuid.New()))
	if kept, err := upkeep.Installation(t.Context(), h.Records); kept != id || err != nil {
		t.Errorf("another was given to it: %v, %v", kept, err)
	}
}
