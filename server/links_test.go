package server_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"attachd/server"
	"attachd/server/token"
)

func TestEveryKindHasLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			w.play(t, []step{
				{as: "editor", do: "POST " + kind.parent + "/attachments", form: parts{file("a.txt", alphabet)}, want: 201, save: "A"},
				{as: "viewer", do: "POST " + kind.remove + "/links", want: 201, save: "link",
					check: func(t *testing.T, a answer) { checkURLDocument(t, w, a, "a.txt") }},
				{do: "GET {link}", want: 200, is: alphabet, header: header{
					"Content-Type": "text/plain", "Content-Disposition": `attachment; filename="a.txt"; filename*=UTF-8''a.txt`,
					"Cross-Origin-Resource-Policy": "cross-origin", "Cache-Control": "private, no-cache",
					"Content-Security-Policy": "default-src 'none'; sandbox", "Repr-Digest": digest(alphabet)}},
				{do: "HEAD {link}", want: 200, header: header{"Content-Length": "26"}},
				{do: "GET {link}", send: header{"Range": "bytes=1-2"}, want: 206, is: "bc"},
				{do: "POST {link}", want: 405},
				{do: "DELETE {link}", want: 405},
				{do: "PUT {link}", want: 405},
				{as: "stranger", do: "GET {link}", want: 200}, // the link is what counts
				{as: "editor", do: "DELETE " + kind.remove, want: 200},
				{do: "GET {link}", want: 404},
			})
		})
	}
}

// HTTP/1.0 has no Host: the link leads to the address that the client came to.
func TestALinkForAClientThatNamesNoHost(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	s := step{as: "viewer", do: "GET {A.at}", want: 200, save: "link", check: func(t *testing.T, a answer) { checkURLDocument(t, w, a, "a.txt") }}
	for _, host := range []string{"", "Host:\r\n"} {
		conn := w.dial(t)
		fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nAuthorization: Bearer %s\r\nAccept: application/json\r\n%s\r\n", w.fill(t, "{A.at}"), w.keys["viewer"], host)
		w.receive(t, conn, s)
		w.do(t, step{do: "GET {link}", want: 200, is: alphabet})
	}
}

func TestALinkLivesAsLongAsItSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		json  string
		lives time.Duration
	}{
		{"", time.Hour},
		{`{}`, time.Hour},
		{`{"expires_in": null}`, time.Hour},
		{`{"expires_in": 1}`, time.Second},
		{`{"expires_in": 60, "unknown": true}`, time.Minute},
		{`{"expires_in": 604800}`, 7 * 24 * time.Hour},
	} {
		t.Run(c.json, func(t *testing.T) {
			w := withFile(t, alphabet)
			document := w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: c.json, want: 201, save: "link"}).object(t)
			if want := w.clock.Now().Add(c.lives).Format(time.RFC3339); document["expires_at"] != want {
				t.Errorf("expires_at is %v, want %s", document["expires_at"], want)
			}
			w.clock.advance(c.lives - time.Second)
			w.do(t, step{do: "GET {link}", want: 200})
			w.clock.advance(time.Second)
			w.do(t, step{do: "GET {link}", want: 403, code: "link_expired"})
			w.clock.advance(time.Second)
			w.do(t, step{do: "GET {link}", want: 403, code: "link_expired"})
		})
	}
}

func TestALinkLivesAsLongAsTheServerSaysWhenNobodyElseDoes(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, func(c *server.Config) { c.URLTTL = 10 * time.Second })
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", send: header{"Accept": "application/json"}, want: 200, save: "link"},
		{do: "GET {link}", want: 200},
	})
	w.clock.advance(10 * time.Second)
	w.do(t, step{do: "GET {link}", want: 403, code: "link_expired"})
}

func TestALinkIsRefusedWhenItsWishesCannotBe(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	for _, body := range []string{
		`{"expires_in": 0}`, `{"expires_in": -1}`, `{"expires_in": 604801}`, `{"expires_in": 9223372036854775807}`, `{"expires_in": 1e30}`, `{"expires_in": 1.5}`,
		`{"expires_in": "60"}`, `{"disposition": "evil"}`, `{"disposition": 1}`, `{"disposition": "inline; filename=a.html"}`,
		`[]`, `"inline"`, `{`, `nonsense`, `{"x": "` + strings.Repeat("x", 1<<17) + `"}`,
	} {
		w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: body, want: 400, code: "invalid_request"})
	}
}

