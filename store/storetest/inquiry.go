package storetest

import (
	"errors"

	"attachd/store"
)

var inquiry = []promise{
	{"what is asked at once is answered as what is asked one by one", func(w *world) {
		w.put(store.Space{Slug: "a", Name: "Space A", QuotaBytes: 1 << 20, QuotaFiles: 50})
		key := w.key(w.ada, 1)
		files := map[store.Entity]store.Attachment{}
		for _, e := range []store.Entity{w.product, w.ticket, w.meeting, w.product2, w.ticket2, w.meeting2} {
			files[e] = w.upload(e)
		}
		for e, a := range files {
			for _, by := range []store.Inquiry{{Key: key.ID}, {KeyHash: key.Hash}} {
				for _, user := range []store.User{{}, w.ada, w.bob, w.eve} {
					by.User = user.ID
					about := by
					about.Parent = e.Parent
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
		ofMeeting := w.upload(w.meeting)
		_, err = w.DeleteEntity(w.ctx, w.meeting.Parent, true)
		w.ok(err)
		w.ok(w.DeleteUser(w.ctx, w.eve.ID))
		for what, about := range map[string]store.Inquiry{
			"a key":                             {Key: id(90), Attachment: a.ID},
			"a key's hash":                      {KeyHash: content(90), Attachment: a.ID},
			"a revoked key":                     {KeyHash: revoked.Hash, Attachment: a.ID},
			"a user":                            {Key: key.ID, User: id(90), Attachment: a.ID},
			"a deleted user":                    {Key: key.ID, User: w.eve.ID, Attachment: a.ID},
			"an attachment":                     {Key: key.ID, Attachment: id(90)},
			"an attachment in the trash":        {Key: key.ID, Attachment: trashed.ID},
			"a deleted attachment":              {Key: key.ID, Attachment: purged.ID},
			"an attachment of a deleted parent": {Key: key.ID, Attachment: ofMeeting.ID},
			"a parent":                          {Key: key.ID, Parent: store.Parent{Kind: store.Product, ID: id(90)}},
			"a deleted parent":                  {Key: key.ID, Parent: w.meeting.Parent},
			"nothing":                           {Key: key.ID},
			"nobody":                            {Parent: w.product.Parent},
		} {
			if facts, err := w.Inquire(w.ctx, about); !errors.Is(err, store.ErrNotFound) || facts != (store.Facts{}) {
				w.Errorf("%s that does not exist: %+v, %v", what, facts, err)
			}
		}
	}},
}

// answersAlike compares the answer to an inquiry with those of the other methods.
func (w *world) answersAlike(about store.Inquiry) {
	w.Helper()
	var want store.Facts
	var err error
	if about.KeyHash == ([32]byte{}) {
		want.Key, want.Actor, err = w.Key(w.ctx, about.Key)
	} else {
		want.Key, want.Actor, err = w.KeyByHash(w.ctx, about.KeyHash)
	}
	w.ok(err)
	want.User = want.Actor
	if about.User != (store.User{}).ID {
		want.User, err = w.User(w.ctx, about.User)
		w.ok(err)
	}
	parent := about.Parent
	if about.Attachment != (store.Attachment{}).ID {
		want.Attachment, err = w.Attachment(w.ctx, about.Attachment)
		w.ok(err)
		parent = want.Attachment.Parent
	}
	want.Entity, err = w.Entity(w.ctx, parent)
	w.ok(err)
	want.Role, err = w.Role(w.ctx, want.Entity.Space, want.User.ID)
	w.ok(err)
	if parent == about.Parent {
		want.Space, want.Used, err = w.Store.Space(w.ctx, want.Entity.Space)
		w.ok(err)
	}
	got, err := w.Inquire(w.ctx, about)
	w.ok(err)
	same(w, "the facts", got, want)
}
