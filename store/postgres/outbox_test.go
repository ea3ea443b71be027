package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/portable"
	"attachd/store/postgres"
)

// tell uploads attachments with events.
func tell(t *testing.T, s *postgres.Store, h house, n int) (ids []uuid.UUID) {
	t.Helper()
	ctx := store.WithOutbox(context.Background(), store.Origin{Time: noon})
	for range n {
		a := h.file("content")
		if err := keep(s, a); err != nil {
			t.Fatal(err)
		}
		if err := s.CreateAttachment(ctx, a, nil, ""); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
	}
	return ids
}

// within fails unless something happens within a moment.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a minute later: %s", what)
		}
	}
}

// sized says whether a store counts so many events and dead letters.
func sized(s *postgres.Store, events, dead int64) func() bool {
	return func() bool {
		e, d := s.OutboxSize()
		return e == events && d == dead
	}
}

// Whichever process sends the events learns of those of the others.
func TestWhoeverWaitsIsToldOfTheEventsOfOtherProcesses(t *testing.T) {
	t.Parallel()
	all, _ := replicas(t, 2)
	sends, writes := all[0], all[1]
	h := fill(t, writes, store.Space{Slug: "a"})
	for n := range 2 {
		told := tell(t, writes, h, 1)
		select {
		case <-sends.NewEvents():
		case <-time.After(time.Minute):
			t.Fatal("nobody told of it")
		}
		list, err := sends.Events(t.Context(), 0, 10)
		if err != nil || len(list) != 1 || list[0].Attachment.ID != told[0] {
			t.Fatalf("in round %d, the events are %+v, %v", n, list, err)
		}
		within(t, "the event is not counted", sized(sends, 1, 0))
		// Another one that comes while this one goes leaves their number as it was.
		if n == 0 {
			if err := writes.AckEvents(t.Context(), []uint64{list[0].Seq}); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, err := sends.Events(t.Context(), 0, 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("the events are %+v, %v", list, err)
	}
	letter := store.DeadLetter{Event: list[0], Time: time.Unix(1_700_000_000, 123_456_789).UTC(), Reason: "500"}
	if err := sends.AckEvents(t.Context(), nil, letter, letter); err != nil {
		t.Fatal(err)
	}
	if !sized(sends, 0, 1)() {
		t.Error("what it gave up itself is not counted at once")
	}
	within(t, "the dead letter is not counted", sized(writes, 0, 1))
	if letters, err := writes.DeadLetters(t.Context(), 0, 10); err != nil || len(letters) != 1 || letters[0].Time != letter.Time {
		t.Errorf("the dead letters are %+v, %v", letters, err)
	}
}

// A receiver may be away for a month.
func TestTheOutboxIsBounded(t *testing.T) {
	t.Parallel()
	all, _ := replicas(t, 2)
	h := fill(t, all[0], store.Space{Slug: "a"})
	for _, s := range all {
		s.SetMaxEvents(3)
	}
	posted := func(events []uuid.UUID, dead ...uuid.UUID) {
		t.Helper()
		within(t, fmt.Sprintf("there are not %d and %d", len(events), len(dead)), sized(all[0], int64(len(events)), int64(len(dead))))
		within(t, fmt.Sprintf("there are not %d and %d", len(events), len(dead)), sized(all[1], int64(len(events)), int64(len(dead))))
		list, err := all[0].Events(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		letters, err := all[1].DeadLetters(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		var gotEvents, gotDead []uuid.UUID
		for _, e := range list {
			gotEvents = append(gotEvents, e.Attachment.ID)
		}
		for _, l := range letters {
			gotDead = append(gotDead, l.Event.Attachment.ID)
			if l.Reason != store.ReasonOutboxFull {
				t.Errorf("the reason is %q", l.Reason)
			}
		}
		if fmt.Sprint(gotEvents) != fmt.Sprint(events) || fmt.Sprint(gotDead) != fmt.Sprint(dead) {
			t.Errorf("the outbox has %v and %v, want %v and %v", gotEvents, gotDead, events, dead)
		}
	}
	first := tell(t, all[0], h, 5)
	posted(first[2:], first[:2]...)
	second := tell(t, all[1], h, 4)
	posted(second[1:], append(first[3:], second[0])...)
}

// An event that cannot be decoded keeps back neither the others nor their return from among the
// dead letters, and is lost to nobody: a program that knows it can send it.
func TestAnEventThatCannotBeDecodedKeepsBackNoOther(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	s := openAt(t, dsn)
	h := fill(t, s, store.Space{Slug: "a"})
	told := tell(t, s, h, 5)
	for n, odd := range map[int]string{0: `{"id": 5}`, 2: `["a list"]`, 4: `{}`} {
		run(t, dsn, fmt.Sprintf(`update attachd.outbox set event = '%s' where seq = (select seq from attachd.outbox order by seq offset %d limit 1)`, odd, n))
	}
	list, err := s.Events(t.Context(), 0, 2)
	if err != nil || len(list) != 2 || list[0].Attachment.ID != told[1] || list[1].Attachment.ID != told[3] {
		t.Fatalf("the events are %+v, %v", list, err)
	}
	if list, err = s.Events(t.Context(), 0, 10); err != nil || len(list) != 2 {
		t.Fatalf("all events are %+v, %v", list, err)
	}
	if err := s.AckEvents(t.Context(), nil, store.DeadLetter{Event: list[0], Time: noon, Reason: "500"}, store.DeadLetter{Event: list[1], Time: noon, Reason: "500"}); err != nil {
		t.Fatal(err)
	}
	letters, err := s.DeadLetters(t.Context(), 0, 10)
	if err != nil || len(letters) != 5 || !sized(s, 0, 5)() {
		t.Fatalf("the dead letters are %+v, %v", letters, err)
	}
	for _, l := range letters[:3] {
		if l.Event.ID != uuid.Nil || l.Time.IsZero() || l.Reason != "the event cannot be decoded" {
			t.Errorf("a dead letter is %+v", l)
		}
	}
	for _, want := range []int{1, 1, 0} {
		if n, err := s.Redeliver(t.Context(), noon, 1); err != nil || n != want {
			t.Errorf("%d were sent again, %v, want %d", n, err, want)
		}
	}
	if list, err = s.Events(t.Context(), 0, 10); err != nil || len(list) != 2 || list[0].Attachment.ID != told[1] || !sized(s, 2, 3)() {
		t.Errorf("afterwards the events are %+v, %v", list, err)
	}
	if faults, err := s.Check(t.Context(), nil); err != nil || len(faults) != 3 {
		t.Errorf("a check finds %q, %v", faults, err)
	}
	run(t, dsn, `update attachd.outbox set event = '{}' where seq = (select max(seq) from attachd.outbox)`)
	var copied []uint64
	for row, err := range s.Export(t.Context()) {
		if err != nil {
			t.Fatal("a copy of the records: ", err)
		}
		if e, is := row.(portable.Event); is {
			copied = append(copied, e.Seq)
		} else if l, is := row.(portable.DeadLetter); is {
			t.Errorf("a copy of the records has %+v", l)
		}
	}
	if !slices.Equal(copied, []uint64{list[0].Seq}) {
		t.Errorf("a copy of the records has the events %v, want %d", copied, list[0].Seq)
	}
}
