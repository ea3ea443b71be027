package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/server"
	"attachd/store"
)

// awayStore is a store whose database is away or not, for all calls or for those only that
// come once a caller is known.
type awayStore struct {
	store.Store
	away, knowsKeys bool
}

func (s *awayStore) err() error {
	if !s.away {
		return nil
	}
	return fmt.Errorf("%w: dial tcp 10.1.2.3:5432: connection refused", store.ErrAway)
}

// or returns what a call returns while the database is there.
func or[T any](s *awayStore, call func() (T, error)) (T, error) {
	if err := s.err(); err != nil {
		var none T
		return none, err
	}
	return call()
}

func (s *awayStore) KeyByHash(ctx context.Context, hash [32]byte) (store.Key, store.User, error) {
	if err := s.err(); err != nil && !s.knowsKeys {
		return store.Key{}, store.User{}, err
	}
	return s.Store.KeyByHash(ctx, hash)
}

func (s *awayStore) Probe(ctx context.Context) error {
	_, err := or(s, func() (any, error) { return nil, s.Store.Probe(ctx) })
	return err
}

func (s *awayStore) CreateAttachment(ctx context.Context, a store.Attachment, checksums []byte, autoCreate string) error {
	_, err := or(s, func() (any, error) { return nil, s.Store.CreateAttachment(ctx, a, checksums, autoCreate) })
	return err
}

func (s *awayStore) Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error) {
	return or(s, func() (store.Attachment, error) { return s.Store.Attachment(ctx, id) })
}

func (s *awayStore) AttachmentsOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) ([]store.Attachment, error) {
	return or(s, func() ([]store.Attachment, error) { return s.Store.AttachmentsOf(ctx, p, after, limit) })
}

// A database that is away turns nobody away for good: each request is to be tried again, and
// all work when it is back.
func TestWhileTheDatabaseIsAwayEachRequestIsToBeTriedAgain(t *testing.T) {
	t.Parallel()
	for _, knowsKeys := range []bool{false, true} {
		db := &awayStore{knowsKeys: knowsKeys}
		w := withFile(t, alphabet, filesAtOnce, func(c *server.Config) {
			db.Store, c.Store = c.Store, db
			c.Abilities.Stager, c.Abilities.Inquirer = nil, nil
		})
		w.expectLog("the database is away")
		requests := []step{
			{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", alphabet)}, want: 201},
			{as: "viewer", do: "GET {product}/attachments", want: 200},
			{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200},
			{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		}
		db.away = true
		for _, s := range requests {
			s.want, s.code, s.header = 503, "database_unavailable", header{"Retry-After": "5"}
			if body := w.do(t, s).body; strings.Contains(string(body), "10.1.2.3") {
				t.Errorf("%s: %s", s.do, body)
			}
		}
		w.do(t, step{do: "GET /health/ready", want: 503, like: `{"status": "unavailable", "reasons": ["The database cannot be reached, or takes no changes."]}`})
		db.away = false
		w.clock.advance(time.Minute)
		w.play(t, append(requests, step{do: "GET /health/ready", want: 200}))
	}
}
