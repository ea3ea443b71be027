package storetest

import (
	"errors"
	"sync"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// contents are of stores that are also the catalog in which several processes look up where
// contents are.
var contents = []promise{
	{"a record is refused whose content nobody has kept", func(w *world) {
		w.refused(w.Store.CreateAttachment(w.telling(), w.file(w.product), []byte("sums"), ""), store.ErrNoContent)
		anew := w.file(w.product)
		anew.Parent.ID = id(99)
		w.refused(w.Store.CreateAttachment(w.ctx, anew, nil, "new"), store.ErrNoContent)
		_, _, err := w.Space(w.ctx, "new")
		w.told(err, store.ErrNotFound)
		_, err = w.Entity(w.ctx, anew.Parent)
		w.told(err, store.ErrNotFound)
		sameList(w, "attachments", w.attachmentsOf(w.product), nil)
		same(w, "usage", w.usage("a"), store.Usage{})
		same(w, "referenced", w.referenced(content(1)), false)
		w.events()

		known := w.upload(w.meeting)
		w.ok(w.Store.CreateAttachment(w.ctx, w.file(w.product), nil, "")) // which others have kept
		_, err = w.DeleteEntity(w.ctx, w.product.Parent, true)
		w.ok(err)
		_, err = w.DeleteAttachment(w.ctx, known.ID)
		w.ok(err)
		same(w, "released", w.release(known.SHA256), true)
		w.refused(w.Store.CreateAttachment(w.ctx, w.file(w.meeting), nil, ""), store.ErrNoContent)
	}},
	{"Release never takes what a record names", func(w *world) {
		first, second := w.upload(w.product), w.upload(w.ticket2)
		same(w, "with two records", w.release(first.SHA256), false)
		_, err := w.DeleteAttachment(w.ctx, first.ID)
		w.ok(err)
		same(w, "with one", w.release(first.SHA256), false)
		_, err = w.Catalog.Place(w.ctx, first.SHA256)
		w.ok(err)
		_, err = w.DeleteAttachment(w.ctx, second.ID)
		w.ok(err)
		same(w, "with none", w.release(first.SHA256), true)
		_, err = w.Catalog.Place(w.ctx, first.SHA256)
		w.refused(err, blobs.ErrNotFound)
	}},
	{"Release never takes what waits for its record", func(w *world) {
		a := w.file(w.product)
		w.keep(a)
		same(w, "while it is held", w.release(a.SHA256), false)
		w.ok(w.Store.CreateAttachment(w.ctx, a, nil, ""))
		w.ok(w.Holder.Unhold(w.ctx, []blobs.Ref{a.SHA256}))
		w.keep(a)
		_, err := w.DeleteAttachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "while another one is to come", w.release(a.SHA256), false)
		w.ok(w.Holder.Unhold(w.ctx, []blobs.Ref{a.SHA256}))
		same(w, "when that was given up", w.release(a.SHA256), true)
	}},
	{"of a record and a Release at once, one comes too late", func(w *world) {
		const rounds = 30
		for n := range rounds {
			a := w.file(w.product)
			a.SHA256 = content(byte(n + 1))
			w.keep(a)
			w.ok(w.Holder.Unhold(w.ctx, []blobs.Ref{a.SHA256}))
			var refused, failed error
			var released bool
			var both sync.WaitGroup
			both.Go(func() { refused = w.Store.CreateAttachment(w.ctx, a, nil, "") })
			both.Go(func() { released, failed = w.Catalog.Release(w.ctx, a.SHA256) })
			both.Wait()
			w.ok(failed)
			if released {
				w.refused(refused, store.ErrNoContent)
				continue
			}
			w.ok(refused)
			_, err := w.Catalog.Place(w.ctx, a.SHA256)
			w.ok(err)
		}
		list, err := w.AllAttachments(w.ctx, uuid.Nil, 2*rounds)
		w.ok(err)
		for _, a := range list {
			if _, err := w.Catalog.Place(w.ctx, a.SHA256); errors.Is(err, blobs.ErrNotFound) {
				w.Errorf("attachment %s names a content that is nowhere", a.ID)
			}
		}
	}},
}

// release is that of the catalog.
func (w *world) release(sha256 [32]byte) bool {
	w.Helper()
	was, err := w.Catalog.Release(w.ctx, sha256)
	w.ok(err)
	return was
}
