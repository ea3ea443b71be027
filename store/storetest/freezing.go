package storetest

import (
	"context"
	"errors"
	"time"

	"attachd/store"
)

var freezing = []promise{
	{"changes are refused while a store is frozen, and reads and notes go on", func(w *world) {
		a := w.upload(w.product)
		inTrash := w.upload(w.product)
		w.trash(inTrash, 0)
		hold := w.hold(w.ticket)
		key := w.key(w.ada, 1)
		another, elsewhere := w.file(w.product), w.file(w.product)
		elsewhere.Parent.ID = id(73)
		recorded := store.WithEntry(w.ctx, &store.Entry{Action: "test", Outcome: "done"})
		changes := map[string]func() error{
			"an upload":   func() error { return w.Store.CreateAttachment(recorded, another, nil, "") },
			"a new space": func() error { return w.Store.CreateAttachment(recorded, elsewhere, nil, "new") },
			"a deletion":  func() error { _, err := w.DeleteAttachment(recorded, a.ID); return err },
			"an object":   func() error { _, err := w.Put(recorded, store.User{ID: id(70)}); return err },
			"a role": func() error {
				_, err := w.Put(recorded, store.Member{Space: "a", UserID: w.eve.ID, Role: store.Admin})
				return err
			},
			"a user's end": func() error { return w.DeleteUser(recorded, w.eve.ID) },
			"a parent's":   func() error { _, err := w.DeleteEntity(recorded, w.meeting.Parent, true); return err },
			"a space's":    func() error { _, err := w.DeleteSpace(recorded, "ab", true); return err },
			"the trash":    func() error { _, err := w.TrashAttachment(recorded, a.ID, w.into(0)); return err },
			"a restore":    func() error { _, err := w.RestoreAttachment(recorded, inTrash.ID); return err },
			"a purge": func() error {
				_, _, _, err := w.PurgeUntil(recorded, w.into(0).Until, time.Time{}, 1)
				return err
			},
			"a hold": func() error {
				_, err := w.SetHold(recorded, store.Hold{ID: id(72), On: on(w.product), Reason: "case 4711", ByID: w.ada.ID})
				return err
			},
			"a hold's end": func() error { _, err := w.LiftHold(recorded, hold.ID); return err },
			"a key":        func() error { return w.CreateKey(recorded, store.Key{ID: id(71), UserID: w.bob.ID, Hash: content(71)}) },
			"a key's end":  func() error { return w.DeleteKey(recorded, key.ID) },
			"a session":    func() error { return w.CreateSession(recorded, store.Session{Hash: content(72), KeyID: key.ID}, noon) },
		}
		thaw, err := w.Freeze(w.ctx)
		w.ok(err)
		again, err := w.Freeze(w.ctx)
		w.ok(err)
		for what, change := range changes {
			if err := change(); err == nil || !isFrozen(err) {
				w.Errorf("%s while the store is frozen: %v", what, err)
			}
		}
		w.Record(store.Entry{Time: noon, Action: "a download"})
		w.ok(w.SetNote(w.ctx, "note", []byte("set")))
		w.ok(w.Probe(w.ctx))
		got, err := w.Attachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "the attachment", got, a)
		_, err = w.Note(w.ctx, "note")
		w.ok(err)
		w.ok(again(context.WithoutCancel(w.ctx)))
		w.ok(thaw(w.ctx))
		w.ok(changes["a role"]())
		w.ok(changes["a deletion"]())
		w.ok(changes["an upload"]())
	}},
}

func isFrozen(err error) bool { return errors.Is(err, store.ErrFrozen) }
