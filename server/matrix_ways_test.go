package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/server"
	"attachd/server/token"
)

// way is one way to the bytes of an attachment. It prepares a caller's request.
type way struct {
	name string
	ask  func(m *matrix, t *testing.T, who somebody, r *http.Request, id uuid.UUID)
}

var ways = []way{
	{"key", func(m *matrix, t *testing.T, who somebody, r *http.Request, _ uuid.UUID) {
		m.showKey(t, r.Header, who.as)
	}},
	{"session", func(m *matrix, t *testing.T, who somebody, r *http.Request, _ uuid.UUID) {
		name, _, _ := strings.Cut(who.as, " for ")
		m.showKey(t, r.Header, who.as)
		r.Header.Del("Authorization")
		r.AddCookie(&http.Cookie{Name: "attachd_session", Value: m.session(t, name)})
	}},
	// A correctly signed link, whether or not its user may see
	// the file: rights count when it is followed.
	{"link", func(m *matrix, t *testing.T, who somebody, r *http.Request, id uuid.UUID) {
		name, _, _ := strings.Cut(who.as, " for ")
		key, _, err := m.store.KeyByHash(context.Background(), token.Hash(m.keys[name]))
		if err != nil {
			t.Fatal(err)
		}
		expires := m.clock.Now().Add(time.Hour)
		signature := token.NewSigner(m.server.SigningKeys...).Sign(token.Link{Attachment: id, Key: key.ID, User: uuid.MustParse(m.names[who.rights]), Expires: expires})
		r.URL.Path = "/files/" + id.String()
		r.URL.RawQuery = url.Values{"expires": {fmt.Sprint(expires.Unix())}, "signature": {signature}}.Encode()
	}},
}

// variants are the kinds of requests for bytes, and what each answers to callers with
// the right.
var variants = []struct {
	method string
	send   header
	want   int
}{
	{"GET", nil, 200},
	{"HEAD", nil, 200},
	{"GET", header{"Range": "bytes=0-0"}, 206},
	{"GET", header{"Range": "bytes=0-0,2-2"}, 206},
	{"GET", header{"If-None-Match": "*"}, 304},
	{"GET", header{"If-Modified-Since": "Fri, 31 Dec 2100 00:00:00 GMT"}, 304},
	{"GET", header{"If-Match": `"x"`}, 412},
	{"GET", header{"Range": "bytes=99-"}, 416},
}

func (m *matrix) session(t *testing.T, name string) string {
	t.Helper()
	if m.names["session of "+name] == "" {
		a := m.do(t, step{do: "POST /session", json: `{"key": "` + m.keys[name] + `"}`, want: 200})
		value, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Set-Cookie"), "attachd_session="), ";")
		m.names["session of "+name] = value
	}
	return m.names["session of "+name]
}

// By every way, and with every condition, the bytes are for those who may read them,
// and others do not learn whether they have changed or how long they are.
// ASVS 8.2.1, 8.2.2, 8.2.3, 8.4.1; CVE-2026-58432, CVE-2026-52799, CVE-2026-28736, CVE-2026-3473
func TestEveryWayToTheBytesIsForThoseWhoMayReadThem(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	tried := 0
	for _, kind := range []string{"product", "ticket", "meeting"} {
		for _, slug := range []string{"a", "ab"} {
			for _, uploader := range []string{"admin", "former"} {
				id := m.fresh(t, parentOf(kind, slug), uploader)
				for _, who := range callers() {
					if who.as != "" {
						tried += m.tryWays(t, who, kind, slug, id, uploader)
					}
				}
				m.forget(t, id)
			}
			for _, who := range callers() {
				if who.as != "" {
					tried += m.tryWays(t, who, kind, slug, m.deleted, "")
				}
			}
		}
	}
	if tried < 5000 {
		t.Errorf("only %d requests", tried)
	}
	t.Logf("%d requests", tried)
}

func (m *matrix) tryWays(t *testing.T, who somebody, kind, slug string, id uuid.UUID, uploader string) (tried int) {
	path := map[string]string{"product": "/catalog/attachments/" + id.String() + "/download", "ticket": "/issues/attachments/" + id.String(),
		"meeting": "/meetings/" + meetingOf[slug].ID.String() + "/attachments/" + id.String()}[kind]
	for _, w := range ways {
		for _, v := range variants {
			want := rules{}.status(who, toRead, kind, slug, target{there: uploader != "", own: uploader == who.rights}, v.want)
			r := m.request(t, step{do: v.method + " " + path, send: v.send})
			w.ask(m, t, who, r, id)
			response, err := m.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			a := readAnswer(response)
			if tried++; a.status != want {
				t.Errorf("%s of %s in %s by %s, %s %v of %v: answered %d, want %d: %s", kind, uploader, slug, w.name, v.method, v.send, who.as, a.status, want, a.body)
			}
			if want == 403 || want == 404 {
				for _, name := range []string{"ETag", "Last-Modified", "Content-Range", "Repr-Digest", "Content-Disposition"} {
					if a.header.Get(name) != "" {
						t.Errorf("a %d tells %s: %s", want, name, a.header.Get(name))
					}
				}
			}
		}
	}
	return tried
}

