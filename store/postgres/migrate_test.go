package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// However many replicas begin with an empty database at once, they make one schema, in which
// each finds what the others write. Poolers do not break that.
func TestReplicasThatStartAtOnceMakeOneSchema(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.Database(t)
	for name, opts := range map[string]postgres.Options{
		"straight":         {DSN: dsn, MaxConnections: 2},
		"through a pooler": {DSN: postgrestest.Pooled(t, postgrestest.Database(t)), MaxConnections: 2, Pooler: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all [4]*postgres.Store
			var failed [len(all)]error
			var starts sync.WaitGroup
			for i := range all {
				starts.Go(func() { all[i], failed[i] = postgres.Open(t.Context(), opts) })
			}
			starts.Wait()
			if err := errors.Join(failed[:]...); err != nil {
				t.Fatal(err)
			}
			for i, s := range all {
				if err := s.SetNote(t.Context(), "last", []byte{byte(i)}); err != nil {
					t.Error(err)
				}
				for _, other := range all {
					if note, err := other.Note(t.Context(), "last"); err != nil || len(note) != 1 || note[0] != byte(i) {
						t.Errorf("after replica %d, another reads %v, %v", i, note, err)
					}
				}
			}
			for _, s := range all {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// What a database has goes on through each change of its schema.
func TestADatabaseOfAnOlderSchemaIsUsed(t *testing.T) {
	t.Parallel()
	for old := range 2 {
		t.Run(fmt.Sprintf("schema %d", old+1), func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.Database(t)
			for n := range old + 1 {
				sql, err := os.ReadFile(fmt.Sprintf("migrations/%d.sql", n+1))
				must(t, err)
				run(t, dsn, string(sql))
			}
			ada, product := uuid.New(), store.Parent{Kind: store.Product, ID: uuid.New()}
			run(t, dsn, fmt.Sprintf(`insert into attachd.version (version, oldest_program) values (%d, 1)`, old+1),
				fmt.Sprintf(`insert into attachd.users values ('%s', 'Ada', false)`, ada),
				`insert into attachd.spaces values ('a', 'A', 0, 0, false)`,
				fmt.Sprintf(`insert into attachd.entities values (1, '%s', 'a', 'P')`, product.ID))
			s := openAt(t, dsn)
			if u, err := s.User(t.Context(), ada); err != nil || u.FullName != "Ada" || u.IsRecordsManager {
				t.Errorf("the user is %+v, %v", u, err)
			}
			h := house{product: store.Entity{Parent: product, Space: "a"}, ada: store.User{ID: ada}}
			a := h.file("after")
			must(t, upload(s, a))
			hold, err := s.SetHold(t.Context(), store.Hold{ID: uuid.Must(uuid.NewV7()), On: store.Held{Parent: product}, Reason: "case 4711", ByID: ada})
			must(t, err)
			if _, err := s.TrashAttachment(t.Context(), a.ID, h.deletion(time.Hour)); !errors.Is(err, store.ErrHeld) {
				t.Errorf("a deletion of what is held: %v", err)
			}
			_, err = s.LiftHold(t.Context(), hold.ID)
			must(t, err)
			_, err = s.TrashAttachment(t.Context(), a.ID, h.deletion(time.Hour))
			must(t, err)
			whole(t, s)
		})
	}
}

// A program goes on with the schema of a newer one as long as that says so, which a rolling
// upgrade needs; otherwise it says what to do, and changes nothing.
func TestANewerSchemaIsUsedAsLongAsItSaysSo(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.Database(t)
	if err := openAt(t, dsn).SetNote(t.Context(), "n", []byte("v")); err != nil {
		t.Fatal(err)
	}
	run(t, dsn, `update attachd.version set version = 1000, oldest_program = 1`)
	s := openAt(t, dsn)
	if note, err := s.Note(t.Context(), "n"); err != nil || string(note) != "v" {
		t.Errorf("in a newer schema, the note is %q, %v", note, err)
	}
	if err := s.SetNote(t.Context(), "n", []byte("w")); err != nil {
		t.Errorf("in a newer schema: %v", err)
	}
	run(t, dsn, `update attachd.version set oldest_program = 1000`)
	refused, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn})
	if err == nil {
		_ = refused.Close()
	}
	if err == nil || errors.Is(err, store.ErrAway) || !strings.Contains(err.Error(), "schema 1000, which needs a newer attachd: update this one") {
		t.Errorf("of a schema that needs a newer program it says: %v", err)
	}
	if note, err := s.Note(t.Context(), "n"); err != nil || string(note) != "w" {
		t.Errorf("who had it open before reads %q, %v", note, err)
	}
	run(t, dsn, `do $$ begin assert (select version = 1000 and oldest_program = 1000 from attachd.version); end $$`)
}

// Without Options.Pooler, a pooler mixes up the statements that its clients have prepared.
func TestAPoolerThatIsNotDeclaredIsNamed(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.Pooled(t, emptyDatabase(t))
	const clients, reads = 8, 50
	var said [clients]error
	var all sync.WaitGroup
	for i := range said {
		all.Go(func() {
			s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, MaxConnections: 4})
			for n := 0; err == nil && n < reads; n++ {
				if _, err = s.Note(t.Context(), "n"); errors.Is(err, store.ErrNotFound) {
					err = nil
				}
			}
			said[i] = err
			if s != nil {
				_ = s.Close() // it may fail, as all may here
			}
		})
	}
	all.Wait()
	err := errors.Join(said[:]...)
	if err == nil {
		t.Fatal("all of them have got through")
	}
	for _, err := range said {
		if err != nil && !strings.Contains(err.Error(), "metadata.pooler = true") {
			t.Errorf("it does not say what to set: %v", err)
		}
	}
}
