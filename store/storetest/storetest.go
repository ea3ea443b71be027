// Package storetest tests a backend against the contracts of package store. The
// names of its tests are the contracts, one by one.
package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// Run runs the suite. open returns a new, empty store for one test, and closes it
// when the test is over. Optional groups run where the store has the ability.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, group := range []struct {
		name     string
		promises []promise
		optional func(w *world) (able bool) // nil: required of every store
	}{
		{"attachments", attachments, nil},
		{"checksums", checksums, nil},
		{"quota", quota, nil},
		{"auto create", autoCreate, nil},
		{"directory", directory, nil},
		{"put", put, nil},
		{"deletion", deletion, nil},
		{"trash", trash, nil},
		{"holds", holding, nil},
		{"keys", keys, nil},
		{"sessions", sessions, nil},
		{"audit", audit, nil},
		{"outbox", outbox, nil},
		{"store", whole, nil},
		{"inquiry", inquiry, func(w *world) bool { return w.Inquirer != nil }},
		{"freezing", freezing, func(w *world) bool { return w.Freezer != nil }},
		{"staging", staging, func(w *world) bool { return w.Stager != nil }},
		{"contents", contents, func(w *world) bool { return w.Catalog != nil && w.Holder != nil }},
		{"compaction", compaction, func(w *world) bool { return w.Compacter != nil && w.Snapshotter != nil && w.Stager != nil }},
	} {
		t.Run(group.name, func(t *testing.T) {
			if group.optional != nil && !group.optional(newWorld(t, open(t))) {
				t.Skip("optional: this store does not have the ability")
			}
			for _, p := range group.promises {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					p.keep(newWorld(t, open(t)))
				})
			}
		})
	}
}

type promise struct {
	name string
	keep func(w *world)
}

// world is a store with two spaces, one of whose names is a prefix of the other,
// and an object of every kind in both.
type world struct {
	*testing.T
	store.Store
	store.Stager // nil where the store is none, as are the following
	store.Snapshotter
	store.Compacter
	store.Freezer
	store.Inquirer
	blobs.Catalog
	blobs.Holder
	ctx context.Context

	ada, bob, eve store.User // ada is admin of a, bob editor of ab, eve has no role

	product, ticket, meeting    store.Entity // in space a; the ticket is bob's
	product2, ticket2, meeting2 store.Entity // in space ab; the ticket is ada's

	comment, comment2 store.Comment // of ticket and ticket2
}

func newWorld(t *testing.T, s store.Store) *world {
	entity := func(kind store.Kind, n byte, space string, owner byte) store.Entity {
		e := store.Entity{Parent: store.Parent{Kind: kind, ID: id(n)}, Space: space, Name: kind.String() + " in " + space}
		if kind == store.Ticket {
			e.OwnerID = id(owner)
		}
		return e
	}
	w := &world{
		T: t, Store: s, ctx: t.Context(),
		ada: store.User{ID: id(1), FullName: "Ada", IsSuperadmin: true},
		bob: store.User{ID: id(2), FullName: "Bob", IsRecordsManager: true},
		eve: store.User{ID: id(3), FullName: "Eve"},
		// One id in three kinds: they must not be confused.
		product: entity(store.Product, 10, "a", 0), product2: entity(store.Product, 20, "ab", 0),
		ticket: entity(store.Ticket, 10, "a", 2), ticket2: entity(store.Ticket, 20, "ab", 1),
		meeting: entity(store.Meeting, 10, "a", 0), meeting2: entity(store.Meeting, 20, "ab", 0),
		comment:  store.Comment{TicketID: id(10), ID: id(30)},
		comment2: store.Comment{TicketID: id(20), ID: id(40)},
	}
	w.Stager, _ = s.(store.Stager)
	w.Snapshotter, _ = s.(store.Snapshotter)
	w.Compacter, _ = s.(store.Compacter)
	w.Freezer, _ = s.(store.Freezer)
	w.Inquirer, _ = s.(store.Inquirer)
	w.Catalog, _ = s.(blobs.Catalog)
	w.Holder, _ = s.(blobs.Holder)
	w.put(w.ada, w.bob, w.eve,
		store.Space{Slug: "a", Name: "Space A"}, store.Space{Slug: "ab", Name: "Space AB"},
		store.Member{Space: "a", UserID: w.ada.ID, Role: store.Admin},
		store.Member{Space: "ab", UserID: w.bob.ID, Role: store.Editor},
		w.product, w.ticket, w.meeting, w.product2, w.ticket2, w.meeting2,
		w.comment, w.comment2)
	return w
}

// id is the n-th of a sequence of ids.
func id(n byte) uuid.UUID {
	return uuid.UUID{0: 0xc0, 6: 0x40, 8: 0x80, 15: n}
}

