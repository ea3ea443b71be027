package postgres_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// replicas opens a database several times. It returns a way to change what is in it.
func replicas(t *testing.T, n int) (all []*postgres.Store, exec func(sql string, args ...any)) {
	t.Helper()
	dsn := postgrestest.Database(t)
	for i := range n {
		s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, MaxConnections: 5, Pooler: i%2 == 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		all = append(all, s)
	}
	return all, func(sql string, args ...any) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), dsn)
		if err == nil {
			_, err = conn.Exec(t.Context(), sql, args...)
			err = errors.Join(err, conn.Close(t.Context()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func take(t *testing.T, s *postgres.Store, names ...string) map[string]int64 {
	t.Helper()
	epochs, err := s.TakeLeases(t.Context(), names...)
	if err != nil {
		t.Fatal(err)
	}
	return epochs
}

// past makes the time of all leases be over.
const past = `update attachd.leases set until = now() - interval '1 second'`

func TestALeaseHasOneHolder(t *testing.T) {
	t.Parallel()
	all, exec := replicas(t, 2)
	a, b := all[0], all[1]
	first := take(t, a, "one", "two")["one"]
	if got := take(t, b, "one", "three"); len(got) != 1 || got["three"] == 0 {
		t.Errorf("another replica took %v", got)
	}
	if again := take(t, a, "one")["one"]; again != first {
		t.Errorf("renewed in epoch %d, not %d", again, first)
	}
	exec(past)
	if again := take(t, a, "one")["one"]; again != first {
		t.Errorf("renewed late in epoch %d, not %d: nobody had it meanwhile", again, first)
	}
	exec(past)
	if taken := take(t, b, "one")["one"]; taken <= first {
		t.Errorf("taken over in epoch %d after %d", taken, first)
	}
	if got := take(t, a, "one"); len(got) != 0 {
		t.Errorf("renewed by a replica that has lost it: %v", got)
	}
	if err := a.GiveBack(t.Context(), "one"); err != nil { // is not its own
		t.Fatal(err)
	}
	if got := take(t, a, "one"); len(got) != 0 {
		t.Errorf("taken from its holder: %v", got)
	}
	if err := b.GiveBack(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if got := take(t, a, "one"); len(got) != 1 {
		t.Error("not taken though it was given back")
	}
	held, err := a.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range held {
		names = append(names, l.Name)
		if left := l.Until.Sub(l.Taken); l.Name == "one" && (l.Holder != a.Replica() || left != store.LeaseTime) {
			t.Errorf("%q is held by %s for %s", l.Name, l.Holder, left)
		}
	}
	if !slices.Equal(names, []string{"one"}) { // the time of the others is over
		t.Errorf("held: %q", names)
	}
}

func TestManyReplicasTakeALeaseAtOnceAndOneGetsIt(t *testing.T) {
	t.Parallel()
	all, exec := replicas(t, 4)
	for range 5 {
		epochs := make([]map[string]int64, len(all))
		var taking sync.WaitGroup
		for i, s := range all {
			taking.Go(func() {
				var err error
				if epochs[i], err = s.TakeLeases(t.Context(), "one", "two"); err != nil {
					t.Error(err)
				}
			})
		}
		taking.Wait()
		holders := map[string]int{}
		for _, of := range epochs {
			for name := range of {
				holders[name]++
			}
		}
		if holders["one"] != 1 || holders["two"] != 1 {
			t.Fatalf("how many got each lease: %v", holders)
		}
		exec(past)
	}
}

// A process that stood still goes on with its work after another has taken it over.
func TestALateHolderChangesNothing(t *testing.T) {
	t.Parallel()
	all, exec := replicas(t, 2)
	a, b := all[0], all[1]
	ctx := store.WithLease(t.Context(), "work", take(t, a, "work")["work"])
	if err := a.SetNote(ctx, "work", []byte("a")); err != nil {
		t.Fatal(err)
	}
	exec(past)
	if err := a.SetNote(ctx, "work", []byte("a, late, while nobody else works")); err != nil {
		t.Fatal(err)
	}
	take(t, b, "work")
	if err := a.SetNote(ctx, "work", []byte("a, too late")); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("a change after the lease was lost: %v", err)
	}
	if note, err := b.Note(t.Context(), "work"); err != nil || string(note) != "a, late, while nobody else works" {
		t.Errorf("the note is %q, %v", note, err)
	}
	exec(past)
	take(t, a, "work")
	if err := a.SetNote(ctx, "work", []byte("a, of an earlier epoch")); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("a change of an earlier epoch: %v", err)
	}
	ctx = store.WithLease(t.Context(), "work", take(t, a, "work")["work"])
	if err := a.GiveBack(t.Context(), "work"); err != nil {
		t.Fatal(err)
	}
	if err := a.SetNote(ctx, "work", []byte("a, after the end")); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("a change after the lease was given back: %v", err)
	}
}

func TestReplicasKnowOfEachOther(t *testing.T) {
	t.Parallel()
	all, exec := replicas(t, 3)
	for i, s := range all {
		if live, err := s.Beat(t.Context(), "v1", []byte{byte(i)}); err != nil || live != i+1 {
			t.Fatalf("%d replicas live after %d came: %v", live, i+1, err)
		}
	}
	list := func() map[byte]store.Replica {
		t.Helper()
		found, err := all[0].Replicas(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		byShares := map[byte]store.Replica{}
		for _, r := range found {
			byShares[r.Shares[0]] = r
		}
		return byShares
	}
	if err := all[2].Depart(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(`update attachd.replicas set seen = seen - interval '16 seconds' where id = $1`, all[1].Replica().String())
	found := list()
	if len(found) != 3 || !found[0].Lives || found[1].Lives || found[2].Lives || found[0].ID != all[0].Replica() || found[0].Version != "v1" || found[0].Seen.Before(found[0].Started) {
		t.Errorf("the replicas are %+v", found)
	}
	if live, err := all[0].Beat(t.Context(), "v1", []byte{0}); err != nil || live != 1 {
		t.Errorf("%d live, %v", live, err)
	}
	if live, err := all[1].Beat(t.Context(), "v1", []byte{1}); err != nil || live != 2 {
		t.Errorf("%d live after one came back, %v", live, err)
	}
	exec(`update attachd.replicas set seen = seen - interval '1 day' where id = $1`, all[2].Replica().String())
	if found := list(); len(found) != 2 {
		t.Errorf("a day later: %+v", found)
	}
}

func TestReplicasHaveTheSameSigningKeys(t *testing.T) {
	t.Parallel()
	all, _ := replicas(t, 4)
	var starting sync.WaitGroup
	for i, s := range all {
		starting.Go(func() {
			_, err := s.ChangeSigningKeys(t.Context(), func(keys []store.SigningKey) []store.SigningKey {
				if len(keys) > 0 {
					return keys
				}
				return []store.SigningKey{{Secret: []byte{byte(i)}}}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	until := time.Now().UTC().Truncate(time.Second)
	changed, err := all[0].ChangeSigningKeys(t.Context(), func(keys []store.SigningKey) []store.SigningKey {
		return append([]store.SigningKey{{Secret: []byte("new")}}, store.SigningKey{Secret: keys[0].Secret, Until: until})
	})
	if err != nil || len(changed) != 2 {
		t.Fatal(changed, err)
	}
	for _, s := range all {
		keys, err := s.SigningKeys(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) != 2 || string(keys[0].Secret) != "new" || !keys[0].Until.IsZero() || string(keys[1].Secret) != string(changed[1].Secret) || !keys[1].Until.Equal(until) {
			t.Errorf("a replica has the keys %v, not %v", keys, changed)
		}
	}
}
