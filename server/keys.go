package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"attachd/server/token"
	"attachd/store"
)

// keyOwner stands in the entry of a key that was made, between its name and the
// id of its user.
const keyOwner = ", of user "

// keyBody is an API key as it is shown.
type keyBody struct {
	ID         uuid.UUID `json:"id"`
	Name       string    `json:"name"`
	KeyPrefix  string    `json:"key_prefix"`
	CreatedAt  string    `json:"created_at"`
	ExpiresAt  *string   `json:"expires_at"`
	LastUsedAt *string   `json:"last_used_at"`
}

// newKeyBody is a key at the only moment at which its secret is shown.
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
		CreatedAt:  timestamp(k.CreatedAt),
		ExpiresAt:  optionalTime(k.ExpiresAt),
		LastUsedAt: optionalTime(k.LastUsedAt),
	}
}

func (s *Server) listOwnKeys(w *response, rq *request, sc scope) error {
	return s.listKeys(w, rq, sc.caller.user.ID)
}

func (s *Server) createOwnKey(w *response, rq *request, sc scope) error {
	return s.createKey(w, rq, sc.caller.user.ID)
}

func (s *Server) deleteOwnKey(w *response, rq *request, sc scope) error {
	return s.deleteKey(w, rq, sc.caller.user.ID)
}

func (s *Server) listUserKeys(w *response, rq *request, sc scope) error {
	user, err := s.userParam(rq)
	if err != nil {
		return err
	}
	return s.listKeys(w, rq, user.ID)
}

func (s *Server) createUserKey(w *response, rq *request, sc scope) error {
	user, err := s.userParam(rq)
	if err != nil {
		return err
	}
	return s.createKey(w, rq, user.ID)
}

func (s *Server) deleteUserKey(w *response, rq *request, sc scope) error {
	user, err := s.userParam(rq)
	if err != nil {
		return err
	}
	return s.deleteKey(w, rq, user.ID)
}

// userParam gives the user that the path names.
func (s *Server) userParam(rq *request) (store.User, error) {
	id, err := rq.idParam("user", "user")
	if err != nil {
		return store.User{}, err
	}
	return s.Store.User(rq.Context(), id)
}

func (s *Server) listKeys(w *response, rq *request, user uuid.UUID) error {
	return listing[store.Key]{
		fetch: afterID(rq, func(ctx context.Context, after uuid.UUID, n int) ([]store.Key, error) {
			return s.Store.KeysOf(ctx, user, after, n)
		}),
		key: func(k store.Key) []byte { return k.ID[:] },
		row: rendered(renderKey),
	}.answer(w, rq)
}

func (s *Server) createKey(w *response, rq *request, user uuid.UUID) error {
	var body struct {
		Name          string `json:"name"`
		ExpiresInDays *int   `json:"expires_in_days"`
	}
	if err := rq.readJSON(&body); err != nil {
		return err
	}
	name, err := label("name", body.Name)
	if err != nil {
		return err
	}
	if name == "" {
		return invalidRequest("A key needs a name, to tell it from others later.")
	}
	secret, prefix := token.NewKey()
	key := store.Key{UserID: user, Name: name, Prefix: prefix, Hash: token.Hash(secret), CreatedAt: s.Now().UTC()}
	key.ID = s.ids.New(key.CreatedAt)
	if days := body.ExpiresInDays; days != nil {
		if *days < 1 || *days > 36500 {
			return invalidRequest("expires_in_days must be a number from 1 to 36500.")
		}
		key.ExpiresAt = key.CreatedAt.AddDate(0, 0, *days)
	}
	rq.entry.ID, rq.entry.Name = key.ID.String(), fmt.Sprint(name, keyOwner, user)
	if err := s.Store.CreateKey(rq.Context(), key); err != nil {
		return err
	}
	return rq.answer(w, http.StatusCreated, newKeyBody{describeKey(key), secret})
}

func (s *Server) deleteKey(w *response, rq *request, user uuid.UUID) error {
	id, err := rq.idParam("key", "key")
	if err != nil {
		return err
	}
	key, _, err := s.Store.Key(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) || err == nil && key.UserID != user {
		return notFound("There is no key %s.", id)
	}
	if err != nil {
		return err
	}
	if err := s.Store.DeleteKey(rq.Context(), id); err != nil {
		return err
	}
	return rq.answer(w, http.StatusOK, messageBody{"API key revoked"})
}

// me says who the caller is and where they belong.
func (s *Server) me(w *response, rq *request, sc scope) error {
	body, err := s.describeCaller(rq, sc.caller.user)
	if err != nil {
		return err
	}
	return rq.answer(w, http.StatusOK, body)
}

type meBody struct {
	ID           uuid.UUID        `json:"id"`
	FullName     string           `json:"full_name"`
	IsSuperadmin bool             `json:"is_superadmin"`
	Spaces       []membershipBody `json:"spaces"`
}

type membershipBody struct {
	Slug string `json:"slug"`
	Name string `json:"name"`
	Role string `json:"role"`
}

func (s *Server) describeCaller(rq *request, user store.User) (meBody, error) {
	body := meBody{ID: user.ID, FullName: user.FullName, IsSuperadmin: user.IsSuperadmin, Spaces: []membershipBody{}}
	memberships, err := s.Store.Memberships(rq.Context(), user.ID)
	if err != nil {
		return meBody{}, err
	}
	for _, m := range memberships {
		space, _, err := s.Store.Space(rq.Context(), m.Space)
		if errors.Is(err, store.ErrNotFound) {
			continue // it went away this moment
		}
		if err != nil {
			return meBody{}, err
		}
		body.Spaces = append(body.Spaces, membershipBody{space.Slug, space.Name, m.Role.String()})
	}
	return body, nil
}

