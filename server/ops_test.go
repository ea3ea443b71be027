package server_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"attachd/blobs/disk"
	"attachd/server"
	"attachd/server/token"
)

func TestTheServerIsAliveAndReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{do: "GET /health", want: 200},
		{do: "HEAD /health", want: 200},
		{do: "HEAD /health/ready", want: 200},
		{do: "GET /health/ready", want: 200},
		{as: "viewer", do: "GET /health/ready", want: 200},
	})
}

// unwritable is a file system that cannot create files.
type unwritable struct{ disk.FileSystem }

func (unwritable) Create(string) (disk.File, error) { return nil, errUnwritable }

type unwritableError struct{}

func (unwritableError) Error() string { return "/secret/place: input/output error" }

var errUnwritable = unwritableError{}

func TestTheServerSaysWhyItIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expectLog("not ready")
	reasons := func(words ...string) step {
		return step{do: "GET /health/ready", want: 503, check: func(t *testing.T, a answer) {
			list, _ := a.object(t)["reasons"].([]any)
			if len(list) != len(words) || a.header.Get("Retry-After") == "" {
				t.Fatalf("the reasons are %v, Retry-After %q", list, a.header.Get("Retry-After"))
			}
			for i, word := range words {
				if reason := list[i].(string); !strings.Contains(reason, word) || strings.Contains(reason, "/") {
					t.Errorf("the reason is %q, want something about %q", reason, word)
				}
			}
		}}
	}
	ready := step{do: "GET /health/ready", want: 200}
	w.play(t, []step{ready})
	w.disk.free.Store(1)
	w.play(t, []step{{do: "GET /health", want: 200}})
	w.clock.advance(time.Minute)
	w.play(t, []step{reasons("full")})
	w.disk.free.Store(0)
	w.clock.advance(time.Minute)
	w.play(t, []step{ready})
	whole := w.disk.FileSystem
	w.disk.FileSystem = unwritable{whole}
	w.clock.advance(time.Minute)
	w.play(t, []step{reasons("written")})
	w.disk.FileSystem = whole
	w.clock.advance(time.Minute)
	w.play(t, []step{ready})
	w.server.Drain()
	w.play(t, []step{reasons("shutting down"), {do: "HEAD /health/ready", want: 503, header: header{"Retry-After": "5"}}})
}

// hanging is a file system that creates no file before it is released.
type hanging struct {
	disk.FileSystem
	asked    *atomic.Int64
	released chan struct{}
}

func (h hanging) Create(name string) (disk.File, error) {
	h.asked.Add(1)
	<-h.released
	return h.FileSystem.Create(name)
}

// A probe may last longer than anybody waits for it, where each sync takes a second and
// many wait for theirs.
func TestADiskThatIsSlowIsReadyWhileUploadsAreAcknowledged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.SetReadiness(200*time.Millisecond, time.Hour)
	h := hanging{w.disk.FileSystem, new(atomic.Int64), make(chan struct{})}
	defer close(h.released)
	w.disk.FileSystem = h
	w.do(t, step{do: "GET /health/ready", want: 503})
	w.uploadedNow(t, "small.txt")
	w.do(t, step{do: "GET /health/ready", want: 200})
}

