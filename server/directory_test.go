package server_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Ids that the fixture does not use.
var (
	newID   = anID(0xa1).String()
	otherID = anID(0xa2).String()
)

// things are the objects of the directory, one of each kind, with what is wrong with it
// in a refused PUT.
var things = []struct {
	name    string
	path    string
	body    string
	like    string // what it is answered with
	changed string // another body for the same
	changes string
	bad     []string
}{
	{name: "user", path: "/directory/users/" + newID,
		body: `{"full_name": "  Ada Lovelace "}`, like: `{"id": "` + newID + `", "full_name": "Ada Lovelace", "is_superadmin": false}`,
		changed: `{"full_name": "Ada", "is_superadmin": true}`, changes: `{"id": "` + newID + `", "full_name": "Ada", "is_superadmin": true}`,
		bad: []string{``, `{}`, `[]`, `{`, `{"full_name": ""}`, `{"full_name": "  "}`, `{"full_name": 1}`, `{"full_name": "a\nb"}`, `{"full_name": "a\u2028b"}`, `{"full_name": "\u202e \u2069"}`, `{"full_name": "` + strings.Repeat("x", 501) + `"}`, `{"full_name": "x", "is_superadmin": "yes"}`}},
	{name: "space", path: "/directory/spaces/new-space",
		body: `{"name": "New", "quota_bytes": 1000, "quota_files": 10}`, like: `{"slug": "new-space", "name": "New", "quota_bytes": 1000, "quota_files": 10, "used_bytes": 0, "used_files": 0}`,
		changed: `{}`, changes: `{"slug": "new-space", "name": "new-space", "quota_bytes": null, "quota_files": null, "used_bytes": 0, "used_files": 0}`,
		bad: []string{`[]`, `{"quota_bytes": -1}`, `{"quota_bytes": 0}`, `{"quota_bytes": 1.5}`, `{"quota_files": "many"}`, `{"name": 1}`}},
	{name: "member", path: "/directory/spaces/a/members/{stranger}",
		body: `{"role": "member"}`, like: `{"user_id": "{stranger}", "role": "viewer"}`,
		changed: `{"role": "admin"}`, changes: `{"user_id": "{stranger}", "role": "admin"}`,
		bad: []string{``, `{}`, `{"role": "owner"}`, `{"role": ""}`, `{"role": 1}`}},
	{name: "product", path: "/directory/spaces/a/products/" + newID,
		body: `{"name": "P"}`, like: `{"id": "` + newID + `", "space": "a", "name": "P"}`,
		changed: `{}`, changes: `{"id": "` + newID + `", "space": "a", "name": ""}`,
		bad: []string{`[]`, `{"name": 1}`, `{"name": "a\u0000b"}`, `{"name": "a\u2029b"}`}},
	{name: "ticket", path: "/directory/tickets/" + newID,
		body: `{"space": "a", "owner_id": "{viewer}", "title": "T"}`, like: `{"id": "` + newID + `", "space": "a", "owner_id": "{viewer}", "title": "T"}`,
		changed: `{"space": "a", "owner_id": "{editor}"}`, changes: `{"id": "` + newID + `", "space": "a", "owner_id": "{editor}", "title": ""}`,
		bad: []string{``, `{}`, `{"space": "a"}`, `{"owner_id": "{viewer}"}`, `{"space": "A!", "owner_id": "{viewer}"}`, `{"space": "a", "owner_id": "me"}`}},
	{name: "comment", path: "{ticket.directory}/comments/" + newID,
		body: `{"created_at": "2026-01-31T09:12:00Z"}`, like: `{"id": "` + newID + `", "number": 2, "created_at": "2026-01-31T09:12:00Z"}`,
		changed: `{"created_at": "2024-02-29T12:00:00.9+02:00"}`, changes: `{"id": "` + newID + `", "number": 2, "created_at": "2024-02-29T10:00:00Z"}`,
		bad: []string{`[]`, `nonsense`, `{"created_at": "yesterday"}`, `{"created_at": 1}`, `{"created_at": "2024-02-30T12:00:00Z"}`}},
	{name: "meeting", path: "/directory/meetings/" + newID,
		body: `{"space": "a", "title": "M"}`, like: `{"id": "` + newID + `", "space": "a", "title": "M"}`,
		changed: `{"space": "a", "title": "N"}`, changes: `{"id": "` + newID + `", "space": "a", "title": "N"}`,
		bad: []string{``, `{}`, `{"space": ""}`, `{"space": "a", "title": []}`}},
}

