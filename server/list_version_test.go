package server_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A list keeps its ETag as long as nothing in it may have changed, and has another as
// soon as any client has seen a change.
func TestAListThatHasNotChangedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{field("comment_id", "{comment}"), file("a.txt", "a")}, want: 201, save: "A"})
	tags := map[string]string{}
	for _, place := range []string{"{product}", "{ticket}", "{meeting}"} {
		a := w.do(t, step{as: "viewer", do: "GET " + place + "/attachments", want: 200})
		tags[place] = a.header.Get("ETag")
		if !strings.HasPrefix(tags[place], `W/"`) {
			t.Fatalf("the list of %s has the ETag %q", place, tags[place])
		}
	}
	look := func(place string, want int) {
		t.Helper()
		a := w.do(t, step{as: "viewer", do: "GET " + place + "/attachments", send: header{"If-None-Match": tags[place]}, want: want})
		if want == 304 && (len(a.body) > 0 || a.header.Get("ETag") != tags[place]) {
			t.Errorf("304 with %q, ETag %q", a.body, a.header.Get("ETag"))
		}
		tags[place] = a.header.Get("ETag")
	}
	look("{ticket}", 304)
	tag := tags["{ticket}"]
	for _, condition := range []string{`"x", ` + tag, `"x"` + "\n" + tag, "*", strings.TrimPrefix(tag, "W/")} { // a proxy took the last one's W/ away
		w.do(t, step{as: "viewer", do: "GET {ticket}/attachments", send: header{"If-None-Match": condition}, want: 304})
	}
	w.do(t, step{as: "viewer", do: "GET {ticket}/attachments", send: header{"If-None-Match": strings.Replace(tag, `"`, `"x`, 1)}, want: 200})
	w.do(t, step{do: "GET {ticket}/attachments", send: header{"If-None-Match": tags["{ticket}"]}, want: 401})
	w.do(t, step{as: "stranger", do: "GET {ticket}/attachments", send: header{"If-None-Match": tags["{ticket}"]}, want: 403})
	w.do(t, step{as: "viewer", do: "GET {ticket}/attachments?limit=0", send: header{"If-None-Match": tags["{ticket}"]}, want: 400})
	w.do(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{file("a.exe", "MZ")}, want: 400})
	look("{ticket}", 304)
	for _, change := range []step{
		{as: "editor", do: "POST {ticket}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"},
		{as: "editor", do: "DELETE /issues/attachments/{B}", want: 200},
		{as: "root", do: "PUT /directory/users/{editor}", json: `{"full_name": "Renamed Person"}`, want: 200},
		{as: "root", do: "POST /directory/import", body: `{"kind": "user", "id": "` + personID("editor").String() + `", "full_name": "Renamed Again"}`, want: 200},
		{as: "root", do: "DELETE /directory/tickets/{ticket.id}/comments/{comment}", want: 200},
	} {
		w.do(t, change)
		look("{ticket}", 200)
		look("{ticket}", 304)
	}
	if *withPostgres {
		return // its ETag is made of what it says
	}
	before := tags["{ticket}"]
	w.restart()
	look("{ticket}", 200)
	if tags["{ticket}"] == before {
		t.Error("after a restart it has the ETag of before")
	}
}

// A list that is sent again from memory is the list as it is now: of its own parent and
// query, and with everything that was changed before it was asked for.
func TestAListFromMemoryIsTheListAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, place := range []string{"product", "ticket", "meeting"} {
		w.do(t, step{as: "root", do: "POST {" + place + "}/attachments", form: parts{file(place+".txt", "a")}, want: 201})
	}
	names := func(place string) string {
		t.Helper()
		var first string
		for n := range 3 { // read, from memory, from memory for another caller
			a := w.do(t, step{as: []string{"root", "root", "admin"}[n%3], do: "GET " + place, want: 200})
			if n > 0 && string(a.body) != first {
				t.Errorf("%s is %s, and then %s", place, first, a.body)
			}
			first = string(a.body)
			if got := a.header.Get("Content-Length"); got != strconv.Itoa(len(a.body)) || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s has %q bytes of %q", place, got, a.header.Get("Content-Type"))
			}
			if head := w.do(t, step{as: "root", do: "HEAD " + place, want: 200}); head.header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
				t.Errorf("HEAD of %s has %q bytes", place, head.header.Get("Content-Length"))
			}
		}
		var found []string
		for _, object := range regexp.MustCompile(`"file_name":"([^"]*)"`).FindAllStringSubmatch(first, -1) {
			found = append(found, object[1])
		}
		return strings.Join(found, " ")
	}
	want := func(place, list string) {
		t.Helper()
		if got := names(place); got != list {
			t.Errorf("%s lists %q, not %q", place, got, list)
		}
	}
	all := func() {
		t.Helper()
		want("{product}/attachments", "product.txt")
		want("{meeting}/attachments", "meeting.txt")
		want("{ticket}/attachments?name=none", "")
		want("{ticket}/attachments?name=ticket", "ticket.txt")
	}
	all()
	want("{ticket}/attachments", "ticket.txt")
	w.do(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{file("new.txt", "b")}, want: 201, save: "B"})
	want("{ticket}/attachments", "ticket.txt new.txt")
	want("{ticket}/attachments?sort=-created_at", "new.txt ticket.txt")
	all()
	w.do(t, step{as: "editor", do: "DELETE /issues/attachments/{B}", want: 200})
	want("{ticket}/attachments", "ticket.txt")
	w.do(t, step{as: "stranger", do: "GET {ticket}/attachments", want: 403})
	w.do(t, step{do: "GET {ticket}/attachments", want: 401})
	w.do(t, step{as: "root", do: "GET {ticket}/attachments?nome=x", want: 400})
	for n := range 40 { // more than are kept
		want(fmt.Sprintf("{ticket}/attachments?since=2020-01-01T00:%02d:00Z", n), "ticket.txt")
		want(fmt.Sprintf("{ticket}/attachments?since=2030-01-01T00:%02d:00Z", n), "")
	}
	w.do(t, step{as: "root", do: "DELETE /directory/tickets/{ticket.id}?attachments=delete", want: 200})
	w.do(t, step{as: "root", do: "GET {ticket}/attachments", want: 404})
	want("{product}/attachments", "product.txt")
	want("{meeting}/attachments", "meeting.txt")
}
