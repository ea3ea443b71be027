package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// hangs are the ways in which a connection answers no more, although nothing ends it.
var hangs = map[string]postgrestest.Cut{"before the server gets it": postgrestest.HangBefore, "before its answer": postgrestest.HangAfter}

// cancelRequest begins what asks a server to cancel what it works on for another connection.
var cancelRequest = []byte{0, 0, 0, 16, 4, 210, 22, 46}

// hanging has connections of a proxy hang.
type hanging struct {
	mu        sync.Mutex
	seen      int
	hung      bool
	cancelled bool // the server was asked to cancel something after that
}

// hangNth has the proxy pass nothing on any more over the connection over which something with
// a text is sent for the n-th time.
func hangNth(proxy *postgrestest.Proxy, n int, text string, how postgrestest.Cut) *hanging {
	h := new(hanging)
	proxy.Plan(func(sent []byte) postgrestest.Cut {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.cancelled = h.cancelled || h.hung && bytes.HasPrefix(sent, cancelRequest)
		if !h.hung && bytes.Contains(sent, []byte(text)) {
			if h.seen++; h.seen == n {
				h.hung = true
				return how
			}
		}
		return postgrestest.CutNot
	})
	return h
}

// end has nothing hang any more, and says what has.
func (h *hanging) end(proxy *postgrestest.Proxy) (hung, cancelled bool) {
	proxy.Plan(nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hung, h.cancelled
}

// TestAnUploadIsRightWhereverItsConnectionHangs has the connection hang at each thing that is
// sent.
func TestAnUploadIsRightWhereverItsConnectionHangs(t *testing.T) {
	t.Parallel()
	through, direct, proxy := proxied(t)
	for name, how := range hangs {
		for _, makes := range []bool{false, true} {
			for n, more := 1, true; more; n++ {
				h := fill(t, direct, store.Space{Slug: "a" + uuid.NewString()[:8]})
				a, autoCreate := h.file(uuid.NewString()), ""
				if makes {
					a.Parent.ID, autoCreate = uuid.New(), "b"+uuid.NewString()[:8]
				}
				if err := keep(through, a); err != nil {
					t.Fatal(err)
				}
				ctx := store.WithEntry(store.WithOutbox(t.Context(), store.Origin{Time: time.Now()}), &store.Entry{Action: "attachment.upload", ID: a.ID.String(), Outcome: "done"})
				through.SetAttemptFor(100 * time.Millisecond)
				hanging := hangNth(proxy, n, "", how)
				if err := through.CreateAttachment(ctx, a, nil, autoCreate); err != nil {
					t.Errorf("an upload that hangs at %d %s: %v", n, name, err)
				}
				more, _ = hanging.end(proxy)
				if err := through.Unhold(t.Context(), []blobs.Ref{a.SHA256}); err != nil {
					t.Error(err)
				}
				wantOnce(t, direct, a, name)
			}
		}
	}
	whole(t, direct)
}

// TestACommitThatHangsIsGivenUp has each kind of change wait for a COMMIT over a connection that
// hangs. It says that the database is away, the next change takes another connection, and the
// server is not asked to cancel the COMMIT.
func TestACommitThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	const soon = 100 * time.Millisecond
	proxy, via := postgrestest.NewProxy(t, emptyDatabase(t))
	open := func(commitFor time.Duration) *postgres.Store {
		// As for a pooler, so that each statement is sent as text.
		s, err := postgres.Open(t.Context(), postgres.WithCommitFor(postgres.Options{DSN: via, MaxConnections: 4, Pooler: true}, commitFor))
		ok(t, err)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	through, impatient := open(0), open(soon)
	h := fill(t, through, store.Space{Slug: "a"})
	for what, c := range map[string]struct {
		sends string
		do    func(ctx context.Context, s *postgres.Store) error
		waits bool // until the limit of all COMMITs, since its context has none
	}{
		"a change": {"commit\x00", func(ctx context.Context, s *postgres.Store) error {
			_, err := s.Put(ctx, store.Space{Slug: "a", Name: uuid.NewString()})
			return err
		}, true},
		"a change without a transaction of its own": {"old as (", func(ctx context.Context, s *postgres.Store) error {
			return s.Discard(ctx, []blobs.Object{{Key: blobs.Key{1}}})
		}, true},
		"leases that are renewed": {"commit\x00", func(ctx context.Context, s *postgres.Store) error {
			_, err := s.TakeLeases(ctx, "work")
			return err
		}, false},
		"a lease that is given back": {"commit\x00", func(ctx context.Context, s *postgres.Store) error { return s.GiveBack(ctx, "work") }, false},
		"a probe":                    {"commit\x00", func(ctx context.Context, s *postgres.Store) error { return s.Probe(ctx) }, false},
	} {
		for name, how := range hangs {
			var hung, cancelled bool
			var err error
			began := time.Now()
			for try := 0; try < 50 && (!hung || err == nil); try++ { // what is done in the background may be hit
				ctx, cancel := context.WithTimeout(t.Context(), soon)
				s := through
				if c.waits {
					ctx, s = t.Context(), impatient
				}
				hanging := hangNth(proxy, 1, c.sends, how)
				began = time.Now()
				err = c.do(ctx, s)
				hung, cancelled = hanging.end(proxy)
				cancel()
			}
			if took := time.Since(began); !hung || cancelled || !errors.Is(err, store.ErrAway) || took > 20*time.Second {
				t.Errorf("%s that hangs %s: %v after %v, hung: %t, to be cancelled: %t", what, name, err, took, hung, cancelled)
			}
			if err := c.do(t.Context(), through); err != nil {
				t.Errorf("%s after one that hung %s: %v", what, name, err)
			}
		}
	}
	if err := upload(through, h.file("afterwards")); err != nil {
		t.Error(err)
	}
	whole(t, through)
}