// Otherwise the probe leaves its temporary file, and writes to a storage that is
// closed.
func TestAServerThatStopsAwaitsTheReadinessProbeUnderWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.SetReadiness(50*time.Millisecond, time.Hour)
	h := hanging{w.disk.FileSystem, new(atomic.Int64), make(chan struct{})}
	release := sync.OnceFunc(func() { close(h.released) })
	defer release()
	w.disk.FileSystem = h
	w.do(t, step{do: "GET /health/ready", want: 503})
	w.server.Drain()
	ended, end := context.WithCancel(t.Context())
	end()
	if err := w.server.AwaitReadinessProbe(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with the probe under way, waiting for it gave %v", err)
	}
	release()
	if err := w.server.AwaitReadinessProbe(t.Context()); err != nil {
		t.Error(err)
	}
	if left := w.temporaryFiles(); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func TestADiskThatHangsHoldsUpOneLookOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.SetReadiness(200*time.Millisecond, time.Hour)
	h := hanging{w.disk.FileSystem, new(atomic.Int64), make(chan struct{})}
	release := sync.OnceFunc(func() { close(h.released) })
	defer release()
	w.disk.FileSystem = h
	hangs := step{do: "GET /health/ready", want: 503, check: func(t *testing.T, a answer) {
		if !strings.Contains(string(a.body), "The disk does not answer.") {
			t.Errorf("answered %s", a.body)
		}
	}}
	var people sync.WaitGroup
	for range 10 {
		people.Go(func() { w.do(t, hangs) })
	}
	people.Wait()
	w.do(t, hangs)
	if asked := h.asked.Load(); asked != 1 {
		t.Errorf("the disk was asked %d times", asked)
	}
	if a := w.do(t, step{as: "root", do: "GET /metrics", want: 200}); !bytes.Contains(a.body, []byte("\nattachd_ready 0\n")) {
		t.Error("the metrics say that it is ready")
	}
	release()
	eventually(t, "the server to be ready", func() bool {
		w.clock.advance(time.Minute)
		a, err := w.send(t, step{do: "GET /health/ready"})
		return err == nil && a.status == 200
	})
}

// Large files get their names at once, small ones later: the server must not report
// that it is ready while either fails.
func TestAServerWhoseContentsGetNoPlaceIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.SetReadiness(time.Minute, 0)
	w.expectLog("not ready")
	w.expectLog("small contents have no files yet")
	w.expectLog(`"code":"internal"`)
	unready := func(says string) step {
		return step{do: "GET /health/ready", want: 503, check: func(t *testing.T, a answer) {
			if !strings.Contains(string(a.body), says) {
				t.Errorf("answered %s", a.body)
			}
		}}
	}
	w.fault.Store(&fault{err: syscall.EACCES, forever: true, only: "rename tmp/"})
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "small")}, want: 201},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", text(100_000))}, want: 500, code: "internal"},
		unready("Files cannot be written."),
	})
	w.flushContents()
	w.clock.advance(time.Minute)
	w.play(t, []step{unready("Small files")})
	w.fault.Store(nil)
	w.clock.advance(time.Minute)
	w.play(t, []step{unready("Small files")})
	w.flushContents()
	w.clock.advance(time.Minute)
	w.play(t, []step{{do: "GET /health/ready", want: 200}})
}

// A file system that detects its own corruption accepts no changes from then on, even
// in the middle of an upload.
func TestADiskThatMakesItselfReadOnly(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"create tmp/", "write tmp/", "sync tmp/", "rename tmp/"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.expectLog(`"code":"unavailable"`)
			w.expectLog("not ready")
			w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", text(70_000))}, want: 201, save: "B"})
			w.fault.Store(&fault{err: syscall.EROFS, forever: true, only: call})
			a := w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", text(100_000))}, want: 503, code: "unavailable"})
			if a.header.Get("Retry-After") == "" {
				t.Error("it does not say when to try again")
			}
			w.play(t, []step{
				{as: "viewer", do: "GET {B.at}", want: 200, is: text(70_000)},
				{do: "GET /health/ready", want: 503},
			})
			w.fault.Store(nil)
		})
	}
}

// ASVS 16.3.4, 16.5.1 to 16.5.4
func TestAnInternalErrorShowsNothingOfTheInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, filesAtOnce)
	whole := w.disk.FileSystem
	w.disk.FileSystem = unwritable{whole}
	w.play(t, []step{{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 500, code: "internal", check: func(t *testing.T, a answer) {
		if bytes.Contains(a.body, []byte("secret")) || bytes.Contains(a.body, []byte("input/output")) {
			t.Errorf("answered %s", a.body)
		}
		found := false
		for _, line := range w.log.lines() {
			found = found || strings.Contains(line, "input/output error") && strings.Contains(line, a.header.Get("X-Request-Id"))
		}
		if !found {
			t.Error("the log does not have the whole story")
		}
	}}})
	w.disk.FileSystem = whole
}

