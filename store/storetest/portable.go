package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/portable"
)

// Portable is a store whose rows can be moved to another one.
type Portable interface {
	store.Store
	blobs.Catalog
	portable.Source
	portable.Target
}

// oddNames are texts that a database or an encoding might change.
var oddNames = []string{
	"", " ", "'; drop table attachd.users; --", `back\slash \u0000 "quotes" \x00`, "tab\tand\nline",
	"\u202eright to left", "e\u0301 and é", "😀 \U0010ffff", "\u2028\ufeff", "null", "\\N", "{}", strings.Repeat("ü", 300),
}

// Nanoseconds in times make a difference only where they are kept.
var oddTime = time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.FixedZone("", 5400))

// Everything fills a new store with rows of every kind.
func Everything(t *testing.T, s Portable) {
	t.Helper()
	w := newWorld(t, s)
	ctx := store.WithEntry(store.WithOutbox(w.ctx, store.Origin{Time: oddTime, UserID: w.ada.ID, ActorID: w.bob.ID, Operator: true}),
		&store.Entry{Time: oddTime, UserID: w.ada.ID, KeyID: id(9), Action: "test", Name: oddNames[3], Outcome: "done"})
	w.oddDirectory()
	w.oddAttachments(ctx, s)
	w.oddKeys()
	w.oddLogs(ctx)
	w.oddObjects(s)
	w.inTrash(ctx)
	w.underRemoval(ctx)
	w.toTell(ctx)
	w.oddHolds()
}

// oddHolds leaves a hold on one of each.
func (w *world) oddHolds() {
	for i, what := range []any{"quota", w.ticket2, w.upload(w.product2)} {
		_, err := w.SetHold(w.ctx, store.Hold{ID: uuid.Must(uuid.NewV7()), On: on(what), Reason: oddNames[i], ByID: w.bob.ID})
		w.ok(err)
	}
}

func (w *world) oddDirectory() {
	w.put(store.Space{Slug: "quota", Name: oddNames[2], QuotaBytes: 1 << 40, QuotaFiles: 9})
	for i, name := range oddNames {
		user := store.User{ID: id(100 + byte(i)), FullName: name}
		ticket := store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: id(100 + byte(i))}, Space: "quota", Name: name, OwnerID: user.ID}
		w.put(user, store.Member{Space: "quota", UserID: user.ID, Role: store.Viewer}, ticket,
			store.Comment{TicketID: ticket.ID, ID: id(1), CreatedAt: oddTime.UTC().Truncate(time.Second)},
			store.Comment{TicketID: ticket.ID, ID: id(2), Told: oddTime.UTC().Truncate(time.Second)})
		w.ok(w.DeleteComment(w.ctx, store.Comment{TicketID: ticket.ID, ID: id(2)}))
	}
}

func (w *world) oddAttachments(ctx context.Context, s Portable) {
	for i, name := range oddNames[:8] {
		a := w.file(w.ticket)
		a.FileName, a.Type, a.SHA256, a.Size = name, "text/"+name, content(50+byte(i)), int64(i)<<30
		a.Parent.ID, a.CommentID = id(100+byte(i)), uuid.NullUUID{UUID: id(1), Valid: true}
		a.UploaderID = id(100 + byte(i))
		w.ok(w.CreateAttachment(ctx, a, []byte{0, 255, byte(i)}, ""))
	}
	w.ok(w.DeleteUser(w.ctx, id(100)))
	auto := w.file(w.product)
	auto.Parent.ID = id(99)
	w.ok(w.CreateAttachment(ctx, auto, nil, "made-by-an-upload"))
	gone := w.file(w.meeting2)
	gone.SHA256 = content(49) // which nobody else has, so that its checksums are of no use any more
	w.ok(w.CreateAttachment(ctx, gone, []byte{49}, ""))
	_, err := w.DeleteAttachment(ctx, gone.ID)
	w.ok(err)
}