// ASVS 1.2.1, 1.3.4
func TestInlineIsForTypesThatBrowsersShowAndDoNotRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const sandboxed, pdf = "default-src 'none'; sandbox", "default-src 'none'"
	for _, c := range []struct {
		sample, disposition, csp string
	}{
		{"png", "inline", sandboxed},
		{"jpg", "inline", sandboxed},
		{"gif", "inline", sandboxed},
		{"webp", "inline", sandboxed},
		{"pdf", "inline", pdf},
		{"txt", "inline", sandboxed},
		{"svg", "attachment", sandboxed},
		{"xml", "attachment", sandboxed},
		{"csv", "attachment", sandboxed},
		{"md", "attachment", sandboxed},
		{"json", "attachment", sandboxed},
		{"zip", "attachment", sandboxed},
		{"tif", "attachment", sandboxed},
	} {
		t.Run(c.sample, func(t *testing.T) {
			w.play(t, []step{
				{as: "editor", do: "POST {product}/attachments", form: parts{file("a."+c.sample, small(t, c.sample))}, want: 201, save: "A"},
				{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: `{"disposition": "inline"}`, want: 201, save: "inline"},
				{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"},
				{do: "GET {inline}", want: 200, header: header{"Content-Security-Policy": c.csp,
					"Content-Disposition": c.disposition + `; filename="a.` + c.sample + `"; filename*=UTF-8''a.` + c.sample}},
				{do: "GET {link}", want: 200, header: header{"Content-Security-Policy": sandboxed,
					"Content-Disposition": `attachment; filename="a.` + c.sample + `"; filename*=UTF-8''a.` + c.sample}},
			})
		})
	}
}