// ASVS 13.4.1 to 13.4.6
func TestMetricsAreForSuperadmins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{do: "GET /metrics", want: 401},
		{as: "admin", do: "GET /metrics", want: 403},
		{as: "root", do: "GET /metrics", want: 200, check: func(t *testing.T, a answer) {
			for _, part := range []string{
				`attachd_http_requests_total{method="GET",route="/metrics",status="401"} 1`, `attachd_http_refusals_total{code="forbidden"} 1`,
				"attachd_upload_slots_used 0", `attachd_build_info{version="test"} 1`, "go_goroutines"} {
				if !bytes.Contains(a.body, []byte(part)) {
					t.Errorf("the metrics do not have %q", part)
				}
			}
			for _, part := range []string{w.names["product.id"], w.keys["root"]} {
				if bytes.Contains(a.body, []byte(part)) {
					t.Errorf("the metrics have %q", part)
				}
			}
		}},
	})
	public := newWorld(t, func(c *server.Config) { c.PublicMetrics = true })
	public.play(t, []step{
		{do: "GET /metrics", want: 200},
		{do: "GET {product}/attachments", want: 401},
		{as: "admin", do: "GET /directory/users", want: 403},
	})
}

func TestTheDescriptionAndThePageNeedNoKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{do: "GET /openapi.json", want: 200, header: header{"Content-Type": "application/json"}, check: func(t *testing.T, a answer) {
			if !json.Valid(a.body) {
				t.Errorf("not JSON: %.100s", a.body)
			}
		}},
		{do: "GET /", want: 200, header: header{"Content-Type": "text/html; charset=utf-8", "Cross-Origin-Opener-Policy": "same-origin"}},
		{do: "HEAD /", want: 200, header: header{"Content-Type": "text/html; charset=utf-8", "Cross-Origin-Opener-Policy": "same-origin"}},
		{do: "HEAD /docs", want: 200, header: header{"Content-Type": "text/html; charset=utf-8", "Cross-Origin-Opener-Policy": "same-origin"}},
	})
	older := w.do(t, step{do: "GET /openapi-3.0.json", want: 200, header: header{"Content-Type": "application/json"}})
	if !bytes.Equal(older.body, server.OpenAPI30()) {
		t.Errorf("/openapi-3.0.json is %.200s", older.body)
	}
	packed, err := w.send(t, step{do: "GET /openapi.json", send: header{"Accept-Encoding": "br, gzip"}})
	if err != nil || packed.header.Get("Content-Encoding") != "gzip" || len(packed.body) > 60<<10 {
		t.Fatalf("%v, %d bytes of encoding %q", err, len(packed.body), packed.header.Get("Content-Encoding"))
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed.body))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(unpacked).Decode(new(any)); err != nil {
		t.Error(err)
	}
}

// ASVS 5.3.1, 3.7.2, 13.4.1 to 13.4.6
func TestWhatIsNoAddressIsNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{
		"/nowhere", "/catalog", "/catalog/attachments", "/index.html", "/robots.txt", "/.git/config", "/debug/pprof/", "/attachd.db", "/blobs/sha256", "/data/",
		"{product}/attachments/", "{product}//attachments", "/CATALOG/spaces/a/products/{product.id}/attachments", "{ticket}/attachments/", "{ticket}/Attachments",
		"/health/", "/Health", "/metrics/", "//health", "/health/../metrics", "/./health", "/issues/attachments/{viewer}/x.css", "/%2e%2e/attachd.db", "/files/", "/files",
	} {
		for _, as := range []string{"", "root"} {
			w.do(t, step{as: as, do: "GET " + path, want: 404, header: header{"Location": ""}})
			w.do(t, step{as: as, do: "POST " + path, form: parts{file("a.txt", "a")}, want: 404, header: header{"Location": ""}})
		}
	}
}

// ASVS 4.1.4, 13.4.4
func TestAnAddressTakesOnlyItsMethods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		path  string
		takes []string
	}{
		{"{product}/attachments", []string{"GET", "HEAD", "POST"}},
		{"/catalog/attachments/{viewer}", []string{"DELETE"}},
		{"/catalog/attachments/{viewer}/download", []string{"GET", "HEAD"}},
		{"/issues/attachments/{viewer}", []string{"GET", "HEAD", "DELETE"}},
		{"/files/{viewer}", []string{"GET", "HEAD"}},
		{"/health", []string{"GET", "HEAD"}},
		{"/health/ready", []string{"GET", "HEAD"}},
		{"/", []string{"GET", "HEAD"}},
		{"/docs", []string{"GET", "HEAD"}},
		{"/directory/spaces/a", []string{"GET", "HEAD", "PUT", "DELETE"}},
		{"/directory/import", []string{"POST"}},
		{"/session", []string{"POST", "DELETE"}},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get"} {
			taken := false
			for _, m := range c.takes {
				taken = taken || m == method
			}
			if taken {
				continue
			}
			want := 405
			if method == "OPTIONS" {
				want = 204
			}
			a := w.do(t, step{as: "root", do: method + " " + c.path, want: want})
			for _, m := range c.takes {
				if !strings.Contains(", "+a.header.Get("Allow")+",", ", "+m+",") {
					t.Errorf("%s %s: Allow is %q, want %s among them", method, c.path, a.header.Get("Allow"), m)
				}
			}
		}
	}
}

