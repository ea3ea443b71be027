package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/server"
	"attachd/server/token"
	"attachd/store"
)

// ASVS 2.1.3, 2.3.2, 2.4.1
func TestAnAnswerSaysWhatIsLeftOfALimit(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, func(c *server.Config) { c.RequestsPerMinute = 3 })
	w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"})
	w.clock.advance(time.Minute)
	list := func(remaining, reset string) step {
		return step{as: "viewer", do: "GET {product}/attachments", want: 200,
			header: header{"X-RateLimit-Limit": "3", "X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": reset}}
	}
	w.play(t, []step{
		list("2", "20"), list("1", "40"), list("0", "60"),
		{as: "viewer", do: "GET {product}/attachments", want: 429,
			header: header{"Retry-After": "20", "X-RateLimit-Limit": "3", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "60"}},
		{do: "GET {product}/attachments", want: 401, header: header{"X-RateLimit-Limit": ""}},
		{do: "GET /health", want: 200, header: header{"X-RateLimit-Limit": ""}},
		{do: "GET {link}", want: 200, header: header{"X-RateLimit-Limit": ""}}, // else a leaked link would use up its maker's
		{do: "GET {link}", want: 200},
		{as: "editor", do: "GET {product.ab}/attachments", want: 403, header: header{"X-RateLimit-Remaining": "2"}},
		{do: "POST /session", json: `{"key": "` + w.keys["editor"] + `"}`, want: 200, header: header{"X-RateLimit-Limit": "3", "X-RateLimit-Remaining": "1", "X-RateLimit-Reset": "40"}},
		{do: "POST /session", json: `{"key": "` + w.keys["viewer"] + `"}`, want: 429, header: header{"Retry-After": "20", "X-RateLimit-Remaining": "0", "Set-Cookie": ""}},
	})

	// A new key has no new allowance, and with X-On-Behalf-Of only the actor is
	// counted.
	w.clock.advance(time.Minute)
	made := w.do(t, step{as: "editor", do: "POST /api-keys", json: `{"name": "new"}`, want: 201, header: header{"X-RateLimit-Remaining": "2"}}).object(t)
	secret := made["full_key"].(string)
	w.play(t, []step{
		{do: "GET /users/me", send: header{"Authorization": "Bearer " + secret}, want: 200, header: header{"X-RateLimit-Remaining": "1"}},
		{as: "editor", do: "GET /users/me", want: 200, header: header{"X-RateLimit-Remaining": "0"}},
		{do: "GET /users/me", send: header{"Authorization": "Bearer " + secret}, want: 429},
		{as: "root", do: "GET /users/me", send: header{"X-On-Behalf-Of": "{editor}"}, want: 200, header: header{"X-RateLimit-Remaining": "2"}},
	})
	without := newWorld(t)
	without.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200, header: header{"X-RateLimit-Limit": "", "X-RateLimit-Remaining": "", "X-RateLimit-Reset": ""}})
}

// ASVS 2.1.3, 2.3.2, 2.4.1
func TestAThousandRequestsAtOnceAreHeldToTheLimitOfTheirUserAlone(t *testing.T) {
	t.Parallel()
	const limit, requests = 600, 1000
	w := newWorld(t, func(c *server.Config) { c.RequestsPerMinute = limit })
	var good, limited atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range requests / 20 {
				a, err := w.send(t, step{as: "viewer", do: "GET /users/me"})
				switch {
				case err != nil:
					t.Error(err)
				case a.status == 200:
					good.Add(1)
				case a.status == 429 && a.header.Get("Retry-After") == "1":
					limited.Add(1)
				default:
					t.Errorf("answered %d %s", a.status, a.body)
				}
			}
		})
	}
	all.Wait()
	if good.Load() != limit || limited.Load() != requests-limit {
		t.Errorf("%d were answered, %d told to wait", good.Load(), limited.Load())
	}
	w.do(t, step{as: "editor", do: "GET /users/me", want: 200})
}

// guesses are wrong credentials, each of which counts.
func guesses() map[string]step {
	wrong := "attachd_" + strings.Repeat("A", 43)
	return map[string]step{
		"a key":            {do: "GET /users/me", send: header{"Authorization": "Bearer " + wrong}, want: 401},
		"a key on a file":  {do: "GET {A.at}", send: header{"Authorization": "Bearer " + wrong}, want: 401},
		"a key to sign in": {do: "POST /session", json: `{"key": "` + wrong + `"}`, want: 401},
		"a session":        {do: "GET /users/me", send: header{"Cookie": "attachd_session=" + wrong}, want: 401},
	}
}

func TestSigningInWithoutAKeyIsNoGuess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.FailedKeysPerMinute = 1 })
	for _, body := range []string{`{}`, `{"key": null}`, `{"key": ""}`, `{"key": " "}`, `{"key": 1}`, `null`} {
		w.do(t, step{do: "POST /session", json: body, want: 400, code: "invalid_request"})
	}
	w.do(t, guesses()["a key to sign in"])
}