func newDirectory(t *testing.T) *world {
	w := newWorld(t)
	w.names["ticket.directory"] = "/directory/tickets/" + w.names["ticket.id"]
	return w
}

func TestWhatIsPutIsReadAndDeleted(t *testing.T) {
	t.Parallel()
	w := newDirectory(t)
	for _, thing := range things {
		t.Run(thing.name, func(t *testing.T) {
			put := func(body, like string, want int) step {
				if thing.name == "space" {
					like = strings.Replace(like, `, "used_bytes": 0, "used_files": 0`, "", 1)
				}
				return step{as: "root", do: "PUT " + thing.path, json: body, want: want, like: like}
			}
			get := step{as: "root", do: "GET " + thing.path, want: 404}
			found, changed, remove := get, get, get
			found.want, found.like = 200, thing.like
			changed.want, changed.like = 200, thing.changes
			remove.do, remove.want = "DELETE "+thing.path, 200
			gone := remove
			gone.want = 404
			remove.check = func(t *testing.T, a answer) {
				if object := a.object(t); len(object) != 1 || object["message"] == "" {
					t.Errorf("answered %s", a.body)
				}
			}
			w.play(t, []step{get, gone,
				put(thing.body, thing.like, 201), found,
				put(thing.body, thing.like, 200), found,
				put(thing.changed, thing.changes, 200), changed,
				put("\uFEFF"+thing.body, thing.like, 200), found, // as Windows writes it
				remove, get, gone,
				put(thing.body, strings.Replace(thing.like, `"number": 2`, `"number": 3`, 1), 201), remove, // no number twice
			})
		})
	}
}

// ASVS 2.2.1, 2.2.2
func TestABadObjectIsRefused(t *testing.T) {
	t.Parallel()
	w := newDirectory(t)
	for _, thing := range things {
		t.Run(thing.name, func(t *testing.T) {
			w.do(t, step{as: "root", do: "PUT " + thing.path, json: thing.body, send: header{"Content-Encoding": "gzip"}, want: 400, says: "content encoding"})
			for _, body := range thing.bad {
				w.do(t, step{as: "root", do: "PUT " + thing.path, json: body, want: 400, code: "invalid_request"})
			}
			for _, body := range []string{
				`{"x": "` + strings.Repeat("x", 1<<17) + `"}`, `null`, " null\n",
				"{\"x\": \"\xff\"}", `{"x": "\ud800"}`, `{"x": "a\udc00b"}`, `{"x": "\ud83dx"}`, `{"x": "\udE00\uD83d"}`, `{"x": "\ud83d\ud83d\ude00"}`, `{"x": "\\\ud800"}`,
			} {
				w.do(t, step{as: "root", do: "PUT " + thing.path, json: body, want: 400, code: "invalid_request"})
			}
			w.do(t, step{as: "root", do: "GET " + thing.path, want: 404})
		})
	}
}

func TestANumberThatIsNotWholeIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for number, says := range map[string]string{
		"1000.0": "quota_bytes must be a whole number", "1e3": "quota_bytes must be a whole number", "0.5": "quota_bytes must be a whole number",
		"99999999999999999999": "quota_bytes is too large", `"1"`: "quota_bytes must not be a JSON string",
	} {
		w.do(t, step{as: "root", do: "PUT /directory/spaces/new-space", json: `{"quota_bytes": ` + number + `}`, want: 400, says: says})
	}
}

// Names are kept as sent, except for space around them and characters that reverse the
// reading direction.
func TestNamesAreWholeCharactersOnOneLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(t, step{as: "root", do: "PUT /directory/users/" + newID, json: `{"full_name": "x"}`, want: 201})
	for sent, kept := range map[string]string{
		`\ud83d\ude00`: "😀", `\\ud800`: `\ud800`, `Łódź 東京 🦀`: "Łódź 東京 🦀", `é`: "é", `\uFFFD`: "\ufffd",
		`invoice \u202efdp`: "invoice fdp", `\u2066 a\u202A\u2069 `: "a", `\u200Fא`: "\u200fא",
	} {
		name := w.do(t, step{as: "root", do: "PUT /directory/users/" + newID, json: `{"full_name": "` + sent + `"}`, want: 200}).object(t)["full_name"]
		if name != kept {
			t.Errorf("%s is kept as %q, want %q", sent, name, kept)
		}
	}
}

