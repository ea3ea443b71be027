package server_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"attachd/server"
	"attachd/server/access"
	"attachd/server/page"
)

// assetsOf returns the addresses of assets in the page.
func assetsOf(t *testing.T, document []byte) []string {
	t.Helper()
	var list []string
	for _, match := range regexp.MustCompile(`(?:href|src)="(assets/[^"]+)"`).FindAllSubmatch(document, -1) {
		list = append(list, string(match[1]))
	}
	if len(list) < 3 {
		t.Fatalf("the page names only %q", list)
	}
	return list
}

// pageFiles returns the page's source files, by name.
func pageFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"page/*.html", "page/assets/*"} {
		names, err := fs.Glob(os.DirFS("."), pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(raw)
		}
	}
	if len(files) < 10 {
		t.Fatalf("only %d files", len(files))
	}
	return files
}

// ASVS 3.2.2, 3.6.1
func TestThePageAndItsAssetsAreServedUnderAStrictPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	headers := header{
		"Content-Type":               "text/html; charset=utf-8",
		"Cross-Origin-Opener-Policy": "same-origin",
		"Cache-Control":              "no-cache",
		"Content-Security-Policy":    page.Policy,
		"X-Content-Type-Options":     "nosniff",
	}
	a := w.do(t, step{do: "GET /", want: 200, header: headers})
	docs := w.do(t, step{do: "GET /docs", want: 200, header: headers})
	for _, part := range []string{"default-src 'none'", "script-src 'self';", "require-trusted-types-for 'script'", "trusted-types 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(page.Policy, part) || strings.Contains(page.Policy, "unsafe") {
			t.Errorf("the policy is %s", page.Policy)
		}
	}
	w.do(t, step{do: "GET /", send: header{"If-None-Match": a.header.Get("ETag")}, want: 304, is: ""})
	types := map[string]string{"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
	for _, address := range append(assetsOf(t, a.body), assetsOf(t, docs.body)...) {
		kind := types[address[strings.LastIndexByte(address, '.')+1:]]
		asset := w.do(t, step{do: "GET /" + address, want: 200, header: header{"Content-Type": kind, "Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}})
		w.do(t, step{do: "GET /" + address, send: header{"If-None-Match": asset.header.Get("ETag")}, want: 304})
		packed := w.do(t, step{do: "GET /" + address, send: header{"Accept-Encoding": "gzip"}, want: 200, header: header{"Content-Encoding": "gzip"}})
		if got := unzip(t, packed.body); !bytes.Equal(got, asset.body) {
			t.Errorf("%s is another one when it is packed", address)
		}
	}
}

func unzip(t *testing.T, packed []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestNoAddressButItsOwnLeadsToThePage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := page.Version()
	for _, path := range []string{"/assets", "/assets/", "/assets/app.js", "/assets/" + v, "/assets/" + v + "/", "/assets/0/app.js", "/assets/" + v + "/nothing.js",
		"/assets/" + v + "/..%2findex.html", "/spaces/a", "/spaces/a/products/{product.id}", "/operator", "/index.html", "/favicon.ico"} {
		w.do(t, step{do: "GET " + path, want: 404, header: header{"Content-Type": "application/json"}})
	}
}

func TestThePageIsFoundBelowAPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, publicURL("https://example.org/deep/attachd"))
	w.do(t, step{do: "GET /deep/attachd", want: 308, header: header{"Location": "/deep/attachd/"}})
	a := w.do(t, step{do: "GET /deep/attachd/", want: 200})
	docs := w.do(t, step{do: "GET /deep/attachd/docs", want: 200})
	for _, address := range append(assetsOf(t, a.body), assetsOf(t, docs.body)...) {
		w.do(t, step{do: "GET /deep/attachd/" + address, want: 200})
	}
	w.do(t, step{do: "GET /", want: 200}) // a proxy took the path away
}

func TestThePageIsSmall(t *testing.T) {
	t.Parallel()
	total := len(page.Document(false).Gzipped) + len(page.Docs().Gzipped)
	for name := range pageFiles(t) {
		if f, ok := page.Asset(name[strings.LastIndexByte(name, '/')+1:]); ok {
			total += len(f.Gzipped)
		}
	}
	t.Logf("%d bytes", total)
	if total > 150<<10 {
		t.Errorf("the page and its assets are %d bytes when packed", total)
	}
}

// The sources contain nothing that the policy would refuse at run time.
// ASVS 3.2.2, 3.6.1
func TestThePageNamesNoOtherHostAndMakesNothingOfStrings(t *testing.T) {
	t.Parallel()
	forbiddenWords := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|createContextualFragment|srcdoc|javascript:|\bstyle="|\bon[a-z]+="|setTimeout\(['"]`)
	hosts := regexp.MustCompile(`(?:https?:)?//[A-Za-z0-9][^\s"'` + "`" + `]*`)
	for name, text := range pageFiles(t) {
		if found := forbiddenWords.FindString(text); found != "" {
			t.Errorf("%s has %s", name, found)
		}
		for _, host := range hosts.FindAllString(text, -1) {
			if host != "http://www.w3.org/2000/svg" { // the name of a language, which nobody asks
				t.Errorf("%s names %s", name, host)
			}
		}
	}
}

func demoOf(keys map[string]string) func(*server.Config) {
	return func(c *server.Config) { c.DemoKeys = func() (map[string]string, error) { return keys, nil } }
}

func TestADemoLetsItsUsersInWithoutAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, demoOf(map[string]string{"editor": fixture().keys["editor"], "gone": "attachd_revoked"}))
	w.play(t, []step{
		{do: "GET /demo", want: 200, like: `[{"name": "editor", "full_name": "Editor Person"}]`},
		{do: "POST /session", json: `{"demo": "editor"}`, want: 200},
		{do: "POST /session", json: `{"demo": "viewer"}`, want: 401},
		{do: "POST /session", json: `{"demo": "gone"}`, want: 401},
		{do: "POST /session", json: `{"demo": "editor"}`, send: header{"Origin": "https://evil.example"}, want: 403},
	})
	if a := w.do(t, step{do: "GET /", want: 200}); !bytes.Contains(a.body, []byte("data-demo")) {
		t.Error("the page does not say that this is a demo")
	}
}

// CVE-2020-1955
func TestADemoLetsInNobodyWhoIsElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, demoOf(map[string]string{"editor": fixture().keys["editor"]}))
	for _, elsewhere := range []header{{"Host": "files.example.org"}, {"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}} {
		w.do(t, step{do: "GET /demo", send: elsewhere, want: 404})
		w.do(t, step{do: "POST /session", send: elsewhere, json: `{"demo": "editor"}`, want: 400})
		if a := w.do(t, step{do: "GET /", send: elsewhere, want: 200}); bytes.Contains(a.body, []byte("data-demo")) {
			t.Error("the page offers the demo")
		}
	}
}