// small is a small real file of a type.
func small(t *testing.T, extension string) string {
	t.Helper()
	switch extension {
	case "webp":
		return "RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"
	case "md":
		return "# A heading\n"
	case "txt":
		return alphabet
	}
	files, err := filepath.Glob("content/testdata/samples/files/*." + extension + "*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sample of %s: %v", extension, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// ASVS 9.1.1, 9.1.2, 9.2.1, 9.2.2
func TestAChangedLinkIsRefused(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"},
		{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"},
	})
	link := w.names["link"]
	path, query, _ := strings.Cut(link, "?")
	expires, signature, _ := strings.Cut(query, "&signature=")
	expires = strings.TrimPrefix(expires, "expires=")
	seconds, err := strconv.Atoi(expires)
	if err != nil || seconds != int(w.clock.Now().Add(time.Hour).Unix()) {
		t.Fatalf("the link is %s: %v", link, err)
	}
	flip := func(s string, i int) string {
		c := byte('A')
		if s[i] == c {
			c = 'B'
		}
		return s[:i] + string(c) + s[i+1:]
	}
	changed := map[string]string{
		"no query":            path,
		"no signature":        path + "?expires=" + expires,
		"an empty signature":  path + "?expires=" + expires + "&signature=",
		"no expiry":           path + "?signature=" + signature,
		"a later expiry":      path + "?expires=" + strconv.Itoa(seconds+1) + "&signature=" + signature,
		"an earlier expiry":   path + "?expires=" + strconv.Itoa(seconds-1) + "&signature=" + signature,
		"a padded expiry":     path + "?expires=0" + expires + "&signature=" + signature,
		"an expiry with plus": path + "?expires=%2B" + expires + "&signature=" + signature,
		"a huge expiry":       path + "?expires=99999999999999999999999&signature=" + signature,
		"a negative expiry":   path + "?expires=-1&signature=" + signature,
		"a longer signature":  link + "A",
		"a shorter signature": link[:len(link)-1],
		"two signatures":      link + "&signature=" + signature,
		"two expiries":        link + "&expires=" + strconv.Itoa(seconds+1),
		"another attachment":  "/files/" + w.names["B"] + "?" + query,
	}
	for i := range signature {
		changed["character "+strconv.Itoa(i)] = path + "?expires=" + expires + "&signature=" + flip(signature, i)
	}
	for name, address := range changed {
		t.Run(name, func(t *testing.T) {
			w.do(t, step{do: "GET " + address, want: 403, code: "invalid_signature"})
		})
	}
	w.do(t, step{do: "GET {link}", want: 200})
	w.do(t, step{do: "GET /files/nonsense?" + query, want: 404})
}

func TestALinkOfAnotherServerIsRefused(t *testing.T) {
	t.Parallel()
	ours := withFile(t, alphabet)
	theirs := withFile(t, alphabet, func(c *server.Config) { c.SigningKeys = []token.SigningKey{token.NewSigningKey()} })
	theirs.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"})
	_, query, _ := strings.Cut(theirs.names["link"], "?")
	ours.do(t, step{do: "GET /files/{A}?" + query, want: 403, code: "invalid_signature"})
}

// ASVS 7.2.3, 7.4.1, 7.4.2, 8.3.2; CVE-2026-35604, CVE-2026-62684
func TestALinkDiesWithWhatItIsBoundTo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		steps []step
		want  int
		code  string
	}{
		{"nothing happened", nil, 200, ""},
		{"its key was revoked", []step{{as: "temp", do: "DELETE /api-keys/{temp}", want: 200}}, 403, "invalid_signature"},
		{"its key was revoked by a superadmin", []step{{as: "root", do: "DELETE /directory/users/{viewer}/api-keys/{temp}", want: 200}}, 403, "invalid_signature"},
		{"its user left the space", []step{{as: "root", do: "DELETE /directory/spaces/a/members/{viewer}", want: 200}}, 403, "invalid_signature"},
		{"its user was deleted", []step{{as: "root", do: "DELETE /directory/users/{viewer}", want: 200}}, 403, "invalid_signature"},
		{"its attachment was deleted", []step{{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200}}, 404, ""},
		{"its product was deleted", []step{{as: "root", do: "DELETE /directory/spaces/a/products/{product.id}?attachments=delete", want: 200}}, 404, ""},
		{"another key of its user was revoked", []step{{as: "viewer", do: "POST /api-keys", json: `{"name": "x"}`, want: 201, save: "x"}, {as: "viewer", do: "DELETE /api-keys/{x}", want: 200}}, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := withFile(t, alphabet)
			w.play(t, []step{
				{as: "viewer", do: "POST /api-keys", json: `{"name": "temporary", "expires_in_days": 1}`, want: 201, save: "temp"},
				{as: "temp", do: "POST /catalog/attachments/{A}/links", json: `{"expires_in": 604800}`, want: 201, save: "link"},
				{do: "GET {link}", want: 200, is: alphabet},
			})
			w.play(t, c.steps)
			w.do(t, step{do: "GET {link}", want: c.want, code: c.code})
			w.clock.advance(24 * time.Hour) // the key expires before the link
			if c.want == 200 {
				w.do(t, step{do: "GET {link}", want: 403, code: "invalid_signature"})
			}
		})
	}
}

// CVE-2026-35604, CVE-2026-62684
func TestALinkMadeOnBehalfOfAUserHasThatUsersRights(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.play(t, []step{
		{as: "root for stranger", do: "POST /catalog/attachments/{A}/links", want: 403},
		{as: "root for viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"},
		{as: "root", do: "POST /catalog/attachments/{A}/links", want: 201, save: "roots"},
		{do: "GET {link}", want: 200, is: alphabet},
		{as: "root", do: "DELETE /directory/spaces/a/members/{viewer}", want: 200},
		{do: "GET {link}", want: 403, code: "invalid_signature"},
		{do: "GET {roots}", want: 200},
		{as: "root", do: "PUT /directory/spaces/a/members/{viewer}", json: `{"role": "viewer"}`, want: 201},
		{do: "GET {link}", want: 200},
		// It dies, too, when the one who acted may no longer act for others.
		{as: "root", do: "PUT /directory/users/{root}", json: `{"full_name": "Root Person"}`, want: 200},
		{do: "GET {link}", want: 403, code: "invalid_signature"},
	})
}

func TestDownloadURLsStartAsTheCallerCameIn(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	a := w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", send: header{"Host": "files.example.org:8443"}, want: 201})
	if got := a.object(t)["download_url"].(string); !strings.HasPrefix(got, "http://files.example.org:8443/files/") {
		t.Errorf("download_url is %s", got)
	}
}

func TestDownloadURLsStartWithThePublicURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ publicURL, path string }{
		{"https://files.example.org", ""},
		{"https://example.org/deep/attachd", "/deep/attachd"},
	} {
		w := withFile(t, alphabet, publicURL(c.publicURL))
		a := w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", send: header{"Host": "evil.example"}, want: 201, save: "link"})
		if got := a.object(t)["download_url"].(string); !strings.HasPrefix(got, c.publicURL+"/files/") {
			t.Errorf("download_url is %s", got)
		}
		if !strings.HasPrefix(w.names["link"], c.path+"/files/") {
			t.Errorf("the path is %s", w.names["link"])
		}
		// A proxy may pass the path on or take it away.
		w.do(t, step{do: "GET {link}", want: 200, is: alphabet})
		w.do(t, step{do: "GET " + strings.TrimPrefix(w.names["link"], c.path), want: 200, is: alphabet})
	}
}

func TestThePathOfThePublicURLMayBeginLikeTheAPI(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"/files", "/catalog", "/directory", "/meetings/files"} {
		t.Run(base, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, alphabet, publicURL("https://example.org"+base))
			w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"})
			for _, passedOn := range []string{base, ""} { // by the proxy, or taken away
				w.play(t, []step{
					{do: "GET " + passedOn + strings.TrimPrefix(w.names["link"], base), want: 200, is: alphabet},
					{as: "viewer", do: "GET " + passedOn + "/catalog/attachments/{A}/download", want: 200, is: alphabet},
					{as: "root", do: "GET " + passedOn + "/directory/users/{viewer}", want: 200},
					{do: "GET " + passedOn + "/", want: 200},
					{do: "GET " + passedOn + "/nothing", want: 404},
				})
			}
			w.serve(w.server.Operator()) // to whom no proxy stands between
			w.do(t, step{do: "GET /directory/users/{viewer}", want: 200})
		})
	}
}

// ASVS 14.2.1, 16.2.5
func TestALinkIsNotWrittenToTheLog(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"})
	w.do(t, step{do: "GET {link}", want: 200})
	_, signature, _ := strings.Cut(w.names["link"], "signature=")
	for _, line := range w.log.lines() {
		if strings.Contains(line, signature) {
			t.Errorf("the log shows a signature: %s", line)
		}
	}
}

// A link ends when the grace period of its signing key does, and keys that could not be
// stored are not used.
// ASVS 9.2.3
func TestLinksEndWhenTheirSigningKeyWasReplaced(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.serve(w.server.Operator())
	operators := w.url
	w.serve(w.server)
	network := w.url
	rotate := func(body string, want int) answer {
		w.url = operators
		defer func() { w.url = network }()
		return w.do(t, step{do: "POST /upkeep/signing-key", json: body, want: want, code: map[int]string{500: "internal"}[want]})
	}
	sign := func(name string) {
		w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: `{"expires_in": 604800}`, want: 201, save: name})
	}
	works := func(name string, does bool) {
		t.Helper()
		s := step{do: "GET {" + name + "}", want: 200, is: alphabet}
		if !does {
			s = step{do: s.do, want: 403, code: "invalid_signature"}
		}
		w.do(t, s)
	}
	sign("first")
	if !*withPostgres { // where the keys are in the database, not in a file
		w.keepFails = errors.New("the disk is gone")
		w.expectLog("the disk is gone")
		rotate(`{"grace": 0}`, 500)
		works("first", true)
		w.keepFails = nil
	}
	for _, bad := range []string{`{"grace": -1}`, `{"grace": 604801}`, `{"grace": "1h"}`, `[]`} {
		rotate(bad, 400)
	}
	if got := rotate(`{"grace": 3600}`, 200).object(t)["previous_until"]; got != "2026-01-15T11:30:00Z" {
		t.Errorf("earlier links are said to end at %v", got)
	}
	sign("second")
	works("first", true)
	w.clock.advance(time.Hour - time.Second)
	works("first", true)
	rotate("", 200)
	w.clock.advance(time.Second)
	works("first", false) // no later rotation gives it more time
	works("second", true)
	w.restart()
	works("first", false)
	works("second", true)
	w.clock.advance(7*24*time.Hour - time.Hour - time.Second)
	works("second", true)
}
