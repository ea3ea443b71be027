package storetest

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

var directory = []promise{
	{"users are read as written, in order, in pages", func(w *world) {
		got, err := w.User(w.ctx, w.ada.ID)
		w.ok(err)
		same(w, "user", got, w.ada)
		_, err = w.User(w.ctx, id(99))
		w.told(err, store.ErrNotFound)
		zoe := store.User{ID: id(4), FullName: "Zoë"}
		w.put(zoe)
		w.ok(w.DeleteUser(w.ctx, w.bob.ID))
		pages(w, []store.User{w.ada, w.eve, zoe},
			func(u store.User) uuid.UUID { return u.ID },
			func(after uuid.UUID, limit int) ([]store.User, error) { return w.Users(w.ctx, after, limit) })
	}},
	{"spaces are read as written, in order, in pages", func(w *world) {
		b := store.Space{Slug: "b", Name: "B", QuotaBytes: 1 << 40, QuotaFiles: 7, Auto: true}
		dash := store.Space{Slug: "a-", Name: "Dash"}
		w.put(b, dash)
		got, usage, err := w.Space(w.ctx, "b")
		w.ok(err)
		same(w, "space", got, b)
		same(w, "usage", usage, store.Usage{})
		for _, slug := range []string{"c", "", "a\x00"} {
			_, _, err = w.Space(w.ctx, slug)
			w.told(err, store.ErrNotFound)
		}
		pages(w, []store.Space{{Slug: "a", Name: "Space A"}, dash, {Slug: "ab", Name: "Space AB"}, b},
			func(s store.Space) string { return s.Slug },
			func(after string, limit int) ([]store.Space, error) { return w.Spaces(w.ctx, after, limit) })
	}},
	{"members are listed of one space only", func(w *world) {
		member := func(slug string, u store.User, r store.Role) store.Member {
			return store.Member{Space: slug, UserID: u.ID, Role: r}
		}
		bob, eve := member("a", w.bob, store.Viewer), member("a", w.eve, store.Editor)
		w.put(eve, bob)
		list := func(slug string) func(uuid.UUID, int) ([]store.Member, error) {
			return func(after uuid.UUID, limit int) ([]store.Member, error) {
				return w.Members(w.ctx, slug, after, limit)
			}
		}
		key := func(m store.Member) uuid.UUID { return m.UserID }
		pages(w, []store.Member{member("a", w.ada, store.Admin), bob, eve}, key, list("a"))
		pages(w, []store.Member{member("ab", w.bob, store.Editor)}, key, list("ab"))
		for _, slug := range []string{"", "c", "a\x00", "a\x00\xc0", strings.Repeat("a", 70000)} {
			pages(w, nil, key, list(slug))
		}
	}},
	{"a role is that of one space", func(w *world) {
		same(w, "admin", w.role("a", w.ada), store.Admin)
		same(w, "neighbour", w.role("ab", w.ada), store.NoRole)
		same(w, "editor", w.role("ab", w.bob), store.Editor)
		same(w, "prefix", w.role("a", w.bob), store.NoRole)
		same(w, "unknown space", w.role("c", w.ada), store.NoRole)
		w.put(store.Member{Space: "a", UserID: w.ada.ID, Role: store.Viewer})
		same(w, "changed", w.role("a", w.ada), store.Viewer)
	}},
	{"memberships are listed by slug", func(w *world) {
		w.put(store.Space{Slug: "0"},
			store.Member{Space: "ab", UserID: w.ada.ID, Role: store.Viewer},
			store.Member{Space: "0", UserID: w.ada.ID, Role: store.Editor})
		list, err := w.Memberships(w.ctx, w.ada.ID)
		w.ok(err)
		sameList(w, "ada's", list, []store.Member{
			{Space: "0", UserID: w.ada.ID, Role: store.Editor},
			{Space: "a", UserID: w.ada.ID, Role: store.Admin},
			{Space: "ab", UserID: w.ada.ID, Role: store.Viewer},
		})
		list, err = w.Memberships(w.ctx, w.eve.ID)
		w.ok(err)
		sameList(w, "eve's", list, nil)
	}},
	{"a role can be taken away", func(w *world) {
		w.ok(w.DeleteMember(w.ctx, "a", w.ada.ID))
		same(w, "role", w.role("a", w.ada), store.NoRole)
		list, err := w.Memberships(w.ctx, w.ada.ID)
		w.ok(err)
		sameList(w, "memberships", list, nil)
		w.told(w.DeleteMember(w.ctx, "a", w.ada.ID), store.ErrNotFound)
		w.told(w.DeleteMember(w.ctx, "a", w.bob.ID), store.ErrNotFound)
		same(w, "neighbour's role", w.role("ab", w.bob), store.Editor)
	}},
	{"products, tickets and meetings with one id are three", func(w *world) {
		for _, want := range []store.Entity{w.product, w.ticket, w.meeting} {
			got, err := w.Entity(w.ctx, want.Parent)
			w.ok(err)
			same(w, "entity", got, want)
		}
		_, err := w.Entity(w.ctx, store.Parent{Kind: store.Ticket, ID: id(99)})
		w.told(err, store.ErrNotFound)
	}},
	{"a space's list of a kind is in order, in pages, and has no others", func(w *world) {
		want := []store.Entity{w.ticket}
		for n := byte(11); n < 15; n++ {
			e := w.ticket
			e.ID = id(n)
			want = append(want, e)
		}
		for _, e := range slices.Backward(want) {
			w.put(e)
		}
		list := func(slug string, kind store.Kind) func(uuid.UUID, int) ([]store.Entity, error) {
			return func(after uuid.UUID, limit int) ([]store.Entity, error) {
				return w.Entities(w.ctx, slug, kind, after, limit)
			}
		}
		key := func(e store.Entity) uuid.UUID { return e.ID }
		pages(w, want, key, list("a", store.Ticket))
		pages(w, []store.Entity{w.product}, key, list("a", store.Product))
		pages(w, []store.Entity{w.ticket2}, key, list("ab", store.Ticket))
		pages(w, nil, key, list("c", store.Ticket))
	}},
	{"comments are a ticket's own, in order, in pages", func(w *world) {
		want := []store.Comment{w.comment, {TicketID: w.ticket.ID, ID: id(31)}, {TicketID: w.ticket.ID, ID: id(32)}}
		w.put(want[2], want[1])
		for i, number := range []int{1, 3, 2} {
			want[i].Number = number
		}
		pages(w, want,
			func(c store.Comment) uuid.UUID { return c.ID },
			func(after uuid.UUID, limit int) ([]store.Comment, error) {
				return w.Comments(w.ctx, w.ticket.ID, after, limit)
			})
		for _, c := range []struct {
			store.Comment
			there bool
		}{
			{w.comment, true},
			{store.Comment{TicketID: w.ticket.ID, ID: w.comment2.ID}, false},
			{store.Comment{TicketID: w.ticket2.ID, ID: w.comment.ID}, false},
		} {
			same(w, "has comment", w.hasComment(c.Comment), c.there)
		}
	}},
}

