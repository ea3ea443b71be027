package server_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/server"
)

// kinds are the three kinds of parents, with their routes.
var kinds = []struct {
	name   string
	parent string // in space a
	other  string // in space ab
	remove string // where {A} is deleted
	get    string // where its bytes are
}{
	{"product", "{product}", "{product.ab}", "/catalog/attachments/{A}", "/catalog/attachments/{A}/download"},
	{"ticket", "{ticket}", "{ticket.ab}", "/issues/attachments/{A}", "/issues/attachments/{A}"},
	{"meeting", "{meeting}", "{meeting.ab}", "{meeting}/attachments/{A}", "{meeting}/attachments/{A}"},
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// ASVS 14.2.7
func TestAFileIsUploadedListedDownloadedAndDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			object := `{"id": "{A}", "file_name": "notes.txt", "file_size": 5, "mime_type": "text/plain",
				"uploaded_by": {"id": "{editor}", "full_name": "Editor Person"}, "created_at": "{A.created}"`
			if kind.name == "ticket" {
				object += `, "comment_id": null`
			}
			object += `}`
			w.play(t, []step{
				{as: "viewer", do: "GET " + kind.parent + "/attachments", want: 200, is: "[]\n", header: header{"Content-Type": "application/json"}},
				{as: "editor", do: "POST " + kind.parent + "/attachments", form: parts{file("notes.txt", "hello")}, want: 201, save: "A",
					header: header{"Content-Type": "application/json", "Repr-Digest": digest("hello")},
					check: func(t *testing.T, a answer) {
						w.names["A.created"] = a.object(t)["created_at"].(string)
						sameJSON(t, step{do: "the 201"}, a.body, w.fill(t, object))
						if got, want := a.header.Get("Location"), w.fill(t, kind.get); got != want {
							t.Errorf("Location is %q, want %q", got, want)
						}
						checkIdentity(t, a.object(t))
					}},
				{as: "viewer", do: "GET " + kind.parent + "/attachments", want: 200, like: "[" + object + "]"},
				{as: "viewer", do: "GET {A.at}", want: 200, is: "hello", header: header{"Content-Type": "text/plain"}},
				{as: "editor", do: "DELETE " + kind.remove, want: 200, like: `{"message": "Attachment deleted successfully"}`},
				{as: "editor", do: "DELETE " + kind.remove, want: 404},
				{as: "viewer", do: "GET {A.at}", want: 404},
				{as: "viewer", do: "GET " + kind.parent + "/attachments", want: 200, is: "[]\n"},
			})
		})
	}
	eventually(t, "the contents to go", func() bool { return w.storedContents() == 0 })
}

// checkIdentity checks the members that no test can predict.
func checkIdentity(t *testing.T, object map[string]any) {
	t.Helper()
	id, err := uuid.Parse(object["id"].(string))
	if err != nil || id.Version() != 7 || id.String() != object["id"] {
		t.Errorf("the id %v is not a UUID of version 7: %v", object["id"], err)
	}
	created, err := time.Parse("2006-01-02T15:04:05Z", object["created_at"].(string))
	if err != nil {
		t.Errorf("created_at: %v", err)
	}
	if !created.Equal(startOfTime) { // where the clock stands
		t.Errorf("created_at is %v", created)
	}
	if seconds, _ := id.Time().UnixTime(); seconds != created.Unix() {
		t.Errorf("the id is of %d, created_at of %d", seconds, created.Unix())
	}
}

func TestAListIsOldestFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var ids []string
	for i := range 12 {
		a := w.do(t, step{as: "editor", do: "POST {product}/attachments", want: 201, form: parts{file(fmt.Sprintf("%d.txt", 12-i), "x")}})
		ids = append(ids, a.object(t)["id"].(string))
	}
	all := w.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200})
	if got := all.strings(t, "id"); !slices.Equal(got, ids) {
		t.Errorf("listed %q, uploaded %q", got, ids)
	}
	if !slices.IsSorted(all.strings(t, "created_at")) || all.header.Get("Link") != "" {
		t.Errorf("the whole list: %s, Link %q", all.body, all.header.Get("Link"))
	}
}