func TestARequestKeepsItsIdIfThatIsHarmless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for id, kept := range map[string]bool{
		"abc-123": true, "019bc0f5-1111-7000-8000-000000000001": true, "Root=1-67891233-abcdef012345678912345678": true, strings.Repeat("x", 128): true,
		strings.Repeat("x", 129): false, `a"b`: false, "a b": false, "<script>": false, "a\tb": false, "ü": false, "{x": false,
	} {
		for _, s := range []step{{do: "GET /health", want: 200}, {do: "GET /nowhere", want: 404}, {do: "GET {product}/attachments", want: 401}} {
			s.send = header{"X-Request-Id": id}
			if got := w.do(t, s).header.Get("X-Request-Id"); (got == id) != kept || got == "" {
				t.Errorf("%v: sent %q, answered %q", s, id, got)
			}
		}
	}
}

// ASVS 3.4.2, 3.5.1 to 3.5.3
func TestPagesOfOtherOriginsMayNotCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, s := range []step{{as: "viewer", do: "GET {product}/attachments", want: 200}, {do: "OPTIONS {product}/attachments", want: 204}} {
		s.send = header{"Origin": "https://app.example.org", "Access-Control-Request-Method": "GET"}
		s.header = header{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": "", "Access-Control-Allow-Credentials": ""}
		w.do(t, s)
	}
}

// ASVS 3.4.2, 3.5.1 to 3.5.3
func TestPagesOfConfiguredOriginsMayCallWithAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.CORSOrigins = []string{"https://app.example.org"} })
	from := func(origin string) header {
		return header{"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
	}
	w.play(t, []step{
		{do: "OPTIONS {product}/attachments", send: from("https://app.example.org"), want: 204, header: header{
			"Access-Control-Allow-Origin": "https://app.example.org", "Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Credentials": ""}},
		{do: "OPTIONS {product}/attachments", send: header{"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST",
			"Access-Control-Request-Headers": "authorization,baggage,cache-control,content-type,sentry-trace,traceparent,x-requested-with"}, want: 204, header: header{
			"Access-Control-Allow-Headers": "authorization,baggage,cache-control,content-type,sentry-trace,traceparent,x-requested-with"}},
		{do: "OPTIONS {product}/attachments", send: from("https://evil.example"), want: 204, header: header{"Access-Control-Allow-Origin": ""}},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, send: header{"Origin": "https://app.example.org"}, want: 201, save: "A", header: header{
			"Access-Control-Allow-Origin": "https://app.example.org", "Access-Control-Allow-Credentials": ""}, check: func(t *testing.T, a answer) {
			for _, name := range []string{"Location", "X-Request-Id", "Repr-Digest", "Link", "Content-Disposition"} {
				if !strings.Contains(strings.ToLower(a.header.Get("Access-Control-Expose-Headers")), strings.ToLower(name)) {
					t.Errorf("%s is not shown to pages: %q", name, a.header.Get("Access-Control-Expose-Headers"))
				}
			}
		}},
		{as: "viewer", do: "GET {A.at}", send: header{"Origin": "https://app.example.org"}, want: 200, is: "a", header: header{
			"Access-Control-Allow-Origin": "https://app.example.org", "Vary": "Origin, Accept"}},
		{as: "viewer", do: "GET {product}/attachments", send: header{"Origin": "https://app.example.org.evil.example"}, want: 200, header: header{"Access-Control-Allow-Origin": ""}},
		{do: "GET {product}/attachments", send: header{"Origin": "https://app.example.org"}, want: 401, header: header{"Access-Control-Allow-Origin": "https://app.example.org"}},
	})
}

