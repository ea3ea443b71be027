package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// on is what a hold on a thing of the world is on: a space's slug, an entity or an attachment.
func on(what any) store.Held {
	switch what := what.(type) {
	case store.Attachment:
		return store.Held{Attachment: what.ID}
	case store.Entity:
		return store.Held{Parent: what.Parent}
	}
	return store.Held{Space: what.(string)}
}

// hold sets a hold by ada.
func (w *world) hold(what any) store.Hold {
	w.Helper()
	h, err := w.SetHold(w.ctx, store.Hold{ID: uuid.Must(uuid.NewV7()), On: on(what), Reason: "case 4711", ByID: w.ada.ID})
	w.ok(err)
	return h
}

func (w *world) lift(h store.Hold) {
	w.Helper()
	got, err := w.LiftHold(w.ctx, h.ID)
	w.ok(err)
	same(w, "what is lifted", got, h)
}

// holds are the ids of all holds in a space, or in all.
func (w *world) holds(space string, want ...store.Hold) {
	w.Helper()
	var wanted []uuid.UUID
	for _, h := range want {
		wanted = append(wanted, h.ID)
	}
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []uuid.UUID
		var after []byte
		for {
			list, err := w.Holds(w.ctx, space, after, limit)
			w.ok(err)
			for _, h := range list {
				got, after = append(got, h.ID), h.Place()
			}
			if len(list) < limit {
				break
			}
		}
		sameList(w, "holds in "+space, got, wanted)
	}
}

// deletions are all ways to delete an attachment, its parent or its space.
func (w *world) deletions(a store.Attachment, e store.Entity) map[string]func() error {
	return map[string]func() error{
		"DeleteAttachment": func() error { _, err := w.DeleteAttachment(w.ctx, a.ID); return err },
		"TrashAttachment":  func() error { _, err := w.TrashAttachment(w.ctx, a.ID, w.into(0)); return err },
		"DeleteEntity":     func() error { _, err := w.DeleteEntity(w.ctx, e.Parent, true); return err },
		"TrashEntity":      func() error { return w.TrashEntity(w.ctx, e.Parent, true, w.into(0)) },
		"DeleteSpace":      func() error { _, err := w.DeleteSpace(w.ctx, e.Space, true); return err },
		"TrashSpace":       func() error { return w.TrashSpace(w.ctx, e.Space, true, w.into(0)) },
	}
}

// held fails unless a hold refuses all of these deletions, with a sentence that does not tell
// the reason.
func (w *world) held(deletions map[string]func() error) {
	w.Helper()
	for name, do := range deletions {
		if sentence := w.told(do(), store.ErrHeld); strings.Contains(sentence, "4711") {
			w.Errorf("%s tells the reason: %s", name, sentence)
		}
	}
}

