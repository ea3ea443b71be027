package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

var attachments = []promise{
	{"a record is read as it was written", func(w *world) {
		plain := w.upload(w.product)
		commented := w.file(w.ticket)
		commented.CommentID = uuid.NullUUID{UUID: w.comment.ID, Valid: true}
		commented.Size = 1 << 40
		w.create(commented)
		for _, want := range []store.Attachment{plain, commented} {
			got, err := w.Attachment(w.ctx, want.ID)
			w.ok(err)
			same(w, "record", got, want)
		}
	}},
	{"an unknown id is not found", func(w *world) {
		_, err := w.Attachment(w.ctx, id(99))
		w.refused(err, store.ErrNotFound)
		_, err = w.DeleteAttachment(w.ctx, id(99))
		w.refused(err, store.ErrNotFound)
	}},
	{"an id is taken once", func(w *world) {
		first := w.upload(w.product)
		second := w.file(w.meeting)
		second.ID = first.ID
		w.refused(w.CreateAttachment(w.ctx, second, nil, ""), store.ErrConflict)
		sameList(w, "of the product", w.attachmentsOf(w.product), []store.Attachment{first})
		sameList(w, "of the meeting", w.attachmentsOf(w.meeting), nil)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
	}},
	{"what an attachment names must be there", func(w *world) {
		comment := func(c uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: c, Valid: true} }
		for what, change := range map[string]func(*store.Attachment){
			"product":                   func(a *store.Attachment) { a.Parent = store.Parent{Kind: store.Product, ID: id(99)} },
			"uploader":                  func(a *store.Attachment) { a.UploaderID = id(99) },
			"comment":                   func(a *store.Attachment) { a.Parent = w.ticket.Parent; a.CommentID = comment(id(99)) },
			"comment of another ticket": func(a *store.Attachment) { a.Parent = w.ticket.Parent; a.CommentID = comment(w.comment2.ID) },
			"comment of a product":      func(a *store.Attachment) { a.CommentID = comment(w.comment.ID) },
		} {
			a := w.file(w.product)
			change(&a)
			if w.told(w.CreateAttachment(w.ctx, a, nil, ""), store.ErrNotFound); w.referenced(a.SHA256) {
				w.Fatalf("%s: refused, but referenced", what)
			}
		}
		same(w, "usage", w.usage("a"), store.Usage{})
	}},
	{"a parent's list is oldest first, in pages, and has no others", func(w *world) {
		var want []store.Attachment
		for range 5 {
			want = append(want, w.upload(w.product))
			w.upload(w.ticket)
			w.upload(w.meeting)
			w.upload(w.product2)
		}
		pages(w, want,
			func(a store.Attachment) uuid.UUID { return a.ID },
			func(after uuid.UUID, limit int) ([]store.Attachment, error) {
				return w.AttachmentsOf(w.ctx, w.product.Parent, after, limit)
			})
	}},
	{"a record made late takes its place by id", func(w *world) {
		older, newer := w.file(w.product), w.file(w.product)
		w.create(newer)
		w.create(older)
		sameList(w, "list", w.attachmentsOf(w.product), []store.Attachment{older, newer})
	}},
	{"a parent that is not there has none", func(w *world) {
		list, err := w.AttachmentsOf(w.ctx, store.Parent{Kind: store.Product, ID: id(99)}, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "list", list, nil)
	}},
	{"a list goes on where a deleted record was", func(w *world) {
		first, second, third := w.upload(w.product), w.upload(w.product), w.upload(w.product)
		_, err := w.DeleteAttachment(w.ctx, second.ID)
		w.ok(err)
		rest, err := w.AttachmentsOf(w.ctx, w.product.Parent, second.ID, 10)
		w.ok(err)
		sameList(w, "after the deleted one", rest, []store.Attachment{third})
		sameList(w, "all", w.attachmentsOf(w.product), []store.Attachment{first, third})
	}},
	{"the list of all goes by id, in pages", func(w *world) {
		var want []store.Attachment
		for _, e := range []store.Entity{w.meeting2, w.product, w.ticket, w.product2, w.meeting} {
			want = append(want, w.upload(e))
		}
		pages(w, want,
			func(a store.Attachment) uuid.UUID { return a.ID },
			func(after uuid.UUID, limit int) ([]store.Attachment, error) {
				return w.AllAttachments(w.ctx, after, limit)
			})
	}},
	{"deleting gives back what it was", func(w *world) {
		want := w.upload(w.ticket)
		got, err := w.DeleteAttachment(w.ctx, want.ID)
		w.ok(err)
		same(w, "deleted record", got, want)
		_, err = w.DeleteAttachment(w.ctx, want.ID)
		w.refused(err, store.ErrNotFound)
		_, err = w.Attachment(w.ctx, want.ID)
		w.refused(err, store.ErrNotFound)
		sameList(w, "list", w.attachmentsOf(w.ticket), nil)
		all, err := w.AllAttachments(w.ctx, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "all", all, nil)
	}},
	{"a content is referenced until its last record goes", func(w *world) {
		same(w, "before", w.referenced(content(1)), false)
		first, second := w.upload(w.product), w.upload(w.ticket2)
		same(w, "with two", w.referenced(content(1)), true)
		same(w, "another content", w.referenced(content(2)), false)
		_, err := w.DeleteAttachment(w.ctx, first.ID)
		w.ok(err)
		same(w, "with one", w.referenced(content(1)), true)
		_, err = w.DeleteAttachment(w.ctx, second.ID)
		w.ok(err)
		same(w, "with none", w.referenced(content(1)), false)
	}},
	{"the records with a content are found by it, oldest first", func(w *world) {
		first, second := w.upload(w.product), w.upload(w.ticket2)
		other := w.file(w.meeting)
		other.SHA256 = content(2)
		w.create(other)
		with := func(n byte, limit int, want ...store.Attachment) {
			w.Helper()
			list, err := w.AttachmentsWith(w.ctx, content(n), limit)
			w.ok(err)
			sameList(w, "records", list, want)
		}
		with(1, 3, first, second)
		with(1, 2, first, second)
		with(1, 1, first)
		with(1, 0)
		with(2, 3, other)
		with(3, 3)
	}},
	{"totals count every attachment, and each content once", func(w *world) {
		total := func(want store.Totals) {
			w.Helper()
			got, err := w.Totals(w.ctx, func(time.Duration) {})
			w.ok(err)
			same(w, "attachments", got.Attachments, want.Attachments)
			same(w, "contents", got.Contents, want.Contents)
			same(w, "sizes", got.BySize, want.BySize)
			same(w, "types", fmt.Sprint(got.ByType), fmt.Sprint(want.ByType))
		}
		total(store.Totals{})
		first := w.upload(w.product)
		w.upload(w.ticket2)
		w.upload(w.meeting)
		other := w.file(w.meeting)
		other.SHA256, other.Size, other.Type = content(2), 16, "text/plain"
		w.create(other)
		total(store.Totals{Attachments: store.Usage{Bytes: 46, Files: 4}, Contents: store.Usage{Bytes: 26, Files: 2},
			ByType: map[string]store.Usage{"application/pdf": {Bytes: 30, Files: 3}, "text/plain": {Bytes: 16, Files: 1}},
			BySize: [64]store.Usage{4: {Bytes: 46, Files: 4}}})
		for _, id := range []uuid.UUID{first.ID, other.ID} {
			_, err := w.DeleteAttachment(w.ctx, id)
			w.ok(err)
		}
		total(store.Totals{Attachments: store.Usage{Bytes: 20, Files: 2}, Contents: store.Usage{Bytes: 10, Files: 1},
			ByType: map[string]store.Usage{"application/pdf": {Bytes: 20, Files: 2}},
			BySize: [64]store.Usage{4: {Bytes: 20, Files: 2}}})
	}},
	{"an uploader has the name of today", func(w *world) {
		a := w.upload(w.product)
		w.put(store.User{ID: w.ada.ID, FullName: "Ada Lovelace"})
		got, err := w.Attachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "record", got.Uploader, "Ada Lovelace")
		same(w, "list", w.attachmentsOf(w.product)[0].Uploader, "Ada Lovelace")
	}},
	{"a deleted uploader has the last name", func(w *world) {
		a := w.upload(w.product)
		w.put(store.User{ID: w.ada.ID, FullName: "Ada Lovelace"})
		w.ok(w.DeleteUser(w.ctx, w.ada.ID))
		same(w, "list", w.attachmentsOf(w.product)[0].Uploader, "Ada Lovelace")
		deleted, err := w.DeleteAttachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "deleted record", deleted.Uploader, "Ada Lovelace")
	}},
	{"a deleted user uploads no more", func(w *world) {
		w.ok(w.DeleteUser(w.ctx, w.ada.ID))
		w.refused(w.CreateAttachment(w.ctx, w.file(w.product), nil, ""), store.ErrNotFound)
	}},
	{"a record is as old as its id", func(w *world) {
		before := time.Now().Truncate(time.Second)
		got := w.upload(w.product).CreatedAt()
		if got.Before(before) || got.After(time.Now()) {
			w.Fatalf("created at %v, which is not now", got)
		}
		same(w, "parts of a second", got.Nanosecond(), 0)
		same(w, "zone", got.Location(), time.UTC)
	}},
}

