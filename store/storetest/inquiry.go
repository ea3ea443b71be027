package storetest

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

var inquiry = []promise{
	{"what is asked at once is answered as what is asked one by one", func(w *world) {
		w.put(store.Space{Slug: "a", Name: "Space A", QuotaBytes: 1 << 20, QuotaFiles: 50})
		key := store.Key{ID: id(101), UserID: w.ada.ID, Name: "laptop", Prefix: "att_abcd", Hash: content(1), CreatedAt: noon, ExpiresAt: noon.Add(time.Hour + 1)}
		w.ok(w.CreateKey(w.ctx, key))
		w.TouchKey(key.ID, noon.Add(time.Minute))
		gone := store.User{ID: id(80), FullName: "Gone"}
		w.put(gone)
		files := map[store.Entity]store.Attachment{}
		for _, e := range []store.Entity{w.product, w.ticket, w.meeting, w.product2, w.ticket2, w.meeting2} {
			a := w.file(e)
			if e.Kind == store.Ticket {
				a.CommentID = uuid.NullUUID{UUID: w.comment.ID, Valid: true}
				if e == w.ticket2 {
					a.CommentID.UUID = w.comment2.ID
				}
			}
			if e.Kind == store.Meeting {
				a.UploaderID = gone.ID
			}
			files[e] = w.create(a)
		}
		w.ok(w.DeleteUser(w.ctx, gone.ID))
		for e, a := range files {
			for _, by := range []store.Inquiry{{Key: key.ID}, {KeyHash: key.Hash}} {
				for _, user := range []store.User{{}, w.ada, w.bob, w.eve} {
					by.User = user.ID
					about := by
					about.Parent = e.Parent
					w.answersAlike(about)
					about.Usage = true
					w.answersAlike(about)
					about.Parent, about.Attachment = store.Parent{}, a.ID
					w.answersAlike(about)
				}
			}
		}
	}},
	{"an inquiry about what does not exist, or not any more, finds nothing", func(w *world) {
		key, revoked := w.key(w.ada, 1), w.key(w.ada, 2)
		w.ok(w.DeleteKey(w.ctx, revoked.ID))
		a, trashed, purged := w.upload(w.product), w.upload(w.product), w.upload(w.product)
		w.trash(trashed, 0)
		_, err := w.DeleteAttachment(w.ctx, purged.ID)
		w.ok(err)
		ofMeeting, ofTicket := w.upload(w.meeting), w.upload(w.ticket)
		_, err = w.DeleteEntity(w.ctx, w.meeting.Parent, true)
		w.ok(err)
		err = w.TrashEntity(w.ctx, w.ticket.Parent, true, w.into(0))
		w.ok(err)
		_, err = w.DeleteSpace(w.ctx, "ab", true)
		w.ok(err)
		ofDeleted := w.key(w.eve, 3)
		w.ok(w.DeleteUser(w.ctx, w.eve.ID))
		for what, about := range map[string]store.Inquiry{
			"a key":                                  {Key: id(90), Attachment: a.ID},
			"a key's hash":                           {KeyHash: content(90), Attachment: a.ID},
			"a revoked key":                          {KeyHash: revoked.Hash, Attachment: a.ID},
			"a user":                                 {Key: key.ID, User: id(90), Attachment: a.ID},
			"a deleted user":                         {Key: key.ID, User: w.eve.ID, Attachment: a.ID},
			"an attachment":                          {Key: key.ID, Attachment: id(90)},
			"an attachment in the trash":             {Key: key.ID, Attachment: trashed.ID},
			"a deleted attachment":                   {Key: key.ID, Attachment: purged.ID},
			"an attachment of a deleted parent":      {Key: key.ID, Attachment: ofMeeting.ID},
			"a parent":                               {Key: key.ID, Parent: store.Parent{Kind: store.Product, ID: id(90)}},
			"a deleted parent":                       {Key: key.ID, Parent: w.meeting.Parent},
			"a parent in the trash":                  {Key: key.ID, Parent: w.ticket.Parent},
			"an attachment of a parent in the trash": {Key: key.ID, Attachment: ofTicket.ID},
			"a deleted space":                        {Key: key.ID, Parent: w.product2.Parent},
			"a key of a deleted user":                {KeyHash: ofDeleted.Hash, Attachment: a.ID},
			"nothing":                                {Key: key.ID},
			"nobody":                                 {Parent: w.product.Parent},
		} {
			if found, err := w.Inquire(w.ctx, about); !errors.Is(err, store.ErrNotFound) || found != (store.Findings{}) {
				w.Errorf("%s that does not exist: %+v, %v", what, found, err)
			}
		}
	}},
}

// answersAlike compares the answer to an inquiry with those of the other methods.
func (w *world) answersAlike(about store.Inquiry) {
	w.Helper()
	var want store.Findings
	var err error
	if about.KeyHash == ([32]byte{}) {
		want.Key, want.Actor, err = w.Key(w.ctx, about.Key)
	} else {
		want.Key, want.Actor, err = w.KeyByHash(w.ctx, about.KeyHash)
	}
	w.ok(err)
	want.User = want.Actor
	if about.User != uuid.Nil {
		want.User, err = w.User(w.ctx, about.User)
		w.ok(err)
	}
	parent := about.Parent
	if about.Attachment != uuid.Nil {
		want.Attachment, err = w.Attachment(w.ctx, about.Attachment)
		w.ok(err)
		parent = want.Attachment.Parent
	}
	want.Entity, err = w.Entity(w.ctx, parent)
	w.ok(err)
	want.Role, err = w.Role(w.ctx, want.Entity.Space, want.User.ID)
	w.ok(err)
	if about.Usage && parent == about.Parent {
		want.Space, want.Used, err = w.Store.Space(w.ctx, want.Entity.Space)
		w.ok(err)
	}
	got, err := w.Inquire(w.ctx, about)
	w.ok(err)
	same(w, "the findings", got, want)
}
