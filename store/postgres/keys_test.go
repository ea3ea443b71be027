package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// The limits of keys and sessions hold however many processes create them at once.
func TestLimitsOfKeysAreExactWithSeveralProcesses(t *testing.T) {
	t.Parallel()
	all, _ := replicas(t, 2)
	ada := fill(t, all[0], store.Space{Slug: "a"}).ada
	const before = store.MaxKeys - 3
	key := func() store.Key {
		id := uuid.New()
		return store.Key{ID: id, UserID: ada.ID, Hash: [32]byte(append(id[:], id[:]...)), CreatedAt: noon}
	}
	for range before {
		if err := all[0].CreateKey(t.Context(), key()); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	var mu sync.Mutex
	var creating sync.WaitGroup
	for i := range 10 {
		creating.Go(func() {
			err := all[i%2].CreateKey(context.Background(), key())
			if err != nil && !errors.Is(err, store.ErrConflict) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused++
			}
		})
	}
	creating.Wait()
	keys, err := all[1].KeysOf(t.Context(), ada.ID, uuid.Nil, 2*store.MaxKeys)
	if err != nil || len(keys) != store.MaxKeys || refused != 10-3 {
		t.Fatalf("%d keys, and %d were refused, %v", len(keys), refused, err)
	}

	for n := range store.MaxSessions + 10 {
		creating.Go(func() {
			session := store.Session{Hash: [32]byte{byte(n), 1}, KeyID: keys[n%len(keys)].ID, ExpiresAt: noon.Add(time.Duration(n) * time.Second)}
			if err := all[n%2].CreateSession(context.Background(), session, noon.Add(-time.Hour)); err != nil {
				t.Error(err)
			}
		})
	}
	creating.Wait()
	there := 0
	for n := range store.MaxSessions + 10 {
		switch _, err := all[0].Session(t.Context(), [32]byte{byte(n), 1}); {
		case err == nil:
			there++
		case !errors.Is(err, store.ErrNotFound):
			t.Error(err)
		}
	}
	if there != store.MaxSessions {
		t.Errorf("there are %d sessions", there)
	}
}

// A key has the time of its last use, whichever process it was used with, and whichever of them
// stores that last.
func TestTheLatestUseOfAKeyCounts(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.Database(t)
	var all []*postgres.Store
	for range 2 {
		s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, MaxConnections: 3})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	k := store.Key{ID: uuid.New(), UserID: fill(t, all[0], store.Space{Slug: "a"}).ada.ID, CreatedAt: noon}
	if err := all[0].CreateKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	all[0].TouchKey(k.ID, noon.Add(2*time.Hour))
	all[1].TouchKey(k.ID, noon.Add(time.Hour))
	for _, s := range all {
		s.TouchKey(uuid.New(), noon) // of a key that was revoked meanwhile
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if k, _, err := openAt(t, dsn).Key(t.Context(), k.ID); err != nil || !k.LastUsedAt.Equal(noon.Add(2*time.Hour)) {
		t.Errorf("it was last used at %v, %v", k.LastUsedAt, err)
	}
}

// PostgreSQL counts microseconds, in the time zone of the session.
func TestTimesAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	all, _ := replicas(t, 2) // the second as behind a pooler
	ada := fill(t, all[0], store.Space{Slug: "a"}).ada
	for n, at := range []time.Time{
		time.Unix(1_700_000_000, 123_456_789),
		time.Unix(1_700_000_000, 999_999_999).In(time.FixedZone("", -5*3600)),
		time.Unix(-1, 1),
		time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
	} {
		s := all[n%2]
		k := store.Key{ID: uuid.New(), UserID: ada.ID, Hash: [32]byte{byte(n)}, CreatedAt: at, ExpiresAt: at}
		session := store.Session{Hash: [32]byte{byte(n)}, KeyID: k.ID, ExpiresAt: at}
		if err := errors.Join(s.CreateKey(t.Context(), k), s.CreateSession(t.Context(), session, at)); err != nil {
			t.Fatal(err)
		}
		for _, from := range all {
			if got, _, err := from.Key(t.Context(), k.ID); err != nil || got.CreatedAt != at.UTC() || got.ExpiresAt != at.UTC() {
				t.Errorf("the key of %v has %v and %v, %v", at, got.CreatedAt, got.ExpiresAt, err)
			}
			if got, err := from.Session(t.Context(), session.Hash); err != nil || got.ExpiresAt != at.UTC() {
				t.Errorf("the session of %v has %v, %v", at, got.ExpiresAt, err)
			}
		}
		// One nanosecond later, it has expired.
		later := store.Session{Hash: [32]byte{byte(n), 1}, KeyID: k.ID, ExpiresAt: at}
		if err := s.CreateSession(t.Context(), later, at.Add(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Session(t.Context(), session.Hash); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the session of %v is there still: %v", at, err)
		}
		if err := s.DeleteSession(t.Context(), later.Hash); err != nil {
			t.Fatal(err)
		}
	}
}