var quota = []promise{
	{"usage counts every file, stored once or not", func(w *world) {
		w.upload(w.product)
		w.upload(w.ticket)
		w.upload(w.meeting)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 30, Files: 3})
		same(w, "usage of the neighbour", w.usage("ab"), store.Usage{})
	}},
	{"deleting gives it back", func(w *world) {
		a := w.upload(w.product)
		w.upload(w.ticket)
		_, err := w.DeleteAttachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
	}},
	{"bytes up to the quota fit, and not one more", func(w *world) {
		w.put(store.Space{Slug: "a", QuotaBytes: 25})
		w.upload(w.product)
		a := w.file(w.ticket)
		a.Size, a.SHA256 = 16, content(2)
		sentence := w.told(w.CreateAttachment(w.ctx, a, nil, ""), store.ErrQuota)
		if !strings.Contains(sentence, `"a"`) || !strings.Contains(sentence, "25 bytes") {
			w.Fatalf("the sentence does not name space and quota: %s", sentence)
		}
		same(w, "referenced when refused", w.referenced(content(2)), false)
		a.Size = 15
		w.create(a)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 25, Files: 2})
	}},
	{"files up to the quota fit, and not one more", func(w *world) {
		w.put(store.Space{Slug: "a", QuotaFiles: 2})
		w.upload(w.product)
		w.upload(w.ticket)
		sentence := w.told(w.CreateAttachment(w.ctx, w.file(w.meeting), nil, ""), store.ErrQuota)
		if !strings.Contains(sentence, `"a"`) || !strings.Contains(sentence, "2 files") {
			w.Fatalf("the sentence does not name space and quota: %s", sentence)
		}
		w.upload(w.product2)
	}},
	{"a quota below what is used lets nothing in and things out", func(w *world) {
		a := w.upload(w.product)
		w.put(store.Space{Slug: "a", QuotaBytes: 5, QuotaFiles: 5})
		small := w.file(w.product)
		small.Size = 1
		w.refused(w.CreateAttachment(w.ctx, small, nil, ""), store.ErrQuota)
		_, err := w.DeleteAttachment(w.ctx, a.ID)
		w.ok(err)
		w.create(small)
	}},
	{"putting a space again keeps its usage", func(w *world) {
		w.upload(w.product)
		w.put(store.Space{Slug: "a", Name: "New"})
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
	}},
	{"of fifty at once exactly those get in that fit", func(w *world) {
		w.put(store.Space{Slug: "a", QuotaBytes: 179, QuotaFiles: 1000}, store.Space{Slug: "ab", QuotaFiles: 13})
		fits := func(e store.Entity) int64 {
			var in atomic.Int64
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					err := w.CreateAttachment(w.ctx, w.file(e), nil, "")
					if err == nil {
						in.Add(1)
					} else if !errors.Is(err, store.ErrQuota) {
						w.Error(err)
					}
				})
			}
			all.Wait()
			return in.Load()
		}
		same(w, "accepted by bytes", fits(w.ticket), 17)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 170, Files: 17})
		same(w, "records", len(w.attachmentsOf(w.ticket)), 17)
		same(w, "accepted by files", fits(w.meeting2), 13)
		same(w, "usage", w.usage("ab"), store.Usage{Bytes: 130, Files: 13})
	}},
}

