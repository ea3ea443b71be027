package storetest

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

var noon = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// key stores the n-th key.
func (w *world) key(u store.User, n byte) store.Key {
	w.Helper()
	k := store.Key{
		ID: id(100 + n), UserID: u.ID, Name: "laptop", Prefix: "att_abcd", Hash: content(n),
		CreatedAt: noon, ExpiresAt: noon.AddDate(1, 0, 0),
	}
	w.ok(w.CreateKey(w.ctx, k))
	return k
}

// session stores the n-th session, which ends an hour after noon.
func (w *world) session(k store.Key, n byte) store.Session {
	w.Helper()
	s := store.Session{Hash: content(n), KeyID: k.ID, ExpiresAt: noon.Add(time.Hour)}
	w.ok(w.CreateSession(w.ctx, s, noon))
	return s
}

func (w *world) noKey(k store.Key) {
	w.Helper()
	_, _, err := w.Key(w.ctx, k.ID)
	w.told(err, store.ErrNotFound)
	_, _, err = w.KeyByHash(w.ctx, k.Hash)
	w.refused(err, store.ErrNotFound)
	list, err := w.KeysOf(w.ctx, k.UserID, uuid.Nil, 100)
	w.ok(err)
	for _, other := range list {
		if other.ID == k.ID {
			w.Fatalf("still listed: %+v", other)
		}
	}
}

func (w *world) noSession(n byte) {
	w.Helper()
	_, err := w.Session(w.ctx, content(n))
	w.refused(err, store.ErrNotFound)
}

func (w *world) lastUse(k store.Key) time.Time {
	w.Helper()
	got, _, err := w.Key(w.ctx, k.ID)
	w.ok(err)
	return got.LastUsedAt.UTC()
}

// inUTC makes keys comparable, by converting their times to UTC.
func inUTC(k store.Key) store.Key {
	k.CreatedAt, k.ExpiresAt, k.LastUsedAt = k.CreatedAt.UTC(), k.ExpiresAt.UTC(), k.LastUsedAt.UTC()
	return k
}

