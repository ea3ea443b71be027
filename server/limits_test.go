package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
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
	})
	without := newWorld(t)
	without.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200, header: header{"X-RateLimit-Limit": "", "X-RateLimit-Remaining": "", "X-RateLimit-Reset": ""}})
}

// ASVS 2.1.3, 2.3.2, 2.4.1
func TestAThousandRequestsAtOnceAreHeldToTheLimitOfTheirKeyAlone(t *testing.T) {
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

// guesses are wrong ways in, each of which counts.
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
			// Who shares the address and has a right one does not notice.
			w.play(t, []step{
				{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet},
				{do: "GET {link}", want: 200, is: alphabet},
				{do: "POST /session", json: `{"key": "` + w.keys["viewer"] + `"}`, want: 200},
				{do: "GET /users/me", want: 401}, // shows none: no guess
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

// oldKey makes a key of the viewer's that expires at a time.
func (w *world) oldKey(expires time.Time) (id uuid.UUID, secret string) {
	id = uuid.Must(uuid.NewV7())
	secret, prefix := token.NewKey()
	w.must(w.store.CreateKey(context.Background(), store.Key{ID: id, UserID: personID("viewer"), Name: "old",
		Prefix: prefix, Hash: token.Hash(secret), CreatedAt: startOfTime, ExpiresAt: expires}))
	return id, secret
}

func TestUnknownRevokedAndExpiredKeysAreAnsweredAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clock.advance(time.Minute)
	unknown, _ := token.NewKey()
	_, expired := w.oldKey(startOfTime.Add(time.Second))
	id, revoked := w.oldKey(time.Time{})
	w.must(w.store.DeleteKey(t.Context(), id))
	keys := map[string]string{"unknown": unknown, "revoked": revoked, "expired": expired}
	took := map[string][]time.Duration{}
	answers := map[string]string{}
	requestID := regexp.MustCompile(`"request_id":"[^"]*"`)
	const rounds = 300
	for range rounds {
		for name, key := range keys { // in an order that is never the same
			begun := time.Now()
			a := w.do(t, step{do: "GET /users/me", send: header{"Authorization": "Bearer " + key}, want: 401})
			took[name] = append(took[name], time.Since(begun))
			answers[name] = requestID.ReplaceAllString(string(a.body), "") + fmt.Sprint(headerNames(a.header), a.header.Get("Content-Length"))
		}
	}
	if answers["unknown"] != answers["revoked"] || answers["unknown"] != answers["expired"] {
		t.Errorf("the answers differ: %q", answers)
	}
	median := func(name string) time.Duration {
		slices.Sort(took[name])
		return took[name][rounds/2]
	}
	for name := range keys {
		ratio := float64(median(name)) / float64(median("unknown"))
		t.Logf("%s: %v, %.2f times as long as unknown", name, median(name), ratio)
		if ratio < 0.5 || ratio > 2 {
			t.Errorf("half of the answers to keys that are %s take %v, to unknown ones %v", name, median(name), median("unknown"))
		}
	}
}

// What an operator turns on or sets opens nothing to those without a key.
func TestNoSettingOpensARouteToCallersWithoutAKey(t *testing.T) {
	t.Parallel()
	statuses := func(w *world) map[server.Route]int {
		all := map[server.Route]int{}
		for _, rt := range server.Routes() {
			path := regexp.MustCompile(`:\w+`).ReplaceAllString(rt.Pattern, anID(0x11).String())
			path = strings.Replace(path, "/spaces/"+anID(0x11).String(), "/spaces/a", 1)
			a, err := w.send(t, step{do: rt.Method + " " + path})
			w.must(err)
			all[rt] = a.status
		}
		return all
	}
	usual := statuses(newWorld(t))
	for name, c := range map[string]struct {
		set   func(*server.Config)
		opens map[string]int // pattern to status
	}{
		"public metrics":       {func(c *server.Config) { c.PublicMetrics = true }, map[string]int{"/metrics": 200}},
		"auto-create":          {func(c *server.Config) { c.AutoCreate = true }, nil},
		"admins may delete":    {func(c *server.Config) { c.AdminsMayDeleteFromTickets = true }, nil},
		"URLs":                 {func(c *server.Config) { c.DownloadByURL = true }, nil},
		"no verification":      {func(c *server.Config) { c.VerifyReads = false }, nil},
		"a page's origin":      {func(c *server.Config) { c.CORSOrigins = []string{"https://app.example.com"} }, nil},
		"trust in everybody":   {func(c *server.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }, nil},
		"a public URL":         {publicURL("https://files.example.com/x"), nil},
		"a host for files":     {contentElsewhere, nil},
		"a limit on requests":  {func(c *server.Config) { c.RequestsPerMinute = 1 }, nil},
		"a limit on failures":  {func(c *server.Config) { c.FailedKeysPerMinute = 1000 }, nil},
		"no least rates":       {func(c *server.Config) { c.MinUploadRate, c.MinDownloadRate = 0, 0 }, nil},
		"a scrub":              {func(c *server.Config) { c.ScrubRate, c.ScrubPeriod = 1<<20, time.Hour }, nil},
		"one upload at a time": {func(c *server.Config) { c.MaxConcurrentUploads = 1 }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for rt, got := range statuses(newWorld(t, c.set)) {
				want := usual[rt]
				if status, ok := c.opens[rt.Pattern]; ok {
					want = status
				}
				if got != want {
					t.Errorf("%s %s: answered %d, want %d", rt.Method, rt.Pattern, got, want)
				}
			}
		})
	}
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