// CVE-2023-2253
func TestAListIsPaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var ids []string
	for i := range 5 {
		form := parts{file("x.txt", "x")}
		if i != 2 {
			form = append(form, field("comment_id", "{comment}"))
		}
		a := w.do(t, step{as: "editor", do: "POST {ticket}/attachments", want: 201, form: form})
		ids = append(ids, a.object(t)["id"].(string))
	}
	ofComment := slices.Delete(slices.Clone(ids), 2, 3)
	for _, c := range []struct {
		query string
		want  [][]string
	}{
		{"?limit=1", [][]string{ids[:1], ids[1:2], ids[2:3], ids[3:4], ids[4:]}},
		{"?limit=2", [][]string{ids[:2], ids[2:4], ids[4:]}},
		{"?limit=4", [][]string{ids[:4], ids[4:]}},
		{"?limit=5", [][]string{ids}},
		{"?limit=1000", [][]string{ids}},
		{"?limit=2&comment_id={comment}", [][]string{ofComment[:2], ofComment[2:]}},
		{"?limit=3&comment_id={comment}", [][]string{ofComment[:3], ofComment[3:]}},
		{"?comment_id={comment}", [][]string{ofComment}},
	} {
		t.Run(c.query, func(t *testing.T) {
			got := w.pages(t, "viewer", "{ticket}/attachments"+c.query, "id")
			if !slices.EqualFunc(got, c.want, slices.Equal) {
				t.Errorf("pages %q, want %q", got, c.want)
			}
		})
	}
}

// pages follows a list from page to page by its Link headers and returns a member of
// each object.
func (w *world) pages(t *testing.T, as, path, member string) (pages [][]string) {
	t.Helper()
	for path != "" {
		a := w.do(t, step{as: as, do: "GET " + path, want: 200})
		pages = append(pages, a.strings(t, member))
		path = nextOf(t, a)
		if len(pages) > 100 {
			t.Fatal("the pages have no end")
		}
	}
	return pages
}

// nextOf returns the path of the next page; empty after the last.
func nextOf(t *testing.T, a answer) string {
	t.Helper()
	link := a.header.Get("Link")
	if link == "" {
		return ""
	}
	target, rel, ok := strings.Cut(link, ">; ")
	if !ok || rel != `rel="next"` || !strings.HasPrefix(target, "<") {
		t.Fatalf("Link is %q", link)
	}
	return pathOf(t, target[1:])
}

// CVE-2023-2253
func TestAListRefusesWhatIsNoPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, query := range []string{
		"limit=0", "limit=-1", "limit=1001", "limit=2147483648", "limit=99999999999999999999", "limit=", "limit=ten", "limit=1.5",
		"cursor=", "cursor=!", "cursor=AAAA", "limit=2&cursor=AAAA", "cursor=" + strings.Repeat("A", 4000),
	} {
		t.Run(query, func(t *testing.T) {
			for _, kind := range kinds {
				w.do(t, step{as: "viewer", do: "GET " + kind.parent + "/attachments?" + query, want: 400, code: "invalid_request"})
			}
		})
	}
	w.do(t, step{as: "viewer", do: "GET {ticket}/attachments?comment_id=none", want: 400, code: "invalid_request"})
}

func TestAListOfOneCommentHoldsOnlyItsFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	upload := func(save string, more ...part) step {
		return step{as: "owner", do: "POST {ticket}/attachments", form: append(parts{file(save+".txt", save)}, more...), want: 201, save: save}
	}
	w.play(t, []step{
		upload("A"),
		upload("B", field("comment_id", "{comment}")),
		{as: "viewer", do: "GET {ticket}/attachments?comment_id={comment}", want: 200, check: func(t *testing.T, a answer) {
			if got := a.strings(t, "file_name"); !slices.Equal(got, []string{"B.txt"}) {
				t.Errorf("listed %q", got)
			}
			if got := a.list(t)[0]["comment_id"]; got != w.names["comment"] {
				t.Errorf("comment_id is %v", got)
			}
		}},
		{as: "viewer", do: "GET {ticket}/attachments?comment_id={comment.ab}", want: 200, is: "[]\n"},
	})
}

// ASVS 8.2.1, 8.2.2, 8.2.3, 8.4.1; CVE-2026-33678
func TestAnAttachmentIsReachableThroughItsOwnKindOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			w.play(t, []step{{as: "editor", do: "POST " + kind.parent + "/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"}})
			for _, other := range kinds {
				want := 404
				if other.name == kind.name {
					want = 200
				}
				w.play(t, []step{
					{as: "root", do: "GET " + other.get, want: want},
					{as: "root", do: "HEAD " + other.get, want: want},
				})
				if want == 404 {
					w.play(t, []step{
						{as: "root", do: "POST " + strings.TrimSuffix(other.get, "/download") + "/links", want: 404},
						{as: "root", do: "DELETE " + other.remove, want: 404},
					})
				}
			}
			w.play(t, []step{{as: "editor", do: "GET " + kind.parent + "/attachments", want: 200, check: func(t *testing.T, a answer) {
				if len(a.list(t)) != 1 {
					t.Errorf("listed %s", a.body)
				}
			}}})
		})
	}
}

