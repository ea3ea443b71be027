package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"attachd/server/token"
	"attachd/store"
)

// me says who the caller is and where they belong.
func (c *corridor) me(w *response, rq *request, sc scope) error {
	body, err := c.describeCaller(rq, sc.caller.user)
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

func (c *corridor) describeCaller(rq *request, user store.User) (meBody, error) {
	body := meBody{ID: user.ID, FullName: user.FullName, IsSuperadmin: user.IsSuperadmin, Spaces: []membershipBody{}}
	memberships, err := c.Records.Memberships(rq.Context(), user.ID)
	if err != nil {
		return meBody{}, err
	}
	for _, m := range memberships {
		space, _, err := c.Records.Space(rq.Context(), m.Space)
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
func (c *corridor) cookieName(r *http.Request) string {
	const name = "attachd_session"
	switch {
	case !c.isHTTPS(r):
		return name
	case c.basePath != "":
		return "__Secure-" + name // __Host- wants the path /
	default:
		return "__Host-" + name
	}
}

func (c *corridor) isHTTPS(r *http.Request) bool { return strings.HasPrefix(c.origin(r), "https:") }

// createSession trades a key for a cookie, so that a page need not keep the
// key.
func (c *corridor) createSession(w *response, rq *request, sc scope) error {
	if err := c.sameOrigin(rq.Request); err != nil {
		return err
	}
	var body struct {
		Key  string `json:"key"`
		Demo string `json:"demo"`
	}
	err := rq.readJSON(&body)
	if err == nil && body.Demo != "" {
		body.Key, err = c.demoKey(rq, body.Demo)
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(body.Key) == "" {
		return invalidRequest("Signing in takes a key: {\"key\": \"attachd_...\"}.")
	}
	key, user, err := c.keyOf(rq, body.Key)
	if errors.Is(err, errNoKey) {
		return c.guessed(rq, errNoKey)
	}
	if err != nil {
		return err
	}
	who := caller{user: user, actor: user, key: key.ID}
	rq.scope.caller = who // for the log
	setActor(rq.entry, who, false)
	if err := c.countRequest(rq, who); err != nil {
		return err
	}
	value := token.NewSession()
	session := store.Session{Hash: token.Hash(value), KeyID: key.ID, ExpiresAt: c.Now().Add(sessionTTL)}
	if err := c.Records.CreateSession(rq.Context(), session, c.longPast(rq.Context())); err != nil {
		return err
	}
	me, err := c.describeCaller(rq, user)
	if err != nil {
		return err
	}
	if cookie, err := rq.Cookie(c.cookieName(rq.Request)); err == nil { // the one that this replaces ends
		if err := c.Records.DeleteSession(rq.Context(), token.Hash(cookie.Value)); err != nil {
			return err
		}
	}
	http.SetCookie(w, c.cookie(rq, value, int(sessionTTL/time.Second)))
	return rq.answer(w, http.StatusOK, me)
}

// sessionRest is for how long a session that has ended is remembered, should
// the clock have been wrong when it ended.
const sessionRest = 31 * 24 * time.Hour

// longPast is a time before which sessions have ended for good; the zero time
// while the clock is not trusted.
func (c *corridor) longPast(ctx context.Context) time.Time {
	now, trusted := c.TrustedNow(ctx)
	if !trusted {
		return time.Time{}
	}
	return now.Add(-sessionRest)
}

// deleteSession signs out; without a session it has nothing to do.
func (c *corridor) deleteSession(w *response, rq *request, sc scope) error {
	if err := c.sameOrigin(rq.Request); err != nil {
		return err
	}
	if cookie, err := rq.Cookie(c.cookieName(rq.Request)); err == nil {
		if who, err := c.sessionCaller(rq, cookie.Value); err == nil { // else it has ended already
			setActor(rq.entry, who, false)
		}
		if err := c.Records.DeleteSession(rq.Context(), token.Hash(cookie.Value)); err != nil {
			return err
		}
	}
	http.SetCookie(w, c.cookie(rq, "", -1))
	return rq.answer(w, http.StatusOK, messageBody{"Signed out"})
}

func (c *corridor) cookie(rq *request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name:     c.cookieName(rq.Request),
		Value:    value,
		Path:     c.basePath + "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   c.isHTTPS(rq.Request),
		SameSite: http.SameSiteStrictMode,
	}
}

// sessionCaller settles who calls with a session's cookie, which browsers
// send along by themselves: so only from our own pages.
func (c *corridor) sessionCaller(rq *request, value string) (caller, error) {
	if err := c.sameOrigin(rq.Request); err != nil {
		return caller{}, err
	}
	ended := unauthorized("This session has ended. Sign in again.")
	session, err := c.Records.Session(rq.Context(), token.Hash(value))
	if errors.Is(err, store.ErrNotFound) || err == nil && !c.Now().Before(session.ExpiresAt) {
		return caller{}, c.guessed(rq, ended)
	}
	if err != nil {
		return caller{}, err
	}
	key, user, err := c.Records.Key(rq.Context(), session.KeyID)
	if errors.Is(err, store.ErrNotFound) || err == nil && c.expired(key) {
		return caller{}, ended
	}
	return caller{user: user, actor: user, key: key.ID}, err
}

// sameOrigin refuses what a browser sends from another site's page: what it
// says of itself in Sec-Fetch-Site and Origin.
func (c *corridor) sameOrigin(r *http.Request) error {
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
	ours := c.origin(r)
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

type demoUserBody struct {
	Name     string `json:"name"`
	FullName string `json:"full_name"`
}

// demoUsers lists whom a demo lets in without a key.
func (c *corridor) demoUsers(w *response, rq *request, sc scope) error {
	if !c.offersDemo(rq.Request) {
		return notFound("There is nothing at this address.")
	}
	keys, err := c.DemoKeys()
	if err != nil {
		return err
	}
	users := []demoUserBody{}
	for name, secret := range keys {
		_, user, err := c.keyOf(rq, secret)
		if errors.Is(err, errNoKey) {
			continue // revoked meanwhile
		}
		if err != nil {
			return err
		}
		users = append(users, demoUserBody{name, user.FullName})
	}
	slices.SortFunc(users, func(a, b demoUserBody) int { return strings.Compare(a.Name, b.Name) })
	return rq.answer(w, http.StatusOK, users)
}

// demoKey gives the key of a demo's user.
func (c *corridor) demoKey(rq *request, name string) (string, error) {
	if !c.offersDemo(rq.Request) {
		return "", invalidRequest("This server is no demo. Sign in with a key.")
	}
	keys, err := c.DemoKeys()
	if err != nil {
		return "", err
	}
	key, ok := keys[name]
	if !ok {
		return "", unauthorized("The demo has no such user.")
	}
	return key, nil
}

// offersDemo says whether the caller may sign in as a user of the demo: only
// somebody at this machine, who names it as such (a page elsewhere that has
// its own name point here does not), and through no proxy.
func (c *corridor) offersDemo(r *http.Request) bool {
	return c.DemoKeys != nil && isLoopback(r.RemoteAddr) && isLoopback(r.Host) &&
		r.Header.Get("X-Forwarded-For") == "" && r.Header.Get("Forwarded") == ""
}

func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}
