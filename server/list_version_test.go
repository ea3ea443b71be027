package server_test

import (
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
	before := tags["{ticket}"]
	w.restart()
	look("{ticket}", 200)
	if tags["{ticket}"] == before {
		t.Error("after a restart it has the ETag of before")
	}
}