// The rights that the matrix tests are those in docs/security.md. Its table
// has a column for each standing and a row for each action.
// ASVS 8.1.1
func TestTheTableOfRightsIsTheOneInTheDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	// A caller with each standing, and the space: all but the uploader have
	// uploaded nothing.
	standings := map[string]struct {
		who      string
		uploaded bool
	}{
		"superadmin": {"root", false}, "admin": {"admin", false}, "editor": {"editor", false}, "viewer": {"viewer", false},
		"uploader, a member": {"viewer", true}, "uploader, no member": {"former", true}, "ticket's owner": {"owner", false}, "anyone else": {"stranger", false},
	}
	actions := map[string]right{"list, download, link": toRead, "upload": toUpload, "delete": toDelete, "delete, with `tickets.admins_may_delete`": toDelete}
	row := regexp.MustCompile(`(?m)^\| (products and meetings|tickets): ([^|]+) \|(.+)\|$`)
	head := regexp.MustCompile(`(?m)^\| who may \|(.+)\|$`).FindSubmatch(text)
	rows := row.FindAllSubmatch(text, -1)
	if head == nil || len(rows) != 7 {
		t.Fatalf("docs/security.md has %d rows of rights", len(rows))
	}
	cells := func(line []byte) (list []string) {
		for cell := range strings.SplitSeq(string(line), "|") {
			list = append(list, strings.TrimSpace(cell))
		}
		return list
	}
	columns := cells(head[1])
	if len(columns) != len(standings) {
		t.Fatalf("the columns are %q", columns)
	}
	for _, r := range rows {
		action, known := actions[string(r[2])]
		if !known {
			t.Fatalf("nobody knows how to %s", r[2])
		}
		kinds := []string{"ticket"}
		if string(r[1]) != "tickets" {
			kinds = []string{"product", "meeting"}
		}
		for i, cell := range cells(r[3]) {
			s, known := standings[columns[i]]
			if !known || !slices.Contains([]string{"yes", "no"}, cell) {
				t.Fatalf("%s of %s: %q", r[2], columns[i], cell)
			}
			for _, kind := range kinds {
				rules := rules{adminsMayDelete: strings.Contains(string(r[2]), "admins_may_delete")}
				if got := rules.allow(s.who, action, kind, "a", s.uploaded); got != (cell == "yes") {
					t.Errorf("%s: %s of %s: the docs say %s, the rules %v", r[1], r[2], columns[i], cell, got)
				}
			}
		}
	}
}