func (w *world) oddKeys() {
	for i, name := range oddNames {
		n := 100 + byte(i)
		k := store.Key{ID: id(n), UserID: w.bob.ID, Name: name, Prefix: "at_1", Hash: content(n), CreatedAt: oddTime}
		if i%2 == 0 {
			k.ExpiresAt = oddTime.Add(time.Hour)
		}
		w.ok(w.CreateKey(w.ctx, k))
		w.ok(w.CreateSession(w.ctx, store.Session{Hash: content(n), KeyID: k.ID, ExpiresAt: oddTime.Add(time.Duration(i) * time.Nanosecond)}, oddTime))
	}
	w.TouchKey(id(100), oddTime)
}

// oddLogs leaves entries of two runs, the first of them removed, events, and dead letters,
// the first of which were removed, too.
func (w *world) oddLogs(ctx context.Context) {
	for i, name := range oddNames {
		w.ok(w.SetNote(store.WithEntry(w.ctx, &store.Entry{Time: oddTime.AddDate(0, 0, -3*i), Action: "note", Name: name, Outcome: name}), fmt.Sprint("note ", i), []byte(name)))
	}
	w.ok(w.SetNote(w.ctx, "nothing", nil))
	_, err := w.PruneAudit(w.ctx, 0, time.Hour, 1)
	w.ok(err)
	removed, err := w.PruneAudit(w.ctx, 2*time.Hour, time.Hour, 3)
	w.ok(err)
	same(w, "removed entries", removed, 3)
	w.Record(store.Entry{Time: oddTime, Action: "refused", Outcome: "forbidden"})
	for range 4 {
		w.ok(w.CreateAttachment(ctx, w.file(w.product), nil, ""))
	}
	events, err := w.Events(w.ctx, 0, 100)
	w.ok(err)
	for _, e := range events[:3] {
		w.ok(w.AckEvents(w.ctx, []uint64{events[4].Seq}, store.DeadLetter{Event: e, Time: oddTime, Reason: oddNames[3]}))
	}
	_, err = w.PruneDeadLetters(w.ctx, 0, time.Hour, 1)
	w.ok(err)
	removed, err = w.PruneDeadLetters(w.ctx, 2*time.Hour, time.Hour, 1)
	w.ok(err)
	same(w, "removed dead letters", removed, 1)
}

// oddObjects leaves an object that is being written, one that is damaged, and garbage.
func (w *world) oddObjects(catalog blobs.Catalog) {
	written, damaged, garbage := blobs.NewObject(content(200)), blobs.NewObject(content(201)), blobs.NewObject(content(202))
	w.ok(catalog.Intend(w.ctx, []blobs.Object{written, damaged, garbage}))
	w.ok(catalog.Settle(w.ctx, []blobs.Place{{Object: damaged, Size: 1 << 40, Stored: time.Unix(1_700_000_000, 0)}}))
	w.ok(catalog.Mark(w.ctx, damaged, true))
	w.ok(catalog.Discard(w.ctx, []blobs.Object{garbage}))
}

// inTrash leaves attachments, a ticket and a space in the trash, also with a user who was
// deleted, and what is in the trash of a ticket and of a space in the trash.
func (w *world) inTrash(ctx context.Context) {
	d := store.Deletion{At: oddTime.UTC().Truncate(time.Second), Until: oddTime.UTC().Truncate(time.Second).AddDate(1, 0, 0), ByID: id(100)}
	ticket := store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: id(61)}, Space: "trashed", Name: oddNames[5], OwnerID: w.bob.ID}
	comment := store.Comment{TicketID: ticket.ID, ID: id(1)}
	product := store.Entity{Parent: store.Parent{Kind: store.Product, ID: id(62)}, Space: "trashed", Name: oddNames[6]}
	live, meeting := product, store.Entity{Parent: store.Parent{Kind: store.Meeting, ID: id(63)}, Space: "ab"}
	live.Kind, live.Space = store.Meeting, "ab"
	w.put(store.Space{Slug: "trashed", Name: oddNames[4], QuotaBytes: 1 << 50}, store.Member{Space: "trashed", UserID: w.eve.ID, Role: store.Editor},
		ticket, comment, product, live, meeting)
	for i, e := range []store.Entity{ticket, ticket, product, live, live, meeting, meeting} {
		a := w.file(e)
		a.FileName, a.SHA256 = oddNames[i], content(byte(210+i))
		if e.Kind == store.Ticket {
			a.CommentID = uuid.NullUUID{UUID: comment.ID, Valid: true}
		}
		w.ok(w.CreateAttachment(w.ctx, a, []byte{byte(i)}, ""))
		if i%2 == 0 {
			_, err := w.TrashAttachment(w.ctx, a.ID, d)
			w.ok(err)
		}
	}
	w.ok(w.TrashEntity(ctx, meeting.Parent, true, d))
	w.ok(w.TrashEntity(w.ctx, ticket.Parent, true, d))
	w.ok(w.TrashSpace(w.ctx, "trashed", true, d))
}