// Members of other kinds, unknown ones, and those that are in the path are ignored,
// whatever their values.
func TestMembersOfOtherKindsAreIgnored(t *testing.T) {
	t.Parallel()
	w := newDirectory(t)
	for _, c := range []struct{ path, body, own, kind string }{
		{"/directory/users/" + newID, `"full_name": "x"`, `"id": "` + newID + `"`,
			`"kind": "user", "role": {"a": 1}, "name": 1, "title": [], "space": 1, "slug": 1, "owner_id": 1, "quota_bytes": "many"`},
		{"/directory/spaces/new-space", `"name": "x"`, `"slug": "new-space"`,
			`"kind": "space", "id": 1, "user_id": {}, "full_name": 1, "is_superadmin": "yes", "role": 1, "title": 1, "owner_id": 1`},
		{"/directory/spaces/a/members/{stranger}", `"role": "viewer"`, `"space": "a", "user_id": "{stranger}"`,
			`"kind": "member", "id": 1, "full_name": 1, "is_superadmin": 1, "name": {"a": 1}, "title": 1, "quota_files": -1.5`},
		{"/directory/spaces/a/products/" + newID, `"name": "x"`, `"space": "a", "id": "` + newID + `"`,
			`"kind": "product", "user_id": 1, "title": {"a": 1}, "full_name": 1, "role": 1, "owner_id": 1, "quota_bytes": "many"`},
		{"/directory/tickets/" + newID, `"space": "a", "owner_id": "{viewer}"`, `"id": "` + newID + `"`,
			`"kind": "ticket", "name": {"a": 1}, "ticket_id": 1, "user_id": 1, "role": 1, "is_superadmin": 1, "quota_bytes": "many"`},
		{"{ticket.directory}/comments/" + newID, `"name": [1]`, `"ticket_id": "{ticket.id}", "id": "` + newID + `"`,
			`"kind": "comment", "space": {"a": 1}, "slug": 1, "title": 1, "owner_id": 1, "role": 1, "quota_bytes": "many"`},
		{"/directory/meetings/" + newID, `"space": "a"`, `"id": "` + newID + `"`,
			`"kind": "meeting", "name": {"a": 1}, "owner_id": 1, "user_id": 1, "role": 1, "is_superadmin": 1, "quota_bytes": "many"`},
	} {
		inPath := strings.Replace(c.kind, `"kind": "`, `"id": 1, "slug": 1, "user_id": 1, "kind": "`, 1)
		w.play(t, []step{
			{as: "root", do: "PUT " + c.path, json: "{" + c.body + ", " + inPath + "}", want: 201},
			{as: "root", do: "POST /directory/import", json: "{" + c.body + ", " + c.own + ", " + c.kind + "}", want: 200},
		})
	}
}

// ASVS 2.2.1, 2.2.2
func TestSlugs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for slug, want := range map[string]int{
		"b": 201, "0": 201, "a-b": 201, "a-": 201, "a--b": 201, strings.Repeat("x", 63): 201,
		strings.Repeat("x", 64): 404, "-a": 404, "A": 404, "a_b": 404, "a.b": 404, "%C3%BC": 404, "a%20b": 404, "a%00": 404, "a%2Fb": 404,
	} {
		w.do(t, step{as: "root", do: "PUT /directory/spaces/" + slug, want: want})
	}
}

func TestObjectsNeedWhatTheyReferTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []step{
		{do: "PUT /directory/spaces/none/products/" + newID, json: `{}`},
		{do: "PUT /directory/spaces/none/members/{viewer}", json: `{"role": "viewer"}`},
		{do: "PUT /directory/spaces/a/members/" + newID, json: `{"role": "viewer"}`},
		{do: "PUT /directory/tickets/" + newID, json: `{"space": "none", "owner_id": "{viewer}"}`},
		{do: "PUT /directory/tickets/" + newID, json: `{"space": "a", "owner_id": "` + newID + `"}`},
		{do: "PUT /directory/tickets/" + newID + "/comments/" + newID, json: `{}`},
		{do: "PUT /directory/meetings/" + newID, json: `{"space": "none"}`},
		{do: "GET /directory/spaces/none", says: `There is no space "none".`},
		{do: "GET /directory/spaces/none/members"},
		{do: "GET /directory/spaces/none/products"},
		{do: "GET /directory/tickets?space=none", says: `There is no space "none".`},
		{do: "GET /directory/users/" + newID + "/api-keys"},
		{do: "POST /directory/users/" + newID + "/api-keys", json: `{"name": "x"}`},
	} {
		c.as, c.want = "root", 404
		w.do(t, c)
	}
}