// ASVS 4.1.3, 15.3.4
func TestForwardedHeadersAreBelievedFromTrustedProxiesOnly(t *testing.T) {
	t.Parallel()
	forwarded := header{"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 127.0.0.5", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "files.example.org"}
	for _, c := range []struct {
		name     string
		proxies  []netip.Prefix
		address  string
		download string
	}{
		{"trusted", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "203.0.113.9", "https://files.example.org/files/"},
		{"others are", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "127.0.0.1", "http://127.0.0.1:"},
		{"none is", nil, "127.0.0.1", "http://127.0.0.1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := withFile(t, alphabet, func(cfg *server.Config) { cfg.TrustedProxies = c.proxies })
			send := header{"X-Request-Id": "forwarded"}
			for name, value := range forwarded {
				send[name] = value
			}
			a := w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", send: send, want: 201})
			if got := a.object(t)["download_url"].(string); !strings.HasPrefix(got, c.download) {
				t.Errorf("download_url is %s", got)
			}
			if got := w.log.request(t, "forwarded")["address"]; got != c.address {
				t.Errorf("the log has the address %v, want %s", got, c.address)
			}
			chain := header{"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "files.example.org, inner.example.org:8080"}
			if got := w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", send: chain, want: 201}).object(t)["download_url"].(string); !strings.HasPrefix(got, c.download) {
				t.Errorf("behind two proxies download_url is %s", got)
			}
			for _, bad := range []header{{"X-Forwarded-Proto": "javascript"}, {"X-Forwarded-Host": "evil.example/path"}, {"X-Forwarded-Host": "a@evil.example"}} {
				got := w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", send: bad, want: 201}).object(t)["download_url"].(string)
				if !strings.HasPrefix(got, "http://127.0.0.1:") {
					t.Errorf("with %v download_url is %s", bad, got)
				}
			}
		})
	}
}

// ASVS 16.1.1, 16.2.1, 16.3.1, 16.3.3
func TestTheLogHasALineForEveryRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.RequestsPerMinute = 2 })
	w.do(t, step{as: "viewer", do: "GET {product}/attachments?name=secret", send: header{"X-Request-Id": "one", "User-Agent": "evil\tagent"}, want: 200})
	w.do(t, step{do: "GET /nowhere/%0A%1B[31mred", send: header{"X-Request-Id": "two"}, want: 404})
	line := w.log.request(t, "one")
	for name, want := range map[string]any{
		"method": "GET", "route": "/catalog/spaces/:space/products/:product/attachments", "status": 200.0, "user": w.names["viewer"], "address": "127.0.0.1", "level": "INFO",
	} {
		if line[name] != want {
			t.Errorf("%s is %v, want %v", name, line[name], want)
		}
	}
	if line["key"] == nil || strings.Contains(strings.Join(w.log.lines(), ""), "secret") {
		t.Errorf("the line is %v", line)
	}
	if got := w.log.request(t, "two"); got["code"] != "not_found" || got["path"] != "/nowhere/%0A%1B[31mred" {
		t.Errorf("the line is %v", got)
	}
	// Accepted and refused callers, and attempts at what is not allowed.
	const wrong = "attachd_wrong"
	for i, s := range []step{
		{do: "POST /session", json: `{"key": "` + w.keys["editor"] + `"}`, want: 200},
		{do: "POST /session", json: `{"key": "` + wrong + `"}`, want: 401},
		{do: "GET {product}/attachments", send: header{"Authorization": "Bearer " + wrong}, want: 401},
		{as: "stranger", do: "GET {product}/attachments", want: 403},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.exe", "MZ")}, want: 400},
		{as: "viewer", do: "GET {product}/attachments", want: 200},
		{as: "viewer", do: "GET {product}/attachments", want: 429},
		{do: "GET /files/{viewer}?expires=1&signature=x", want: 403, code: "invalid_signature"},
	} {
		id := fmt.Sprint("then-", i)
		if s.send == nil {
			s.send = header{}
		}
		s.send["X-Request-Id"] = id
		a := w.do(t, s)
		line := w.log.request(t, id)
		if line["status"] != float64(s.want) || s.want >= 400 && line["code"] != a.object(t)["code"] || s.as != "" && line["user"] != w.names[s.as] {
			t.Errorf("after %v the line is %v", s, line)
		}
	}
	for _, secret := range []string{wrong, w.keys["editor"], "signature=x"} {
		if strings.Contains(strings.Join(w.log.lines(), ""), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
}

// People paste keys where they do not belong.
func TestNoKeyGetsIntoTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keys["viewer"]
	w.do(t, step{as: "viewer", do: "GET /catalog/" + key, send: header{"X-Request-Id": "in-the-path"}, want: 404})
	w.do(t, step{as: "viewer", do: "GET /issues/attachments/" + key, want: 404})
	a := w.do(t, step{do: "GET /health", send: header{"X-Request-Id": key}, want: 200})
	w.do(t, step{do: "GET /health", send: header{"X-Request-Id": "for:" + key}, want: 200})
	w.log.request(t, a.header.Get("X-Request-Id"))
	if path, _ := w.log.request(t, "in-the-path")["path"].(string); !strings.HasPrefix(path, "/catalog/attachd_") || !strings.HasSuffix(path, "…") {
		t.Errorf("the path is %q", path)
	}
	if strings.Contains(strings.Join(w.log.lines(), ""), key) {
		t.Error("the log has the key")
	}
}

func TestBelowAPublicURLThePathsAreTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, publicURL("https://example.org/attachd"))
	w.play(t, []step{
		{do: "GET /attachd/health", want: 200},
		{do: "GET /health", want: 200},
		{do: "GET /attachd/", want: 200},
		{do: "GET /attachd", want: 308, header: header{"Location": "/attachd/"}},
		{as: "viewer", do: "GET /attachd{product}/attachments", want: 200},
		{do: "GET /attachdhealth", want: 404},
		{do: "GET /attachd/attachd/health", want: 404},
	})
}

func TestAServerIsNotMadeOfNothing(t *testing.T) {
	t.Parallel()
	if _, err := server.New(server.Config{}); err == nil {
		t.Error("a server without a store")
	}
	w := newWorld(t)
	good := w.server.Config
	for name, spoil := range map[string]func(*server.Config){
		"no ballast":        func(c *server.Config) { c.Ballast = nil },
		"no policy":         func(c *server.Config) { c.Policy = nil },
		"no signing key":    func(c *server.Config) { c.SigningKeys = nil },
		"a short secret":    func(c *server.Config) { c.SigningKeys = []token.SigningKey{{Secret: []byte("short")}} },
		"no place for keys": func(c *server.Config) { c.KeepSigningKeys = nil },
		"no file size":      func(c *server.Config) { c.MaxFileSize = 0 },
		"no slots":          func(c *server.Config) { c.MaxConcurrentUploads = 0 },
		"no lifetime":       func(c *server.Config) { c.URLTTL = 0 },
		"a slow scrub":      func(c *server.Config) { c.ScrubRate = -1 },
		"no period":         func(c *server.Config) { c.ScrubRate, c.ScrubPeriod = 1, 0 },
		"a bad address":     func(c *server.Config) { c.PublicURL = "http://a b" },
	} {
		bad := good
		spoil(&bad)
		if _, err := server.New(bad); err == nil {
			t.Errorf("a server with %s", name)
		}
	}
}

// ASVS 4.2.1, 4.2.2; CVE-2026-32759
func TestARequestThatNetHTTPRefusesIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const chunked = "POST /session HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	const another = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, head := range map[string]string{
		"two lengths":              "POST /session HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
		"a negative length":        "POST /session HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
		"an unknown encoding":      "POST /session HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"two encodings":            "POST /session HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"no host":                  "GET /health HTTP/1.1\r\n\r\n",
		"a header too large":       "GET /health HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		"a chunk's size before LF": chunked + "2\n{}\r\n0\r\n\r\n",
		"LF in a chunk's size":     chunked + "2\n;x\r\n{}\r\n0\r\n\r\n",
		"a chunk's end without CR": chunked + "2\r\n{}\n0\r\n\r\n",
		"no chunk's size":          chunked + "x\r\n{}\r\n0\r\n\r\n",
		"a chunk's size too large": chunked + "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
		"a long chunk extension":   chunked + "2;" + strings.Repeat("x", 64<<10) + "\r\n{}\r\n0\r\n\r\n",
		"many chunk extensions":    chunked + strings.Repeat("1;"+strings.Repeat("x", 1<<10)+"\r\n \r\n", 1<<10) + "0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := w.dial(t)
			go func() { _, _ = io.WriteString(conn, head+another) }() // the server does not read it to its end
			reader := bufio.NewReader(conn)
			answer, err := http.ReadResponse(reader, nil)
			if err != nil {
				return // no answer is none, so no second one either
			}
			if answer.StatusCode < 400 {
				t.Errorf("answered %s", answer.Status)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			if rest, _ := io.ReadAll(reader); len(rest) > 0 {
				t.Errorf("more than one answer: %q", rest)
			}
		})
	}
	w.do(t, step{do: "GET /health", want: http.StatusOK})
}

