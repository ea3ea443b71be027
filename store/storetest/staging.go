package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/google/uuid"

	"attachd/store"
)

// wait uploads a file whose content is staged.
func (w *world) wait(e store.Entity, content string) store.Attachment {
	w.Helper()
	a := w.file(e)
	a.Size, a.SHA256 = int64(len(content)), sha256.Sum256([]byte(content))
	w.ok(w.CreateStaged(w.ctx, a, []byte(content), nil, ""))
	return a
}

// wantStaged fails unless these contents are staged with these records, oldest
// first.
func (w *world) wantStaged(want ...store.Attachment) {
	w.Helper()
	list, err := w.StagedAfter(w.ctx, uuid.Nil, 1000, 1<<30)
	w.ok(err)
	sizes, err := w.StagedSizes(w.ctx)
	w.ok(err)
	var total int64
	var got, wanted []uuid.UUID
	for _, p := range list {
		got = append(got, p.ID)
		same(w, "size", sizes[p.SHA256], int64(len(p.Content)))
		same(w, "hash", sha256.Sum256(p.Content), p.SHA256)
		total += int64(len(p.Content))
	}
	for _, a := range want {
		wanted = append(wanted, a.ID)
	}
	sameList(w, "staged", got, wanted)
	same(w, "what waits", store.Staged{Contents: w.Staged().Contents, Bytes: w.Staged().Bytes}, store.Staged{Contents: int64(len(list)), Bytes: total})
	faults, err := w.Check(w.ctx, nil)
	w.ok(err)
	sameList(w, "faults", faults, nil)
}

func (w *world) unstage(want []uuid.UUID, ids ...uuid.UUID) {
	w.Helper()
	gone, err := w.Unstage(w.ctx, ids)
	w.ok(err)
	sameList(w, "gone", gone, want)
}

func (w *world) wantContent(content string) {
	w.Helper()
	got, err := w.StagedContent(w.ctx, sha256.Sum256([]byte(content)))
	w.ok(err)
	same(w, "content", string(got), content)
}

func (w *world) wantNoContent(content string) {
	w.Helper()
	_, err := w.StagedContent(w.ctx, sha256.Sum256([]byte(content)))
	w.refused(err, store.ErrNotFound)
}