// The parent of an object is looked up before its body is read, and before access is
// decided.
func TestAParentThatIsNotThereComesBeforeTheBody(t *testing.T) {
	t.Parallel()
	w := newDirectory(t)
	for _, c := range []step{
		{do: "PUT /directory/spaces/none/products/" + newID, says: `There is no space "none".`},
		{do: "PUT /directory/spaces/No.Slug/products/" + newID, says: "not a slug"},
		{do: "PUT /directory/spaces/none/members/{viewer}", says: `There is no space "none".`},
		{do: "PUT /directory/tickets/" + newID + "/comments/" + newID, says: "There is no ticket " + newID},
	} {
		c.want = 404
		for _, body := range []string{`{`, `[]`, `{"name": 1, "role": 1}`, `{"role": "viewer"}`} {
			c.as, c.json = "root", body
			w.do(t, c)
		}
		c.as = "viewer"
		w.do(t, c)
		c.as, c.want, c.says = "", 401, ""
		w.do(t, c)
	}
	w.play(t, []step{
		{as: "root", do: "PUT /directory/spaces/a/members/" + newID, json: `{`, want: 404, says: "There is no user " + newID},
		{as: "viewer", do: "PUT /directory/spaces/a/members/" + newID, json: `{`, want: 403}, // and no word about who there is
		{as: "root", do: "DELETE /directory/spaces/none?attachments=foo", want: 404},
		{as: "root", do: "DELETE /directory/spaces/a/products/" + newID + "?attachments=foo", want: 404},
		{as: "root", do: "DELETE /directory/tickets/" + newID + "?attachments=foo", want: 404},
		{as: "root", do: "GET /directory/spaces/none/members/{viewer}", want: 404, says: `There is no space "none".`},
		{as: "viewer", do: "PUT {ticket.directory}/comments/" + newID, json: `{`, want: 403},
		{as: "viewer", do: "DELETE /directory/spaces/a?attachments=foo", want: 403},
	})
}

// CVE-2026-57886
func TestAParentStaysInItsSpace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "root", do: "PUT /directory/spaces/ab/products/{product.id}", json: `{}`, want: 409},
		{as: "root", do: "PUT /directory/tickets/{ticket.id}", json: `{"space": "ab", "owner_id": "{owner}"}`, want: 409},
		{as: "root", do: "PUT /directory/meetings/{meeting.id}", json: `{"space": "ab"}`, want: 409},
		{as: "root", do: "POST /directory/import", body: `{"kind": "meeting", "id": "` + meetingOf["a"].ID.String() + `", "space": "ab"}`, want: 409},
		{as: "root", do: "GET /directory/spaces/ab/products/{product.id}", want: 404},
		{as: "root", do: "DELETE /directory/spaces/ab/products/{product.id}", want: 404},
		{as: "viewer", do: "GET /directory/meetings/{meeting.id}", want: 200, like: `{"id": "{meeting.id}", "space": "a", "title": "A meeting"}`},
	})
}

func TestAParentWithAttachmentsIsDeletedOnlyOnDemand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, parent, path string }{
		{"product", "{product}", "/directory/spaces/a/products/{product.id}"},
		{"ticket", "{ticket}", "/directory/tickets/{ticket.id}"},
		{"meeting", "{meeting}", "/directory/meetings/{meeting.id}"},
		{"space", "{product}", "/directory/spaces/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.play(t, []step{
				{as: "root", do: "POST " + c.parent + "/attachments", form: parts{file("a.txt", "shared")}, want: 201, save: "A"},
				{as: "root", do: "POST {product.ab}/attachments", form: parts{file("a.txt", "shared")}, want: 201, save: "B"},
				{as: "root", do: "POST " + c.parent + "/attachments", form: parts{file("a.txt", "alone")}, want: 201},
				{as: "root", do: "DELETE " + c.path, want: 409},
				{as: "root", do: "DELETE " + c.path + "?attachments=keep", want: 400},
				{as: "root", do: "GET {A.at}", want: 200, is: "shared"},
				{as: "root", do: "DELETE " + c.path + "?attachments=delete", want: 200},
				{as: "root", do: "GET {A.at}", want: 404},
				{as: "root", do: "GET " + c.parent + "/attachments", want: 404},
				{as: "root", do: "GET " + c.path, want: 404},
				{as: "root", do: "GET {B.at}", want: 200, is: "shared"},
			})
			eventually(t, "the content to go", func() bool { return w.storedContents() == 1 })
			if c.name != "space" {
				got := w.do(t, step{as: "root", do: "GET /directory/spaces/a", want: 200}).object(t)
				if got["used_bytes"] != 0.0 || got["used_files"] != 0.0 {
					t.Errorf("used: %v", got)
				}
			}
		})
	}
}