// CVE-2026-33678
func TestAMeetingsAttachmentIsNotThatOfAnotherMeeting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "root", do: "POST {meeting}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "root", do: "GET {meeting.ab}/attachments/{A}", want: 404},
		{as: "root", do: "POST {meeting.ab}/attachments/{A}/links", want: 404},
		{as: "root", do: "DELETE {meeting.ab}/attachments/{A}", want: 404},
		{as: "root", do: "GET /meetings/nonsense/attachments/{A}", want: 404},
		{as: "root", do: "GET {meeting}/attachments/{A}", want: 200},
	})
}

// The slug of one space begins with that of the other, which a store that
// looks things up by prefix might confuse.
// CVE-2026-54097, CVE-2026-35605
func TestSpacesWhoseSlugsBeginAlikeAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "stranger", do: "POST {product.ab}/attachments", form: parts{file("of-ab.txt", "ab")}, want: 201, save: "AB"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("of-a.txt", "a")}, want: 201, save: "A"},
		{as: "viewer", do: "GET {product}/attachments", want: 200, check: func(t *testing.T, a answer) {
			if got := a.strings(t, "file_name"); !slices.Equal(got, []string{"of-a.txt"}) {
				t.Errorf("listed %q", got)
			}
		}},
		{as: "root", do: "GET /catalog/spaces/a/products/{product.ab.id}/attachments", want: 404},
		{as: "root", do: "GET /catalog/spaces/ab/products/{product.id}/attachments", want: 404},
		{as: "root", do: "POST /catalog/spaces/ab/products/{product.id}/attachments", form: parts{file("a.txt", "a")}, want: 404},
		{as: "root", do: "DELETE /directory/spaces/a?attachments=delete", want: 200},
		{as: "stranger", do: "GET {AB.at}", want: 200, is: "ab"},
		{as: "stranger", do: "GET {product.ab}/attachments", want: 200, check: func(t *testing.T, a answer) {
			if got := a.strings(t, "file_name"); !slices.Equal(got, []string{"of-ab.txt"}) {
				t.Errorf("listed %q", got)
			}
		}},
	})
}

// ASVS 1.2.4, 2.2.1, 2.2.2
func TestMalformedIdsAndSlugsAreNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"}})
	for _, id := range []string{
		"1", "nonsense", "{A}x", "urn:uuid:{A}", "%7B{A}%7D", strings.Repeat("a", 36), "00000000-0000-0000-0000-000000000000",
		"'%20OR%201=1--", "..%2F{A}", "{A}%00", "%F0%9F%98%80", strings.Repeat("9", 5000),
	} {
		t.Run(id[:min(len(id), 50)], func(t *testing.T) {
			w.play(t, []step{
				{as: "root", do: "GET /catalog/attachments/" + id + "/download", want: 404},
				{as: "root", do: "GET /issues/attachments/" + id, want: 404},
				{as: "root", do: "DELETE /catalog/attachments/" + id, want: 404},
				{as: "root", do: "DELETE /issues/attachments/" + id, want: 404},
				{as: "root", do: "GET {meeting}/attachments/" + id, want: 404},
				{as: "root", do: "POST /issues/attachments/" + id + "/links", want: 404},
				{as: "root", do: "GET /catalog/spaces/a/products/" + id + "/attachments", want: 404},
				{as: "root", do: "GET /catalog/spaces/" + id + "/products/{product.id}/attachments", want: 404},
				{as: "root", do: "GET /issues/tickets/" + id + "/attachments", want: 404},
				{as: "root", do: "POST /meetings/" + id + "/attachments", form: parts{file("a.txt", "a")}, want: 404},
			})
		})
	}
}