// content is the n-th of a sequence of contents.
func content(n byte) [32]byte {
	return [32]byte{0: n, 31: n}
}

// file is a new attachment of 10 bytes by ada, not in the store yet.
func (w *world) file(e store.Entity) store.Attachment {
	return store.Attachment{
		ID: uuid.Must(uuid.NewV7()), Parent: e.Parent, FileName: "Übersicht (1).pdf", Size: 10,
		Type: "application/pdf", SHA256: content(1), UploaderID: w.ada.ID, Uploader: w.ada.FullName,
	}
}

// CreateAttachment is that of the store. One that is a catalog of contents, too, takes no
// record of a content that is in no object: then it is put into one first.
func (w *world) CreateAttachment(ctx context.Context, a store.Attachment, checksums []byte, autoCreate string) error {
	if ctx.Err() == nil {
		w.keep(a)
	}
	return w.Store.CreateAttachment(ctx, a, checksums, autoCreate)
}

// keep puts the contents of attachments into objects, where the store is a catalog.
func (w *world) keep(attachments ...store.Attachment) {
	w.Helper()
	if w.Catalog == nil {
		return
	}
	var objects []blobs.Object
	var places []blobs.Place
	for _, a := range attachments {
		object := blobs.NewObject(a.SHA256)
		objects = append(objects, object)
		places = append(places, blobs.Place{Object: object, Size: a.Size, Stored: time.Unix(1_700_000_000, 0)})
	}
	w.ok(w.Catalog.Intend(w.ctx, objects))
	w.ok(w.Catalog.Settle(w.ctx, places))
}

// upload stores a file.
func (w *world) upload(e store.Entity) store.Attachment {
	w.Helper()
	return w.create(w.file(e))
}

func (w *world) create(a store.Attachment) store.Attachment {
	w.Helper()
	w.ok(w.CreateAttachment(w.ctx, a, nil, ""))
	return a
}

// hasComment says whether the ticket has that comment.
func (w *world) hasComment(c store.Comment) bool {
	w.T.Helper()
	_, err := w.Comment(w.ctx, c.TicketID, c.ID)
	if !errors.Is(err, store.ErrNotFound) {
		w.ok(err)
	}
	return err == nil
}

func (w *world) put(objects ...store.Object) []bool {
	w.Helper()
	created, err := w.Put(w.ctx, objects...)
	w.ok(err)
	return created
}

func (w *world) usage(slug string) store.Usage {
	w.Helper()
	_, usage, err := w.Space(w.ctx, slug)
	w.ok(err)
	return usage
}

func (w *world) role(slug string, user store.User) store.Role {
	w.Helper()
	role, err := w.Role(w.ctx, slug, user.ID)
	w.ok(err)
	return role
}

func (w *world) attachmentsOf(e store.Entity) []store.Attachment {
	w.Helper()
	list, err := w.AttachmentsOf(w.ctx, e.Parent, uuid.Nil, 1000)
	w.ok(err)
	return list
}

func (w *world) referenced(content [32]byte) bool {
	w.Helper()
	found, err := w.Referenced(w.ctx, content)
	w.ok(err)
	return found
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("failed: %v", err)
	}
}

// refused fails unless the error is of that kind.
func (w *world) refused(err error, kind error) {
	w.Helper()
	if !errors.Is(err, kind) {
		w.Fatalf("got error %v, want %v", err, kind)
	}
}

// told fails unless the error is a refusal of that kind with a sentence, which it
// returns.
func (w *world) told(err error, kind error) string {
	w.Helper()
	w.refused(err, kind)
	var sentence *store.Error
	if !errors.As(err, &sentence) || sentence.Detail == "" {
		w.Fatalf("refused without a sentence: %v", err)
	}
	return sentence.Detail
}

func same[T comparable](w *world, what string, got, want T) {
	w.Helper()
	if got != want {
		w.Fatalf("%s: got %+v, want %+v", what, got, want)
	}
}

func sameList[T comparable](w *world, what string, got, want []T) {
	w.Helper()
	if !slices.Equal(got, want) {
		w.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// pages fails unless paging returns exactly these, whatever the size of the page.
func pages[T comparable, K any](w *world, want []T, key func(T) K, list func(after K, limit int) ([]T, error)) {
	w.Helper()
	for _, limit := range []int{1, 2, len(want), len(want) + 1} {
		var all []T
		var after K
		for {
			page, err := list(after, limit)
			w.ok(err)
			if len(page) > limit {
				w.Fatalf("%d on a page of %d", len(page), limit)
			}
			if len(page) == 0 {
				break
			}
			all = append(all, page...)
			after = key(page[len(page)-1])
		}
		sameList(w, "all pages", all, want)
	}
	for _, limit := range []int{0, -1} {
		var start K
		page, err := list(start, limit)
		w.ok(err)
		sameList(w, "a page of nothing", page, nil)
	}
}
