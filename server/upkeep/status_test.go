package upkeep_test

import (
	"context"
	"testing"
	"time"

	"attachd/server/upkeep"
)

func TestTheStatusTellsWhatWasDoneLast(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	status, err := upkeep.ReadStatus(ctx, h.records, time.Now())
	h.ok(err)
	if !status.LastBackup.IsZero() || !status.Ahead.IsZero() {
		t.Errorf("of a new house: %+v", status)
	}
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, made := range []time.Time{first, first.Add(time.Hour)} {
		h.ok(upkeep.NoteDone(ctx, h.records, upkeep.Backup, made))
		status, err = upkeep.ReadStatus(ctx, h.records, time.Now())
		h.ok(err)
		if !status.LastBackup.Equal(made) {
			t.Errorf("noted %v, read %v", made, status.LastBackup)
		}
	}
	if !status.LastCheck.IsZero() || !status.LastGC.IsZero() {
		t.Errorf("what was not done: %+v", status)
	}
	h.ok(upkeep.NoteDone(ctx, h.records, upkeep.Checking, first))
	h.ok(upkeep.NoteDone(ctx, h.records, upkeep.Collecting, first.Add(time.Minute)))
	status, err = upkeep.ReadStatus(ctx, h.records, time.Now())
	h.ok(err)
	if !status.LastCheck.Equal(first) || !status.LastGC.Equal(first.Add(time.Minute)) {
		t.Errorf("after a check and a collection: %+v", status)
	}
	h.ok(h.records.SetNote(ctx, "backup", []byte("yesterday")))
	if _, err := upkeep.ReadStatus(ctx, h.records, time.Now()); err == nil {
		t.Error("a note that is no time is no error")
	}
}

func TestTheStatusTellsOfAttachmentsFromTheFuture(t *testing.T) {
	h := newHouse(t)
	a := h.keep("now", true)
	for _, c := range []struct {
		now   time.Time
		ahead bool
	}{
		{time.Now(), false},
		{time.Now().Add(-30 * time.Second), false}, // clocks are set right in steps
		{time.Now().Add(-2 * time.Minute), true},
		{time.Now().Add(-10 * 365 * 24 * time.Hour), true},
	} {
		status, err := upkeep.ReadStatus(context.Background(), h.records, c.now)
		h.ok(err)
		if !status.Ahead.IsZero() != c.ahead || c.ahead && !status.Ahead.Equal(a.CreatedAt()) {
			t.Errorf("at %v: %+v", c.now, status)
		}
	}
}
