package bolt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

// importingStore is a database whose imports have batches of 16, with the files
// that a crash would leave before the first commit and after each.
type importingStore struct {
	*Store
	crashes []string // copies of the database
	hook    func()   // called at each commit
}

func newImporting(t *testing.T) *importingStore {
	t.Helper()
	dir := t.TempDir()
	i := &importingStore{Store: OpenAt(t, filepath.Join(dir, "attachd.db")), hook: func() {}}
	i.batch = 16
	i.committer.opts.Commit = func(tx *bbolt.Tx) error {
		i.hook()
		err := tx.Commit()
		i.crashes = append(i.crashes, i.copy(t))
		return err
	}
	i.crashes = []string{i.copy(t)}
	return i
}

func (i *importingStore) copy(t *testing.T) string {
	file, err := os.ReadFile(i.file.Path())
	to := filepath.Join(filepath.Dir(i.file.Path()), fmt.Sprintf("crash-%d-%x", len(i.crashes), rand.Uint64()))
	if err := errors.Join(err, os.WriteFile(to, file, 0o600)); err != nil {
		t.Error(err)
	}
	return to
}

// catalog returns n objects of every kind, sorted only by kind.
func catalog(n int) (objects []store.Object) {
	var users, spaces, members, entities, comments []store.Object
	for i := range n {
		u := store.User{ID: uuid.New(), FullName: fmt.Sprint("User ", i), IsSuperadmin: i%7 == 0}
		slug := fmt.Sprintf("space-%d", i%3)
		ticket := store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: uuid.New()}, Space: slug, OwnerID: u.ID, Name: "T"}
		users = append(users, u)
		spaces = append(spaces, store.Space{Slug: slug, Name: fmt.Sprint("named by ", i)})
		members = append(members, store.Member{Space: slug, UserID: u.ID, Role: store.Editor})
		entities = append(entities, ticket, store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: slug})
		comments = append(comments, store.Comment{TicketID: ticket.ID, ID: uuid.New()})
	}
	return slices.Concat(users, spaces, members, entities, comments)
}

// holds returns how many of the objects are stored as they were put.
func (b *Store) holds(t *testing.T, objects []store.Object) (n int) {
	t.Helper()
	for _, o := range objects {
		var found bool
		switch o := o.(type) {
		case store.User:
			got, err := b.User(t.Context(), o.ID)
			found = err == nil && got == o
		case store.Space:
			_, _, err := b.Space(t.Context(), o.Slug)
			found = err == nil
		case store.Member:
			role, err := b.Role(t.Context(), o.Space, o.UserID)
			found = err == nil && role == o.Role
		case store.Entity:
			got, err := b.Entity(t.Context(), o.Parent)
			found = err == nil && got == o
		case store.Comment:
			_, err := b.Comment(t.Context(), o.TicketID, o.ID)
			found = err == nil
		}
		if found {
			n++
		}
	}
	return n
}

// auditOf returns the actions in the audit log, in order.
func (b *Store) auditOf(t *testing.T) (actions []string) {
	t.Helper()
	list, err := b.Entries(t.Context(), 0, 100000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		actions = append(actions, e.Action+" "+e.ID)
	}
	return actions
}