// What is too much for one commit disappears at once, and is removed afterwards, if
// need be after the next start.
func TestVeryManyAttachmentsGoWithTheirProductAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{{as: "root", do: "POST {product}/attachments", form: parts{file("a.txt", "shared")}, want: 201, save: "A"}})
	w.copyRecord(t, "{A}", 1100)
	product := "/directory/spaces/a/products/{product.id}"
	w.play(t, []step{
		{as: "root", do: "DELETE " + product + "?attachments=delete", want: 200},
		{as: "root", do: "GET {A.at}", want: 404},
		{as: "root", do: "DELETE /catalog/attachments/{A}", want: 404},
		{as: "root", do: "GET " + product, want: 404},
	})
	gone := func() {
		t.Helper()
		got := w.do(t, step{as: "root", do: "GET /directory/spaces/a", want: 200}).object(t)
		if got["used_bytes"] != 0.0 || got["used_files"] != 0.0 {
			t.Errorf("used: %v", got)
		}
	}
	gone()
	if w.storedContents() != 1 {
		t.Error("the content went before the records that have it")
	}
	w.restart()
	gone()
	ctx, cancel := context.WithCancel(t.Context())
	var removing sync.WaitGroup
	removing.Go(func() { w.server.RunJob(ctx, "remove deleted", 0) })
	defer removing.Wait()
	defer cancel()
	w.play(t, []step{
		{as: "root", do: "PUT " + product, want: 201},
		{as: "root", do: "GET {product}/attachments", want: 200, is: "[]\n"},
		{as: "root", do: "GET {A.at}", want: 404},
	})
	eventually(t, "the content to go", func() bool { return w.storedContents() == 0 })
	if n := w.records(); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestAnEmptySpaceIsDeletedWithAllThatIsInIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "root", do: "DELETE /directory/spaces/a", want: 200},
		{as: "root", do: "GET /directory/spaces/a/products/{product.id}", want: 404},
		{as: "root", do: "GET /directory/tickets/{ticket.id}", want: 404},
		{as: "root", do: "GET /directory/meetings/{meeting.id}", want: 404},
		{as: "viewer", do: "GET /users/me", want: 200, like: `{"id": "{viewer}", "full_name": "Viewer Person", "is_superadmin": false, "spaces": []}`},
		// A space that is made again begins anew.
		{as: "root", do: "PUT /directory/spaces/a", want: 201},
		{as: "viewer", do: "GET /directory/spaces/a", want: 403},
		{as: "root", do: "PUT /directory/spaces/ab/products/{product.id}", want: 201},
	})
}

func TestADeletedCommentLeavesItsFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "owner", do: "POST {ticket}/attachments", form: parts{file("a.txt", "a"), field("comment_id", "{comment}")}, want: 201, save: "A"},
		{as: "root", do: "DELETE /directory/tickets/{ticket.id}/comments/{comment}", want: 200},
		{as: "viewer", do: "GET {ticket}/attachments", want: 200, check: func(t *testing.T, a answer) {
			if got, has := a.list(t)[0]["comment_id"]; !has || got != nil {
				t.Errorf("comment_id is %v", got)
			}
		}},
		{as: "viewer", do: "GET {ticket}/attachments?comment_id={comment}", want: 200, is: "[]\n"},
		{as: "viewer", do: "GET {A.at}", want: 200, is: "a"},
		{as: "owner", do: "POST {ticket}/attachments", form: parts{file("a.txt", "a"), field("comment_id", "{comment}")}, want: 404},
	})
}

