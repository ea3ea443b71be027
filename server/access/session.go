package access

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

	"attachd/server/api"
	"attachd/server/token"
	"attachd/store"
)

// Me answers who the caller is, and with which spaces and roles.
func (g *Guard) Me(w *api.Response, rq *api.Request, sc api.Scope) error {
	body, err := g.describeCaller(rq, sc.Caller.User)
	if err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, body)
}

type meBody struct {
	ID               uuid.UUID        `json:"id"`
	FullName         string           `json:"full_name"`
	IsSuperadmin     bool             `json:"is_superadmin"`
	IsRecordsManager bool             `json:"is_records_manager,omitempty"`
	Spaces           []membershipBody `json:"spaces"`
}

type membershipBody struct {
	Slug string `json:"slug"`
	Name string `json:"name"`
	Role string `json:"role"`
}

func (g *Guard) describeCaller(rq *api.Request, user store.User) (meBody, error) {
	body := meBody{ID: user.ID, FullName: user.FullName, IsSuperadmin: user.IsSuperadmin, IsRecordsManager: user.IsRecordsManager, Spaces: []membershipBody{}}
	memberships, err := g.Records.Memberships(rq.Context(), user.ID)
	if err != nil {
		return meBody{}, err
	}
	for _, m := range memberships {
		space, _, err := g.Records.Space(rq.Context(), m.Space)
		if errors.Is(err, store.ErrNotFound) {
			continue // it was deleted since the lookup
		}
		if err != nil {
			return meBody{}, err
		}
		body.Spaces = append(body.Spaces, membershipBody{space.Slug, space.Name, m.Role.String()})
	}
	return body, nil
}

const sessionTTL = 24 * time.Hour

// cookieName is attachd_session. Over HTTPS it has the prefix with which browsers
// accept a cookie from this host and over HTTPS only, for all of the host or for the
// path under which the server is (RFC 6265bis, section 4.1.3).
func (g *Guard) cookieName(r *http.Request) string {
	const name = "attachd_session"
	switch {
	case !g.isHTTPS(r):
		return name
	case g.Corridor.BasePath() != "":
		return "__Secure-" + name // __Host- wants the path /
	default:
		return "__Host-" + name
	}
}

func (g *Guard) isHTTPS(r *http.Request) bool {
	return strings.HasPrefix(g.Corridor.Origin(r), "https:")
}

// CreateSession exchanges a key for a session cookie, so that a page need not store the
// key.
func (g *Guard) CreateSession(w *api.Response, rq *api.Request, sc api.Scope) (err error) {
	if err := g.sameOrigin(rq.Request); err != nil {
		return err
	}
	var body struct {
		Key  string `json:"key"`
		Demo string `json:"demo"`
		Link string `json:"link"` // the secret of a sign-in link
	}
	err = rq.ReadJSON(&body)
	if err == nil && body.Demo != "" {
		body.Key, err = g.demoKey(rq, body.Demo)
	}
	if err != nil {
		return err
	}
	if body.Link != "" {
		key, restore, ok := g.takeSignInLink(body.Link)
		if !ok {
			return g.guessed(rq, api.Unauthorized("This sign-in link was used already, or its time is up. Sign in with a key, or start the server again for another link."))
		}
		body.Key = key
		defer func() {
			if err != nil {
				restore()
			}
		}()
	}
	if strings.TrimSpace(body.Key) == "" {
		return api.InvalidRequest("Signing in takes a key: {\"key\": \"attachd_...\"}.")
	}
	key, user, err := g.keyOf(rq, hashOf(body.Key))
	if errors.Is(err, errNoKey) {
		return g.guessed(rq, errNoKey)
	}
	if err != nil {
		return err
	}
	who := api.Caller{User: user, Actor: user, Key: key.ID}
	rq.SetCaller(who)
	if err := g.countRequest(rq, who); err != nil {
		return err
	}
	value := token.NewSession()
	session := store.Session{Hash: token.Hash(value), KeyID: key.ID, ExpiresAt: g.Now().Add(sessionTTL)}
	if err := g.Records.CreateSession(rq.Context(), session, g.longPast(rq.Context())); err != nil {
		return err
	}
	me, err := g.describeCaller(rq, user)
	if err != nil {
		return err
	}
	if cookie, err := rq.Cookie(g.cookieName(rq.Request)); err == nil { // the session that this one replaces ends
		if err := g.Records.DeleteSession(rq.Context(), token.Hash(cookie.Value)); err != nil {
			return err
		}
	}
	http.SetCookie(w, g.cookie(rq, value, int(sessionTTL/time.Second)))
	return rq.Answer(w, http.StatusOK, me)
}

// sessionRest is how long a session is kept after its end, in case the clock was wrong
// when it ended.
const sessionRest = 31 * 24 * time.Hour