// CVE-2026-52812, CVE-2026-35172
func TestTheSameBytesOfTwoUsersAreTwoAttachments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var first, second answer
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("first.txt", "the same")}, want: 201, save: "A",
			check: func(_ *testing.T, a answer) { first = a }},
		{as: "stranger", do: "POST {product.ab}/attachments", form: parts{file("second.txt", "the same")}, want: 201, save: "B",
			check: func(_ *testing.T, a answer) { second = a }},
	})
	if n := w.storedContents(); n != 1 {
		t.Errorf("%d contents are stored, want one", n)
	}
	// Nothing reveals to the second that the first was there.
	if a, b := headerNames(first.header), headerNames(second.header); !slices.Equal(a, b) {
		t.Errorf("the headers differ: %q, %q", a, b)
	}
	if a, b := slices.Sorted(maps.Keys(first.object(t))), slices.Sorted(maps.Keys(second.object(t))); !slices.Equal(a, b) {
		t.Errorf("the members differ: %q, %q", a, b)
	}
	w.play(t, []step{
		{as: "viewer", do: "GET {B.at}", want: 403},
		{as: "stranger", do: "GET {A.at}", want: 403},
		{as: "admin", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "stranger", do: "GET {B.at}", want: 200, is: "the same",
			check: func(t *testing.T, a answer) { checkFileName(t, a, "second.txt") }},
		{as: "editor", do: "GET {A.at}", want: 404},
		{as: "stranger", do: "DELETE /catalog/attachments/{B}", want: 200},
	})
	eventually(t, "the content to go with its last attachment", func() bool { return w.storedContents() == 0 })
}

// The duration of an upload does not reveal whether another user's content is there
// already: it is written and hashed like any other. The two kinds alternate, so that
// other load on the machine affects both.
// CVE-2026-52812
func TestAnUploadTakesAsLongWhetherTheContentIsThereOrNot(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(*server.Config){
		"contents that wait for their file": func(*server.Config) {},
		"contents in files at once":         filesAtOnce,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, option)
			known := text(20_000)
			w.do(t, step{as: "stranger", do: "POST {product.ab}/attachments", form: parts{file("a.txt", known)}, want: 201})
			took := map[string][]time.Duration{}
			const rounds = 100
			for n := range rounds {
				for what, content := range map[string]string{"new": fmt.Sprintf("%05d", n) + known[5:], "known": known} {
					s := step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", content)}, want: 201}
					begun := time.Now()
					a, err := w.send(t, s)
					took[what] = append(took[what], time.Since(begun))
					w.must(err)
					w.judge(t, s, a)
				}
			}
			ratio := float64(quickest(took["known"])) / float64(quickest(took["new"]))
			t.Logf("the quickest tenth of the uploads takes %v with new content, %v with known content: %.2f times", quickest(took["new"]), quickest(took["known"]), ratio)
			if ratio < 0.4 || ratio > 2.5 {
				t.Errorf("known content takes %.2f times as long as new", ratio)
			}
		})
	}
}

// ASVS 15.4.1 to 15.4.4
func TestTheSameBytesUploadedAndDeletedAtOnceStayWholeOrGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 15 {
				a, err := w.send(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "fought over")}})
				if err != nil || a.status != 201 {
					t.Errorf("uploading: %d, %v: %s", a.status, err, a.body)
					return
				}
				location := a.header.Get("Location")
				if a, err = w.send(t, step{as: "viewer", do: "GET " + location}); err != nil || a.status != 200 || string(a.body) != "fought over" {
					t.Errorf("downloading: %d, %v: %s", a.status, err, a.body)
				}
				if a, err = w.send(t, step{as: "editor", do: "DELETE " + strings.TrimSuffix(location, "/download")}); err != nil || a.status != 200 {
					t.Errorf("deleting: %d, %v: %s", a.status, err, a.body)
				}
			}
		})
	}
	wait.Wait()
	eventually(t, "the content to go", func() bool { return w.storedContents() == 0 })
}

func TestALongListIsStreamedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{{as: "editor", do: "POST {meeting}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"}})
	const more = 1203 // so that it takes several reads of the store
	w.copyRecord(t, "{A}", more)
	seen := map[string]bool{}
	for _, id := range w.do(t, step{as: "viewer", do: "GET {meeting}/attachments", want: 200}).strings(t, "id") {
		seen[id] = true
	}
	if len(seen) != more+1 {
		t.Errorf("%d are listed, want %d", len(seen), more+1)
	}
	paged := slices.Concat(w.pages(t, "viewer", "{meeting}/attachments?limit=500", "id")...)
	if len(paged) != more+1 || !slices.IsSorted(paged) {
		t.Errorf("%d are listed page by page, sorted: %v", len(paged), slices.IsSorted(paged))
	}
}