var autoCreate = []promise{
	{"a missing product is made in its space, and the space", func(w *world) {
		a := w.file(w.product)
		a.Parent.ID = id(50)
		w.ok(w.CreateAttachment(w.ctx, a, nil, "new"))
		space, usage, err := w.Space(w.ctx, "new")
		w.ok(err)
		same(w, "space", space, store.Space{Slug: "new", Name: "new", Auto: true})
		same(w, "usage", usage, store.Usage{Bytes: 10, Files: 1})
		e, err := w.Entity(w.ctx, a.Parent)
		w.ok(err)
		same(w, "product", e, store.Entity{Parent: a.Parent, Space: "new"})
		same(w, "uploader's role", w.role("new", w.ada), store.Admin)
		list, err := w.Entities(w.ctx, "new", store.Product, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "products", list, []store.Entity{e})
	}},
	{"a ticket so made belongs to the uploader", func(w *world) {
		a := w.file(w.ticket)
		a.Parent.ID, a.UploaderID = id(50), w.eve.ID
		w.ok(w.CreateAttachment(w.ctx, a, nil, "default"))
		e, err := w.Entity(w.ctx, a.Parent)
		w.ok(err)
		same(w, "ticket", e, store.Entity{Parent: a.Parent, Space: "default", OwnerID: w.eve.ID})
	}},
	{"everybody who uploads to an auto space becomes its admin", func(w *world) {
		a := w.file(w.meeting)
		a.Parent.ID = id(50)
		w.ok(w.CreateAttachment(w.ctx, a, nil, "default"))
		a = w.file(w.meeting)
		a.Parent.ID, a.UploaderID = id(50), w.eve.ID
		w.ok(w.CreateAttachment(w.ctx, a, nil, "default"))
		same(w, "second uploader's role", w.role("default", w.eve), store.Admin)
	}},
	{"a member of an auto space keeps the role", func(w *world) {
		w.put(store.Space{Slug: "auto", Auto: true}, store.Member{Space: "auto", UserID: w.ada.ID, Role: store.Viewer})
		a := w.file(w.product)
		a.Parent.ID = id(50)
		w.ok(w.CreateAttachment(w.ctx, a, nil, "auto"))
		same(w, "role", w.role("auto", w.ada), store.Viewer)
	}},
	{"in a space of the system of record nobody becomes anything", func(w *world) {
		a := w.file(w.product)
		a.Parent.ID, a.UploaderID = id(50), w.eve.ID
		w.ok(w.CreateAttachment(w.ctx, a, nil, "a"))
		same(w, "role", w.role("a", w.eve), store.NoRole)
	}},
	{"an auto space stops being one when put", func(w *world) {
		a := w.file(w.product)
		a.Parent.ID = id(50)
		w.ok(w.CreateAttachment(w.ctx, a, nil, "new"))
		sameList(w, "created", w.put(store.Space{Slug: "new", Name: "New"}), []bool{false})
		b := w.file(w.product)
		b.Parent.ID, b.UploaderID = id(51), w.eve.ID
		w.ok(w.CreateAttachment(w.ctx, b, nil, "new"))
		same(w, "role", w.role("new", w.eve), store.NoRole)
		same(w, "usage", w.usage("new"), store.Usage{Bytes: 20, Files: 2})
	}},
	{"a product known in another space is not found", func(w *world) {
		w.told(w.CreateAttachment(w.ctx, w.file(w.product), nil, "ab"), store.ErrNotFound)
		w.told(w.CreateAttachment(w.ctx, w.file(w.product), nil, "new"), store.ErrNotFound)
		_, _, err := w.Space(w.ctx, "new")
		w.refused(err, store.ErrNotFound)
	}},
	{"a known ticket or meeting stays where it is", func(w *world) {
		w.ok(w.CreateAttachment(w.ctx, w.file(w.ticket), nil, "default"))
		w.ok(w.CreateAttachment(w.ctx, w.file(w.meeting), nil, "default"))
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 20, Files: 2})
		_, _, err := w.Space(w.ctx, "default")
		w.refused(err, store.ErrNotFound)
	}},
	{"whoever uploads to a ticket in another auto space becomes nothing there", func(w *world) {
		w.put(store.Space{Slug: "auto", Auto: true})
		e := store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: id(50)}, Space: "auto", OwnerID: w.ada.ID}
		w.put(e)
		w.ok(w.CreateAttachment(w.ctx, w.file(e), nil, "default"))
		same(w, "role", w.role("auto", w.ada), store.NoRole)
		same(w, "role", w.role("default", w.ada), store.NoRole)
	}},
	{"a refused upload makes nothing", func(w *world) {
		a := w.file(w.ticket)
		a.Parent.ID = id(50)
		a.CommentID = uuid.NullUUID{UUID: w.comment.ID, Valid: true}
		w.refused(w.CreateAttachment(w.ctx, a, nil, "new"), store.ErrNotFound)
		_, err := w.Entity(w.ctx, a.Parent)
		w.refused(err, store.ErrNotFound)
		_, _, err = w.Space(w.ctx, "new")
		w.refused(err, store.ErrNotFound)

		w.put(store.Space{Slug: "full", Auto: true, QuotaBytes: 1})
		b := w.file(w.product)
		b.Parent.ID = id(51)
		w.refused(w.CreateAttachment(w.ctx, b, nil, "full"), store.ErrQuota)
		_, err = w.Entity(w.ctx, b.Parent)
		w.refused(err, store.ErrNotFound)
		same(w, "role", w.role("full", w.ada), store.NoRole)
	}},
	{"fifty at once make one parent", func(w *world) {
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				a := w.file(w.ticket)
				a.Parent.ID = id(50)
				if err := w.CreateAttachment(w.ctx, a, nil, "default"); err != nil {
					w.Error(err)
				}
			})
		}
		all.Wait()
		same(w, "usage", w.usage("default"), store.Usage{Bytes: 500, Files: 50})
	}},
}