// A sign-in link works once, for some minutes, and only in a request that carries its
// secret: loading the page ahead, as for a preview, does not use it up.
// ASVS 6.5.1, 6.5.5
func TestASignInLinkWorksOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	link := func() (secret string) {
		t.Helper()
		path := w.server.NewSignInLink(w.keys["root"])
		page, secret, found := strings.Cut(path, "#/enter/")
		if !found || page != "/" {
			t.Fatalf("the link is %q", path)
		}
		w.do(t, step{do: "HEAD " + page, want: 200})
		w.do(t, step{do: "GET " + page, want: 200})
		return secret
	}
	enter := func(secret string, status int) answer {
		t.Helper()
		return w.do(t, step{do: "POST /session", json: `{"link": "` + secret + `"}`, want: status})
	}
	first := link()
	w.do(t, step{do: "POST /session", json: `{"link": "` + first + `"}`, send: header{"Origin": "https://evil.example"}, want: 403})
	enter(first[:len(first)-1], 401)
	cookie, _, _ := strings.Cut(enter(first, 200).header.Get("Set-Cookie"), ";")
	w.do(t, step{do: "GET /users/me", send: header{"Cookie": cookie}, want: 200, like: `{"id": "{root}", "full_name": "Root Person", "is_superadmin": true, "spaces": []}`})
	enter(first, 401)

	older, newer := link(), link()
	enter(older, 401)
	w.clock.advance(access.SignInTTL - time.Second)
	enter(newer, 200)
	late := link()
	w.clock.advance(access.SignInTTL)
	enter(late, 401)

	w.play(t, []step{{as: "root", do: "POST /api-keys", json: `{"name": "short-lived"}`, want: 201, save: "K"}})
	revoked := strings.TrimPrefix(w.server.NewSignInLink(w.keys["K"]), "/#/enter/")
	w.play(t, []step{{as: "root", do: "DELETE /api-keys/{K}", want: 200}})
	enter(revoked, 401)
}

// A sign-in that fails for another reason leaves the link for the next try.
func TestASignInLinkOutlivesASignInThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.RequestsPerMinute = 1 })
	w.do(t, step{as: "root", do: "GET /users/me", want: 200})
	link := `{"link": "` + strings.TrimPrefix(w.server.NewSignInLink(w.keys["root"]), "/#/enter/") + `"}`
	w.do(t, step{do: "POST /session", json: link, want: 429})
	w.clock.advance(time.Minute)
	w.do(t, step{do: "POST /session", json: link, want: 200})
	w.do(t, step{do: "POST /session", json: link, want: 401})
}

func TestAServerThatIsNoDemoLetsNobodyInWithoutAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{do: "GET /demo", want: 404},
		{do: "POST /session", json: `{"demo": "editor"}`, want: 400, code: "invalid_request"},
		{do: "POST /session", json: `{}`, want: 400, code: "invalid_request"},
	})
	if a := w.do(t, step{do: "GET /", want: 200}); bytes.Contains(a.body, []byte("data-demo")) {
		t.Error("the page offers a demo")
	}
}
