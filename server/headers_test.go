package server_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/server"
)

// The headers of every answer, by the kind of route.
var (
	ofAPI = header{
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-store",
		"Content-Security-Policy":      "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
		"Access-Control-Allow-Origin":  "",
		"Strict-Transport-Security":    "", // over plain HTTP
		"Server":                       "",
		"X-Powered-By":                 "",
	}
	ofFile = with(ofAPI, header{"Cache-Control": "private, no-cache", "Content-Security-Policy": "default-src 'none'; sandbox"})
	ofLink = with(ofFile, header{"Cross-Origin-Resource-Policy": "cross-origin"})
)

func with(h, more header) header {
	both := header{}
	for _, one := range []header{h, more} {
		for name, value := range one {
			both[name] = value
		}
	}
	return both
}

// Every answer has the headers of its route's kind, whatever its status.
// ASVS 3.2.1, 3.4.4 to 3.4.6, 3.5.8, 4.1.1, 14.2.2, 14.2.5, 14.3.2; GO-2026-5511
func TestEveryAnswerOfEveryStatusHasItsHeaders(t *testing.T) {
	t.Parallel()
	panics := &atomic.Bool{}
	w := newWorld(t, maxFileSize(1000), func(c *server.Config) { c.Blobs = treacherous{c.Blobs, panics} })
	w.expectLog("panic")
	w.expectLog(`"code":"internal"`)
	w.expectLog(`"code":"shutting_down"`)
	upload := func(parent, content string) step {
		return step{as: "root", do: "POST " + parent + "/attachments", form: parts{file("a.txt", content)}}
	}
	answered := func(s step, want int, kind header) {
		t.Helper()
		s.want, s.header = want, with(kind, s.header)
		switch {
		case strings.Contains(s.do, "late"):
			s.code = "link_expired"
		case want == 403 && kind["Cross-Origin-Resource-Policy"] == "cross-origin":
			s.code = "invalid_signature"
		case want >= 500:
			s.code = map[int]string{500: "internal", 503: "shutting_down", 507: "quota_exceeded"}[want]
		}
		t.Run(fmt.Sprint(want, " ", strings.SplitN(s.do, "?", 2)[0]), func(t *testing.T) { w.do(t, s) })
	}
	for i, parent := range []string{"{product}", "{ticket}", "{meeting}"} {
		s := upload(parent, alphabet)
		s.save = string("PTM"[i])
		answered(s, 201, ofAPI)
		answered(step{as: "viewer", do: "GET " + parent + "/attachments"}, 200, ofAPI)
		answered(step{as: "viewer", do: "GET " + parent + "/attachments?limit=0"}, 400, ofAPI)
		answered(step{do: "GET " + parent + "/attachments"}, 401, ofAPI)
		answered(step{as: "stranger", do: "GET " + parent + "/attachments"}, 403, ofAPI)
		answered(step{as: "viewer", do: "GET " + strings.Replace(parent, "}", ".ab}", 1) + "/attachments"}, 403, ofAPI)
		answered(step{as: "viewer", do: "PUT " + parent + "/attachments"}, 405, ofAPI)
		answered(step{as: "viewer", do: "HEAD " + parent + "/attachments"}, 200, ofAPI)
		answered(step{as: "viewer", do: "TRACE " + parent + "/attachments"}, 405, ofAPI)
		answered(step{do: "OPTIONS " + parent + "/attachments"}, 204, ofAPI)
		answered(upload(parent, ""), 400, ofAPI)
		answered(upload(parent, "#!/bin/sh\n"), 400, ofAPI)
		answered(upload(parent, text(1001)), 413, ofAPI)
		answered(upload(parent, "no room"), 201, ofAPI)
	}
	w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{P}/links", json: `{"disposition": "inline"}`, want: 201, save: "link"})
	w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{P}/links", json: `{"expires_in": 1}`, want: 201, save: "late"})
	w.clock.advance(time.Second)
	for _, c := range []struct {
		path string
		kind header
	}{{"{P.at}", ofFile}, {"{T.at}", ofFile}, {"{M.at}", ofFile}, {"{link}", ofLink}} {
		for _, method := range []string{"GET ", "HEAD "} {
			get := func(send header) step { return step{as: "viewer", do: method + c.path, send: send} }
			answered(get(nil), 200, c.kind)
			answered(get(header{"Range": "bytes=1-2"}), 206, c.kind)
			answered(get(header{"If-None-Match": "*"}), 304, c.kind)
			answered(get(header{"If-Match": `"x"`}), 412, c.kind)
			answered(get(header{"Range": "bytes=99-"}), 416, c.kind)
			panics.Store(true)
			answered(get(nil), 500, c.kind)
			panics.Store(false)
		}
		answered(step{do: "PATCH " + c.path}, 405, ofAPI)
		answered(step{do: "OPTIONS " + c.path}, 204, ofAPI)
	}
	answered(step{do: "GET {P.at}"}, 401, ofFile)
	answered(step{as: "stranger", do: "GET {P.at}"}, 403, ofFile)
	answered(step{as: "viewer", do: "GET {T.at}x"}, 404, ofFile)
	answered(step{as: "viewer", do: "GET {T.at}/x.css"}, 404, ofAPI)
	answered(step{do: "GET {late}"}, 403, ofLink)
	answered(step{do: "GET {link}x"}, 403, ofLink)
	answered(step{do: "GET /files/{viewer}"}, 403, ofLink)
	answered(step{do: "GET /files/x"}, 404, ofLink)
	answered(step{do: "GET /nowhere"}, 404, ofAPI)
	answered(step{do: "GET /debug/pprof/"}, 404, ofAPI)
	answered(step{do: "GET /health"}, 200, ofAPI)
	answered(step{do: "GET /openapi.json"}, 200, ofAPI)
	answered(step{as: "root", do: "GET /metrics"}, 200, ofAPI)
	answered(step{do: "POST /session", json: `{"key": "x"}`}, 401, ofAPI)
	answered(step{do: "POST /session", json: `{`}, 400, ofAPI)
	answered(step{as: "root", do: "PUT /directory/spaces/a", json: `{"quota_files": 1}`}, 200, ofAPI)
	answered(step{as: "root", do: "DELETE /directory/spaces/a"}, 409, ofAPI)
	answered(upload("{product}", "x"), 507, ofAPI)
	w.server.Drain()
	answered(upload("{product}", "x"), 503, ofAPI)
}