// Whenever the power fails, at the next start an import is complete, with every
// entry in the audit log, or nothing of it is there.
func TestAnImportIsWholeOrNotAtAllAfterACrash(t *testing.T) {
	i := newImporting(t)
	const users = 10
	objects := catalog(users)
	e := store.Entry{Time: time.Unix(1e9, 0), Action: "directory.import", Outcome: "done"}
	created, err := i.Put(store.WithEach(store.WithEntry(t.Context(), &e)), objects...)
	if err != nil {
		t.Fatal(err)
	}
	if n := i.holds(t, objects); n != len(objects) || len(created) != len(objects) {
		t.Fatalf("of %d objects, %d are there, and of %d it is said whether they are new", len(objects), n, len(created))
	}
	want := i.auditOf(t)
	if len(want) != 2*users+1 || want[2*users] != "directory.import " || want[0] != "user.put "+objects[0].(store.User).ID.String() {
		t.Fatalf("the audit log has %d entries: %v", len(want), want)
	}
	if len(i.crashes) < 12 {
		t.Fatalf("%d objects came in %d commits", len(objects), len(i.crashes)-1)
	}
	whole, none := 0, 0
	for n, path := range i.crashes {
		if faults := faultsOfCopy(t, path); len(faults) > 0 {
			t.Errorf("crash %d: before it is gone on with: %v", n, faults)
		}
		b := OpenAt(t, path)
		switch there, entries := b.holds(t, objects), b.auditOf(t); {
		case there == len(objects) && slices.Equal(entries, want):
			whole++
		case there == 0 && len(entries) == 0:
			none++
		default:
			t.Errorf("crash %d: %d of %d objects are there, and %d of %d entries", n, there, len(objects), len(entries), len(want))
		}
		err := b.viewCommitted(t.Context(), func(tx *dbfile.Tx) error {
			if tx.HasUnder(schema.Import, nil) {
				t.Errorf("crash %d: something is left of the import", n)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if whole == 0 || none == 0 {
		t.Errorf("after %d crashes the import was there, after %d not", whole, none)
	}
}

// faultsOfCopy checks a copy without changing it.
func faultsOfCopy(t *testing.T, path string) []string {
	t.Helper()
	b, err := Open(path, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	faults, err := b.Check(t.Context(), nil)
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	return faults
}

// Changes that would invalidate an import under way wait for its end, and are
// checked against its result.
func TestChangesOfTheDirectoryWaitForAnImport(t *testing.T) {
	i := newImporting(t)
	if _, err := i.Put(t.Context(), store.Space{Slug: "b"}, store.User{ID: uuid.UUID{15: 1}}); err != nil {
		t.Fatal(err)
	}
	objects := catalog(30)
	ticket := objects[len(objects)-1].(store.Comment).TicketID
	others := map[string]func() error{
		"to put the same ticket in another space": func() error {
			_, err := i.Put(t.Context(), store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: ticket}, Space: "b", OwnerID: uuid.UUID{15: 1}})
			return err
		},
		"to upload to it in another space": func() error {
			return i.CreateAttachment(t.Context(), store.Attachment{ID: uuid.New(), UploaderID: uuid.UUID{15: 1},
				Parent: store.Parent{Kind: store.Product, ID: objects[len(objects)-31].(store.Entity).ID}}, nil, "b")
		},
	}
	type outcome struct {
		what string
		err  error
	}
	done := make(chan outcome, len(others))
	begun := false
	i.hook = func() {
		if !begun {
			for what, do := range others {
				go func() { done <- outcome{what, do()} }()
			}
		}
		begun = true
	}
	if _, err := i.Put(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	for range others {
		if o := <-done; !errors.Is(o.err, store.ErrConflict) && !errors.Is(o.err, store.ErrNotFound) {
			t.Errorf("%s, while the import was under way: %v", o.what, o.err)
		}
	}
	if n := i.holds(t, objects); n != len(objects) {
		t.Errorf("%d of %d objects are there", n, len(objects))
	}
}

// An import that is refused, or cancelled before it is decided, leaves nothing.
func TestAnImportThatIsNotMadeLeavesNothing(t *testing.T) {
	i := newImporting(t)
	objects := catalog(30)
	_, err := i.Put(t.Context(), append(objects, store.Comment{TicketID: uuid.New(), ID: uuid.New()})...)
	if refused := new(store.PutError); !errors.As(err, &refused) || refused.Index != len(objects) {
		t.Errorf("one whose last object is refused: %v", err)
	}
	commits := 0
	i.committer.opts.Commit = func(tx *bbolt.Tx) error {
		if commits++; commits > 2 && commits <= 2+1+dbfile.FullTries { // the third, and its retries
			return fmt.Errorf("no room: %w", durable.FullErrors[0])
		}
		return tx.Commit()
	}
	if _, err := i.Put(t.Context(), objects...); !errors.Is(err, store.ErrFull) {
		t.Errorf("one that found the disk full: %v", err)
	}
	if n := i.holds(t, objects); n != 0 {
		t.Errorf("%d of %d objects are there", n, len(objects))
	}
	if _, err := i.Put(t.Context(), objects...); err != nil {
		t.Errorf("once more: %v", err)
	}
	if n := i.holds(t, objects); n != len(objects) {
		t.Errorf("once more: %d of %d objects are there", n, len(objects))
	}
}

// BenchmarkPutMany measures the cost of each of many objects.
func BenchmarkPutMany(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				db := OpenTemp(b)
				objects := []store.Object{store.Space{Slug: "a"}}
				for range n {
					objects = append(objects, store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a", Name: "Product"})
				}
				if _, err := db.Put(b.Context(), objects...); err != nil {
					b.Fatal(err)
				}
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/object")
		})
	}
}