var put = []promise{
	{"numbers the comments of a ticket as they come, for good", func(w *world) {
		at := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
		a := store.Comment{TicketID: w.ticket.ID, ID: id(39), CreatedAt: at(3), Told: at(9)}
		b := store.Comment{TicketID: w.ticket.ID, ID: id(38), Told: at(8)}
		c := store.Comment{TicketID: w.ticket.ID, ID: id(37)}
		w.put(a, b, w.ticket, w.comment) // putting a ticket again does not restart its numbers
		w.ok(w.DeleteComment(w.ctx, b))
		w.put(c)
		for _, want := range []store.Comment{
			{TicketID: w.ticket.ID, ID: id(30), Number: 1},
			{TicketID: w.ticket.ID, ID: id(39), Number: 2, CreatedAt: at(3)},
			{TicketID: w.ticket.ID, ID: id(37), Number: 4},
		} {
			got, err := w.Comment(w.ctx, want.TicketID, want.ID)
			w.ok(err)
			same(w, "comment", got, want)
		}
		a.CreatedAt, a.Told = time.Time{}, at(10)
		c.CreatedAt = at(2)
		b.CreatedAt = at(1)
		sameList(w, "created", w.put(a, c, b), []bool{false, false, true})
		list, err := w.Comments(w.ctx, w.ticket.ID, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "comments", list, []store.Comment{
			{TicketID: w.ticket.ID, ID: id(30), Number: 1},
			{TicketID: w.ticket.ID, ID: id(37), Number: 4, CreatedAt: at(2)},
			{TicketID: w.ticket.ID, ID: id(38), Number: 5, CreatedAt: at(1)},
			{TicketID: w.ticket.ID, ID: id(39), Number: 2, CreatedAt: at(3)},
		})
	}},
	{"says of each object whether it is new", func(w *world) {
		u, c := store.User{ID: id(60)}, store.Comment{TicketID: w.ticket.ID, ID: id(61)}
		sameList(w, "created",
			w.put(u, w.ada, u, c, c, w.ticket, store.Space{Slug: "b"}, store.Space{Slug: "b"},
				store.Member{Space: "b", UserID: u.ID, Role: store.Viewer},
				store.Member{Space: "a", UserID: w.ada.ID, Role: store.Viewer}),
			[]bool{true, false, false, true, false, false, true, false, true, false})
		sameList(w, "created", w.put(), []bool{})
	}},
	{"replaces as a whole", func(w *world) {
		e := store.Entity{Parent: w.ticket.Parent, Space: "a", OwnerID: w.ada.ID}
		w.put(store.User{ID: w.ada.ID, FullName: "A."}, store.Space{Slug: "a"}, e)
		u, err := w.User(w.ctx, w.ada.ID)
		w.ok(err)
		same(w, "user", u, store.User{ID: w.ada.ID, FullName: "A."})
		s, _, err := w.Space(w.ctx, "a")
		w.ok(err)
		same(w, "space", s, store.Space{Slug: "a"})
		got, err := w.Entity(w.ctx, e.Parent)
		w.ok(err)
		same(w, "ticket", got, e)
	}},
	{"an object may name one that comes before it", func(w *world) {
		w.put(store.User{ID: id(60)}, store.Space{Slug: "b"},
			store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: id(61)}, Space: "b", OwnerID: id(60)},
			store.Comment{TicketID: id(61), ID: id(62)},
			store.Member{Space: "b", UserID: id(60), Role: store.Editor})
	}},
	{"refuses what names something that is not there", func(w *world) {
		ticket := func(space string, owner uuid.UUID) store.Entity {
			return store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: id(61)}, Space: space, OwnerID: owner}
		}
		for _, o := range []store.Object{
			store.Member{Space: "c", UserID: w.ada.ID, Role: store.Viewer},
			store.Member{Space: "a", UserID: id(99), Role: store.Viewer},
			store.Entity{Parent: store.Parent{Kind: store.Product, ID: id(61)}, Space: "c"},
			ticket("c", w.ada.ID), ticket("a", id(99)), ticket("a", uuid.Nil),
			store.Comment{TicketID: id(99), ID: id(61)},
		} {
			_, err := w.Put(w.ctx, o)
			w.told(err, store.ErrNotFound)
		}
	}},
	{"refuses the zero id", func(w *world) {
		for _, o := range []store.Object{
			store.User{FullName: "Nobody"},
			store.Entity{Parent: store.Parent{Kind: store.Product}, Space: "a"},
			store.Comment{TicketID: w.ticket.ID},
		} {
			_, err := w.Put(w.ctx, o)
			w.told(err, store.ErrConflict)
		}
	}},
	{"refuses what is malformed", func(w *world) {
		for _, o := range []store.Object{
			store.Space{Slug: ""}, store.Space{Slug: "A"}, store.Space{Slug: "a\x00"}, store.Space{Slug: "-a"},
			store.Space{Slug: strings.Repeat("a", 64)}, store.Space{Slug: "a\n"}, store.Space{Slug: "b", QuotaBytes: -1},
			store.Member{Space: "a", UserID: w.eve.ID, Role: store.NoRole},
			store.Member{Space: "a", UserID: w.eve.ID, Role: 4},
			store.Entity{Parent: store.Parent{Kind: 4, ID: id(61)}, Space: "a"},
			nil,
		} {
			if _, err := w.Put(w.ctx, o); err == nil {
				w.Fatalf("%+v was taken", o)
			}
		}
		w.put(store.Space{Slug: strings.Repeat("a", 63)})
	}},
	{"refuses to move a product, ticket or meeting", func(w *world) {
		for _, e := range []store.Entity{w.product, w.ticket, w.meeting} {
			moved := e
			moved.Space = "ab"
			_, err := w.Put(w.ctx, moved)
			if sentence := w.told(err, store.ErrConflict); !strings.Contains(sentence, `"a"`) {
				w.Fatalf("the sentence does not say where it is: %s", sentence)
			}
			got, err := w.Entity(w.ctx, e.Parent)
			w.ok(err)
			same(w, "entity", got, e)
		}
	}},
	{"does all or nothing, and names the first that is refused", func(w *world) {
		moved := w.product
		moved.Space = "ab"
		created, err := w.Put(w.ctx,
			store.User{ID: id(60)}, store.Space{Slug: "b"}, store.User{ID: w.ada.ID, FullName: "Other"},
			moved, store.Comment{TicketID: id(99), ID: id(61)})
		w.told(err, store.ErrConflict)
		var refused *store.PutError
		if !errors.As(err, &refused) {
			w.Fatalf("not a PutError: %v", err)
		}
		same(w, "index", refused.Index, 3)
		same(w, "created", len(created), 0)
		_, err = w.User(w.ctx, id(60))
		w.told(err, store.ErrNotFound)
		_, _, err = w.Space(w.ctx, "b")
		w.told(err, store.ErrNotFound)
		ada, err := w.User(w.ctx, w.ada.ID)
		w.ok(err)
		same(w, "user", ada, w.ada)
	}},
	{"names a refused object that is alone", func(w *world) {
		_, err := w.Put(w.ctx, store.Comment{TicketID: id(99), ID: id(61)})
		var refused *store.PutError
		if !errors.As(err, &refused) || refused.Index != 0 {
			w.Fatalf("not a PutError of the first: %v", err)
		}
	}},
	{"takes ten thousand at once", func(w *world) {
		objects := make([]store.Object, 10000)
		for i := range objects {
			objects[i] = store.Entity{Parent: store.Parent{Kind: store.Meeting, ID: uuid.New()}, Space: "ab"}
		}
		w.put(objects...)
		list, err := w.Entities(w.ctx, "ab", store.Meeting, uuid.Nil, 20000)
		w.ok(err)
		same(w, "meetings", len(list), 10001)
	}},
}

