package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// into is a deletion into the trash by bob, some hours after noon, that ends a week later.
func (w *world) into(hours int) store.Deletion {
	at := noon.Add(time.Duration(hours) * time.Hour).UTC()
	return store.Deletion{At: at, Until: at.AddDate(0, 0, 7), ByID: w.bob.ID}
}

// trashed is what is to be in the trash for an attachment.
func (w *world) trashed(a store.Attachment, space string, hours int) store.Trashed {
	d := w.into(hours)
	d.By = w.bob.FullName
	return store.Trashed{Deletion: d, Space: space, Attachment: a, Files: a.Usage()}
}

// trash moves an attachment to the trash.
func (w *world) trash(a store.Attachment, hours int) {
	w.Helper()
	got, err := w.TrashAttachment(w.ctx, a.ID, w.into(hours))
	w.ok(err)
	same(w, "what goes to the trash", got, a)
}

func (w *world) trashEntity(e store.Entity, hours int) {
	w.Helper()
	w.ok(w.TrashEntity(w.ctx, e.Parent, true, w.into(hours)))
}

func (w *world) trashSpace(slug string, hours int) {
	w.Helper()
	w.ok(w.TrashSpace(w.ctx, slug, true, w.into(hours)))
}

func (w *world) trashOf(e store.Entity) (list []store.Attachment) {
	w.Helper()
	all, err := w.TrashOf(w.ctx, e.Parent, uuid.Nil, 10_000)
	w.ok(err)
	for _, t := range all {
		list = append(list, t.Attachment)
	}
	return list
}

// trashIn fails unless that is in the trash of a space, or are the spaces in the trash: each
// of it is given by its id or slug.
func (w *world) trashIn(space string, want ...any) {
	w.Helper()
	all, err := w.TrashIn(w.ctx, space, nil, 1000)
	w.ok(err)
	var got, wanted []string
	for _, t := range all {
		switch {
		case t.Attachment.ID != uuid.Nil:
			got = append(got, t.Attachment.ID.String())
		case t.Entity.Kind != 0:
			got = append(got, fmt.Sprint(t.Entity.Parent))
		default:
			got = append(got, t.Space)
		}
	}
	for _, one := range want {
		switch one := one.(type) {
		case store.Attachment:
			wanted = append(wanted, one.ID.String())
		case store.Entity:
			wanted = append(wanted, fmt.Sprint(one.Parent))
		default:
			wanted = append(wanted, fmt.Sprint(one))
		}
	}
	sameList(w, "trash of "+space, got, wanted)
}

// trashSize fails unless that many files of 10 bytes are in the trash.
func (w *world) trashSize(files int64) {
	w.Helper()
	size, earliest, err := w.TrashSize(w.ctx)
	w.ok(err)
	same(w, "size of the trash", size, store.Usage{Bytes: 10 * files, Files: files})
	if files > 0 && earliest.IsZero() {
		w.Fatal("nothing is the first to end")
	}
}

// sound fails when a check finds faults.
func (w *world) sound() {
	w.Helper()
	faults, err := w.Check(w.ctx, nil)
	w.ok(err)
	sameList(w, "faults", faults, nil)
}

// hidden fails unless attachments are seen nowhere but where the contract says.
func (w *world) hidden(all ...store.Attachment) {
	w.Helper()
	for _, a := range all {
		w.isHidden(a)
	}
}

func (w *world) isHidden(a store.Attachment) {
	w.Helper()
	_, err := w.Attachment(w.ctx, a.ID)
	w.told(err, store.ErrNotFound)
	_, err = w.DeleteAttachment(w.ctx, a.ID)
	w.told(err, store.ErrNotFound)
	_, err = w.TrashAttachment(w.ctx, a.ID, w.into(9))
	w.told(err, store.ErrNotFound)
	list, err := w.AttachmentsOf(w.ctx, a.Parent, uuid.Nil, 10_000)
	w.ok(err)
	same(w, "it is listed", slices.Contains(list, a), false)
	list, err = w.AttachmentsWith(w.ctx, a.SHA256, 10_000)
	w.ok(err)
	same(w, "it is listed with its content", slices.Contains(list, a), false)
	list, err = w.AllAttachments(w.ctx, uuid.Nil, 10_000)
	w.ok(err)
	same(w, "it is among all", slices.Contains(list, a), true)
	same(w, "its content is referenced", w.referenced(a.SHA256), true)
	again := a
	again.FileName = "again"
	w.refused(w.CreateAttachment(w.ctx, again, nil, ""), store.ErrConflict)
}

// purgeAll removes all that is due by the end of a deletion that was made at those hours.
func (w *world) purgeAll(hours, limit int) (freed [][32]byte, purged store.Usage) {
	w.Helper()
	for more := true; more; {
		some, size, left, err := w.PurgeUntil(w.ctx, w.into(hours).Until, time.Time{}, limit)
		w.ok(err)
		freed, purged, more = append(freed, some...), purged.Plus(size), left
	}
	return freed, purged
}