var keys = []promise{
	{"a key is read as written, with its user", func(w *world) {
		want := w.key(w.ada, 1)
		forever := store.Key{ID: id(150), UserID: w.bob.ID, Hash: content(50), CreatedAt: noon, LastUsedAt: noon}
		w.ok(w.CreateKey(w.ctx, forever))

		byID, user, err := w.Key(w.ctx, want.ID)
		w.ok(err)
		same(w, "key by id", inUTC(byID), want)
		same(w, "user", user, w.ada)
		byHash, user, err := w.KeyByHash(w.ctx, want.Hash)
		w.ok(err)
		same(w, "key by hash", inUTC(byHash), want)
		same(w, "user", user, w.ada)
		byID, user, err = w.Key(w.ctx, forever.ID)
		w.ok(err)
		same(w, "key without end", inUTC(byID), forever)
		same(w, "user", user, w.bob)
	}},
	{"an unknown key is not found", func(w *world) {
		w.noKey(store.Key{ID: id(99), Hash: content(99), UserID: w.ada.ID})
		w.told(w.DeleteKey(w.ctx, id(99)), store.ErrNotFound)
	}},
	{"a key needs a user", func(w *world) {
		k := store.Key{ID: id(150), UserID: id(99), Hash: content(50)}
		w.told(w.CreateKey(w.ctx, k), store.ErrNotFound)
		w.noKey(k)
		w.ok(w.DeleteUser(w.ctx, w.eve.ID))
		k.UserID = w.eve.ID
		w.told(w.CreateKey(w.ctx, k), store.ErrNotFound)
	}},
	{"an id and a hash are taken once", func(w *world) {
		k := w.key(w.ada, 1)
		w.told(w.CreateKey(w.ctx, store.Key{ID: k.ID, UserID: w.bob.ID, Hash: content(2)}), store.ErrConflict)
		w.told(w.CreateKey(w.ctx, store.Key{ID: id(150), UserID: w.bob.ID, Hash: k.Hash}), store.ErrConflict)
		got, user, err := w.KeyByHash(w.ctx, k.Hash)
		w.ok(err)
		same(w, "key", inUTC(got), k)
		same(w, "user", user, w.ada)
	}},
	{"a key's user is the one of today", func(w *world) {
		k := w.key(w.ada, 1)
		w.put(store.User{ID: w.ada.ID, FullName: "Ada L."})
		_, user, err := w.KeyByHash(w.ctx, k.Hash)
		w.ok(err)
		same(w, "user", user, store.User{ID: w.ada.ID, FullName: "Ada L."})
	}},
	{"a user's keys are listed in order, in pages, without others", func(w *world) {
		var want []store.Key
		for _, n := range []byte{5, 3, 4, 1} {
			w.key(w.ada, n)
		}
		w.key(w.bob, 2)
		for _, n := range []byte{1, 3, 4, 5} {
			k, _, err := w.Key(w.ctx, id(100+n))
			w.ok(err)
			want = append(want, inUTC(k))
		}
		pages(w, want,
			func(k store.Key) uuid.UUID { return k.ID },
			func(after uuid.UUID, limit int) ([]store.Key, error) {
				list, err := w.KeysOf(w.ctx, w.ada.ID, after, limit)
				for i := range list {
					list[i] = inUTC(list[i])
				}
				return list, err
			})
	}},
	{"a revoked key is gone at once, with its sessions", func(w *world) {
		k, other := w.key(w.ada, 1), w.key(w.ada, 2)
		w.session(k, 1)
		w.session(k, 2)
		w.session(other, 3)
		w.TouchKey(k.ID, noon)
		w.ok(w.DeleteKey(w.ctx, k.ID))
		w.noKey(k)
		w.noSession(1)
		w.noSession(2)
		w.told(w.DeleteKey(w.ctx, k.ID), store.ErrNotFound)
		_, _, err := w.KeyByHash(w.ctx, other.Hash)
		w.ok(err)
		_, err = w.Session(w.ctx, content(3))
		w.ok(err)
	}},
	{"a use is seen at once, in whole seconds or better", func(w *world) {
		k := w.key(w.ada, 1)
		same(w, "not used yet", w.lastUse(k).IsZero(), true)
		w.TouchKey(k.ID, noon)
		same(w, "last use", w.lastUse(k), noon)
		w.TouchKey(k.ID, noon.Add(time.Minute))
		same(w, "last use", w.lastUse(k), noon.Add(time.Minute))
		_, _, err := w.KeyByHash(w.ctx, k.Hash)
		w.ok(err)
		list, err := w.KeysOf(w.ctx, w.ada.ID, uuid.Nil, 10)
		w.ok(err)
		same(w, "last use in the list", list[0].LastUsedAt.UTC(), noon.Add(time.Minute))
	}},
	{"a key made again has not been used", func(w *world) {
		k := store.Key{ID: id(150), UserID: w.ada.ID, Hash: content(50), LastUsedAt: noon}
		w.ok(w.CreateKey(w.ctx, k))
		w.TouchKey(k.ID, noon.Add(time.Hour))
		w.ok(w.DeleteKey(w.ctx, k.ID))
		k.LastUsedAt = time.Time{}
		w.ok(w.CreateKey(w.ctx, k))
		same(w, "not used yet", w.lastUse(k).IsZero(), true)
	}},
	{"an earlier use changes nothing", func(w *world) {
		k := w.key(w.ada, 1)
		w.TouchKey(k.ID, noon)
		w.TouchKey(k.ID, noon.Add(-time.Hour))
		same(w, "last use", w.lastUse(k), noon)
	}},
	{"a use after the revocation brings nothing back", func(w *world) {
		k := w.key(w.ada, 1)
		w.ok(w.DeleteKey(w.ctx, k.ID))
		w.TouchKey(k.ID, noon)
		w.TouchKey(id(99), noon)
		w.noKey(k)
	}},
	{"a user has so many keys, of which one that expired makes room", func(w *world) {
		create := func(n int, expires time.Time) error {
			return w.CreateKey(w.ctx, store.Key{ID: numbered(n), UserID: w.eve.ID, Hash: [32]byte{1, byte(n), byte(n >> 8)}, CreatedAt: noon, ExpiresAt: expires})
		}
		var creating sync.WaitGroup
		failed := make([]error, store.MaxKeys)
		for n := range store.MaxKeys {
			creating.Go(func() { failed[n] = create(n, noon.Add(time.Duration(n+1)*time.Minute)) })
		}
		creating.Wait()
		w.ok(errors.Join(failed...))
		sentence := w.told(create(store.MaxKeys, time.Time{}), store.ErrConflict)
		if !strings.Contains(sentence, "Revoke one") {
			w.Fatalf("the sentence does not say what to do: %s", sentence)
		}
		w.key(w.ada, 1)
		w.ok(w.DeleteKey(w.ctx, numbered(7)))
		w.ok(create(store.MaxKeys, time.Time{}))

		late := store.Key{ID: numbered(1000), UserID: w.eve.ID, Hash: content(9), CreatedAt: noon.Add(3 * time.Minute)}
		w.ok(w.CreateKey(w.ctx, late))
		for n, there := range map[int]bool{0: false, 1: true, 2: true, 1000: true} {
			_, _, err := w.Key(w.ctx, numbered(n))
			same(w, "there", err == nil, there)
		}
		list, err := w.KeysOf(w.ctx, w.eve.ID, uuid.Nil, 2*store.MaxKeys)
		w.ok(err)
		same(w, "keys", len(list), store.MaxKeys)
	}},
}