func TestADeletedUserLeavesUploadsUnderTheirName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	byEditor := func(name string) func(*testing.T, answer) {
		return func(t *testing.T, a answer) {
			by := a.list(t)[0]["uploaded_by"].(map[string]any)
			if by["id"] != w.names["editor"] || by["full_name"] != name {
				t.Errorf("uploaded_by is %v", by)
			}
		}
	}
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "root", do: "PUT /directory/users/{editor}", json: `{"full_name": "New Name"}`, want: 200},
		{as: "viewer", do: "GET {product}/attachments", want: 200, check: byEditor("New Name")},
		{as: "root", do: "DELETE /directory/users/{editor}", want: 200},
		{as: "editor", do: "GET {product}/attachments", want: 401},
		{as: "viewer", do: "GET {product}/attachments", want: 200, check: byEditor("New Name")},
		{as: "viewer", do: "GET {A.at}", want: 200, is: "a"},
		{as: "root", do: "GET /directory/users/{editor}", want: 404},
		{as: "root", do: "GET /directory/spaces/a/members/{editor}", want: 404},
		{as: "root for editor", do: "GET /users/me", want: 403},
		// One who comes back has neither keys nor roles.
		{as: "root", do: "PUT /directory/users/{editor}", json: `{"full_name": "Back Again"}`, want: 201},
		{as: "editor", do: "GET /users/me", want: 401},
		{as: "root for editor", do: "DELETE /catalog/attachments/{A}", want: 403},
		{as: "admin", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
}

func TestADeletedOwnerOfATicketOwnsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "owner", do: "POST {ticket}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "root", do: "DELETE /directory/users/{owner}", want: 200},
		{as: "owner", do: "DELETE /issues/attachments/{A}", want: 401},
		{as: "viewer", do: "GET /directory/tickets/{ticket.id}", want: 200, like: `{"id": "{ticket.id}", "space": "a", "owner_id": "{owner}", "title": "A ticket"}`},
	})
}

func TestMembersSeeTheirOwnSpaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		path   string
		viewer string // what the viewer of a sees, by member
		root   string // what a superadmin sees
		member string
	}{
		{"/directory/spaces", "a", "a ab", "slug"},
		{"/directory/spaces/a/products", "{product.id}", "{product.id}", "id"},
		{"/directory/tickets", "{ticket.id}", "{ticket.id} {ticket.ab.id}", "id"},
		{"/directory/tickets?space=a", "{ticket.id}", "{ticket.id}", "id"},
		{"/directory/meetings", "{meeting.id}", "{meeting.id} {meeting.ab.id}", "id"},
		{"/directory/tickets/{ticket.id}/comments", "{comment}", "{comment}", "id"},
	} {
		for as, want := range map[string]string{"viewer": c.viewer, "root": c.root} {
			a := w.do(t, step{as: as, do: "GET " + c.path, want: 200})
			if got := strings.Join(a.strings(t, c.member), " "); got != w.fill(t, want) {
				t.Errorf("%s sees %q in %s, want %q", as, got, c.path, w.fill(t, want))
			}
		}
	}
	w.play(t, []step{
		{as: "owner", do: "GET /directory/spaces", want: 200, is: "[]\n"},
		{as: "owner", do: "GET /directory/tickets", want: 200, is: "[]\n"},
		{as: "viewer", do: "GET /directory/tickets?space=ab", want: 403},
		// The caller chooses a cursor: one into another space shows nothing of it.
		{as: "viewer", do: "GET /directory/tickets?cursor=" + forgedCursor("ab"), want: 200, is: "[]\n"},
		{as: "viewer", do: "GET /directory/meetings?limit=5&cursor=" + forgedCursor("ab"), want: 200, is: "[]\n"},
		{as: "viewer", do: "GET /directory/tickets?space=a&cursor=" + forgedCursor("ab"), want: 400},
		{as: "viewer", do: "GET /directory/meetings?space=ab", want: 403},
		{as: "viewer", do: "GET /directory/users", want: 403},
		{as: "viewer", do: "GET /directory/tickets?space=", want: 400, says: "space must be a slug"},
		{as: "viewer", do: "GET /directory/meetings?space=No%20Slug", want: 400, says: "space must be a slug"},
	})
}

func TestDirectoryListsArePaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var lines []string
	for i := range 7 {
		lines = append(lines, fmt.Sprintf(`{"kind": "product", "id": "%s", "space": "a"}`, anID(byte(0xb0+i))),
			fmt.Sprintf(`{"kind": "meeting", "id": "%s", "space": "%s"}`, anID(byte(0xb0+i)), []string{"a", "ab", "b"}[i%3]))
	}
	lines = append(lines, `{"kind": "space", "slug": "b"}`)
	w.do(t, step{as: "root", do: "POST /directory/import", body: strings.Join(lines, "\n"), want: 200})
	for path, member := range map[string]string{
		"/directory/users": "id", "/directory/spaces": "slug", "/directory/spaces/a/members": "user_id", "/directory/spaces/a/products": "id",
		"/directory/meetings": "id", "/directory/tickets": "id", "/directory/tickets/{ticket.id}/comments": "id", "/directory/users/{root}/api-keys": "id",
	} {
		whole := w.do(t, step{as: "root", do: "GET " + path, want: 200}).strings(t, member)
		for _, limit := range []int{1, 2, 3, 1000} {
			pages := w.pages(t, "root", fmt.Sprintf("%s?limit=%d", path, limit), member)
			if got := slices.Concat(pages...); !slices.Equal(got, whole) {
				t.Errorf("%s by %d: %q, want %q", path, limit, got, whole)
			}
			for _, page := range pages[:len(pages)-1] {
				if len(page) != limit {
					t.Errorf("%s by %d: a page of %d", path, limit, len(page))
				}
			}
		}
		w.do(t, step{as: "root", do: "GET " + path + "?limit=0", want: 400})
		w.do(t, step{as: "root", do: "GET " + path + "?cursor=!", want: 400})
	}
	if got := slices.Concat(w.pages(t, "stranger", "/directory/meetings?limit=1", "id")...); len(got) != 3 {
		t.Errorf("the member of ab sees %q", got)
	}
}

// importFile has one object of each kind, each line before those that it refers to.
var importFile = strings.Join([]string{
	`{"kind": "comment", "ticket_id": "` + newID + `", "id": "` + newID + `"}`,
	`{"kind": "ticket", "id": "` + newID + `", "space": "imported", "owner_id": "` + newID + `", "title": "T"}`,
	``,
	`{"kind": "meeting", "id": "` + newID + `", "space": "imported", "unknown": [1, 2]}`,
	`{"kind": "product", "id": "` + newID + `", "space": "imported", "name": "P"}`,
	`{"kind": "member", "space": "imported", "user_id": "` + newID + `", "role": "editor"}`,
	`{"kind": "space", "slug": "imported", "quota_files": 5}`,
	`{"kind": "user", "id": "` + newID + `", "full_name": "Imported Person"}`,
}, "\n")

func TestAnImportTakesLinesInAnyOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		name, body       string
		created, updated float64
	}{
		{"new", importFile, 7, 0},
		{"known", importFile + "\n", 0, 7},
		{"with CRLF and a byte order mark", "\ufeff" + strings.ReplaceAll(importFile, "\n", "\r\n"), 0, 7},
		{"empty", "\n\n", 0, 0},
		{"no body", "", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := w.do(t, step{as: "root", do: "POST /directory/import", body: c.body, want: 200}).object(t)
			if got["created"] != c.created || got["updated"] != c.updated || got["lines"] != c.created+c.updated {
				t.Errorf("answered %v", got)
			}
		})
	}
	w.play(t, []step{
		{as: "root", send: header{"X-On-Behalf-Of": newID}, do: "GET /users/me", want: 200,
			like: `{"id": "` + newID + `", "full_name": "Imported Person", "is_superadmin": false, "spaces": [{"slug": "imported", "name": "imported", "role": "editor"}]}`},
		{as: "root", do: "GET /directory/tickets/" + newID + "/comments/" + newID, want: 200},
		{as: "root", do: "GET /directory/spaces/imported/products/" + newID, want: 200, like: `{"id": "` + newID + `", "space": "imported", "name": "P"}`},
		{as: "root", do: "GET /directory/meetings/" + newID, want: 200},
	})
}