// longPast returns the time before which sessions have certainly ended; the zero time
// while the clock is not trusted.
func (g *Guard) longPast(ctx context.Context) time.Time {
	now, trusted := g.TrustedNow(ctx)
	if !trusted {
		return time.Time{}
	}
	return now.Add(-sessionRest)
}

// DeleteSession signs out; without a session it has nothing to do.
func (g *Guard) DeleteSession(w *api.Response, rq *api.Request, sc api.Scope) error {
	if err := g.sameOrigin(rq.Request); err != nil {
		return err
	}
	if cookie, err := rq.Cookie(g.cookieName(rq.Request)); err == nil {
		if who, err := g.sessionCaller(rq, cookie.Value, nothingElse); err == nil { // otherwise the session has ended already
			api.SetActor(rq.Entry, who, false)
		}
		if err := g.Records.DeleteSession(rq.Context(), token.Hash(cookie.Value)); err != nil {
			return err
		}
	}
	http.SetCookie(w, g.cookie(rq, "", -1))
	return rq.Answer(w, http.StatusOK, api.Message("Signed out"))
}

func (g *Guard) cookie(rq *api.Request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name:     g.cookieName(rq.Request),
		Value:    value,
		Path:     g.Corridor.BasePath() + "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   g.isHTTPS(rq.Request),
		SameSite: http.SameSiteStrictMode,
	}
}

// sessionCaller authenticates a caller by a session's cookie. Browsers send it unasked,
// so requests are accepted from the server's own pages only.
func (g *Guard) sessionCaller(rq *api.Request, value string, ask asking) (api.Caller, error) {
	if err := g.sameOrigin(rq.Request); err != nil {
		return api.Caller{}, err
	}
	ended := api.Unauthorized("This session has ended. Sign in again.")
	session, err := g.Records.Session(rq.Context(), token.Hash(value))
	if errors.Is(err, store.ErrNotFound) || err == nil && !g.Now().Before(session.ExpiresAt) {
		return api.Caller{}, g.guessed(rq, ended)
	}
	if err != nil {
		return api.Caller{}, err
	}
	if err := ask(rq, store.Inquiry{Key: session.KeyID, User: onBehalfOf(rq)}); err != nil {
		return api.Caller{}, err
	}
	key, user, err := g.known(rq).Key(rq.Context(), session.KeyID)
	if errors.Is(err, store.ErrNotFound) || err == nil && g.expired(key) {
		return api.Caller{}, ended
	}
	return api.Caller{User: user, Actor: user, Key: key.ID}, err
}

// sameOrigin refuses what a browser sends from another site's page, by the headers
// Sec-Fetch-Site and Origin.
func (g *Guard) sameOrigin(r *http.Request) error {
	refused := api.Forbidden("A page of another origin may not do this. If this is attachd's own page, the proxy before it does not pass on the Host that the browser asked for: have it do so, or set public_url.")
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin":
		return nil // reliable even where a proxy has changed Host
	case "", "none":
	default:
		return refused
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	ours := g.Corridor.Origin(r)
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

// DemoUsers lists the users of a demo, as whom anyone may sign in without a key.
func (g *Guard) DemoUsers(w *api.Response, rq *api.Request, sc api.Scope) error {
	if !g.OffersDemo(rq.Request) {
		return api.NotFound("There is nothing at this address.")
	}
	keys, err := g.DemoKeys()
	if err != nil {
		return err
	}
	users := []demoUserBody{}
	for name, secret := range keys {
		_, user, err := g.keyOf(rq, hashOf(secret))
		if errors.Is(err, errNoKey) {
			continue // revoked since the demo was made
		}
		if err != nil {
			return err
		}
		users = append(users, demoUserBody{name, user.FullName})
	}
	slices.SortFunc(users, func(a, b demoUserBody) int { return strings.Compare(a.Name, b.Name) })
	return rq.Answer(w, http.StatusOK, users)
}

// demoKey returns the key of a demo's user.
func (g *Guard) demoKey(rq *api.Request, name string) (string, error) {
	if !g.OffersDemo(rq.Request) {
		return "", api.InvalidRequest("This server is no demo. Sign in with a key.")
	}
	keys, err := g.DemoKeys()
	if err != nil {
		return "", err
	}
	key, ok := keys[name]
	if !ok {
		return "", api.Unauthorized("The demo has no such user.")
	}
	return key, nil
}

// OffersDemo reports whether the caller may sign in as a user of the demo: only from
// this machine, without a proxy, and under a name of this machine, which excludes pages
// of sites whose name was made to resolve to it.
func (g *Guard) OffersDemo(r *http.Request) bool {
	return g.DemoKeys != nil && isLoopback(r.RemoteAddr) && isLoopback(r.Host) &&
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
