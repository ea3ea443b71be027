package storetest

import (
	"sync"

	"github.com/google/uuid"

	"attachd/store"
)

// wantChecksums checks the stored checksums of a content; "" means none.
func (w *world) wantChecksums(of [32]byte, want string) {
	w.Helper()
	got, err := w.Checksums(w.ctx, of)
	if want == "" {
		w.refused(err, store.ErrNotFound)
		return
	}
	w.ok(err)
	same(w, "checksums", string(got), want)
}

// wantWhole fails unless a Check finds no fault.
func (w *world) wantWhole() {
	w.Helper()
	faults, err := w.Check(w.ctx, nil)
	w.ok(err)
	sameList(w, "faults", faults, nil)
}

// summed returns a new file with the n-th content, not in the store yet.
func (w *world) summed(e store.Entity, n byte) store.Attachment {
	a := w.file(e)
	a.SHA256 = content(n)
	return a
}

var checksums = []promise{
	{"checksums come with their record, and last until the last record of the content goes", func(w *world) {
		first, second, other := w.summed(w.product, 1), w.summed(w.ticket2, 1), w.summed(w.meeting, 2)
		w.ok(w.CreateAttachment(w.ctx, first, []byte("one"), ""))
		w.ok(w.CreateAttachment(w.ctx, second, []byte("one"), ""))
		w.ok(w.CreateAttachment(w.ctx, other, []byte("two"), ""))
		for i, id := range []uuid.UUID{second.ID, first.ID} {
			w.wantChecksums(content(1), "one")
			_, err := w.DeleteAttachment(w.ctx, id)
			w.ok(err)
			w.wantWhole()
			if i == 1 {
				w.wantChecksums(content(1), "")
			}
		}
		w.wantChecksums(content(2), "two")
	}},
	{"a record without checksums leaves those that are known", func(w *world) {
		w.ok(w.CreateAttachment(w.ctx, w.summed(w.product, 1), []byte("one"), ""))
		w.ok(w.CreateAttachment(w.ctx, w.summed(w.product, 1), nil, ""))
		w.ok(w.CreateAttachment(w.ctx, w.summed(w.product, 1), []byte{}, ""))
		w.wantChecksums(content(1), "one")
	}},
	{"a record that is refused brings no checksums", func(w *world) {
		a := w.summed(w.product, 1)
		a.Parent.ID = id(99)
		w.refused(w.CreateAttachment(w.ctx, a, []byte("one"), ""), store.ErrNotFound)
		w.wantChecksums(content(1), "")
		w.wantWhole()
	}},
	{"checksums are added to contents that are there, in place of others", func(w *world) {
		w.create(w.summed(w.product, 1))
		w.ok(w.CreateAttachment(w.ctx, w.summed(w.product, 2), []byte("wrong"), ""))
		w.wantChecksums(content(1), "")
		for range 2 {
			w.ok(w.AddChecksums(w.ctx, map[[32]byte][]byte{content(1): []byte("one"), content(2): []byte("two"), content(3): []byte("three")}))
			w.wantChecksums(content(1), "one")
			w.wantChecksums(content(2), "two")
			w.wantChecksums(content(3), "")
		}
		w.ok(w.AddChecksums(w.ctx, nil))
		w.wantWhole()
	}},
	{"what goes with its parent or space takes its checksums along", func(w *world) {
		for n, e := range []store.Entity{w.product, w.ticket, w.meeting, w.product2} {
			w.ok(w.CreateAttachment(w.ctx, w.summed(e, byte(n)), []byte("its own"), ""))
			w.ok(w.CreateAttachment(w.ctx, w.summed(e, 9), []byte("shared"), ""))
		}
		_, err := w.DeleteEntity(w.ctx, w.product.Parent, true)
		w.ok(err)
		w.wantChecksums(content(0), "")
		w.wantChecksums(content(1), "its own")
		_, err = w.DeleteSpace(w.ctx, "a", true)
		w.ok(err)
		w.wantChecksums(content(1), "")
		w.wantChecksums(content(2), "")
		w.wantChecksums(content(3), "its own")
		w.wantChecksums(content(9), "shared")
		w.wantWhole()
		_, err = w.DeleteSpace(w.ctx, "ab", true)
		w.ok(err)
		w.wantChecksums(content(9), "")
	}},
	{"checksums that are added while records go are gone with the last", func(w *world) {
		var all sync.WaitGroup
		for range 20 {
			a := w.create(w.summed(w.product, 1))
			all.Go(func() {
				if err := w.AddChecksums(w.ctx, map[[32]byte][]byte{content(1): []byte("one")}); err != nil {
					w.Error(err)
				}
			})
			all.Go(func() {
				if _, err := w.DeleteAttachment(w.ctx, a.ID); err != nil {
					w.Error(err)
				}
			})
		}
		all.Wait()
		w.wantChecksums(content(1), "")
		w.wantWhole()
	}},
}