// However a body is sent, its sender is authenticated first: all wrong credentials,
// with every way to send.
// CVE-2025-31489, CVE-2026-40344, CVE-2026-41145
func TestNoWayToSendABodyGoesRoundTheKey(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.play(t, []step{
		{as: "editor", do: "POST /api-keys", json: `{"name": "x"}`, want: 201, save: "revoked"},
		{as: "editor", do: "DELETE /api-keys/{revoked}", want: 200},
		{as: "editor", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"},
	})
	session := w.signIn(t, "editor", nil)
	cookie := session.Name + "=" + session.Value
	unknown, _ := token.NewKey()
	signed := w.names["link"][strings.Index(w.names["link"], "?"):]
	forged := strings.NewReplacer("signature=", "signature=A").Replace(signed)
	callers := map[string]struct {
		send  header
		query string
		want  int
	}{
		"no key":                   {nil, "", 401},
		"a wrong key":              {header{"Authorization": "Bearer " + unknown}, "", 401},
		"a revoked key":            {header{"Authorization": "Bearer " + w.keys["revoked"]}, "", 401},
		"a key in the query":       {nil, "?access_token=" + w.keys["editor"], 401},
		"a link's signature":       {nil, signed, 401}, // it is good for GET of one file
		"a wrong signature":        {nil, forged, 401},
		"a wrong session":          {header{"Cookie": session.Name + "=" + unknown}, "", 401},
		"a session, another site":  {header{"Cookie": cookie, "Origin": "https://evil.example"}, "", 403},
		"a session, from anywhere": {header{"Cookie": cookie, "Sec-Fetch-Site": "cross-site"}, "", 403},
		"a key without the right":  {header{"Authorization": "Bearer " + w.keys["stranger"]}, "", 403},
		"on behalf of, unasked":    {header{"Authorization": "Bearer " + w.keys["stranger"], "X-On-Behalf-Of": w.names["root"]}, "", 403},
	}
	form := parts{file("a.txt", "from nobody")}
	asks := []step{
		{do: "POST {product}/attachments", form: form},
		{do: "POST {ticket}/attachments", form: form},
		{do: "POST {meeting}/attachments", form: form},
		{do: "POST /catalog/attachments/{A}/links", json: `{}`},
		{do: "DELETE /catalog/attachments/{A}", json: `{}`},
		{do: "PUT /directory/spaces/new", json: `{}`},
		{do: "POST /directory/import", body: `{"kind":"space","slug":"new"}`},
		{do: "GET {A.at}", body: "x"},
	}
	records, contents := w.records(), w.storedContents()
	for who, caller := range callers {
		for _, mode := range []struct {
			name    string
			chunked bool
			expect  bool
		}{{"with its length", false, false}, {"in chunks", true, false}, {"with its length, if asked for", false, true}, {"in chunks, if asked for", true, true}} {
			t.Run(who+", "+mode.name, func(t *testing.T) {
				for _, s := range asks {
					s.do += caller.query
					s.chunked, s.want, s.send = mode.chunked, caller.want, header{}
					for name, value := range caller.send {
						s.send[name] = value
					}
					if mode.expect {
						s.send["Expect"] = "100-continue"
					}
					w.do(t, s)
				}
				// A link's own route takes no body's word for its signature.
				for _, s := range []step{{do: "GET /files/{A}" + forged, want: 403, code: "invalid_signature"}, {do: "POST {link}", want: 405}} {
					s.body, s.chunked, s.send = "x", mode.chunked, caller.send
					w.do(t, s)
				}
			})
		}
	}
	if w.records() != records || w.storedContents() != contents {
		t.Errorf("%d records and %d contents are there, %d and %d before", w.records(), w.storedContents(), records, contents)
	}
	w.play(t, []step{
		{as: "root", do: "GET /directory/spaces/new", want: 404},
		{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet},
	})
}

// No option lets anybody in without a key, but the one that says so, and only
// where it says.
// CVE-2020-1955
func TestNoOptionOpensAnotherDoor(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(*server.Config){
		"none":                 func(*server.Config) {},
		"auto-create":          func(c *server.Config) { c.AutoCreate = true },
		"public metrics":       func(c *server.Config) { c.PublicMetrics = true },
		"admins may delete":    func(c *server.Config) { c.AdminsMayDeleteFromTickets = true },
		"pages of others":      func(c *server.Config) { c.CORSOrigins = []string{"https://app.example.org"} },
		"a public URL":         publicURL("https://example.org/x"),
		"a host for files":     contentElsewhere,
		"URLs to download":     func(c *server.Config) { c.DownloadByURL = true },
		"trust in everybody":   func(c *server.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
		"no verification":      func(c *server.Config) { c.VerifyReads = false },
		"a limit on requests":  func(c *server.Config) { c.RequestsPerMinute = 1000 },
		"a limit on failures":  func(c *server.Config) { c.FailedKeysPerMinute = 1000 },
		"no least rates":       func(c *server.Config) { c.MinUploadRate, c.MinDownloadRate = 0, 0 },
		"a scrub":              func(c *server.Config) { c.ScrubRate, c.ScrubPeriod = 1<<20, time.Hour },
		"one upload at a time": func(c *server.Config) { c.MaxConcurrentUploads = 1 },
		"no record of reads":   func(c *server.Config) { c.AuditDownloads = false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, usual := newMatrix(t, option), newMatrix(t)
			for _, route := range server.Routes() {
				line := route.Method + " " + route.Pattern
				path := strings.NewReplacer(":attachment", newID, ":content", newID).Replace(m.directoryPath(route.Pattern, "a"))
				s := step{do: route.Method + " " + path, want: 401, send: header{"X-On-Behalf-Of": m.names["root"], "X-Forwarded-For": "127.0.0.1"}}
				if line == "GET /metrics" && name == "public metrics" {
					s.want = 200
				}
				if !slices.Contains(open, line) {
					m.do(t, s)
					continue
				}
				got, err := m.send(t, s)
				m.must(err)
				want, err := usual.send(t, s)
				usual.must(err)
				if got.status != want.status {
					t.Errorf("%s: answered %d, and %d without the option", line, got.status, want.status)
				}
			}
		})
	}
}