var deletion = []promise{
	{"of a user takes keys, sessions and memberships along", func(w *world) {
		k, other := w.key(w.ada, 1), w.key(w.bob, 2)
		w.session(k, 1)
		w.session(other, 2)
		w.ok(w.DeleteUser(w.ctx, w.ada.ID))

		_, err := w.User(w.ctx, w.ada.ID)
		w.told(err, store.ErrNotFound)
		w.noKey(k)
		w.noSession(1)
		same(w, "role", w.role("a", w.ada), store.NoRole)
		members, err := w.Members(w.ctx, "a", uuid.Nil, 10)
		w.ok(err)
		sameList(w, "members", members, nil)
		w.told(w.DeleteUser(w.ctx, w.ada.ID), store.ErrNotFound)

		_, _, err = w.Key(w.ctx, other.ID)
		w.ok(err)
		_, err = w.Session(w.ctx, content(2))
		w.ok(err)
		same(w, "another's role", w.role("ab", w.bob), store.Editor)
	}},
	{"of a user leaves uploads and tickets", func(w *world) {
		a := w.upload(w.product2)
		w.ok(w.DeleteUser(w.ctx, w.ada.ID))
		sameList(w, "uploads", w.attachmentsOf(w.product2), []store.Attachment{a})
		e, err := w.Entity(w.ctx, w.ticket2.Parent)
		w.ok(err)
		same(w, "ticket", e, w.ticket2)
	}},
	{"of a user makes them new when put again, without what they had", func(w *world) {
		k := w.key(w.ada, 1)
		w.ok(w.DeleteUser(w.ctx, w.ada.ID))
		sameList(w, "created", w.put(w.ada), []bool{true})
		w.noKey(k)
		same(w, "role", w.role("a", w.ada), store.NoRole)
		got, err := w.User(w.ctx, w.ada.ID)
		w.ok(err)
		same(w, "user", got, w.ada)
	}},
	{"of a user lets them own tickets but not be a member", func(w *world) {
		w.ok(w.DeleteUser(w.ctx, w.bob.ID))
		sameList(w, "created", w.put(w.ticket), []bool{false})
		_, err := w.Put(w.ctx, store.Member{Space: "a", UserID: w.bob.ID, Role: store.Viewer})
		w.told(err, store.ErrNotFound)
	}},
	{"of an unknown thing is not found", func(w *world) {
		w.told(w.DeleteUser(w.ctx, id(99)), store.ErrNotFound)
		_, err := w.DeleteSpace(w.ctx, "c", true)
		w.told(err, store.ErrNotFound)
		_, err = w.DeleteEntity(w.ctx, store.Parent{Kind: store.Meeting, ID: id(99)}, true)
		w.told(err, store.ErrNotFound)
		w.told(w.DeleteComment(w.ctx, store.Comment{TicketID: w.ticket.ID, ID: id(99)}), store.ErrNotFound)
	}},
	{"of a product needs a word about its attachments", func(w *world) {
		a := w.upload(w.product)
		_, err := w.DeleteEntity(w.ctx, w.product.Parent, false)
		w.told(err, store.ErrConflict)
		_, err = w.Entity(w.ctx, w.product.Parent)
		w.ok(err)
		sameList(w, "attachments", w.attachmentsOf(w.product), []store.Attachment{a})

		contents, err := w.DeleteEntity(w.ctx, w.product.Parent, true)
		w.ok(err)
		sameList(w, "freed", contents, [][32]byte{a.SHA256})
		_, err = w.Entity(w.ctx, w.product.Parent)
		w.told(err, store.ErrNotFound)
		_, err = w.Attachment(w.ctx, a.ID)
		w.told(err, store.ErrNotFound)
		same(w, "usage", w.usage("a"), store.Usage{})
		list, err := w.Entities(w.ctx, "a", store.Product, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "products", list, nil)
	}},
	{"of a product spares the ticket and meeting with its id", func(w *world) {
		keep := []store.Attachment{w.upload(w.ticket), w.upload(w.meeting), w.upload(w.product2)}
		w.upload(w.product)
		contents, err := w.DeleteEntity(w.ctx, w.product.Parent, true)
		w.ok(err)
		sameList(w, "freed", contents, nil)
		all, err := w.AllAttachments(w.ctx, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "all", all, keep)
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 20, Files: 2})
		same(w, "has comment", w.hasComment(w.comment), true)
	}},
	{"of an empty parent frees nothing", func(w *world) {
		contents, err := w.DeleteEntity(w.ctx, w.meeting.Parent, false)
		w.ok(err)
		sameList(w, "freed", contents, nil)
	}},
	{"frees a content once, and only when nobody has it", func(w *world) {
		for _, c := range []byte{1, 2, 2, 3} {
			a := w.file(w.ticket)
			a.SHA256 = content(c)
			w.create(a)
		}
		elsewhere := w.file(w.product2)
		elsewhere.SHA256 = content(3)
		w.create(elsewhere)
		contents, err := w.DeleteEntity(w.ctx, w.ticket.Parent, true)
		w.ok(err)
		slices.SortFunc(contents, func(a, b [32]byte) int { return int(a[0]) - int(b[0]) })
		sameList(w, "freed", contents, [][32]byte{content(1), content(2)})
		same(w, "the content that another has", w.referenced(content(3)), true)
	}},
	{"of a ticket takes its comments along", func(w *world) {
		_, err := w.DeleteEntity(w.ctx, w.ticket.Parent, false)
		w.ok(err)
		for c, there := range map[store.Comment]bool{w.comment: false, w.comment2: true} {
			same(w, "has comment", w.hasComment(c), there)
		}
	}},
	{"of a comment leaves the files, which name none", func(w *world) {
		plain, named := w.upload(w.ticket), w.file(w.ticket)
		named.CommentID = uuid.NullUUID{UUID: w.comment.ID, Valid: true}
		w.create(named)
		second := store.Comment{TicketID: w.ticket.ID, ID: id(31)}
		w.put(second)
		otherwise := w.file(w.ticket)
		otherwise.CommentID = uuid.NullUUID{UUID: second.ID, Valid: true}
		w.create(otherwise)
		other := w.file(w.ticket2)
		other.CommentID = uuid.NullUUID{UUID: w.comment2.ID, Valid: true}
		w.create(other)

		w.ok(w.DeleteComment(w.ctx, w.comment))
		named.CommentID = uuid.NullUUID{}
		sameList(w, "of the ticket", w.attachmentsOf(w.ticket), []store.Attachment{plain, named, otherwise})
		sameList(w, "of another", w.attachmentsOf(w.ticket2), []store.Attachment{other})
		w.told(w.DeleteComment(w.ctx, w.comment), store.ErrNotFound)
	}},
	{"of a space needs a word about its attachments", func(w *world) {
		a := w.upload(w.meeting)
		_, err := w.DeleteSpace(w.ctx, "a", false)
		w.told(err, store.ErrConflict)
		for _, e := range []store.Entity{w.product, w.ticket, w.meeting} {
			_, err := w.Entity(w.ctx, e.Parent)
			w.ok(err)
		}
		same(w, "role", w.role("a", w.ada), store.Admin)
		sameList(w, "attachments", w.attachmentsOf(w.meeting), []store.Attachment{a})
	}},
	{"of a space takes all that is in it and nothing of its neighbour", func(w *world) {
		w.put(store.Member{Space: "ab", UserID: w.ada.ID, Role: store.Viewer})
		own := w.file(w.product)
		own.SHA256 = content(2)
		w.create(own)
		w.upload(w.ticket)
		w.upload(w.meeting)
		keep := []store.Attachment{w.upload(w.product2), w.upload(w.ticket2), w.upload(w.meeting2)}

		contents, err := w.DeleteSpace(w.ctx, "a", true)
		w.ok(err)
		sameList(w, "freed", contents, [][32]byte{content(2)})
		_, _, err = w.Space(w.ctx, "a")
		w.told(err, store.ErrNotFound)
		for _, e := range []store.Entity{w.product, w.ticket, w.meeting} {
			_, err := w.Entity(w.ctx, e.Parent)
			w.told(err, store.ErrNotFound)
		}
		same(w, "has comment", w.hasComment(w.comment), false)

		for _, e := range []store.Entity{w.product2, w.ticket2, w.meeting2} {
			got, err := w.Entity(w.ctx, e.Parent)
			w.ok(err)
			same(w, "neighbour's", got, e)
		}
		all, err := w.AllAttachments(w.ctx, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "all", all, keep)
		same(w, "neighbour's usage", w.usage("ab"), store.Usage{Bytes: 30, Files: 3})
		list, err := w.Memberships(w.ctx, w.ada.ID)
		w.ok(err)
		sameList(w, "memberships", list, []store.Member{{Space: "ab", UserID: w.ada.ID, Role: store.Viewer}})
		same(w, "neighbour's editor", w.role("ab", w.bob), store.Editor)
	}},
	{"of a space leaves nothing for one of the same name", func(w *world) {
		w.upload(w.product)
		_, err := w.DeleteSpace(w.ctx, "a", true)
		w.ok(err)
		sameList(w, "created", w.put(store.Space{Slug: "a"}, w.product), []bool{true, true})
		same(w, "usage", w.usage("a"), store.Usage{})
		same(w, "role", w.role("a", w.ada), store.NoRole)
		sameList(w, "attachments", w.attachmentsOf(w.product), nil)
		list, err := w.Entities(w.ctx, "a", store.Ticket, uuid.Nil, 10)
		w.ok(err)
		sameList(w, "tickets", list, nil)
	}},
	{"of an empty space needs no word", func(w *world) {
		contents, err := w.DeleteSpace(w.ctx, "a", false)
		w.ok(err)
		sameList(w, "freed", contents, nil)
	}},
	{"of very much is seen no more at once, and goes part by part", func(w *world) {
		const n = 2100
		all := w.many(w.product, n)
		keep := w.file(w.meeting)
		keep.SHA256 = all[7].SHA256
		w.create(keep)
		contents, err := w.DeleteEntity(w.ctx, w.product.Parent, true)
		w.ok(err)
		sameList(w, "attachments", w.attachmentsOf(w.product), nil)
		for _, a := range []store.Attachment{all[0], all[n/2], all[n-1]} {
			_, err := w.Attachment(w.ctx, a.ID)
			w.told(err, store.ErrNotFound)
			_, err = w.DeleteAttachment(w.ctx, a.ID)
			w.told(err, store.ErrNotFound)
		}
		list, err := w.AllAttachments(w.ctx, uuid.Nil, n)
		w.ok(err)
		sameList(w, "all", list, []store.Attachment{keep})
		list, err = w.AttachmentsWith(w.ctx, keep.SHA256, n)
		w.ok(err)
		sameList(w, "with the content that another has", list, []store.Attachment{keep})
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
		faults, err := w.Check(w.ctx, nil)
		w.ok(err)
		sameList(w, "faults", faults, nil)

		contents = append(contents, w.removeAll()...)
		same(w, "freed", len(contents), n-1)
		for _, a := range all {
			same(w, "referenced", w.referenced(a.SHA256), a.SHA256 == keep.SHA256)
		}
	}},
	{"of very much leaves nothing for what is put anew at once", func(w *world) {
		const n = 2100
		w.many(w.ticket, n)
		var comments []store.Object
		for range n {
			comments = append(comments, store.Comment{TicketID: w.ticket.ID, ID: uuid.New()})
		}
		w.put(comments...)
		_, err := w.DeleteEntity(w.ctx, w.ticket.Parent, true)
		w.ok(err)
		_, err = w.Put(w.ctx, w.comment)
		w.told(err, store.ErrNotFound)
		w.refused(w.CreateAttachment(w.ctx, w.file(w.ticket), nil, ""), store.ErrNotFound)
		sameList(w, "created", w.put(w.ticket), []bool{true})
		list, err := w.Comments(w.ctx, w.ticket.ID, uuid.Nil, n)
		w.ok(err)
		sameList(w, "comments", list, nil)
		anew := w.upload(w.ticket)
		w.removeAll()
		sameList(w, "attachments", w.attachmentsOf(w.ticket), []store.Attachment{anew})
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
	}},
	{"of a space with very much likewise", func(w *world) {
		const n = 1100
		w.many(w.product, n)
		var objects []store.Object
		for i := range n {
			u := store.User{ID: uuid.New()}
			e := w.ticket
			e.ID, e.OwnerID = uuid.New(), u.ID
			objects = append(objects, u, store.Member{Space: "a", UserID: u.ID, Role: store.Viewer}, e, store.Comment{TicketID: e.ID, ID: id(byte(i%9 + 1))})
		}
		w.put(objects...)
		last := objects[len(objects)-2].(store.Entity)
		upload := w.upload(last)
		_, err := w.DeleteSpace(w.ctx, "a", true)
		w.ok(err)
		_, err = w.Entity(w.ctx, last.Parent)
		w.told(err, store.ErrNotFound)
		_, err = w.Attachment(w.ctx, upload.ID)
		w.told(err, store.ErrNotFound)
		same(w, "role", w.role("a", store.User{ID: last.OwnerID}), store.NoRole)
		list, err := w.Memberships(w.ctx, last.OwnerID)
		w.ok(err)
		sameList(w, "memberships", list, nil)
		same(w, "has comment", w.hasComment(objects[len(objects)-1].(store.Comment)), false)
		faults, err := w.Check(w.ctx, nil)
		w.ok(err)
		sameList(w, "faults", faults, nil)

		// In another space, and through an upload.
		moved := last
		moved.Space = "ab"
		sameList(w, "created", w.put(moved), []bool{true})
		made := w.file(w.product)
		w.ok(w.CreateAttachment(w.ctx, made, nil, "a"))
		w.removeAll()
		sameList(w, "attachments of what was moved", w.attachmentsOf(moved), nil)
		sameList(w, "attachments of what was made anew", w.attachmentsOf(w.product), []store.Attachment{made})
		members, err := w.Members(w.ctx, "a", uuid.Nil, n)
		w.ok(err)
		sameList(w, "members", members, []store.Member{{Space: "a", UserID: w.ada.ID, Role: store.Admin}})
		same(w, "usage", w.usage("a"), store.Usage{Bytes: 10, Files: 1})
	}},
}

// many stores n files with different contents, oldest first.
func (w *world) many(e store.Entity, n int) (all []store.Attachment) {
	w.Helper()
	for i := range n {
		a := w.file(e)
		a.SHA256 = [32]byte{byte(i), byte(i >> 8), 2: 1}
		all = append(all, a)
	}
	w.keep(all...)
	var uploads sync.WaitGroup
	failed := make([]error, fillers)
	for f := range fillers {
		uploads.Go(func() {
			for i := f; i < n && failed[f] == nil; i += fillers {
				failed[f] = w.Store.CreateAttachment(w.ctx, all[i], nil, "")
			}
		})
	}
	uploads.Wait()
	w.ok(errors.Join(failed...))
	return all
}

// removeAll calls Remove until nothing is left.
func (w *world) removeAll() (freed [][32]byte) {
	w.Helper()
	for more := true; more; {
		contents, left, err := w.Remove(w.ctx)
		w.ok(err)
		freed, more = append(freed, contents...), left
	}
	return freed
}