const sessionTTL = 24 * time.Hour

// cookieName is attachd_session. Over HTTPS it has the prefix with which
// browsers take a cookie from this host alone, over HTTPS alone, for all of the
// host or for the path that the server is given (RFC 6265bis, section 4.1.3).
func (s *Server) cookieName(r *http.Request) string {
	const name = "attachd_session"
	switch {
	case !s.isHTTPS(r):
		return name
	case s.basePath != "":
		return "__Secure-" + name // __Host- wants the path /
	default:
		return "__Host-" + name
	}
}

func (s *Server) isHTTPS(r *http.Request) bool { return strings.HasPrefix(s.origin(r), "https:") }

// createSession trades a key for a cookie, so that a page need not keep the
// key.
func (s *Server) createSession(w *response, rq *request, sc scope) error {
	if err := s.sameOrigin(rq.Request); err != nil {
		return err
	}
	var body struct {
		Key  string `json:"key"`
		Demo string `json:"demo"`
	}
	err := rq.readJSON(&body)
	if err == nil && body.Demo != "" {
		body.Key, err = s.demoKey(rq, body.Demo)
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(body.Key) == "" {
		return invalidRequest("Signing in takes a key: {\"key\": \"attachd_...\"}.")
	}
	key, user, err := s.keyOf(rq, body.Key)
	if errors.Is(err, errNoKey) {
		return s.guessed(rq, errNoKey)
	}
	if err != nil {
		return err
	}
	c := caller{user: user, actor: user, key: key.ID}
	rq.scope.caller = c // for the log
	setActor(rq.entry, c, false)
	if err := s.countRequest(rq, c); err != nil {
		return err
	}
	value := token.NewSession()
	session := store.Session{Hash: token.Hash(value), KeyID: key.ID, ExpiresAt: s.Now().Add(sessionTTL)}
	if err := s.Store.CreateSession(rq.Context(), session, s.longPast(rq.Context())); err != nil {
		return err
	}
	me, err := s.describeCaller(rq, user)
	if err != nil {
		return err
	}
	if cookie, err := rq.Cookie(s.cookieName(rq.Request)); err == nil { // the one that this replaces ends
		if err := s.Store.DeleteSession(rq.Context(), token.Hash(cookie.Value)); err != nil {
			return err
		}
	}
	http.SetCookie(w, s.cookie(rq, value, int(sessionTTL/time.Second)))
	return rq.answer(w, http.StatusOK, me)
}

// sessionRest is for how long a session that has ended is remembered, should
// the clock have been wrong when it ended.
const sessionRest = 31 * 24 * time.Hour

// longPast is a time before which sessions have ended for good; the zero time
// while the clock is not trusted.
func (s *Server) longPast(ctx context.Context) time.Time {
	clock, err := s.clock.Read(ctx)
	if err != nil || !clock.Settled {
		return time.Time{}
	}
	return clock.Trusted.Add(-sessionRest)
}

// deleteSession signs out; without a session it has nothing to do.
func (s *Server) deleteSession(w *response, rq *request, sc scope) error {
	if err := s.sameOrigin(rq.Request); err != nil {
		return err
	}
	if cookie, err := rq.Cookie(s.cookieName(rq.Request)); err == nil {
		if c, err := s.sessionCaller(rq, cookie.Value); err == nil { // else it has ended already
			setActor(rq.entry, c, false)
		}
		if err := s.Store.DeleteSession(rq.Context(), token.Hash(cookie.Value)); err != nil {
			return err
		}
	}
	http.SetCookie(w, s.cookie(rq, "", -1))
	return rq.answer(w, http.StatusOK, messageBody{"Signed out"})
}

func (s *Server) cookie(rq *request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name:     s.cookieName(rq.Request),
		Value:    value,
		Path:     s.basePath + "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   s.isHTTPS(rq.Request),
		SameSite: http.SameSiteStrictMode,
	}
}

// sessionCaller settles who calls with a session's cookie, which browsers
// send along by themselves: so only from our own pages.
func (s *Server) sessionCaller(rq *request, value string) (caller, error) {
	if err := s.sameOrigin(rq.Request); err != nil {
		return caller{}, err
	}
	ended := unauthorized("This session has ended. Sign in again.")
	session, err := s.Store.Session(rq.Context(), token.Hash(value))
	if errors.Is(err, store.ErrNotFound) || err == nil && !s.Now().Before(session.ExpiresAt) {
		return caller{}, s.guessed(rq, ended)
	}
	if err != nil {
		return caller{}, err
	}
	key, user, err := s.Store.Key(rq.Context(), session.KeyID)
	if errors.Is(err, store.ErrNotFound) || err == nil && s.expired(key) {
		return caller{}, ended
	}
	return caller{user: user, actor: user, key: key.ID}, err
}

// sameOrigin refuses what a browser sends from another site's page: what it
// says of itself in Sec-Fetch-Site and Origin.
func (s *Server) sameOrigin(r *http.Request) error {
	refused := forbidden("A page of another origin may not do this. If this is attachd's own page, the proxy before it does not pass on the Host that the browser asked for: have it do so, or set public_url.")
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin":
		return nil // the browser knows, whatever a proxy has made of Host
	case "", "none":
	default:
		return refused
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	ours := s.origin(r)
	if scheme, rest, ok := strings.Cut(ours, "://"); ok {
		host, _, _ := strings.Cut(rest, "/")
		if strings.EqualFold(origin, scheme+"://"+host) {
			return nil
		}
	}
	if strings.EqualFold(origin, "http://"+r.Host) || strings.EqualFold(origin, "https://"+r.Host) {
		return nil
	}
	return refused
}