func TestALinkToTheNextPageStartsBelowThePublicURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, publicURL("https://files.example.org/attachd"))
	for range 2 {
		a := w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201})
		if got := a.header.Get("Location"); !strings.HasPrefix(got, "/attachd/catalog/attachments/") {
			t.Errorf("Location is %q", got)
		}
		w.do(t, step{as: "editor", do: "GET " + a.header.Get("Location"), want: 200, is: "a"})
	}
	a := w.do(t, step{as: "viewer", do: "GET /attachd{product}/attachments?limit=1", want: 200})
	if link := a.header.Get("Link"); !strings.HasPrefix(link, "</attachd/catalog/spaces/a/products/") {
		t.Errorf("Link is %q", link)
	}
	if got := w.pages(t, "viewer", "/attachd{product}/attachments?limit=1", "id"); len(got) != 2 {
		t.Errorf("pages %q", got)
	}
}

func TestQueryParametersStandInTheLinkToTheNextPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	form := parts{file("a.txt", "a"), field("comment_id", "{comment}")}
	w.do(t, step{as: "owner", do: "POST {ticket}/attachments", form: form, want: 201})
	w.do(t, step{as: "owner", do: "POST {ticket}/attachments", form: form, want: 201})
	a := w.do(t, step{as: "viewer", do: "GET {ticket}/attachments?comment_id={comment}&limit=1", want: 200})
	target, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
	u, err := url.Parse(target)
	if err != nil || u.Query().Get("comment_id") != w.names["comment"] || u.Query().Get("limit") != "1" || u.Query().Get("cursor") == "" {
		t.Errorf("Link is %q: %v", a.header.Get("Link"), err)
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	json := header{"Content-Type": "application/json"}
	w.play(t, []step{
		{as: "viewer", do: "HEAD {product}/attachments", want: 200, is: "", header: json},
		{as: "stranger", do: "HEAD {product}/attachments", want: 403, is: ""},
		{do: "HEAD {product}/attachments", want: 401, is: ""},
		{do: "HEAD /openapi.json", want: 200, is: "", header: json},
		{as: "root", do: "HEAD /metrics", want: 200, is: ""},
		{as: "viewer", do: "HEAD /users/me", want: 200, is: "", header: json},
		{as: "viewer", do: "HEAD /directory/import", want: 405},
	})
}

func TestALongListIsCompressedWhereTheClientTakesThat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 200 {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201})
	}
	plain := w.do(t, step{as: "viewer", do: "GET {product}/attachments", send: header{"Accept-Encoding": "identity"}, want: 200,
		header: header{"Content-Encoding": "", "Vary": "Accept-Encoding"}})
	for _, accept := range []string{"gzip", "br;q=1.0, gzip;q=0.8", "*"} {
		packed, err := w.send(t, step{as: "viewer", do: "GET {product}/attachments", send: header{"Accept-Encoding": accept}})
		if err != nil || packed.header.Get("Content-Encoding") != "gzip" || packed.header.Get("Vary") != "Accept-Encoding" {
			t.Fatalf("%s: %v, %v", accept, packed.header, err)
		}
		unpacked, err := gzip.NewReader(bytes.NewReader(packed.body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(unpacked); err != nil || !bytes.Equal(got, plain.body) || 4*len(packed.body) > len(plain.body) {
			t.Errorf("%s: %d bytes became %d, and those %d: %v", accept, len(plain.body), len(packed.body), len(got), err)
		}
	}
	for _, accept := range []string{"gzip;q=0", "br", "gzipped"} {
		w.do(t, step{as: "viewer", do: "GET {product}/attachments", send: header{"Accept-Encoding": accept}, want: 200, header: header{"Content-Encoding": ""}})
	}
}

// unpacked asks for something compressed, and returns it as it is without.
func (w *world) unpacked(t *testing.T, s step) []byte {
	t.Helper()
	s.send = header{"Accept-Encoding": "gzip"}
	packed, err := w.send(t, s)
	if err != nil || packed.status != 200 || packed.header.Get("Content-Encoding") != "gzip" || packed.header.Get("Vary") != "Accept-Encoding" ||
		packed.header.Get("Content-Length") != strconv.Itoa(len(packed.body)) {
		t.Fatalf("%s: %v, %d %v", s.do, err, packed.status, packed.header)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed.body))
	w.must(err)
	plain, err := io.ReadAll(unpacked)
	w.must(err)
	return plain
}