// Comments are numbered in order of arrival, and those of one import in order of their
// times.
func TestCommentsAreNumberedInTheOrderOfTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	comment := func(n byte, created string) string {
		line := `{"kind": "comment", "ticket_id": "` + w.names["ticket.id"] + `", "id": "` + anID(n).String() + `"`
		if created != "" {
			line += `, "created_at": "` + created + `"`
		}
		return line + "}\n"
	}
	numbers := func(want map[byte]string) {
		t.Helper()
		got := map[string]string{}
		for _, c := range w.do(t, step{as: "viewer", do: "GET /directory/tickets/{ticket.id}/comments", want: 200}).list(t) {
			got[c["id"].(string)] = fmt.Sprint(c["number"], " ", c["created_at"])
		}
		for n, text := range want {
			if id := anID(n).String(); got[id] != text {
				t.Errorf("comment %s is %q, not %q", id, got[id], text)
			}
		}
	}
	w.play(t, []step{
		{as: "root", do: "POST /directory/import", body: comment(0xe3, "2024-01-03T00:00:00Z") + comment(0xe2, "") + comment(0xe4, "2024-01-01T00:00:00+01:00") + comment(0xe1, ""), want: 200},
		{as: "root", do: "PUT /directory/tickets/{ticket.id}/comments/" + anID(0xe0).String(), want: 201},
	})
	now := startOfTime.Format(time.RFC3339)
	want := map[byte]string{0xe4: "2 2023-12-31T23:00:00Z", 0xe3: "3 2024-01-03T00:00:00Z", 0xe2: "4 " + now, 0xe1: "5 " + now, 0xe0: "6 " + now}
	numbers(want)
	w.clock.advance(time.Hour)
	w.play(t, []step{
		{as: "root", do: "POST /directory/import", body: comment(0xe1, "") + comment(0xe4, ""), want: 200},
		{as: "root", do: "PUT /directory/tickets/{ticket.id}", json: `{"space": "a", "owner_id": "{owner}", "title": "T"}`, want: 200},
		{as: "root", do: "DELETE /directory/tickets/{ticket.id}/comments/" + anID(0xe3).String(), want: 200},
		{as: "root", do: "PUT /directory/tickets/{ticket.id}/comments/" + anID(0xdf).String(), want: 201},
	})
	delete(want, 0xe3)
	want[0xdf] = "7 " + startOfTime.Add(time.Hour).Format(time.RFC3339)
	numbers(want)
}

func TestAnImportIsTakenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		name string
		bad  string
		want int
	}{
		{"no JSON", `nonsense`, 400},
		{"no object", `["user"]`, 400},
		{"half a line", `{"kind": "user", "id": `, 400},
		{"no kind", `{"id": "` + otherID + `"}`, 400},
		{"an unknown kind", `{"kind": "file", "id": "` + otherID + `"}`, 400},
		{"no id", `{"kind": "user", "full_name": "X"}`, 400},
		{"a malformed id", `{"kind": "user", "id": "1", "full_name": "X"}`, 400},
		{"no name", `{"kind": "user", "id": "` + otherID + `"}`, 400},
		{"a bad role", `{"kind": "member", "space": "imported", "user_id": "` + newID + `", "role": "boss"}`, 400},
		{"a bad slug", `{"kind": "space", "slug": "UPPER"}`, 400},
		{"an unknown space", `{"kind": "product", "id": "` + otherID + `", "space": "none"}`, 400},
		{"an unknown user", `{"kind": "member", "space": "a", "user_id": "` + otherID + `", "role": "viewer"}`, 400},
		{"an unknown owner", `{"kind": "ticket", "id": "` + otherID + `", "space": "a", "owner_id": "` + otherID + `"}`, 400},
		{"an unknown ticket", `{"kind": "comment", "ticket_id": "` + otherID + `", "id": "` + otherID + `"}`, 400},
		{"a moved product", `{"kind": "product", "id": "` + productOf["a"].ID.String() + `", "space": "imported"}`, 409},
		{"a line without an end", `{"kind": "user", "full_name": "` + strings.Repeat("x", 1<<17) + `"}`, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			for at, body := range map[float64]string{1: c.bad + "\n" + importFile, 9: importFile + "\n" + c.bad} {
				a := w.do(t, step{as: "root", do: "POST /directory/import", body: body, want: c.want})
				if got := a.object(t)["line"]; got != at {
					t.Errorf("the line is %v, want %v: %s", got, at, a.body)
				}
			}
			w.play(t, []step{
				{as: "root", do: "GET /directory/users/" + newID, want: 404},
				{as: "root", do: "GET /directory/spaces/imported", want: 404},
				{as: "root", do: "GET /directory/meetings/" + newID, want: 404},
			})
		})
	}
}

func TestThousandsOfLinesAreImportedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, `{"kind": "product", "id": "00000000-0000-4000-9000-%012d", "space": "a", "name": "Product %d"}`+"\n", i, i)
	}
	got := w.do(t, step{as: "root", do: "POST /directory/import", body: b.String(), want: 200}).object(t)
	if got["created"] != 5000.0 {
		t.Errorf("answered %v", got)
	}
	if list := w.do(t, step{as: "viewer", do: "GET /directory/spaces/a/products", want: 200}).list(t); len(list) != 5001 {
		t.Errorf("%d products are listed", len(list))
	}
}

// forgedCursor is the cursor at the start of a space in the lists of tickets
// and meetings.
func forgedCursor(space string) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte(space+"\x00"), make([]byte, 16)...))
}
