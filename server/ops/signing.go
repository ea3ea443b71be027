package ops

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"attachd/server/api"
	"attachd/server/token"
	"attachd/server/upkeep"
	"attachd/store"
)

// Signing holds the keys that sign links. They may be replaced while links are made and
// followed.
type Signing struct {
	shared   store.Shared // where replicas have them in common; nil otherwise
	signer   atomic.Pointer[token.Signer]
	changing sync.Mutex
	keys     []token.SigningKey
	read     time.Time // when the last reading of shared ones began
}

// NewSigning starts with keys, of which the first signs.
func NewSigning(keys []token.SigningKey, shared store.Shared) *Signing {
	s := &Signing{shared: shared}
	s.use(keys)
	return s
}

// Latest returns the signer with the keys that all replicas use now. Callers that come while
// the keys are read share the next reading, so that links with wrong keys cost little.
func (s *Signing) Latest(ctx context.Context) (*token.Signer, error) {
	came := time.Now()
	s.changing.Lock()
	defer s.changing.Unlock()
	if !s.read.After(came) {
		began := time.Now()
		keys, err := s.shared.SigningKeys(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading the keys that sign links: %w", err)
		}
		s.use(OwnKeys(keys))
		s.read = began
	}
	return s.Signer(), nil
}

// OwnKeys are keys of the store as those of package token.
func OwnKeys(keys []store.SigningKey) (own []token.SigningKey) {
	for _, k := range keys {
		own = append(own, token.SigningKey(k))
	}
	return own
}

// StoreKeys are keys of package token as those of the store.
func StoreKeys(keys []token.SigningKey) (stored []store.SigningKey) {
	for _, k := range keys {
		stored = append(stored, store.SigningKey(k))
	}
	return stored
}

// SharedSigningKeys returns the keys of a store that replicas share. Where there are none,
// the first replica that comes gives it those that initial returns.
func SharedSigningKeys(ctx context.Context, shared store.Shared, initial []token.SigningKey) ([]token.SigningKey, error) {
	keys, err := shared.ChangeSigningKeys(ctx, func(keys []store.SigningKey) []store.SigningKey {
		if len(keys) == 0 {
			keys = StoreKeys(initial)
		}
		return keys
	})
	return OwnKeys(keys), err
}

// Signer returns the current signer of links.
func (s *Signing) Signer() *token.Signer { return s.signer.Load() }

func (s *Signing) use(keys []token.SigningKey) {
	s.keys = keys
	s.signer.Store(token.NewSigner(keys...))
}

// CompareSigningKeys logs when the signing keys are not those used by the last start: keys
// that were corrupted can be valid as keys.
// It fails when the current ones cannot be noted for the next start, except for a full
// disk or a damaged note, which must not keep a server from starting.
func (s *Service) CompareSigningKeys(ctx context.Context) error {
	s.signing.changing.Lock()
	defer s.signing.changing.Unlock()
	if s.Shared != nil {
		return nil // the note would be where the keys are
	}
	noted, err := s.Store.Note(ctx, upkeep.SigningNote)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.Log.Error("whether secret.key is what it was is not known", "error", err)
		return nil
	}
	if bytes.Equal(noted, hashOf(s.signing.keys)) {
		return nil
	}
	if noted != nil {
		s.Log.Error("secret.key is not what it was when the server last used it: links signed with the keys that were in it do not work any more. If nobody has replaced it, it is damaged: bring it back from a backup, and restart")
	}
	err = s.noteSigningKeys(ctx, s.signing.keys)
	if errors.Is(err, store.ErrFull) {
		s.Log.Warn("which keys sign links could not be noted", "error", err)
		return nil
	}
	return err
}

func (s *Service) noteSigningKeys(ctx context.Context, keys []token.SigningKey) error {
	return s.Store.SetNote(ctx, upkeep.SigningNote, hashOf(keys))
}

func hashOf(keys []token.SigningKey) []byte {
	hash := sha256.New()
	for _, key := range keys {
		fmt.Fprintf(hash, "%x %d\n", key.Secret, key.Until.Unix())
	}
	return hash.Sum(nil)
}

type rotationBody struct {
	// PreviousUntil is when the last link signed by an earlier key expires, at the latest.
	PreviousUntil string `json:"previous_until"`
}

// RotateSigning makes a new key, which signs links from now on. The new keys are on
// disk before the first link is signed with them.
func (s *Service) RotateSigning(w *api.Response, rq *api.Request, sc api.Scope) error {
	var order struct {
		Grace *int64 `json:"grace"`
	}
	if err := rq.ReadOptionalJSON(&order); err != nil {
		return err
	}
	grace := token.MaxLinkTTL // no link ends before its expiry
	if order.Grace != nil {
		if *order.Grace < 0 || *order.Grace > int64(token.MaxLinkTTL/time.Second) {
			return api.InvalidRequest("grace must be a number of seconds from 0 to %d (7 days).", int64(token.MaxLinkTTL/time.Second))
		}
		grace = time.Duration(*order.Grace) * time.Second
	}
	s.signing.changing.Lock()
	defer s.signing.changing.Unlock()
	now := s.Now()
	keys, err := s.rotate(rq, now, grace)
	if err != nil {
		return err
	}
	s.signing.use(keys)
	until := api.Timestamp(now.Add(grace))
	rq.Log().Info("links are signed with a new key", "earlier_links_until", until)
	return rq.Answer(w, http.StatusOK, rotationBody{until})
}

// rotate makes new keys and stores them. Only the caller may change them meanwhile, or other
// replicas.
func (s *Service) rotate(rq *api.Request, now time.Time, grace time.Duration) (keys []token.SigningKey, err error) {
	if s.Shared != nil {
		stored, err := s.Shared.ChangeSigningKeys(rq.Context(), func(keys []store.SigningKey) []store.SigningKey {
			return StoreKeys(token.Rotate(OwnKeys(keys), now, grace))
		})
		return OwnKeys(stored), err
	}
	keys = token.Rotate(s.signing.keys, now, grace)
	if err := s.KeepSigningKeys(keys); err != nil {
		return nil, err
	}
	if err := s.noteSigningKeys(rq.Context(), keys); err != nil { // the next start would log them as changed
		rq.Log().Warn("which keys sign links could not be noted", "error", err)
	}
	return keys, nil
}