var sessions = []promise{
	{"a session is read as written", func(w *world) {
		want := w.session(w.key(w.ada, 1), 1)
		got, err := w.Session(w.ctx, want.Hash)
		w.ok(err)
		got.ExpiresAt = got.ExpiresAt.UTC()
		same(w, "session", got, want)
		w.noSession(2)
	}},
	{"a session needs a key", func(w *world) {
		s := store.Session{Hash: content(1), KeyID: id(99), ExpiresAt: noon.Add(time.Hour)}
		w.told(w.CreateSession(w.ctx, s, noon), store.ErrNotFound)
		w.noSession(1)
	}},
	{"a hash is taken once", func(w *world) {
		first := w.session(w.key(w.ada, 1), 1)
		second := store.Session{Hash: first.Hash, KeyID: w.key(w.bob, 2).ID, ExpiresAt: first.ExpiresAt}
		w.told(w.CreateSession(w.ctx, second, noon), store.ErrConflict)
		got, err := w.Session(w.ctx, first.Hash)
		w.ok(err)
		same(w, "key", got.KeyID, first.KeyID)
	}},
	{"a session can be ended, and ended again", func(w *world) {
		k := w.key(w.ada, 1)
		w.session(k, 1)
		w.session(k, 2)
		w.ok(w.DeleteSession(w.ctx, content(1)))
		w.ok(w.DeleteSession(w.ctx, content(1)))
		w.noSession(1)
		_, err := w.Session(w.ctx, content(2))
		w.ok(err)
	}},
	{"a new one drives out those that expired before it", func(w *world) {
		k := w.key(w.ada, 1)
		ends := map[byte]time.Time{1: noon.Add(time.Second), 2: noon.Add(time.Hour), 3: noon.Add(time.Hour - time.Millisecond), 4: {}}
		for n, at := range ends {
			w.ok(w.CreateSession(w.ctx, store.Session{Hash: content(n), KeyID: k.ID, ExpiresAt: at}, time.Time{}))
		}
		w.ok(w.CreateSession(w.ctx, store.Session{Hash: content(5), KeyID: k.ID, ExpiresAt: noon.AddDate(0, 0, 1)}, noon.Add(time.Hour)))
		w.noSession(1)
		w.noSession(3)
		w.noSession(4)
		for _, n := range []byte{2, 5} {
			_, err := w.Session(w.ctx, content(n))
			w.ok(err)
		}
	}},
	{"one that has expired is still given: the caller has the clock", func(w *world) {
		k := w.key(w.ada, 1)
		w.ok(w.CreateSession(w.ctx, store.Session{Hash: content(1), KeyID: k.ID, ExpiresAt: noon.Add(-time.Hour)}, noon))
		_, err := w.Session(w.ctx, content(1))
		w.ok(err)
	}},
	{"a user has so many sessions, of which the first to expire makes room", func(w *world) {
		keys := []store.Key{w.key(w.ada, 1), w.key(w.ada, 2)}
		create := func(k store.Key, n int) {
			w.ok(w.CreateSession(w.ctx, store.Session{Hash: [32]byte{1, byte(n)}, KeyID: k.ID, ExpiresAt: noon.Add(time.Duration(n) * time.Minute)}, noon))
		}
		w.session(w.key(w.bob, 3), 3)
		for n := range store.MaxSessions + 2 {
			create(keys[n%2], n+1)
		}
		for n, there := range map[int]bool{1: false, 2: false, 3: true, store.MaxSessions + 2: true} {
			_, err := w.Session(w.ctx, [32]byte{1, byte(n)})
			same(w, "there", err == nil, there)
		}
		_, err := w.Session(w.ctx, content(3))
		w.ok(err)
	}},
}

// numbered is the n-th of a longer sequence of ids.
func numbered(n int) uuid.UUID {
	return uuid.UUID{0: 0xd0, 6: 0x40, 8: 0x80, 14: byte(n >> 8), 15: byte(n)}
}
