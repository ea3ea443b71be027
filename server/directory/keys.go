package directory

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/server/token"
	"attachd/store"
)

// keyBody is an API key as the API answers it.
type keyBody struct {
	ID         uuid.UUID `json:"id"`
	Name       string    `json:"name"`
	KeyPrefix  string    `json:"key_prefix"`
	CreatedAt  string    `json:"created_at"`
	ExpiresAt  *string   `json:"expires_at"`
	LastUsedAt *string   `json:"last_used_at"`
}

// newKeyBody is a new key, in the only answer that has its secret.
type newKeyBody struct {
	keyBody
	FullKey string `json:"full_key"`
}

func renderKey(k store.Key) any { return describeKey(k) }

func describeKey(k store.Key) keyBody {
	return keyBody{
		ID:         k.ID,
		Name:       k.Name,
		KeyPrefix:  k.Prefix,
		CreatedAt:  api.Timestamp(k.CreatedAt),
		ExpiresAt:  api.OptionalTime(k.ExpiresAt),
		LastUsedAt: api.OptionalTime(k.LastUsedAt),
	}
}

// ListOwnKeys answers GET /api-keys.
func (s *Service) ListOwnKeys(w *api.Response, rq *api.Request, sc api.Scope) error {
	return s.listKeys(w, rq, sc.Caller.User.ID)
}

// CreateOwnKey answers POST /api-keys.
func (s *Service) CreateOwnKey(w *api.Response, rq *api.Request, sc api.Scope) error {
	return s.createKey(w, rq, sc.Caller.User.ID)
}

// DeleteOwnKey answers DELETE /api-keys/:key.
func (s *Service) DeleteOwnKey(w *api.Response, rq *api.Request, sc api.Scope) error {
	return s.deleteKey(w, rq, sc.Caller.User.ID)
}

// ListUserKeys answers GET /directory/users/:user/api-keys.
func (s *Service) ListUserKeys(w *api.Response, rq *api.Request, sc api.Scope) error {
	user, err := s.userParam(rq)
	if err != nil {
		return err
	}
	return s.listKeys(w, rq, user.ID)
}

// CreateUserKey answers POST /directory/users/:user/api-keys.
func (s *Service) CreateUserKey(w *api.Response, rq *api.Request, sc api.Scope) error {
	user, err := s.userParam(rq)
	if err != nil {
		return err
	}
	return s.createKey(w, rq, user.ID)
}

// DeleteUserKey answers DELETE /directory/users/:user/api-keys/:key.
func (s *Service) DeleteUserKey(w *api.Response, rq *api.Request, sc api.Scope) error {
	user, err := s.userParam(rq)
	if err != nil {
		return err
	}
	return s.deleteKey(w, rq, user.ID)
}

// userParam returns the user that the path names.
func (s *Service) userParam(rq *api.Request) (store.User, error) {
	id, err := rq.IDParam("user", "user")
	if err != nil {
		return store.User{}, err
	}
	return s.Store.User(rq.Context(), id)
}

func (s *Service) listKeys(w *api.Response, rq *api.Request, user uuid.UUID) error {
	return api.List[store.Key]{
		Fetch: api.AfterID(rq, func(ctx context.Context, after uuid.UUID, n int) ([]store.Key, error) {
			return s.Store.KeysOf(ctx, user, after, n)
		}),
		Key: func(k store.Key) []byte { return k.ID[:] },
		Row: api.Rendered(renderKey),
	}.Answer(w, rq)
}

func (s *Service) createKey(w *api.Response, rq *api.Request, user uuid.UUID) error {
	var body struct {
		Name          string `json:"name"`
		ExpiresInDays *int   `json:"expires_in_days"`
	}
	if err := rq.ReadJSON(&body); err != nil {
		return err
	}
	name, err := label("name", body.Name)
	if err != nil {
		return err
	}
	if name == "" {
		return api.InvalidRequest("A key needs a name, to tell it from others later.")
	}
	secret, prefix := token.NewKey()
	key := store.Key{UserID: user, Name: name, Prefix: prefix, Hash: token.Hash(secret), CreatedAt: s.Now().UTC()}
	key.ID = s.IDs.New(key.CreatedAt)
	if days := body.ExpiresInDays; days != nil {
		if *days < 1 || *days > 36500 {
			return api.InvalidRequest("expires_in_days must be a number from 1 to 36500.")
		}
		key.ExpiresAt = key.CreatedAt.AddDate(0, 0, *days)
	}
	rq.Entry.ID, rq.Entry.Name = key.ID.String(), fmt.Sprint(name, api.KeyOwner, user)
	if err := s.Store.CreateKey(rq.Context(), key); err != nil {
		return err
	}
	return rq.Answer(w, http.StatusCreated, newKeyBody{describeKey(key), secret})
}

func (s *Service) deleteKey(w *api.Response, rq *api.Request, user uuid.UUID) error {
	id, err := rq.IDParam("key", "key")
	if err != nil {
		return err
	}
	key, _, err := s.Store.Key(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) || err == nil && key.UserID != user {
		return api.NotFound("There is no key %s.", id)
	}
	if err != nil {
		return err
	}
	if err := s.Store.DeleteKey(rq.Context(), id); err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, api.Message("API key revoked"))
}