// muchBelow is how many objects are more than a deletion removes at once.
const muchBelow = 1100

// underRemoval leaves a ticket with attachments and a space with products, the removal of
// which has begun.
func (w *world) underRemoval(ctx context.Context) {
	ticket := store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: id(60)}, Space: "a", OwnerID: w.bob.ID}
	objects := []store.Object{
		store.Space{Slug: "removed", Name: "Removed"}, store.Member{Space: "removed", UserID: w.eve.ID, Role: store.Admin},
		ticket, store.Comment{TicketID: ticket.ID, ID: id(1)},
	}
	for range muchBelow {
		objects = append(objects, store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "removed"})
	}
	w.put(objects...)
	group := errgroup.Group{}
	group.SetLimit(100)
	for range muchBelow {
		group.Go(func() error { return w.CreateAttachment(w.ctx, w.file(ticket), nil, "") })
	}
	w.ok(group.Wait())
	_, err := w.DeleteEntity(ctx, ticket.Parent, true)
	w.ok(err)
	_, err = w.DeleteSpace(ctx, "removed", true)
	w.ok(err)
}

// toTell leaves a product in the trash of whose attachments not all events are enqueued.
func (w *world) toTell(ctx context.Context) {
	product := store.Entity{Parent: store.Parent{Kind: store.Product, ID: id(64)}, Space: "a"}
	w.put(product)
	w.many(product, muchBelow)
	w.ok(w.TrashEntity(ctx, product.Parent, true, store.Deletion{At: oddTime.UTC().Truncate(time.Second), Until: noon.UTC().AddDate(9, 0, 0), ByID: w.bob.ID}))
}

// kinds are all kinds of rows.
var kinds = []string{
	"ages", "attachment", "chain", "checksums", "comment", "dead letter", "entity", "entry", "event", "garbage", "hold", "intent", "key",
	"last", "member", "note", "place", "removal", "session", "space", "telling",
	"trashed attachment", "trashed entity", "trashed space", "usage", "user",
}