// Bytes after the last chunk that a Content-Length counts as part of the request are
// not taken for another request: a proxy in front may have sent them as part of this
// one (RFC 9112, section 6.1). The same applies to HTTP/1.0, which has no chunks.
// ASVS 4.2.1, 4.2.2
func TestWhatALengthCoversBehindTheLastChunkIsNoRequest(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	const another = "GET /health HTTP/1.1\r\nHost: attachd\r\nX-Request-Id: smuggled\r\n\r\n"
	form := parts{file("a.txt", "in chunks")}.encode(t, w)
	for _, c := range []struct {
		step
		body  string
		lines []string
	}{
		{step{do: "GET /health", want: 200}, "", nil},
		{step{do: "POST /session", want: 401}, `{"key": "x"}`, nil},
		{step{do: "POST /session", want: 400}, "not JSON", nil},
		{step{do: "POST /nowhere", want: 404}, "x", nil},
		{step{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet}, "x", nil},
		{step{as: "viewer", do: "POST {product}/attachments", want: 403}, form, nil},
		{step{as: "editor", do: "POST {product}/attachments", want: 201}, form, nil},
		{step{as: "editor", do: "POST {product}/attachments", want: 201}, form, []string{"Expect: 100-continue"}},
		{step{as: "viewer", do: "POST {product}/attachments", want: 403}, form, []string{"Expect: 100-continue"}},
	} {
		for _, version := range []string{"1.1", "1.0"} {
			t.Run(c.String()+" "+version, func(t *testing.T) {
				chunks := "0\r\n\r\n"
				if c.body != "" {
					chunks = fmt.Sprintf("%x\r\n%s\r\n%s", len(c.body), c.body, chunks)
				}
				length, sent, s := len(chunks+another), chunks+another, c.step
				lines := append([]string{"Transfer-Encoding: chunked"}, c.lines...)
				if version == "1.0" { // only the length counts there
					length, sent = len(c.body), c.body+another
					lines = append(lines, "Connection: keep-alive")
				}
				head := w.rawRequest(t, s, length, lines...)
				conn := w.dial(t)
				conn.Write(bytes.Replace(head, []byte(" HTTP/1.1\r\n"), []byte(" HTTP/"+version+"\r\n"), 1))
				io.WriteString(conn, sent)
				reader := bufio.NewReader(conn)
				if version == "1.1" && c.lines != nil && s.want == 201 {
					if interim, err := http.ReadResponse(reader, nil); err != nil || interim.StatusCode != http.StatusContinue {
						t.Fatalf("no 100 Continue: %v, %v", interim, err)
					}
				}
				w.receive(t, reader, s)
				if rest, err := io.ReadAll(reader); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("more than one answer, or no end: %q, %v", rest, err)
				}
				for _, line := range w.log.lines() {
					if strings.Contains(line, "smuggled") {
						t.Fatalf("a body was taken for a request: %s", line)
					}
				}
			})
		}
	}
}

// Ordinary clients send chunks too, when they do not know the length in advance.
func TestUploadsInChunksGoOnOneAfterTheOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, expect := range []string{"", "100-continue"} {
		for range 3 {
			s := step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", text(300_000))}, chunked: true, want: 201, save: "A"}
			if expect != "" {
				s.send = header{"Expect": expect}
			}
			w.play(t, []step{s, {as: "viewer", do: "GET {A.at}", want: 200, is: text(300_000)}})
		}
	}
}