var staging = []promise{
	{"a content stays staged while its record is in the trash", func(w *world) {
		alone, with, gone := w.wait(w.product, "alone"), w.wait(w.ticket, "with its ticket"), w.wait(w.meeting, "gone")
		w.trash(alone, 0)
		w.trash(gone, 0)
		w.trashEntity(w.ticket, 0)
		w.wantStaged(alone, with, gone)
		w.wantContent("alone")
		w.wantContent("with its ticket")
		_, err := w.PurgeAttachment(w.ctx, gone.ID)
		w.ok(err)
		w.wantStaged(alone, with)
		w.wantNoContent("gone")
		w.put(w.ticket)
		w.wantStaged(alone, with)
		w.unstage([]uuid.UUID{gone.ID}, alone.ID, gone.ID)
		w.wantStaged(with)
		_, err = w.RestoreAttachment(w.ctx, with.ID)
		w.ok(err)
		w.wantContent("with its ticket")
		_, purged := w.purgeAll(0, 10)
		same(w, "purged", purged, alone.Usage())
		w.wantStaged(with)
	}},
	{"a content is staged from the commit of its record until it is unstaged", func(w *world) {
		w.wantNoContent("first")
		first, second := w.wait(w.product, "first"), w.wait(w.ticket, "second")
		w.wantStaged(first, second)
		w.wantContent("first")
		same(w, "referenced", w.referenced(first.SHA256), true)
		w.unstage(nil, first.ID)
		w.wantStaged(second)
		w.wantNoContent("first")
		w.wantContent("second")
		got, err := w.Attachment(w.ctx, first.ID)
		w.ok(err)
		same(w, "record", got, first)
		w.unstage(nil, first.ID, second.ID) // unstaging twice does no harm
		w.wantStaged()
	}},
	{"a content waits with each of its records", func(w *world) {
		w.upload(w.product) // with another content
		first, second := w.wait(w.product, "same"), w.wait(w.meeting2, "same")
		w.wantStaged(first, second)
		w.unstage(nil, second.ID)
		w.wantContent("same")
		w.unstage(nil, first.ID)
		w.wantNoContent("same")
	}},
	{"a content goes with its record", func(w *world) {
		gone, left := w.wait(w.product, "same"), w.wait(w.product, "same")
		_, err := w.DeleteAttachment(w.ctx, gone.ID)
		w.ok(err)
		w.wantStaged(left)
		inMeeting, inSpace := w.wait(w.meeting, "of a meeting"), w.wait(w.product2, "of a space")
		w.wantStaged(left, inMeeting, inSpace)
		_, err = w.DeleteEntity(w.ctx, w.meeting.Parent, true)
		w.ok(err)
		_, err = w.DeleteSpace(w.ctx, "ab", true)
		w.ok(err)
		w.wantStaged(left)
		w.unstage([]uuid.UUID{gone.ID, inMeeting.ID}, gone.ID, left.ID, inMeeting.ID)
		w.wantStaged()
	}},
	{"a refused record leaves no content", func(w *world) {
		a := w.wait(w.product, "there")
		w.refused(w.CreateStaged(w.ctx, a, []byte("other"), nil, ""), store.ErrConflict)
		homeless := w.file(store.Entity{Parent: store.Parent{Kind: store.Product, ID: id(99)}})
		homeless.Size = 3
		w.refused(w.CreateStaged(w.ctx, homeless, []byte("abc"), nil, ""), store.ErrNotFound)
		if err := w.CreateStaged(w.ctx, w.file(w.product), []byte("not ten bytes, as recorded"), nil, ""); err == nil {
			w.Error("a content of another length than recorded was taken")
		}
		w.wantStaged(a)
		w.wantContent("there")
	}},
	{"a content of any small size waits as it is", func(w *world) {
		for _, size := range []int{1, 4095, 4096, 10_240, 65_535, 1 << 20} {
			w.wait(w.product, string(bytes.Repeat([]byte{0xff, 0}, size)[:size]))
			w.wantContent(string(bytes.Repeat([]byte{0xff, 0}, size)[:size]))
		}
	}},
	{"what waits is listed in pages of so many and so much", func(w *world) {
		var all []store.Attachment
		for n := range 10 {
			all = append(all, w.wait(w.product, fmt.Sprint("ten bytes ", n)))
		}
		for _, c := range []struct{ limit, maxBytes, want int }{{4, 1000, 4}, {1000, 25, 3}, {1000, 1, 1}, {0, 1000, 0}} {
			page, err := w.StagedAfter(w.ctx, all[1].ID, c.limit, int64(c.maxBytes))
			w.ok(err)
			same(w, "length of the page", len(page), c.want)
			for i, p := range page {
				same(w, "id", p.ID, all[2+i].ID)
			}
		}
	}},
	{"no more is taken than there is room for, and nothing is left of what is refused", func(w *world) {
		same(w, "taken at first", w.MayStage(), true)
		var ids []uuid.UUID
		var err error
		for n := 0; err == nil; n++ {
			a := w.file(w.product)
			content := fmt.Append(make([]byte, 1<<20), n)
			a.Size, a.SHA256 = int64(len(content)), sha256.Sum256(content)
			if err = w.CreateStaged(w.ctx, a, content, nil, ""); err == nil {
				ids = append(ids, a.ID)
			}
			if n == 1000 {
				w.Fatal("there is no end to what is taken")
			}
		}
		w.refused(err, store.ErrNotStaged)
		same(w, "taken when there is no room", w.MayStage(), false)
		same(w, "room", w.Staged().Room <= w.Staged().MaxRoom && w.Staged().Room > w.Staged().Bytes, true)
		same(w, "attachments", len(w.attachmentsOf(w.product)), len(ids))
		w.unstage(nil, ids...)
		same(w, "taken when there is room", w.MayStage(), true)
		w.wantStaged(w.wait(w.product, "again"))
	}},
	{"checksums come with a content that is staged, and stay when it is unstaged", func(w *world) {
		a := w.summed(w.product, 1)
		w.ok(w.CreateStaged(w.ctx, a, []byte("ten bytes."), []byte("one"), ""))
		w.wantChecksums(content(1), "one")
		w.unstage(nil, a.ID)
		w.wantChecksums(content(1), "one")
		_, err := w.DeleteAttachment(w.ctx, a.ID)
		w.ok(err)
		w.wantChecksums(content(1), "")
	}},
	{"a record with a staged content is told of", func(w *world) {
		a := w.file(w.product)
		a.Size = 1
		w.ok(w.CreateStaged(w.telling(), a, []byte("x"), nil, ""))
		w.events(named(store.AttachmentCreated, a))
	}},
	{"a call with a context that has ended does not look", func(w *world) {
		ended, end := context.WithCancel(w.ctx)
		end()
		_, err := w.StagedContent(ended, content(1))
		w.refused(err, context.Canceled)
		_, err = w.StagedSizes(ended)
		w.refused(err, context.Canceled)
		_, err = w.Unstage(ended, []uuid.UUID{id(1)})
		w.refused(err, context.Canceled)
	}},
}