// Refusals of a body that stalls, and of a key with too many requests, have the same
// headers.
// ASVS 3.2.1, 3.4.4 to 3.4.6, 3.5.8
func TestRefusalsOfSlowAndHastyClientsHaveTheirHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.RequestsPerMinute = 2 })
	w.server.SetPatience(100*time.Millisecond, patience)
	stalled := step{as: "editor", do: "POST {product}/attachments", want: 408, header: ofAPI}
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, stalled, 10_000))
	w.receive(t, conn, stalled)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", alphabet)}, want: 201, save: "A"})
	w.do(t, step{as: "editor", do: "GET {A.at}", want: 429, header: ofFile})
	w.do(t, step{as: "editor", do: "GET {product}/attachments", want: 429, header: ofAPI})
}

// net/http has its own answer to requests for *.
// ASVS 3.2.1, 3.4.4 to 3.4.6, 3.5.8, 4.1.4, 13.4.4
func TestOptionsOfTheWholeServerHaveTheirHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := w.dial(t)
	io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: attachd\r\n\r\n")
	w.receive(t, conn, step{do: "OPTIONS *", want: 204, header: ofAPI})
}

// A document says what it may load and who may frame it, and is isolated from other
// windows.
// ASVS 3.4.3, 3.4.8
func TestThePageIsClosedToOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.do(t, step{do: "GET /", want: 200, header: header{"Cross-Origin-Opener-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8"}})
	csp := a.header.Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, directive) {
			t.Errorf("the policy has no %s: %s", directive, csp)
		}
	}
	for _, unsafe := range []string{"unsafe-inline", "unsafe-eval", "object-src", "http:", "https:", "*"} {
		if strings.Contains(csp, unsafe) {
			t.Errorf("the policy allows %s: %s", unsafe, csp)
		}
	}
}

// treacherous is a store of contents that make a handler panic.
type treacherous struct {
	blobs.Store
	panics *atomic.Bool
}

func (s treacherous) Open(ctx context.Context, ref blobs.Ref, size int64) (blobs.Content, error) {
	if s.panics.Load() {
		panic("a test")
	}
	return s.Store.Open(ctx, ref, size)
}