var trash = []promise{
	{"what the operator deleted was deleted by nobody who is known", func(w *world) {
		a := w.upload(w.product)
		w.upload(w.meeting)
		d := w.into(0)
		d.ByID = uuid.Nil
		_, err := w.TrashAttachment(w.ctx, a.ID, d)
		w.ok(err)
		w.ok(w.TrashEntity(w.ctx, w.meeting.Parent, true, d))
		list, err := w.TrashIn(w.ctx, "a", nil, 10)
		w.ok(err)
		for _, t := range list {
			same(w, "deleted by", t.By, "")
		}
		same(w, "so many are in the trash", len(list), 2)
		w.sound()
		restored, err := w.RestoreAttachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "restored", restored, a)
	}},
	{"an attachment in the trash is hidden, and says when and by whom it was deleted", func(w *world) {
		a, other := w.upload(w.product), w.upload(w.product)
		w.trash(a, 0)
		w.hidden(a)
		got, err := w.TrashedAttachment(w.ctx, a.ID)
		w.ok(err)
		got.Place = nil
		same(w, "in the trash", fmt.Sprint(got), fmt.Sprint(w.trashed(a, "a", 0)))
		sameList(w, "trash of the product", w.trashOf(w.product), []store.Attachment{a})
		sameList(w, "trash of another", w.trashOf(w.product2), nil)
		w.trashIn("a", a)
		w.trashIn("ab")
		w.trashIn("")
		sameList(w, "attachments", w.attachmentsOf(w.product), []store.Attachment{other})
		w.trashSize(1)
		w.sound()
	}},
	{"nothing else is found in it", func(w *world) {
		a := w.upload(w.product)
		_, err := w.TrashedAttachment(w.ctx, a.ID)
		w.told(err, store.ErrNotFound)
		_, err = w.TrashedEntity(w.ctx, w.product.Parent)
		w.told(err, store.ErrNotFound)
		_, err = w.TrashedSpace(w.ctx, "a")
		w.told(err, store.ErrNotFound)
		_, err = w.RestoreAttachment(w.ctx, a.ID)
		w.told(err, store.ErrNotFound)
		_, err = w.RestoreAttachment(w.ctx, id(99))
		w.told(err, store.ErrNotFound)
		_, err = w.RestoreEntity(w.ctx, w.product.Parent)
		w.told(err, store.ErrNotFound)
		_, err = w.RestoreSpace(w.ctx, "a")
		w.told(err, store.ErrNotFound)
		_, err = w.PurgeAttachment(w.ctx, a.ID)
		w.told(err, store.ErrNotFound)
		w.told(w.PurgeEntity(w.ctx, w.product.Parent), store.ErrNotFound)
		w.told(w.PurgeSpace(w.ctx, "a"), store.ErrNotFound)
		_, err = w.TrashAttachment(w.ctx, id(99), w.into(0))
		w.told(err, store.ErrNotFound)
		w.told(w.TrashEntity(w.ctx, store.Parent{Kind: store.Ticket, ID: id(99)}, true, w.into(0)), store.ErrNotFound)
		w.told(w.TrashSpace(w.ctx, "none", true, w.into(0)), store.ErrNotFound)
		list, err := w.TrashOf(w.ctx, store.Parent{Kind: store.Ticket, ID: id(99)}, uuid.Nil, 10)
		w.ok(err)
		same(w, "in the trash of a ticket that is not there", len(list), 0)
		w.trashIn("none")
		w.trashSize(0)
		_, earliest, err := w.TrashSize(w.ctx)
		w.ok(err)
		same(w, "the first to end", earliest, time.Time{})
		sameList(w, "attachments", w.attachmentsOf(w.product), []store.Attachment{a})
	}},
	{"it does not count towards the quota, and does again when it is back", func(w *world) {
		a := w.upload(w.product)
		w.upload(w.ticket)
		w.trash(a, 0)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
		got, err := w.RestoreAttachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "what comes back", got, a)
		got, err = w.Attachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "what is back", got, a)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 20, Files: 2})
		sameList(w, "trash", w.trashOf(w.product), nil)
		w.trashIn("a")
		w.trashSize(0)
		w.sound()
	}},
	{"nothing comes back over a quota", func(w *world) {
		a := w.upload(w.product)
		w.trash(a, 0)
		w.put(store.Space{Slug: "a", Name: "Space A", QuotaFiles: 1})
		b := w.upload(w.product)
		_, err := w.RestoreAttachment(w.ctx, a.ID)
		w.told(err, store.ErrQuota)
		w.put(store.Space{Slug: "a", Name: "Space A", QuotaBytes: 19})
		_, err = w.RestoreAttachment(w.ctx, a.ID)
		w.told(err, store.ErrQuota)
		sameList(w, "trash", w.trashOf(w.product), []store.Attachment{a})
		w.trash(b, 0)
		_, err = w.RestoreAttachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
		w.sound()
	}},
	{"a parent does not come back over a quota either", func(w *world) {
		w.upload(w.ticket)
		w.upload(w.ticket)
		w.trashEntity(w.ticket, 0)
		same(w, "usage", w.usage("a"), store.Usage{})
		for _, quota := range []store.Space{{Slug: "a", QuotaFiles: 1}, {Slug: "a", QuotaBytes: 19}} {
			w.put(quota)
			_, err := w.RestoreEntity(w.ctx, w.ticket.Parent)
			w.told(err, store.ErrQuota)
			_, err = w.Entity(w.ctx, w.ticket.Parent)
			w.refused(err, store.ErrNotFound)
		}
		w.put(store.Space{Slug: "a", QuotaFiles: 2, QuotaBytes: 20})
		_, err := w.RestoreEntity(w.ctx, w.ticket.Parent)
		w.ok(err)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 20, Files: 2})
		w.sound()
	}},
	{"an attachment comes back to its comment, unless that was deleted", func(w *world) {
		var files []store.Attachment
		for range 2 {
			a := w.file(w.ticket)
			a.CommentID = uuid.NullUUID{UUID: w.comment.ID, Valid: true}
			files = append(files, w.create(a))
			w.trash(a, 0)
		}
		got, err := w.RestoreAttachment(w.ctx, files[0].ID)
		w.ok(err)
		same(w, "with its comment", got, files[0])
		trashed, err := w.TrashedAttachment(w.ctx, files[1].ID)
		w.ok(err)
		same(w, "in the trash with its comment", trashed.Attachment, files[1])
		w.ok(w.DeleteComment(w.ctx, w.comment))
		files[1].CommentID = uuid.NullUUID{}
		trashed, err = w.TrashedAttachment(w.ctx, files[1].ID)
		w.ok(err)
		same(w, "in the trash without", trashed.Attachment, files[1])
		list, err := w.TrashOf(w.ctx, w.ticket.Parent, uuid.Nil, 10)
		w.ok(err)
		same(w, "in the list of the trash", list[0].Attachment, files[1])
		got, err = w.RestoreAttachment(w.ctx, files[1].ID)
		w.ok(err)
		same(w, "without", got, files[1])
		got, err = w.Attachment(w.ctx, files[1].ID)
		w.ok(err)
		same(w, "as it is back", got, files[1])
		w.sound()
	}},
	{"one content lives as long as any record has it", func(w *world) {
		sums := []byte{1, 2, 3}
		var files []store.Attachment
		for range 3 {
			a := w.file(w.product)
			w.ok(w.CreateAttachment(w.ctx, a, sums, ""))
			files = append(files, a)
		}
		w.trash(files[0], 0)
		w.trash(files[1], 0)
		list, err := w.AttachmentsWith(w.ctx, content(1), 10)
		w.ok(err)
		sameList(w, "with the content", list, files[2:])
		_, err = w.PurgeAttachment(w.ctx, files[0].ID)
		w.ok(err)
		_, err = w.DeleteAttachment(w.ctx, files[2].ID)
		w.ok(err)
		same(w, "referenced", w.referenced(content(1)), true)
		got, err := w.Checksums(w.ctx, content(1))
		w.ok(err)
		sameList(w, "checksums", got, sums)
		w.ok(w.AddChecksums(w.ctx, map[[32]byte][]byte{content(1): {4}}))
		_, err = w.PurgeAttachment(w.ctx, files[1].ID)
		w.ok(err)
		_, err = w.Checksums(w.ctx, content(1))
		w.refused(err, store.ErrNotFound)
		same(w, "referenced", w.referenced(content(1)), false)
		w.sound()
	}},
	{"what is removed for good is gone, and its id free", func(w *world) {
		a := w.upload(w.product)
		w.trash(a, 0)
		got, err := w.PurgeAttachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "what is removed", got, a)
		same(w, "referenced", w.referenced(a.SHA256), false)
		_, err = w.PurgeAttachment(w.ctx, a.ID)
		w.told(err, store.ErrNotFound)
		_, err = w.RestoreAttachment(w.ctx, a.ID)
		w.told(err, store.ErrNotFound)
		w.trashSize(0)
		w.create(a)
		w.sound()
	}},
	{"the trash of a parent is read page by page", func(w *world) {
		var want []string
		for i := range 5 {
			a := w.upload(w.product)
			w.trash(a, 5-i)
			want = append(want, a.ID.String())
		}
		pages(w, want, func(id string) uuid.UUID { return uuid.MustParse(id) }, func(after uuid.UUID, limit int) (page []string, err error) {
			list, err := w.TrashOf(w.ctx, w.product.Parent, after, limit)
			for _, t := range list {
				page = append(page, t.Attachment.ID.String())
			}
			return page, err
		})
	}},
	{"the trash of a space is read page by page, what was deleted last first", func(w *world) {
		places := map[string][]byte{}
		var want []string
		for i, e := range []store.Entity{w.product, w.ticket, w.product, w.meeting} {
			a := w.upload(e)
			w.trash(a, i)
			want = append([]string{a.ID.String()}, want...)
		}
		w.upload(w.ticket)
		w.trashEntity(w.ticket, 10)
		want = slices.Delete(want, 2, 3) // it belongs to the ticket
		want = append([]string{fmt.Sprint(w.ticket.ID)}, want...)
		pages(w, want, func(id string) string { return id }, func(after string, limit int) (page []string, err error) {
			list, err := w.TrashIn(w.ctx, "a", places[after], limit)
			for _, t := range list {
				id := t.Attachment.ID
				if id == uuid.Nil {
					id = t.Entity.ID
				}
				page, places[id.String()] = append(page, id.String()), t.Place
			}
			return page, err
		})
	}},
	{"the name of whoever deleted stays, as that of the uploader", func(w *world) {
		a := w.upload(w.product)
		w.trash(a, 0)
		w.ok(w.DeleteUser(w.ctx, w.bob.ID))
		w.put(store.User{ID: w.ada.ID, FullName: "Another Name"})
		got, err := w.TrashedAttachment(w.ctx, a.ID)
		w.ok(err)
		same(w, "deleted by", got.By, "Bob")
		same(w, "uploaded by", got.Attachment.Uploader, "Another Name")
	}},
	{"a parent goes with all it has, and comes back with it", func(w *world) {
		first := w.upload(w.ticket)
		second := w.file(w.ticket)
		second.CommentID = uuid.NullUUID{UUID: w.comment.ID, Valid: true}
		w.create(second)
		other := w.upload(w.product)
		w.trashEntity(w.ticket, 0)
		_, err := w.Entity(w.ctx, w.ticket.Parent)
		w.told(err, store.ErrNotFound)
		w.hidden(first, second)
		same(w, "has comment", w.hasComment(w.comment), false)
		w.told(w.DeleteComment(w.ctx, w.comment), store.ErrNotFound)
		_, err = w.Put(w.ctx, store.Comment{TicketID: w.ticket.ID, ID: id(77)})
		w.told(err, store.ErrNotFound)
		same(w, "usage", w.usage("a"), other.Usage())
		w.trashIn("a", w.ticket)
		got, err := w.TrashedEntity(w.ctx, w.ticket.Parent)
		w.ok(err)
		same(w, "entity", got.Entity, w.ticket)
		same(w, "space", got.Space, "a")
		same(w, "by", got.By, "Bob")
		same(w, "at", got.At, w.into(0).At)
		same(w, "until", got.Until, w.into(0).Until)
		same(w, "files", got.Files, store.Usage{Bytes: 20, Files: 2})
		w.trashSize(2)
		w.sound()

		e, err := w.RestoreEntity(w.ctx, w.ticket.Parent)
		w.ok(err)
		same(w, "what comes back", e, w.ticket)
		sameList(w, "attachments", w.attachmentsOf(w.ticket), []store.Attachment{first, second})
		same(w, "has comment", w.hasComment(w.comment), true)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 30, Files: 3})
		list, err := w.Entities(w.ctx, "a", store.Ticket, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "tickets", list, []store.Entity{w.ticket})
		w.trashIn("a")
		w.trashSize(0)
		w.sound()
		next := store.Comment{TicketID: w.ticket.ID, ID: id(77)}
		w.put(next)
		next, err = w.Comment(w.ctx, next.TicketID, next.ID)
		w.ok(err)
		same(w, "number of the next comment", next.Number, 2)
	}},
	{"a parent with attachments needs a word about them, and one without is deleted", func(w *world) {
		a := w.upload(w.product)
		w.told(w.TrashEntity(w.ctx, w.product.Parent, false, w.into(0)), store.ErrConflict)
		w.told(w.TrashSpace(w.ctx, "a", false, w.into(0)), store.ErrConflict)
		w.ok(w.TrashEntity(w.ctx, w.meeting.Parent, false, w.into(0)))
		_, err := w.TrashedEntity(w.ctx, w.meeting.Parent)
		w.told(err, store.ErrNotFound)
		w.trash(a, 0)
		w.ok(w.TrashEntity(w.ctx, w.product.Parent, false, w.into(0)))
		got, err := w.TrashedEntity(w.ctx, w.product.Parent)
		w.ok(err)
		same(w, "files that come back with it", got.Files, store.Usage{})
		w.ok(w.TrashSpace(w.ctx, "ab", false, w.into(0)))
		_, err = w.TrashedSpace(w.ctx, "ab")
		w.told(err, store.ErrNotFound)
		w.ok(w.TrashSpace(w.ctx, "a", false, w.into(0)))
		_, err = w.TrashedSpace(w.ctx, "a")
		w.ok(err)
		w.trashSize(1)
		w.sound()
	}},
	{"what is in the trash of a parent goes and comes with it", func(w *world) {
		before, kept := w.upload(w.product), w.upload(w.product)
		w.trash(before, 0)
		w.trashEntity(w.product, 1)
		w.trashIn("a", w.product)
		sameList(w, "trash of the product", w.trashOf(w.product), nil)
		_, err := w.TrashedAttachment(w.ctx, before.ID)
		w.told(err, store.ErrNotFound)
		_, err = w.PurgeAttachment(w.ctx, before.ID)
		w.told(err, store.ErrNotFound)
		_, err = w.RestoreAttachment(w.ctx, before.ID)
		w.told(err, store.ErrConflict)
		_, err = w.RestoreAttachment(w.ctx, kept.ID)
		w.told(err, store.ErrNotFound)
		w.trashSize(2)
		w.sound()
		_, err = w.RestoreEntity(w.ctx, w.product.Parent)
		w.ok(err)
		sameList(w, "trash of the product", w.trashOf(w.product), []store.Attachment{before})
		sameList(w, "attachments", w.attachmentsOf(w.product), []store.Attachment{kept})
		w.trashIn("a", before)
		w.trashSize(1)
		w.sound()
	}},
	{"a parent that is removed for good takes its trash along", func(w *world) {
		before, with := w.file(w.ticket), w.file(w.ticket)
		before.SHA256, with.SHA256 = content(2), content(3)
		w.create(before)
		w.create(with)
		w.trash(before, 0)
		w.trashEntity(w.ticket, 1)
		w.ok(w.PurgeEntity(w.ctx, w.ticket.Parent))
		_, err := w.TrashedEntity(w.ctx, w.ticket.Parent)
		w.told(err, store.ErrNotFound)
		w.told(w.PurgeEntity(w.ctx, w.ticket.Parent), store.ErrNotFound)
		_, err = w.RestoreEntity(w.ctx, w.ticket.Parent)
		w.told(err, store.ErrNotFound)
		w.sound()
		freed := w.removeAll()
		slices.SortFunc(freed, func(a, b [32]byte) int { return int(a[0]) - int(b[0]) })
		sameList(w, "freed", freed, [][32]byte{content(2), content(3)})
		w.trashSize(0)
		all, err := w.AllAttachments(w.ctx, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "all", all, nil)
		w.put(w.ticket)
		sameList(w, "trash", w.trashOf(w.ticket), nil)
		same(w, "has comment", w.hasComment(w.comment), false)
		w.sound()
	}},
	{"a deletion for good takes the trash along, too", func(w *world) {
		for _, e := range []store.Entity{w.product, w.ticket, w.ticket} {
			w.trash(w.upload(e), 0)
		}
		w.upload(w.meeting)
		w.trashEntity(w.meeting, 1)
		_, err := w.DeleteEntity(w.ctx, w.product.Parent, false)
		w.ok(err)
		w.removeAll()
		w.trashSize(3)
		w.sound()
		_, err = w.DeleteSpace(w.ctx, "a", false)
		w.ok(err)
		w.removeAll()
		w.trashSize(0)
		same(w, "referenced", w.referenced(content(1)), false)
		w.trashIn("")
		w.put(store.Space{Slug: "a"}, w.product, w.ticket, w.meeting)
		w.trashIn("a")
		w.sound()
	}},
	{"a parent that is put anew finds its attachments in the trash", func(w *world) {
		first, before := w.upload(w.ticket), w.upload(w.ticket)
		w.trash(before, 0)
		w.trashEntity(w.ticket, 1)
		renamed := w.ticket
		renamed.Name = "anew"
		sameList(w, "created", w.put(renamed), []bool{true})
		same(w, "has comment", w.hasComment(w.comment), false)
		sameList(w, "attachments", w.attachmentsOf(w.ticket), nil)
		sameList(w, "trash", w.trashOf(w.ticket), []store.Attachment{first, before})
		got, err := w.TrashedAttachment(w.ctx, first.ID)
		w.ok(err)
		got.Place = nil
		same(w, "as if deleted by itself", fmt.Sprint(got), fmt.Sprint(w.trashed(first, "a", 1)))
		_, err = w.TrashedEntity(w.ctx, w.ticket.Parent)
		w.told(err, store.ErrNotFound)
		w.trashIn("a", first, before)
		same(w, "usage", w.usage("a"), store.Usage{})
		w.trashSize(2)
		w.sound()
		_, err = w.RestoreAttachment(w.ctx, first.ID)
		w.ok(err)
		sameList(w, "attachments", w.attachmentsOf(w.ticket), []store.Attachment{first})
		e, err := w.Entity(w.ctx, w.ticket.Parent)
		w.ok(err)
		same(w, "the ticket", e, renamed)
		w.sound()
	}},
	{"an upload that creates a parent puts it anew", func(w *world) {
		first := w.upload(w.product)
		w.trashEntity(w.product, 0)
		w.refused(w.CreateAttachment(w.ctx, w.file(w.product), nil, ""), store.ErrNotFound)
		w.trashIn("a", w.product)
		second := w.file(w.product)
		w.ok(w.CreateAttachment(w.ctx, second, nil, "a"))
		sameList(w, "attachments", w.attachmentsOf(w.product), []store.Attachment{second})
		sameList(w, "trash", w.trashOf(w.product), []store.Attachment{first})
		w.sound()
		w.trashSpace("a", 1)
		third := w.file(w.product)
		w.ok(w.CreateAttachment(w.ctx, third, nil, "a"))
		sameList(w, "attachments", w.attachmentsOf(w.product), []store.Attachment{third})
		sameList(w, "trash", w.trashOf(w.product), []store.Attachment{first, second})
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
		w.trashSize(2)
		w.sound()
	}},
	{"a Put that is refused leaves the trash as it was", func(w *world) {
		w.upload(w.ticket)
		w.trashEntity(w.ticket, 0)
		bad := w.meeting
		bad.Space = "none"
		bad.ID = id(99)
		_, err := w.Put(w.ctx, w.ticket, bad)
		w.told(err, store.ErrNotFound)
		full := w.file(w.ticket)
		full.Size = 11
		w.put(store.Space{Slug: "a", QuotaBytes: 10})
		w.told(w.CreateAttachment(w.ctx, full, nil, "a"), store.ErrQuota)
		_, err = w.RestoreEntity(w.ctx, w.ticket.Parent)
		w.ok(err)
		same(w, "has comment", w.hasComment(w.comment), true)
		w.sound()
	}},
	{"a parent that is put into another space shows it nothing", func(w *world) {
		a := w.upload(w.ticket)
		w.trashEntity(w.ticket, 0)
		moved := w.ticket
		moved.Space = "ab"
		sameList(w, "created", w.put(moved), []bool{true})
		sameList(w, "trash", w.trashOf(moved), nil)
		w.trashIn("ab")
		w.trashIn("a")
		_, err := w.TrashedAttachment(w.ctx, a.ID)
		w.told(err, store.ErrNotFound)
		_, err = w.RestoreAttachment(w.ctx, a.ID)
		w.told(err, store.ErrConflict)
		_, err = w.PurgeAttachment(w.ctx, a.ID)
		w.told(err, store.ErrNotFound)
		w.trashSize(1)
		w.sound()
		// Nor does a deletion there concern it.
		w.ok(w.TrashEntity(w.ctx, moved.Parent, true, w.into(1)))
		w.trashIn("ab")
		sameList(w, "created", w.put(moved), []bool{true})
		b := w.upload(moved)
		w.trash(b, 1)
		w.trashEntity(moved, 1)
		w.ok(w.PurgeEntity(w.ctx, moved.Parent))
		w.removeAll()
		w.trashSize(1)
		sameList(w, "created", w.put(w.ticket), []bool{true})
		sameList(w, "trash where it was", w.trashOf(w.ticket), []store.Attachment{a})
		w.sound()
		_, purged := w.purgeAll(0, 10)
		same(w, "purged in the end", purged, a.Usage())
		w.sound()
	}},
	{"a space goes with all it has, and comes back with it", func(w *world) {
		inTicket, inProduct, trashed := w.upload(w.ticket), w.upload(w.product), w.upload(w.product)
		neighbour := w.upload(w.product2)
		w.trash(trashed, 0)
		w.upload(w.meeting)
		w.trashEntity(w.meeting, 1)
		w.trashSpace("a", 2)
		_, _, err := w.Space(w.ctx, "a")
		w.told(err, store.ErrNotFound)
		w.hidden(inTicket, inProduct, trashed)
		_, err = w.Entity(w.ctx, w.ticket.Parent)
		w.told(err, store.ErrNotFound)
		same(w, "role", w.role("a", w.ada), store.NoRole)
		w.refused(w.DeleteMember(w.ctx, "a", w.ada.ID), store.ErrNotFound)
		list, err := w.Memberships(w.ctx, w.ada.ID)
		w.ok(err)
		sameList(w, "memberships", list, nil)
		w.trashIn("a")
		w.trashIn("", "a")
		_, err = w.TrashedEntity(w.ctx, w.meeting.Parent)
		w.told(err, store.ErrNotFound)
		_, err = w.RestoreEntity(w.ctx, w.meeting.Parent)
		w.told(err, store.ErrConflict)
		w.told(w.PurgeEntity(w.ctx, w.meeting.Parent), store.ErrNotFound)
		_, err = w.RestoreAttachment(w.ctx, trashed.ID)
		w.told(err, store.ErrConflict)
		got, err := w.TrashedSpace(w.ctx, "a")
		w.ok(err)
		same(w, "name", got.Name, "Space A")
		same(w, "slug", got.Space, "a")
		same(w, "files", got.Files, store.Usage{Bytes: 20, Files: 2})
		w.trashSize(4)
		w.sound()

		s, err := w.RestoreSpace(w.ctx, "a")
		w.ok(err)
		same(w, "what comes back", s, store.Space{Slug: "a", Name: "Space A"})
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 20, Files: 2})
		same(w, "role", w.role("a", w.ada), store.Admin)
		sameList(w, "attachments", w.attachmentsOf(w.ticket), []store.Attachment{inTicket})
		sameList(w, "trash", w.trashOf(w.product), []store.Attachment{trashed})
		w.trashIn("a", w.meeting, trashed)
		w.trashIn("")
		_, err = w.RestoreEntity(w.ctx, w.meeting.Parent)
		w.ok(err)
		sameList(w, "neighbour's", w.attachmentsOf(w.product2), []store.Attachment{neighbour})
		w.sound()
	}},
	{"a space that is removed for good takes everything along", func(w *world) {
		w.upload(w.ticket)
		w.trash(w.upload(w.product), 0)
		w.trash(w.upload(w.meeting), 0)
		w.upload(w.meeting)
		w.trashEntity(w.meeting, 1)
		w.trashSpace("a", 2)
		keep := w.upload(w.product2)
		w.ok(w.PurgeSpace(w.ctx, "a"))
		w.trashIn("")
		w.sound()
		w.removeAll()
		w.trashSize(0)
		w.sound()
		all, err := w.AllAttachments(w.ctx, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "all", all, []store.Attachment{keep})
		w.put(store.Space{Slug: "a"}, w.meeting)
		w.trashIn("a")
		_, err = w.RestoreEntity(w.ctx, w.meeting.Parent)
		w.told(err, store.ErrNotFound)
	}},
	{"a space that is put anew keeps the attachments in the trash for their parents", func(w *world) {
		inTicket, trashed, inMeeting := w.upload(w.ticket), w.upload(w.product), w.upload(w.meeting)
		w.trash(trashed, 0)
		w.trashEntity(w.meeting, 1)
		w.trashSpace("a", 2)
		sameList(w, "created", w.put(store.Space{Slug: "a", Name: "anew"}), []bool{true})
		same(w, "role", w.role("a", w.ada), store.NoRole)
		same(w, "usage", w.usage("a"), store.Usage{})
		_, err := w.Entity(w.ctx, w.ticket.Parent)
		w.told(err, store.ErrNotFound)
		w.trashIn("a", w.meeting)
		w.trashSize(3)
		w.sound()
		w.put(w.ticket, w.product)
		same(w, "has comment", w.hasComment(w.comment), false)
		w.trashIn("a", inTicket, w.meeting, trashed)
		sameList(w, "trash of the ticket", w.trashOf(w.ticket), []store.Attachment{inTicket})
		_, err = w.RestoreAttachment(w.ctx, inTicket.ID)
		w.ok(err)
		_, err = w.RestoreEntity(w.ctx, w.meeting.Parent)
		w.ok(err)
		sameList(w, "attachments", w.attachmentsOf(w.meeting), []store.Attachment{inMeeting})
		w.sound()
	}},
	{"a parent of a space in the trash may be put into another", func(w *world) {
		a, stays := w.upload(w.ticket), w.upload(w.product)
		w.trashSpace("a", 0)
		moved := w.ticket
		moved.Space = "ab"
		sameList(w, "created", w.put(moved), []bool{true})
		made := w.file(w.meeting)
		w.ok(w.CreateAttachment(w.ctx, made, nil, "ab"))
		sameList(w, "trash", w.trashOf(moved), nil)
		w.trashIn("ab")
		w.trashSize(2)
		w.sound()
		_, err := w.RestoreSpace(w.ctx, "a")
		w.ok(err)
		sameList(w, "attachments", w.attachmentsOf(w.product), []store.Attachment{stays})
		sameList(w, "attachments of what moved", w.attachmentsOf(w.ticket), nil)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
		_, err = w.RestoreAttachment(w.ctx, a.ID)
		w.told(err, store.ErrConflict)
		w.sound()
	}},
	{"what is due is removed, the earliest first, and nothing else", func(w *world) {
		var files []store.Attachment
		for i := range 5 {
			a := w.file(w.product)
			a.SHA256 = content(byte(10 + i))
			files = append(files, w.create(a))
		}
		for _, i := range []int{3, 1, 4, 0, 2} {
			w.trash(files[i], i)
		}
		_, earliest, err := w.TrashSize(w.ctx)
		w.ok(err)
		same(w, "the first to end", earliest, w.into(0).Until)
		freed, purged, more, err := w.PurgeUntil(w.ctx, w.into(0).Until.Add(-time.Second), time.Time{}, 10)
		w.ok(err)
		same(w, "nothing is due", fmt.Sprint(freed, purged, more), fmt.Sprint([][32]byte(nil), store.Usage{}, false))
		freed, purged, more, err = w.PurgeUntil(w.ctx, w.into(3).Until, time.Time{}, 3)
		w.ok(err)
		same(w, "purged", purged, store.Usage{Bytes: 30, Files: 3})
		same(w, "there is more", more, true)
		slices.SortFunc(freed, func(a, b [32]byte) int { return int(a[0]) - int(b[0]) })
		sameList(w, "freed", freed, [][32]byte{content(10), content(11), content(12)})
		freed, purged, more, err = w.PurgeUntil(w.ctx, w.into(3).Until, time.Time{}, 3)
		w.ok(err)
		same(w, "the rest", fmt.Sprint(freed, purged, more), fmt.Sprint([][32]byte{content(13)}, store.Usage{Bytes: 10, Files: 1}, false))
		sameList(w, "what is left", w.trashOf(w.product), files[4:])
		w.trashSize(1)
		w.sound()
	}},
	{"parents and spaces that are due are removed with all they have", func(w *world) {
		w.upload(w.ticket)
		w.trash(w.upload(w.product), 0)
		w.upload(w.product)
		w.trashEntity(w.ticket, 1)
		w.upload(w.meeting2)
		w.trashSpace("ab", 2)
		w.trash(w.upload(w.meeting), 3)
		_, purged := w.purgeAll(2, 1)
		same(w, "purged", purged, store.Usage{Bytes: 30, Files: 3})
		w.trashIn("")
		w.sound()
		w.removeAll()
		w.trashSize(1)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
		_, err := w.RestoreEntity(w.ctx, w.ticket.Parent)
		w.told(err, store.ErrNotFound)
		_, err = w.RestoreSpace(w.ctx, "ab")
		w.told(err, store.ErrNotFound)
		w.sound()
	}},
	{"what is hidden with its parent is due, too", func(w *world) {
		a := w.upload(w.product)
		w.trash(a, 0)
		w.trashEntity(w.product, 1)
		w.upload(w.meeting)
		w.trashEntity(w.meeting, 1)
		w.upload(w.ticket)
		w.trashSpace("a", 5)
		_, purged := w.purgeAll(1, 10)
		same(w, "purged", purged, store.Usage{Bytes: 20, Files: 2})
		w.removeAll()
		w.trashSize(1)
		_, err := w.RestoreSpace(w.ctx, "a")
		w.ok(err)
		w.trashIn("a")
		w.sound()
	}},
	{"everything is counted once, and the trash by itself", func(w *world) {
		for i, e := range []store.Entity{w.product, w.product, w.ticket, w.meeting2, w.meeting, w.meeting} {
			a := w.file(e)
			a.SHA256 = content(byte(1 + i/2))
			w.create(a)
		}
		first := w.attachmentsOf(w.product)[0]
		w.trash(first, 0)
		w.trashEntity(w.ticket, 0)
		totals, err := w.Totals(w.ctx, func(time.Duration) {})
		w.ok(err)
		same(w, "attachments", totals.Attachments, store.Usage{Bytes: 40, Files: 4})
		same(w, "contents", totals.Contents, store.Usage{Bytes: 30, Files: 3})
		w.trashSize(2)
	}},
	{"events tell of all that goes, comes back and is removed", func(w *world) {
		a := w.upload(w.product)
		_, err := w.TrashAttachment(w.telling(), a.ID, w.into(0))
		w.ok(err)
		_, err = w.RestoreAttachment(w.telling(), a.ID)
		w.ok(err)
		_, err = w.TrashAttachment(w.telling(), a.ID, w.into(0))
		w.ok(err)
		_, err = w.PurgeAttachment(w.telling(), a.ID)
		w.ok(err)
		list := w.events(named(store.AttachmentDeleted, a), named(store.AttachmentRestored, a), named(store.AttachmentDeleted, a), named(store.AttachmentPurged, a))
		for _, e := range list {
			same(w, "attachment", e.Attachment, a)
			same(w, "space", e.Space, "a")
			same(w, "origin", e.Origin, store.Origin{UserID: w.ada.ID, ActorID: w.bob.ID})
			same(w, "time", e.Time.UTC(), noon.UTC())
		}
	}},
	{"events tell of what goes with its parent or space", func(w *world) {
		var want []string
		all := []store.Attachment{w.upload(w.product), w.upload(w.product), w.upload(w.meeting)}
		before := w.upload(w.product)
		w.trash(before, 0)
		tell := func(what store.EventType, list ...store.Attachment) {
			for _, a := range list {
				want = append(want, named(what, a))
			}
			w.removeAll()
			w.events(want...)
		}
		w.ok(w.TrashEntity(w.telling(), w.product.Parent, true, w.into(0)))
		tell(store.AttachmentDeleted, all[:2]...)
		_, err := w.RestoreEntity(w.telling(), w.product.Parent)
		w.ok(err)
		tell(store.AttachmentRestored, all[:2]...)
		w.ok(w.TrashSpace(w.telling(), "a", true, w.into(1)))
		tell(store.AttachmentDeleted, all...)
		w.ok(w.PurgeSpace(w.telling(), "a"))
		tell(store.AttachmentPurged, append(all, before)...)
	}},
	{"entries are written when attachments are removed for good", func(w *world) {
		as := func(action string) *store.Entry {
			return &store.Entry{Time: noon, Action: action, UserID: w.bob.ID, Space: "a"}
		}
		alone, with, first := w.upload(w.product), w.upload(w.ticket), w.upload(w.meeting)
		_, err := w.TrashAttachment(store.WithEntry(w.ctx, as("attachment.delete")), alone.ID, w.into(0))
		w.ok(err)
		w.ok(w.TrashEntity(store.WithEntry(w.ctx, as("ticket.delete")), w.ticket.Parent, true, w.into(0)))
		w.ok(w.TrashEntity(store.WithEntry(w.ctx, as("meeting.delete")), w.meeting.Parent, true, w.into(0)))
		w.ok(w.PurgeEntity(store.WithEntry(w.ctx, as("meeting.purge")), w.meeting.Parent))
		w.removeAll()
		_, _, _, err = w.PurgeUntil(store.WithEntry(w.ctx, as("trash.purge")), w.into(0).Until, time.Time{}, 10)
		w.ok(err)
		w.removeAll()
		list, err := w.Entries(w.ctx, 0, 100)
		w.ok(err)
		var got []string
		for _, e := range list {
			got = append(got, e.Action)
			if e.Action == "attachment.purge" {
				got = append(got, e.ID)
				same(w, "by", e.UserID, w.bob.ID)
				same(w, "space", e.Space, "a")
				same(w, "name", e.Name, alone.FileName)
			}
		}
		sameList(w, "entries", got, []string{"attachment.delete", "ticket.delete", "meeting.delete", "meeting.purge",
			"attachment.purge", first.ID.String(), "attachment.purge", alone.ID.String(), "trash.purge", "attachment.purge", with.ID.String()})
		w.chain(int64(len(list)))
	}},
	{"very much goes to the trash and comes back at once", func(w *world) {
		const n = 2100
		all := w.many(w.product, n)
		w.ok(w.TrashEntity(w.telling(), w.product.Parent, true, w.into(0)))
		w.hidden(all[n-1])
		list, err := w.AllAttachments(w.ctx, uuid.Nil, 2*n)
		w.ok(err)
		same(w, "all", len(list), n)
		w.trashSize(n)
		w.sound()
		_, err = w.RestoreEntity(w.telling(), w.product.Parent)
		w.ok(err)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10 * n, Files: n})
		list, err = w.AttachmentsOf(w.ctx, w.product.Parent, uuid.Nil, 2*n)
		w.ok(err)
		sameList(w, "attachments", list, all)
		w.removeAll()
		events, err := w.Events(w.ctx, 0, 3*n)
		w.ok(err)
		same(w, "events", len(events), 2*n)
		for i, e := range events {
			want := store.AttachmentDeleted
			if i >= n {
				want = store.AttachmentRestored
			}
			same(w, "event", named(e.Type, e.Attachment), named(want, all[i%n]))
		}
		w.sound()
	}},
	{"very much stays in the trash when its parent is put anew", func(w *world) {
		const n = 2100
		all := w.many(w.ticket, n)
		w.trash(all[5], 0)
		w.ok(w.TrashEntity(w.telling(), w.ticket.Parent, true, w.into(1)))
		sameList(w, "created", w.put(w.ticket), []bool{true})
		same(w, "has comment", w.hasComment(w.comment), false)
		list, err := w.TrashOf(w.ctx, w.ticket.Parent, uuid.Nil, 2*n)
		w.ok(err)
		same(w, "in the trash", len(list), n)
		sameList(w, "attachments", w.attachmentsOf(w.ticket), nil)
		w.trashSize(n)
		w.sound()
		freed, purged := w.purgeAll(1, 1000)
		same(w, "freed", len(freed), n)
		same(w, "purged", purged, store.Usage{Bytes: 10 * n, Files: n})
		w.trashSize(0)
		w.sound()
	}},
	{"very many objects may be put anew with what is in the trash", func(w *world) {
		a := w.upload(w.ticket)
		w.trashEntity(w.ticket, 0)
		b := w.upload(w.product)
		w.trashSpace("a", 1)
		objects := []store.Object{store.Space{Slug: "a", Name: "anew"}, w.ticket, w.product}
		for i := range 5000 {
			objects = append(objects, store.User{ID: uuid.New(), FullName: fmt.Sprint("User ", i)})
		}
		bad := append(slices.Clone(objects), store.Member{Space: "none", UserID: w.ada.ID, Role: store.Viewer})
		_, err := w.Put(w.ctx, bad...)
		w.told(err, store.ErrNotFound)
		w.trashIn("", "a")
		created := w.put(objects...)
		same(w, "all are new", slices.Contains(created, false), false)
		w.trashIn("")
		w.trashIn("a", b, a)
		same(w, "has comment", w.hasComment(w.comment), false)
		w.trashSize(2)
		w.sound()
	}},
	{"whatever is done in whatever order, no file is lost and none is left", func(w *world) {
		seed := uint64(time.Now().UnixNano())
		w.Logf("seed %d", seed)
		m := newTrashModel(w, seed)
		for range 20 {
			for range 10 {
				m.step()
			}
			m.compare()
		}
	}},
	{"a restore and a purge at once: one of them does it", func(w *world) {
		for range 10 {
			a := w.upload(w.product)
			w.trash(a, 0)
			var both sync.WaitGroup
			var restored, purged error
			both.Go(func() { _, restored = w.RestoreAttachment(w.ctx, a.ID) })
			both.Go(func() { _, purged = w.PurgeAttachment(w.ctx, a.ID) })
			both.Wait()
			if (restored == nil) == (purged == nil) {
				w.Fatalf("restored: %v, purged: %v", restored, purged)
			}
			w.refused(errors.Join(restored, purged), store.ErrNotFound)
			_, err := w.Attachment(w.ctx, a.ID)
			same(w, "it is there", err == nil, restored == nil)
		}
		w.trashSize(0)
		w.sound()
	}},
	{"restores at once do not exceed a quota", func(w *world) {
		var files []store.Attachment
		for range 8 {
			a := w.upload(w.product)
			w.trash(a, 0)
			files = append(files, a)
		}
		w.put(store.Space{Slug: "a", QuotaFiles: 3})
		var all sync.WaitGroup
		failed := make([]error, len(files))
		for i, a := range files {
			all.Go(func() { _, failed[i] = w.RestoreAttachment(w.ctx, a.ID) })
		}
		all.Wait()
		back := 0
		for _, err := range failed {
			if err == nil {
				back++
				continue
			}
			w.told(err, store.ErrQuota)
		}
		same(w, "came back", back, 3)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 30, Files: 3})
		w.trashSize(5)
		w.sound()
	}},
}
