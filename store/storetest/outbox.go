package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// telling is a context with which changes have events, as of ada at noon.
func (w *world) telling() context.Context {
	return store.WithOutbox(w.ctx, store.Origin{Time: noon, UserID: w.ada.ID, ActorID: w.bob.ID})
}

// events fails unless the outbox holds these events, each given as its type and
// attachment.
func (w *world) events(want ...string) []store.Event {
	w.Helper()
	list, err := w.Events(w.ctx, 0, 1000)
	w.ok(err)
	var got []string
	for _, e := range list {
		got = append(got, named(e.Type, e.Attachment))
	}
	sameList(w, "events", got, want)
	size, _ := w.OutboxSize()
	same(w, "size of the outbox", size, int64(len(list)))
	return list
}

func (w *world) deadLetters(reasons ...string) []store.DeadLetter {
	w.Helper()
	list, err := w.DeadLetters(w.ctx, 0, 1000)
	w.ok(err)
	var got []string
	for _, letter := range list {
		got = append(got, letter.Reason)
	}
	sameList(w, "dead letters", got, reasons)
	_, size := w.OutboxSize()
	same(w, "number of dead letters", size, int64(len(list)))
	return list
}

func named(what store.EventType, a store.Attachment) string { return fmt.Sprint(what, " ", a.ID) }

// tellOf creates n attachments with events.
func (w *world) tellOf(n int) (all []store.Attachment, wanted []string) {
	w.Helper()
	for range n {
		a := w.file(w.product)
		w.ok(w.CreateAttachment(w.telling(), a, nil, ""))
		all, wanted = append(all, a), append(wanted, named(store.AttachmentCreated, a))
	}
	return all, wanted
}

var outbox = []promise{
	{"a change is kept with its events, and says everything", func(w *world) {
		a := w.file(w.ticket)
		a.CommentID = uuid.NullUUID{UUID: w.comment.ID, Valid: true}
		w.ok(w.CreateAttachment(w.telling(), a, nil, ""))
		w.put(store.User{ID: a.UploaderID, FullName: "another name"})
		_, err := w.DeleteAttachment(w.telling(), a.ID)
		w.ok(err)
		list := w.events(named(store.AttachmentCreated, a), named(store.AttachmentDeleted, a))
		for i, e := range list {
			a.Uploader = []string{"Ada", "another name"}[i]
			same(w, "attachment", e.Attachment, a)
			same(w, "space", e.Space, "a")
			same(w, "origin", e.Origin, store.Origin{UserID: w.ada.ID, ActorID: w.bob.ID})
			same(w, "since when it waits", e.Queued, noon)
		}
		same(w, "time of the creation", list[0].Time, a.CreatedAt())
		same(w, "time of the deletion", list[1].Time, noon)
		if list[0].ID == list[1].ID || list[0].ID == uuid.Nil {
			w.Errorf("the ids are %s and %s", list[0].ID, list[1].ID)
		}
	}},
	{"without an origin, nothing is told", func(w *world) {
		a := w.upload(w.product)
		_, err := w.DeleteAttachment(w.ctx, a.ID)
		w.ok(err)
		w.events()
	}},
	{"what is refused is not told", func(w *world) {
		a := w.upload(w.product)
		w.refused(w.CreateAttachment(w.telling(), a, nil, ""), store.ErrConflict)
		_, err := w.DeleteAttachment(w.telling(), id(99))
		w.refused(err, store.ErrNotFound)
		_, err = w.DeleteEntity(w.telling(), w.product.Parent, false)
		w.refused(err, store.ErrConflict)
		_, err = w.DeleteSpace(w.telling(), "a", false)
		w.refused(err, store.ErrConflict)
		w.events()
	}},
	{"deletions that others bring with them are told", func(w *world) {
		inMeeting, inProduct, inTicket := w.upload(w.meeting), w.upload(w.product), w.upload(w.ticket)
		w.upload(w.product2)
		_, err := w.DeleteEntity(w.telling(), w.meeting.Parent, true)
		w.ok(err)
		w.events(named(store.AttachmentDeleted, inMeeting))
		_, err = w.DeleteSpace(w.telling(), "a", true)
		w.ok(err)
		w.events(named(store.AttachmentDeleted, inMeeting), named(store.AttachmentDeleted, inProduct), named(store.AttachmentDeleted, inTicket))
	}},
	{"events are read from anywhere, and go when they are delivered", func(w *world) {
		_, wanted := w.tellOf(5)
		list := w.events(wanted...)
		some, err := w.Events(w.ctx, list[1].Seq, 2)
		w.ok(err)
		same(w, "events read", len(some), 2)
		same(w, "first of them", some[0], list[2])
		w.ok(w.AckEvents(w.ctx, []uint64{list[0].Seq, list[3].Seq}))
		w.ok(w.AckEvents(w.ctx, []uint64{list[0].Seq}))
		w.events(wanted[1], wanted[2], wanted[4])
	}},
	{"an event that is given up can be sent again, as the last", func(w *world) {
		_, wanted := w.tellOf(3)
		list := w.events(wanted...)
		letter := store.DeadLetter{Event: list[0], Time: noon.Add(time.Hour), Reason: "500"}
		w.ok(w.AckEvents(w.ctx, []uint64{list[1].Seq}, letter))
		w.ok(w.AckEvents(w.ctx, nil, letter))
		w.events(wanted[2])
		kept := w.deadLetters("500")
		same(w, "time", kept[0].Time, letter.Time)
		n, err := w.Redeliver(w.ctx, noon.Add(2*time.Hour), 10)
		w.ok(err)
		same(w, "sent again", n, 1)
		w.deadLetters()
		again := w.events(wanted[2], wanted[0])[1]
		same(w, "id", again.ID, list[0].ID)
		same(w, "since when it waits", again.Queued, noon.Add(2*time.Hour))
		same(w, "when it happened", again.Time, list[0].Time)
	}},
	{"dead letters are forgotten in the end", func(w *world) {
		_, wanted := w.tellOf(4)
		for i, e := range w.events(wanted...) {
			w.ok(w.AckEvents(w.ctx, nil, store.DeadLetter{Event: e, Time: noon.Add(time.Duration(i) * time.Hour), Reason: fmt.Sprint(i)}))
			if i == 2 { // the times in the letters do not matter
				_, err := w.PruneDeadLetters(w.ctx, time.Hour, 24*time.Hour, 2)
				w.ok(err)
			}
		}
		for _, want := range []int{2, 1, 0} {
			n, err := w.PruneDeadLetters(w.ctx, 25*time.Hour, 24*time.Hour, 2)
			w.ok(err)
			same(w, "forgotten", n, want)
		}
		w.deadLetters("3")
	}},
	{"whoever waits is told", func(w *world) {
		w.tellOf(2)
		<-w.NewEvents()
		w.upload(w.product)
		select {
		case <-w.NewEvents():
			w.Error("told of nothing")
		default:
		}
	}},
}