var holding = []promise{
	{"a hold says what it is on, why, since when and by whom, until it is lifted", func(w *world) {
		a, b := w.upload(w.product), w.upload(w.ticket2)
		began := time.Now().Add(-time.Second)
		onA, onProduct, onSpace, onB := w.hold(a), w.hold(w.product), w.hold("a"), w.hold(b)
		for h, want := range map[*store.Hold]store.Held{
			&onA:       {Space: "a", Parent: w.product.Parent, Attachment: a.ID},
			&onProduct: {Space: "a", Parent: w.product.Parent},
			&onSpace:   {Space: "a"},
			&onB:       {Space: "ab", Parent: w.ticket2.Parent, Attachment: b.ID},
		} {
			same(w, "what it is on", h.On, want)
			got, err := w.Hold(w.ctx, h.ID)
			w.ok(err)
			same(w, "hold", got, *h)
			same(w, "by", h.By, w.ada.FullName)
			same(w, "reason", h.Reason, "case 4711")
			same(w, "it is of now", h.SetAt().Before(began.Truncate(time.Second)), false)
		}
		again := w.hold(a)
		w.holds("a", onSpace, onProduct, onA, again)
		w.holds("ab", onB)
		w.holds("", onSpace, onProduct, onA, again, onB)
		w.holds("other")
		w.holds("a\x00")
		w.sound()
		w.lift(onA)
		_, err := w.Hold(w.ctx, onA.ID)
		w.told(err, store.ErrNotFound)
		_, err = w.LiftHold(w.ctx, onA.ID)
		w.told(err, store.ErrNotFound)
		w.holds("a", onSpace, onProduct, again)
		w.ok(w.DeleteUser(w.ctx, w.ada.ID))
		got, err := w.Hold(w.ctx, again.ID)
		w.ok(err)
		same(w, "by who was deleted", got.By, w.ada.FullName)
		w.sound()
	}},
	{"what is held is not deleted, nor what it is in, nor what it has below", func(w *world) {
		a, beside, elsewhere := w.upload(w.product), w.upload(w.product), w.upload(w.meeting)
		for _, what := range []any{a, w.product, "a"} {
			h := w.hold(what)
			w.held(w.deletions(a, w.product))
			if what == "a" {
				w.held(w.deletions(elsewhere, w.meeting))
			}
			if what == any(w.product) {
				_, err := w.DeleteAttachment(w.ctx, beside.ID)
				w.told(err, store.ErrHeld)
			}
			w.lift(h)
		}
		h := w.hold(a)
		_, err := w.DeleteAttachment(w.ctx, beside.ID)
		w.ok(err)
		_, err = w.DeleteEntity(w.ctx, w.meeting.Parent, true)
		w.ok(err)
		_, err = w.DeleteSpace(w.ctx, "ab", true)
		w.ok(err)
		sameList(w, "what is left", w.attachmentsOf(w.product), []store.Attachment{a})
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
		w.lift(h)
		_, err = w.DeleteSpace(w.ctx, "a", true)
		w.ok(err)
		w.removeAll()
		w.sound()
	}},
	{"a comment stays while its ticket is held, or something in that", func(w *world) {
		a := w.upload(w.ticket)
		for _, what := range []any{a, w.ticket, "a"} {
			h := w.hold(what)
			w.told(w.DeleteComment(w.ctx, w.comment), store.ErrHeld)
			same(w, "has comment", w.hasComment(w.comment), true)
			w.lift(h)
		}
		w.ok(w.DeleteComment(w.ctx, w.comment))
		w.sound()
	}},
	{"a parent or a space without attachments is held, too", func(w *world) {
		h := w.hold(w.meeting)
		_, err := w.DeleteEntity(w.ctx, w.meeting.Parent, false)
		w.told(err, store.ErrHeld)
		w.told(w.TrashEntity(w.ctx, w.meeting.Parent, false, w.into(0)), store.ErrHeld)
		_, err = w.DeleteSpace(w.ctx, "a", false)
		w.told(err, store.ErrHeld)
		w.lift(h)
		h = w.hold("ab")
		w.told(w.TrashSpace(w.ctx, "ab", false, w.into(0)), store.ErrHeld)
		_, err = w.DeleteEntity(w.ctx, w.meeting2.Parent, false)
		w.told(err, store.ErrHeld)
		w.lift(h)
		w.ok(w.TrashSpace(w.ctx, "ab", false, w.into(0)))
	}},
	{"what was in the trash before is held with its parent or its space", func(w *world) {
		ofProduct, ofMeeting := w.upload(w.product), w.upload(w.meeting)
		w.trash(ofProduct, 0)
		w.trash(ofMeeting, 1)
		w.upload(w.ticket)
		w.trashEntity(w.ticket, 2)
		h := w.hold(w.product)
		_, err := w.PurgeAttachment(w.ctx, ofProduct.ID)
		w.told(err, store.ErrHeld)
		w.lift(h)
		h = w.hold("a")
		_, err = w.PurgeAttachment(w.ctx, ofMeeting.ID)
		w.told(err, store.ErrHeld)
		w.told(w.PurgeEntity(w.ctx, w.ticket.Parent), store.ErrHeld)
		restored, err := w.RestoreAttachment(w.ctx, ofMeeting.ID)
		w.ok(err)
		same(w, "restored", restored, ofMeeting)
		w.lift(h)
		_, err = w.PurgeAttachment(w.ctx, ofProduct.ID)
		w.ok(err)
		w.ok(w.PurgeEntity(w.ctx, w.ticket.Parent))
		w.removeAll()
		w.trashSize(0)
		w.sound()
	}},
	{"what is due and held stays, until later if that is wanted, and does not keep others", func(w *world) {
		held, other := w.upload(w.product), w.upload(w.product2)
		w.trash(held, 0)
		w.upload(w.ticket)
		w.trashEntity(w.ticket, 1)
		w.trash(other, 2)
		h := w.hold("a")
		_, purged, more, err := w.PurgeUntil(w.ctx, w.into(1).Until, time.Time{}, 10)
		w.ok(err)
		same(w, "nothing is removed", fmt.Sprint(purged, more), fmt.Sprint(store.Usage{}, false))
		_, earliest, err := w.TrashSize(w.ctx)
		w.ok(err)
		same(w, "the first to end", earliest, w.into(0).Until)

		later := w.into(30).Until
		var all store.Usage
		for more = true; more; {
			if _, purged, more, err = w.PurgeUntil(w.ctx, w.into(2).Until, later, 1); err != nil {
				w.ok(err)
			}
			all = all.Plus(purged)
		}
		same(w, "removed", all, other.Usage())
		_, earliest, err = w.TrashSize(w.ctx)
		w.ok(err)
		same(w, "the first to end", earliest, later)
		w.trashIn("a", w.ticket, held)
		got, err := w.TrashedAttachment(w.ctx, held.ID)
		w.ok(err)
		same(w, "it stays until", got.Until, later)
		w.sound()

		w.lift(h)
		w.purgeAll(29, 10)
		w.trashIn("a", w.ticket, held)
		w.purgeAll(30, 10)
		w.removeAll()
		w.trashSize(0)
		w.sound()
	}},
	{"a hold is on what is there, by somebody who is there", func(w *world) {
		a, gone := w.upload(w.product), w.upload(w.product)
		w.trash(gone, 0)
		w.upload(w.meeting)
		w.trashEntity(w.meeting, 0)
		set := func(what any, by store.User, id uuid.UUID) error {
			_, err := w.SetHold(w.ctx, store.Hold{ID: id, On: on(what), Reason: "case 4711", ByID: by.ID})
			return err
		}
		nobody := store.User{ID: id(99)}
		for _, what := range []any{gone, w.file(w.product), w.meeting, store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: id(99)}}, "other", "a\x00"} {
			w.told(set(what, w.ada, uuid.Must(uuid.NewV7())), store.ErrNotFound)
		}
		w.told(set(a, nobody, uuid.Must(uuid.NewV7())), store.ErrNotFound)
		operators := store.Hold{ID: uuid.Must(uuid.NewV7()), On: on(w.product), Reason: "case 4711"}
		got, err := w.SetHold(w.ctx, operators)
		w.ok(err)
		operators.On.Space = "a"
		same(w, "by the operator", got, operators)
		first := w.hold(a)
		w.told(set("ab", w.ada, first.ID), store.ErrConflict)
		for range store.MaxHolds - 1 {
			w.hold(a)
		}
		w.told(set(a, w.ada, uuid.Must(uuid.NewV7())), store.ErrConflict)
		w.hold(w.product)
		w.sound()
	}},
	{"of a hold and a deletion at once, one is refused", func(w *world) {
		for round := range 30 {
			a := w.upload(w.product)
			var both sync.WaitGroup
			var held, deleted error
			both.Go(func() {
				_, held = w.SetHold(w.ctx, store.Hold{ID: uuid.Must(uuid.NewV7()), On: on(a), Reason: "case 4711", ByID: w.ada.ID})
			})
			both.Go(func() {
				if round%2 == 0 {
					_, deleted = w.DeleteAttachment(w.ctx, a.ID)
				} else {
					_, deleted = w.TrashAttachment(w.ctx, a.ID, w.into(0))
				}
			})
			both.Wait()
			_, err := w.Attachment(w.ctx, a.ID)
			switch {
			case held == nil && errors.Is(deleted, store.ErrHeld) && err == nil:
			case errors.Is(held, store.ErrNotFound) && deleted == nil && errors.Is(err, store.ErrNotFound):
			default:
				w.Fatalf("the hold: %v; the deletion: %v; then: %v", held, deleted, err)
			}
		}
		w.sound()
	}},
}