// A list of a kilobyte is compressed, whether it is whole, a page of it, or sent from
// memory; a shorter one, which needs no more packets without that, is not.
func TestAListOfAKilobyteIsCompressedWhereTheClientTakesThat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 8 {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(fmt.Sprintf("%d.txt", n), "a")}, want: 201})
	}
	for _, query := range []string{"?sort=name", "?limit=6", "?name=txt&limit=1000"} {
		s := step{as: "viewer", do: "GET {product}/attachments" + query, want: 200}
		first := w.unpacked(t, s) // read
		again := w.unpacked(t, s) // from memory, where it has no pages
		plain := w.do(t, s)
		if len(plain.body) < 1<<10 || !bytes.Equal(first, plain.body) || !bytes.Equal(again, plain.body) || plain.header.Get("Content-Encoding") != "" || plain.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %v\n%s\n%s\n%s", query, plain.header, plain.body, first, again)
		}
		s.do, s.send = "HEAD {product}/attachments"+query, header{"Accept-Encoding": "gzip"}
		if head := w.do(t, s); head.header.Get("Content-Encoding") != "gzip" || head.header.Get("Content-Length") == "" {
			t.Errorf("%s: HEAD has %v", s.do, head.header)
		}
	}
	before := w.unpacked(t, step{as: "viewer", do: "GET {product}/attachments"})
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("new.txt", "a")}, want: 201})
	if after := w.unpacked(t, step{as: "viewer", do: "GET {product}/attachments"}); bytes.Equal(before, after) || !bytes.Contains(after, []byte("new.txt")) {
		t.Errorf("after an upload, the list is %s", after)
	}
	tag := w.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200}).header.Get("ETag")
	w.do(t, step{as: "viewer", do: "GET {product}/attachments", send: header{"Accept-Encoding": "gzip", "If-None-Match": tag}, want: 304,
		header: header{"Vary": "Accept-Encoding", "Content-Encoding": ""}})
	for n := range 12 {
		w.do(t, step{as: "root", do: "PUT /directory/spaces/a/products/" + anID(byte(100+n)).String(), json: `{"name": "One of several"}`, want: 201})
	}
	for _, list := range []string{"/directory/spaces/a/products", "/audit-logs?limit=10"} {
		w.unpacked(t, step{as: "root", do: "GET " + list})
	}
	for _, short := range []string{"{product}/attachments?limit=2", "{ticket}/attachments", "/api-keys"} {
		w.do(t, step{as: "viewer", do: "GET " + short, send: header{"Accept-Encoding": "gzip"}, want: 200, header: header{"Content-Encoding": "", "Vary": "Accept-Encoding"}})
	}
	w.do(t, step{as: "viewer", do: "GET {product}/attachments?limit=0", send: header{"Accept-Encoding": "gzip"}, want: 400, header: header{"Content-Encoding": ""}})
}

// A deletion with If-Match of one file deletes no other.
func TestADeletionHeedsItsCondition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for parent, path := range map[string]string{"{product}": "/catalog/attachments/{A}", "{ticket}": "/issues/attachments/{A}", "{meeting}": "{meeting}/attachments/{A}"} {
		w.do(t, step{as: "editor", do: "POST " + parent + "/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"})
		tag := w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200}).header.Get("ETag")
		w.play(t, []step{
			{as: "editor", do: "DELETE " + path, send: header{"If-Match": `"x"`}, want: 412},
			{as: "editor", do: "DELETE " + path, send: header{"If-Match": `"x", ` + strings.Replace(tag, `"`, `"0`, 1)}, want: 412},
			{as: "viewer", do: "DELETE " + path, send: header{"If-Match": `"x"`}, want: 403},
			{as: "viewer", do: "GET {A.at}", want: 200, is: "a"},
			{as: "editor", do: "DELETE " + path, send: header{"If-Match": "\"x\"\n" + tag}, want: 200},
			{as: "editor", do: "DELETE " + path, send: header{"If-Match": tag}, want: 404},
		})
	}
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "B"},
		{as: "editor", do: "DELETE /catalog/attachments/{B}", send: header{"If-Match": "*"}, want: 200},
	})
}

func TestASlashTooManyIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const says = "Leave out the slash at its end."
	w.play(t, []step{
		{as: "viewer", do: "GET {product}/attachments/", want: 404, says: says},
		{as: "editor", do: "POST {product}/attachments/", form: parts{file("a.txt", "a")}, want: 404, says: says},
		{do: "GET /health/", want: 404, says: says},
	})
	for _, path := range []string{"/nothing/", "/catalog/", "/nothing"} {
		if a := w.do(t, step{as: "viewer", do: "GET " + path, want: 404}); strings.Contains(string(a.body), says) {
			t.Errorf("%s is answered %s", path, a.body)
		}
	}
}