// ASVS 6.1.1, 6.3.1
func TestAnAddressMaySendSoManyWrongKeys(t *testing.T) {
	t.Parallel()
	for name := range guesses() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, alphabet, func(c *server.Config) { c.FailedKeysPerMinute = 3 })
			w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"})
			guess := guesses()[name]
			w.play(t, []step{guess, guess, guess})
			for _, wait := range guesses() {
				wait.want, wait.code = 429, "rate_limited"
				wait.header = header{"Retry-After": "20", "WWW-Authenticate": ""}
				w.do(t, wait)
			}
			// A caller at the same address with a right key is not affected.
			w.play(t, []step{
				{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet},
				{do: "GET {link}", want: 200, is: alphabet},
				{do: "POST /session", json: `{"key": "` + w.keys["viewer"] + `"}`, want: 200},
				{do: "GET /users/me", want: 401}, // no credentials: no guess
			})
			w.clock.advance(20 * time.Second)
			after := guess
			after.want, after.code = 429, "rate_limited"
			w.play(t, []step{guess, after})
		})
	}
}

func TestALinkThatIsNoGoodIsNoGuess(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, func(c *server.Config) { c.FailedKeysPerMinute = 1 })
	w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: `{"expires_in": 1}`, want: 201, save: "link"})
	w.clock.advance(2 * time.Second)
	expired := step{do: "GET {link}", want: 403, code: "link_expired"}
	forged := step{do: "GET /files/{A}?expires=4000000000&signature=" + strings.Repeat("A", 43), want: 403, code: "invalid_signature"}
	w.play(t, []step{expired, expired, forged, forged, guesses()["a key"]})
}

// ASVS 6.1.1, 6.3.1
func TestWrongKeysCountForTheAddressTheyComeFrom(t *testing.T) {
	t.Parallel()
	from := func(w *world, forwarded string, want int) {
		t.Helper()
		s := guesses()["a key"]
		s.send["X-Forwarded-For"] = forwarded
		s.want = want
		w.do(t, s)
	}
	limited := func(c *server.Config) { c.FailedKeysPerMinute = 1 }
	forged := withFile(t, alphabet, limited)
	from(forged, "203.0.113.1", 401)
	from(forged, "203.0.113.2", 429) // nobody believes it

	w := withFile(t, alphabet, limited, func(c *server.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	from(w, "203.0.113.1", 401)
	from(w, "203.0.113.1", 429)
	from(w, "203.0.113.2", 401)
	from(w, "198.51.100.7, 203.0.113.2", 429) // what the client itself put in front
	from(w, "203.0.113.3:4711", 401)          // as some proxies write it
	from(w, "203.0.113.3:4712", 429)
	from(w, "::ffff:203.0.113.3", 429)
	from(w, "2001:db8:1:2::1", 401)
	from(w, "2001:db8:1:2:ffff::9", 429) // one customer has a whole /64
	from(w, "2001:db8:1:3::1", 401)
	from(w, "[2001:db8:1:3::2]:80", 429)
}

// oldKey makes a key of the viewer's that expires at the given time.
func (w *world) oldKey(expires time.Time) (id uuid.UUID, secret string) {
	id = uuid.Must(uuid.NewV7())
	secret, prefix := token.NewKey()
	w.must(w.store.CreateKey(context.Background(), store.Key{ID: id, UserID: personID("viewer"), Name: "old",
		Prefix: prefix, Hash: token.Hash(secret), CreatedAt: startOfTime, ExpiresAt: expires}))
	return id, secret
}

// An answer does not distinguish a key that was once valid from one that never was, and
// neither does the time that it takes.
// ASVS 6.3.8
func TestUnknownRevokedAndExpiredKeysAreAnsweredAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clock.advance(time.Minute)
	unknown, _ := token.NewKey()
	_, expired := w.oldKey(startOfTime.Add(time.Second))
	id, revoked := w.oldKey(time.Time{})
	w.must(w.store.DeleteKey(t.Context(), id))
	keys := map[string]string{"unknown": unknown, "revoked": revoked, "expired": expired, "short": "attachd_", "strange": "x"}
	for _, ask := range []string{"GET {product}/attachments", "POST /session"} {
		took := map[string][]time.Duration{}
		answers := map[string]bool{}
		const rounds = 300
		for range rounds {
			for name, key := range keys { // in random order
				s := step{do: ask, want: 401, send: header{"X-Request-Id": "same"}}
				if ask == "POST /session" {
					s.json = `{"key": "` + key + `"}`
				} else {
					s.send["Authorization"] = "Bearer " + key
				}
				begun := time.Now()
				a := w.do(t, s)
				took[name] = append(took[name], time.Since(begun))
				a.header.Del("Date")
				answers[fmt.Sprint(a.header, string(a.body))] = true
			}
		}
		if len(answers) != 1 {
			t.Errorf("%s: %d different answers: %v", ask, len(answers), answers)
		}
		for _, name := range []string{"revoked", "expired"} {
			ratio := float64(quickest(took[name])) / float64(quickest(took["unknown"]))
			t.Logf("%s: %s takes %.2f times as long as unknown", ask, name, ratio)
			if ratio < 0.5 || ratio > 2 {
				t.Errorf("%s: the quickest tenth of the answers to keys that are %s take %v, to unknown ones %v", ask, name, quickest(took[name]), quickest(took["unknown"]))
			}
		}
	}
}

// quickest returns the longest duration among the shortest tenth: other load on the
// machine makes nothing faster. It sorts its argument.
func quickest(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/10]
}

func TestNothingIsServedThatIsNotInTheTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/debug/pprof/", "/debug/vars", "/.git/config", "/.env", "/data/", "/blobs/", "/attachd.db", "/secret.key", "/admin.key", "/server-status", "/files/", "/static/", "//", "/%2e%2e/"} {
		for _, as := range []string{"", "root"} {
			w.do(t, step{as: as, do: "GET " + path, want: http.StatusNotFound})
		}
	}
}