var whole = []promise{
	{"a probe changes nothing that shows", func(w *world) {
		w.ok(w.Probe(w.ctx))
		w.ok(w.Probe(w.ctx))
	}},
	{"a note is read as it was last written", func(w *world) {
		for _, name := range []string{"probe", "a", "a b"} {
			_, err := w.Note(w.ctx, name)
			w.refused(err, store.ErrNotFound)
			for _, value := range []string{"first", "", "second of " + name} {
				w.ok(w.SetNote(w.ctx, name, []byte(value)))
				got, err := w.Note(w.ctx, name)
				w.ok(err)
				same(w, name, string(got), value)
			}
		}
		w.ok(w.Probe(w.ctx))
		for _, name := range []string{"probe", "a", "a b"} {
			got, err := w.Note(w.ctx, name)
			w.ok(err)
			same(w, name, string(got), "second of "+name)
		}
		faults, err := w.Check(w.ctx, nil)
		w.ok(err)
		sameList(w, "faults", faults, nil)
	}},
	{"a healthy store has no faults, however busy it is", func(w *world) {
		w.session(w.key(w.ada, 1), 1)
		w.TouchKey(w.key(w.bob, 2).ID, noon)
		inComment := w.file(w.ticket)
		inComment.CommentID = uuid.NullUUID{UUID: w.comment.ID, Valid: true}
		w.create(inComment)
		w.ok(w.DeleteUser(w.ctx, w.bob.ID)) // who owns a ticket
		var busy sync.WaitGroup
		for range 4 {
			busy.Go(func() {
				for range 10 {
					a := w.file(w.meeting)
					if err := w.CreateAttachment(w.ctx, a, nil, ""); err != nil {
						w.Error(err)
					}
					if _, err := w.DeleteAttachment(w.ctx, a.ID); err != nil {
						w.Error(err)
					}
				}
			})
		}
		for range 5 {
			faults, err := w.Check(w.ctx, nil)
			if err != nil || len(faults) > 0 {
				w.Errorf("faults: %q, %v", faults, err)
			}
		}
		busy.Wait()
		ended, end := context.WithCancel(w.ctx)
		end()
		_, err := w.Check(ended, nil)
		w.refused(err, context.Canceled)
	}},
	{"a call whose context has ended changes nothing", func(w *world) {
		a := w.upload(w.product)
		ended, end := context.WithCancel(w.ctx)
		end()
		w.refused(w.CreateAttachment(ended, w.file(w.product), nil, ""), context.Canceled)
		_, err := w.DeleteAttachment(ended, a.ID)
		w.refused(err, context.Canceled)
		w.refused(w.DeleteUser(ended, w.ada.ID), context.Canceled)
		w.refused(w.Probe(ended), context.Canceled)
		_, err = w.Attachment(ended, a.ID)
		w.refused(err, context.Canceled)
		sameList(w, "list", w.attachmentsOf(w.product), []store.Attachment{a})
	}},
	{"readers and writers do not disturb each other", func(w *world) {
		var all sync.WaitGroup
		if w.Compacter != nil {
			all.Go(func() {
				for range 5 {
					if _, err := w.Compact(w.ctx); err != nil {
						w.Error(err)
					}
				}
			})
		}
		for range 8 {
			all.Go(func() {
				for range 5 {
					a := w.file(w.product)
					if err := w.CreateAttachment(w.ctx, a, nil, ""); err != nil {
						w.Error(err)
					}
					if _, err := w.Attachment(w.ctx, a.ID); err != nil {
						w.Errorf("acknowledged and not there: %v", err)
					}
					if _, err := w.DeleteAttachment(w.ctx, a.ID); err != nil {
						w.Error(err)
					}
				}
			})
			all.Go(func() {
				for range 20 {
					if _, err := w.AttachmentsOf(w.ctx, w.product.Parent, uuid.Nil, 100); err != nil {
						w.Error(err)
					}
				}
			})
		}
		all.Wait()
		same(w, "usage", w.usage("a"), store.Usage{})
		same(w, "referenced", w.referenced(content(1)), false)
	}},
}
