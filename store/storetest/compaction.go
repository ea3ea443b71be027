package storetest

import (
	"bytes"
	"context"
	"strings"

	"attachd/store"
)

var compaction = []promise{
	{"compacting leaves the trash as it is", func(w *world) {
		a, b := w.upload(w.product), w.wait(w.ticket, "is staged")
		w.trash(a, 0)
		w.trashEntity(w.ticket, 1)
		_, err := w.Compact(w.ctx)
		w.ok(err)
		w.trashIn("a", w.ticket, a)
		w.wantStaged(b)
		_, err = w.RestoreAttachment(w.ctx, a.ID)
		w.ok(err)
		_, err = w.RestoreEntity(w.ctx, w.ticket.Parent)
		w.ok(err)
		sameList(w, "attachments", w.attachmentsOf(w.ticket), []store.Attachment{b})
		w.sound()
	}},
	{"compacting leaves nothing out and nothing of what was deleted in", func(w *world) {
		k := w.key(w.ada, 1)
		w.session(k, 1)
		w.TouchKey(k.ID, noon)
		w.ok(w.SetNote(w.ctx, "note", []byte("kept")))
		ctx := w.telling()
		there := w.upload(w.ticket)
		staged := w.wait(w.product, "is staged")
		told := w.file(w.product)
		w.ok(w.CreateAttachment(ctx, told, nil, ""))
		deleted := w.wait(w.meeting, strings.Repeat("deleted ", 1<<15))
		_, err := w.DeleteAttachment(w.ctx, deleted.ID)
		w.ok(err)
		before := w.events(named(store.AttachmentCreated, told))
		size, err := w.Size(w.ctx)
		w.ok(err)
		done, err := w.Compact(w.ctx)
		w.ok(err)
		after, err := w.Size(w.ctx)
		w.ok(err)
		if size.Free < deleted.Size || done.Before != size.Bytes || done.After != after.Bytes || after.Bytes > size.Bytes-deleted.Size {
			w.Errorf("of %+v was made %+v, which was told as %+v", size, after, done)
		}
		var copied bytes.Buffer
		w.ok(w.Snapshot(w.ctx, &copied))
		same(w, "what was deleted is there", bytes.Contains(copied.Bytes(), []byte("deleted deleted")), false)
		same(w, "what is staged is there", bytes.Contains(copied.Bytes(), []byte("is staged")), false)

		sameList(w, "list", w.attachmentsOf(w.ticket), []store.Attachment{there})
		w.wantStaged(staged)
		w.wantContent("is staged")
		same(w, "bytes that wait", w.Staged().Bytes, staged.Size)
		same(w, "last use", w.lastUse(k), noon)
		_, err = w.Session(w.ctx, content(1))
		w.ok(err)
		note, err := w.Note(w.ctx, "note")
		w.ok(err)
		same(w, "note", string(note), "kept")
		same(w, "event", w.events(named(store.AttachmentCreated, told))[0].Seq, before[0].Seq)

		w.ok(w.AckEvents(w.ctx, []uint64{before[0].Seq}))
		again := w.file(w.product)
		w.ok(w.CreateAttachment(ctx, again, nil, ""))
		if seq := w.events(named(store.AttachmentCreated, again))[0].Seq; seq <= before[0].Seq {
			w.Errorf("after event %d came event %d", before[0].Seq, seq)
		}
		w.unstage(nil, staged.ID)
		_, err = w.Compact(w.ctx)
		w.ok(err)
		faults, err := w.Check(w.ctx, nil)
		w.ok(err)
		sameList(w, "faults", faults, nil)
		ended, end := context.WithCancel(w.ctx)
		end()
		_, err = w.Compact(ended)
		w.refused(err, context.Canceled)
		_, err = w.Size(ended)
		w.refused(err, context.Canceled)
	}},
}