// RunPortable moves everything from one store into another and back into a third, all of
// them new, and compares them.
func RunPortable(t *testing.T, first, second, third Portable) {
	Everything(t, first)
	sum, err := portable.Copy(t.Context(), first, second, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Import(t.Context(), second.Export(t.Context())); err == nil {
		t.Error("a store that has records takes others")
	}
	var is []string
	for kind, count := range sum.Counts {
		t.Logf("%s: %d", kind, count.Rows)
		is = append(is, kind)
	}
	slices.Sort(is)
	if !slices.Equal(is, kinds) {
		t.Errorf("the rows are of the kinds %q, not %q", is, kinds)
	}
	compareStores(t, first, second)
	back, err := portable.Copy(t.Context(), second, third, nil)
	if err != nil {
		t.Fatal(err)
	}
	if faults := sum.Differences(back); len(faults) > 0 {
		t.Errorf("what came back differs: %q", faults)
	}
	compareStores(t, first, third)
	for _, s := range []Portable{second, third} {
		goesOn(t, s, sum)
	}
	// What is left of a move that was given up does not keep the next one back.
	if err := errors.Join(second.ClearRecords(t.Context()), second.Clear(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// compareStores compares what callers read of two stores.
func compareStores(t *testing.T, first, second Portable) {
	t.Helper()
	was, is := read(t, first), read(t, second)
	for what, value := range was {
		if is[what] != value {
			t.Errorf("%s:\n%s\nbecame\n%s", what, value, is[what])
		}
	}
}

// read reads a store, and writes down what callers get.
func read(t *testing.T, s Portable) map[string]string {
	t.Helper()
	ctx, out := t.Context(), map[string]string{}
	note := func(what string, value any, err error) {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		out[what] = fmt.Sprintf("%+v", value)
	}
	const all = 10_000
	users, err := s.Users(ctx, uuid.Nil, all)
	note("users", users, err)
	spaces, err := s.Spaces(ctx, "", all)
	note("spaces", spaces, err)
	for _, sp := range spaces {
		_, usage, err := s.Space(ctx, sp.Slug)
		note("usage of "+sp.Slug, usage, err)
		members, err := s.Members(ctx, sp.Slug, uuid.Nil, all)
		note("members of "+sp.Slug, members, err)
		for _, kind := range []store.Kind{store.Product, store.Ticket, store.Meeting} {
			entities, err := s.Entities(ctx, sp.Slug, kind, uuid.Nil, all)
			note(fmt.Sprint(kind, "s of ", sp.Slug), entities, err)
			for _, e := range entities {
				comments, err := s.Comments(ctx, e.ID, uuid.Nil, all)
				note("comments of "+e.ID.String(), comments, err)
				files, err := s.AttachmentsOf(ctx, e.Parent, uuid.Nil, all)
				note(fmt.Sprint("attachments of ", e.Parent), files, err)
			}
		}
	}
	for _, u := range users {
		memberships, err := s.Memberships(ctx, u.ID)
		note("spaces of "+u.ID.String(), memberships, err)
		keys, err := s.KeysOf(ctx, u.ID, uuid.Nil, all)
		note("keys of "+u.ID.String(), withoutZones(keys), err)
	}
	attachments, err := s.AllAttachments(ctx, uuid.Nil, all)
	note("attachments", attachments, err)
	for _, a := range attachments[:10] {
		with, err := s.AttachmentsWith(ctx, a.SHA256, all)
		note(fmt.Sprintf("attachments with %x", a.SHA256), with, err)
		sums, err := s.Checksums(ctx, a.SHA256)
		note(fmt.Sprintf("checksums of %x", a.SHA256), sums, ignoreNotFound(err))
	}
	for i := range oddNames {
		k, u, err := s.KeyByHash(ctx, content(100+byte(i)))
		note(fmt.Sprint("key ", i), fmt.Sprint(withoutZones([]store.Key{k}), u), err)
		session, err := s.Session(ctx, content(100+byte(i)))
		session.ExpiresAt = portable.Moment(session.ExpiresAt)
		note(fmt.Sprint("session ", i), session, ignoreNotFound(err))
		value, err := s.Note(ctx, fmt.Sprint("note ", i))
		note(fmt.Sprint("note ", i), value, err)
	}
	for _, sp := range append(spaces, store.Space{}) {
		trash, err := s.TrashIn(ctx, sp.Slug, nil, all)
		slices.SortFunc(trash, func(a, b store.Trashed) int { // stores differ in what was deleted in the same second
			return cmp.Or(b.At.Compare(a.At), strings.Compare(fmt.Sprint(a.Attachment.ID, a.Entity.Parent), fmt.Sprint(b.Attachment.ID, b.Entity.Parent)))
		})
		for i := range trash {
			trash[i].Place = nil
		}
		note("trash of "+sp.Slug, trash, err)
	}
	size, earliest, err := s.TrashSize(ctx)
	note("size of the trash", fmt.Sprint(size, earliest), err)
	readLogs(t, s, note)
	return out
}

func readLogs(t *testing.T, s Portable, note func(what string, value any, err error)) {
	t.Helper()
	ctx := t.Context()
	entries, head, faults, err := store.VerifyAudit(ctx, s, nil)
	note("chain", fmt.Sprint(entries, head, faults), err)
	if len(faults) > 0 || entries == 0 {
		t.Errorf("the chain of %d entries has faults: %q", entries, faults)
	}
	list, err := s.EntriesBefore(ctx, 0, 10_000)
	note("entries", list, err)
	runs, err := s.AuditRuns(ctx)
	note("runs", runs, err)
	events, err := s.Events(ctx, 0, 10_000)
	for i := range events {
		events[i] = portable.EventTimes(events[i])
	}
	note("events", events, err)
	dead, err := s.DeadLetters(ctx, 0, 10_000)
	for i, l := range dead {
		dead[i].Time, dead[i].Event = portable.Moment(l.Time), portable.EventTimes(l.Event)
	}
	note("dead letters", dead, err)
	queued, given := s.OutboxSize()
	note("size of the outbox", fmt.Sprint(queued, given), nil)
	var places []blobs.Place
	for p, err := range s.Places(ctx, blobs.Ref{}) {
		if err != nil {
			t.Fatal(err)
		}
		p.Stored = p.Stored.UTC()
		places = append(places, p)
	}
	note("places", places, nil)
	check, err := s.Check(ctx, nil)
	note("faults", check, err)
	if len(check) > 0 {
		t.Errorf("a check finds %q", check)
	}
}

func withoutZones(keys []store.Key) []store.Key {
	for i, k := range keys {
		keys[i].CreatedAt, keys[i].ExpiresAt, keys[i].LastUsedAt = portable.Moment(k.CreatedAt), portable.Moment(k.ExpiresAt), portable.Moment(k.LastUsedAt)
	}
	return keys
}

func ignoreNotFound(err error) error {
	if err == store.ErrNotFound {
		return nil
	}
	return err
}

// goesOn uses a store that was filled from another one: it gives out numbers where that has
// ended, and completes removals.
func goesOn(t *testing.T, s Portable, was portable.Summary) {
	t.Helper()
	w := &world{T: t, Store: s, ctx: t.Context()}
	before, err := w.Events(w.ctx, 0, 10_000)
	w.ok(err)
	for more := true; more; {
		_, more, err = w.Remove(w.ctx)
		w.ok(err)
	}
	events, err := w.Events(w.ctx, before[len(before)-1].Seq, 10_000)
	w.ok(err)
	if len(events) == 0 {
		t.Error("what was being removed is not removed with its events")
	}
	_, head, err := w.AuditEnds(w.ctx)
	w.ok(err)
	if head.Seq <= was.Head.Seq {
		t.Errorf("the log ends at entry %d, as before", head.Seq)
	}
	_, err = w.RestoreSpace(w.ctx, "trashed")
	w.ok(err)
	_, err = w.RestoreEntity(w.ctx, store.Parent{Kind: store.Ticket, ID: id(61)})
	w.ok(err)
	same(w, "role in a space that came back", w.role("trashed", store.User{ID: id(3)}), store.Editor)
	same(w, "usage of a space that came back", w.usage("trashed"), store.Usage{Bytes: 10, Files: 1})
	comment := store.Comment{TicketID: id(101), ID: id(3)}
	w.put(comment)
	comment, err = w.Comment(w.ctx, comment.TicketID, comment.ID)
	w.ok(err)
	same(w, "the number of a comment", comment.Number, 3)
	_, faults, err := verify(w)
	w.ok(err)
	sameList(w, "faults of the chain", faults, nil)
	faults, err = w.Check(w.ctx, nil)
	w.ok(err)
	sameList(w, "faults", faults, nil)
}

func verify(w *world) (n int64, faults []string, err error) {
	n, _, faults, err = store.VerifyAudit(w.ctx, w, nil)
	return n, faults, err
}
