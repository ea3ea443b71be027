package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// recordsManagers are the routes for records managers and superadmins.
var recordsManagers = []string{"GET /holds", "POST /holds", "GET /holds/:hold", "DELETE /holds/:hold"}

// hold sets a hold on a thing of a kind, as a superadmin, and saves its id as a name.
func hold(kind, id, save string) step {
	return step{as: "root", do: "POST /holds", json: fmt.Sprintf(`{"on": {"kind": %q, "id": %q}, "reason": "Case 4711"}`, kind, id), want: 201, save: save}
}

// ASVS 8.2.1
func TestHoldsAreForRecordsManagersAndSuperadmins(t *testing.T) {
	t.Parallel()
	w := newMatrix(t)
	w.play(t, []step{
		hold("space", "a", "H"),
		{as: "root", do: "PUT /directory/users/{stranger}", json: `{"full_name": "Stranger", "is_records_manager": true}`, want: 200,
			like: `{"id": "{stranger}", "full_name": "Stranger", "is_superadmin": false, "is_records_manager": true}`},
	})
	for _, name := range recordsManagers {
		for _, who := range callers() {
			s := step{as: who.as, do: strings.Replace(name, ":hold", w.names["H"], 1), want: 200}
			if name == "POST /holds" {
				s.json, s.want = `{"on": {"kind": "space", "id": "ab"}, "reason": "x"}`, 201
			}
			switch who.rights {
			case "":
				s.want = 401
			case "root", "stranger":
				if strings.HasPrefix(name, "DELETE") {
					w.do(t, step{as: who.as, do: "POST /holds", json: `{"on": {"kind": "space", "id": "ab"}, "reason": "x"}`, want: 201, save: "own"})
					s.do = "DELETE /holds/" + w.names["own"]
				}
			default:
				s.want, s.code = 403, "forbidden"
			}
			w.do(t, s)
		}
	}
	w.play(t, []step{
		{as: "stranger", do: "GET /users/me", want: 200, says: `"is_records_manager":true`},
		{as: "stranger", do: "GET /directory/users", want: 403},
		{as: "stranger", do: "GET {product}/attachments", want: 403}, // what is held is not the manager's to read
		{as: "root", do: "PUT /directory/users/{stranger}", json: `{"full_name": "Stranger"}`, want: 200},
		{as: "stranger", do: "GET /holds", want: 403},
		{as: "root", do: "POST /directory/import", json: `{"kind": "user", "id": "{stranger}", "full_name": "Stranger", "is_records_manager": true}`, want: 200},
		{as: "stranger", do: "GET /holds", want: 200},
		{as: "root", do: "POST /directory/import", json: `{"kind": "user", "id": "{stranger}", "full_name": "Stranger"}`, want: 200},
		{as: "stranger", do: "GET /holds", want: 403},
	})
}

func TestWhatIsHeldCannotBeDeletedByAnybody(t *testing.T) {
	t.Parallel()
	for kind, at := range places {
		for _, on := range []string{"attachment", kind, "space"} {
			t.Run(kind+" by a hold on "+on, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, withTrash)
				w.do(t, step{as: "editor", do: "POST " + at.parent + "/attachments", form: parts{file("a.txt", "kept")}, want: 201, save: "A"})
				ids := map[string]string{"attachment": w.names["A"], "space": "a", "product": w.fill(t, "{product.id}"), "ticket": w.fill(t, "{ticket.id}"), "meeting": w.fill(t, "{meeting.id}")}
				parent := map[string]string{"product": "/directory/spaces/a/products/{product.id}", "ticket": "/directory/tickets/{ticket.id}", "meeting": "/directory/meetings/{meeting.id}"}[kind]
				w.do(t, hold(on, ids[on], "H"))
				for _, do := range []string{
					"DELETE " + at.file, "DELETE " + at.file + "?permanent=true",
					"DELETE " + parent, "DELETE " + parent + "?attachments=delete", "DELETE " + parent + "?attachments=delete&permanent=true",
					"DELETE /directory/spaces/a?attachments=delete", "DELETE /directory/spaces/a?attachments=delete&permanent=true",
				} {
					as := "root"
					if strings.HasPrefix(do, "DELETE "+at.file) {
						as = "editor"
					}
					w.do(t, step{as: as, do: do, want: 409, code: "held", says: "is under a legal hold"})
				}
				w.play(t, []step{
					{as: "viewer", do: "GET " + at.download, want: 200, is: "kept"},
					{as: "viewer", do: "DELETE " + at.file, want: 403}, // whether it is held is for those who may delete it
					{as: "root", do: "DELETE /holds/{H}", want: 200},
					{as: "root", do: "GET /holds/{H}", want: 404},
					{as: "editor", do: "DELETE " + at.file, want: 200},
				})
			})
		}
	}
}

func TestAHoldKeepsWhatIsInTheTrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		hold("product", w.fill(t, "{product.id}"), "H"),
		{as: "editor", do: "DELETE /catalog/attachments/{A}?permanent=true", want: 409, code: "held"},
	})
	w.clock.advance(8 * 24 * time.Hour)
	w.emptyTrash(t)
	w.clock.advance(25 * time.Hour)
	w.emptyTrash(t)
	w.do(t, step{as: "editor", do: "GET {product}/trash", want: 200, check: wantNames("id", w.names["A"])})
	w.do(t, step{as: "root", do: "DELETE /holds/{H}", want: 200})
	w.clock.advance(25 * time.Hour)
	w.emptyTrash(t)
	w.do(t, step{as: "editor", do: "GET {product}/trash", want: 200, is: "[]\n"})
	if size := w.trashSize(t); size != 0 {
		t.Errorf("%d files are in the trash", size)
	}
}

func TestAHoldSaysWhatItIsOnWhyAndByWhom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"})
	for i, on := range []struct{ kind, id, space string }{
		{"attachment", w.names["A"], "a"}, {"ticket", w.fill(t, "{ticket.id}"), "a"}, {"space", "a", "a"}, {"space", "ab", "ab"},
	} {
		want := fmt.Sprintf(`{"id": "{H%d}", "on": {"kind": %q, "id": %q}, "space": %q, "reason": "Case 4711", "set_at": "2026-01-15T10:30:00Z", "set_by": {"id": "{root}", "full_name": "Root Person"}}`,
			i, on.kind, on.id, on.space)
		w.do(t, hold(on.kind, on.id, fmt.Sprint("H", i)))
		w.do(t, step{as: "root", do: fmt.Sprintf("GET /holds/{H%d}", i), want: 200, like: want})
	}
	w.play(t, []step{
		{as: "root", do: "GET /holds", want: 200, check: wantNames("id", w.names["H2"], w.names["H1"], w.names["H0"], w.names["H3"])},
		{as: "root", do: "GET /holds?space=ab", want: 200, check: wantNames("id", w.names["H3"])},
		{as: "root", do: "GET /holds?space=none", want: 404, says: `There is no space "none".`},
		{as: "root", do: "GET /holds?space=", want: 400, says: "space must be a slug"},
		{as: "root", do: "GET /holds?cursor=" + forgedCursor("a"), want: 400, says: "cursor must be one"},
	})
	for _, limit := range []int{1, 2, 3} {
		var got []string
		for _, page := range w.pages(t, "root", fmt.Sprint("/holds?limit=", limit), "id") {
			got = append(got, page...)
		}
		if want := []string{w.names["H2"], w.names["H1"], w.names["H0"], w.names["H3"]}; strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("by %d the holds are %q, want %q", limit, got, want)
		}
	}
	// Who set a hold is named after they have gone.
	w.play(t, []step{
		{as: "root", do: "PUT /directory/users/{stranger}", json: `{"full_name": "Stranger", "is_records_manager": true, "is_superadmin": true}`, want: 200},
		{as: "stranger", do: "DELETE /directory/users/{root}", want: 200},
		{as: "stranger", do: "GET /holds/{H3}", want: 200, says: `"set_by":{"id":"` + w.fill(t, "{root}") + `","full_name":"Root Person"}`},
	})
}

func TestAHoldThatCannotBeSetSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
	on := func(kind, id string) string {
		return fmt.Sprintf(`{"on": {"kind": %q, "id": %q}, "reason": "x"}`, kind, id)
	}
	for body, says := range map[string]string{
		`{`:                                    "not valid JSON",
		`{}`:                                   "on must have a kind",
		on("file", newID):                      "on must have a kind",
		on("product", "x"):                     "The id of the product to hold must be a UUID.",
		on("attachment", ""):                   "The id of the attachment to hold must be a UUID.",
		on("space", "No Slug"):                 "The id of a space is its slug",
		`{"on": {"kind": "space", "id": "a"}}`: "A hold needs a reason",
		`{"on": {"kind": "space", "id": "a"}, "reason": " \n "}`:                             "A hold needs a reason",
		`{"on": {"kind": "space", "id": "a"}, "reason": "` + strings.Repeat("x", 501) + `"}`: "500",
		`{"on": {"kind": "space", "id": "a"}, "reason": "a\u0000b"}`:                         "reason",
	} {
		w.do(t, step{as: "root", do: "POST /holds", json: body, want: 400, code: "invalid_request", says: says})
	}
	for body, says := range map[string]string{
		on("space", "none"):                     `There is no space "none".`,
		on("meeting", newID):                    "There is no meeting " + newID,
		on("attachment", newID):                 "There is no attachment " + newID,
		on("attachment", w.names["A"]):          "There is no attachment", // it is in the trash
		on("ticket", w.fill(t, "{product.id}")): "There is no ticket",
	} {
		w.do(t, step{as: "root", do: "POST /holds", json: body, want: 404, code: "not_found", says: says})
	}
	w.play(t, []step{
		{as: "root", do: "GET /holds/" + newID, want: 404, says: "There is no hold " + newID},
		{as: "root", do: "DELETE /holds/" + newID, want: 404, says: "There is no hold " + newID},
		{as: "root", do: "GET /holds", want: 200, is: "[]\n"},
	})
	for range 100 {
		w.do(t, hold("space", "a", ""))
	}
	w.do(t, step{as: "root", do: "POST /holds", json: on("space", "a"), want: 409, code: "conflict", says: "There are 100 holds on it already"})
}

func TestAFullDiskRemovesNothingThatIsHeld(t *testing.T) {
	t.Parallel()
	if *withVersitygw || *withPostgres {
		t.Skip("contents are not on the disk")
	}
	w := newWorld(t, withTrash, filesAtOnce)
	trash := func(place, name string) {
		w.do(t, step{as: "editor", do: "POST " + place + "/attachments", form: parts{file(name+".txt", name+text(1<<20))}, want: 201, save: name})
		w.do(t, step{as: "editor", do: "DELETE " + map[string]string{"{product}": "/catalog", "{meeting}": "{meeting}"}[place] + "/attachments/{" + name + "}", want: 200})
		w.clock.advance(time.Minute)
	}
	trash("{product}", "held")
	trash("{meeting}", "other")
	w.do(t, hold("product", w.fill(t, "{product.id}"), "H"))
	w.full()
	// All of the trash would be room enough, but not what is left of it.
	w.do(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{file("big.txt", text(2<<20-4<<10))}, want: 507, code: "disk_full"})
	if n := w.trashSize(t); n != 2 {
		t.Errorf("%d attachments are in the trash, which could not make room", n)
	}
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("small.txt", text(1<<20-8<<10))}, want: 201})
	w.do(t, step{as: "editor", do: "GET {product}/trash", want: 200, check: wantNames("id", w.names["held"])})
	w.do(t, step{as: "editor", do: "GET {meeting}/trash", want: 200, is: "[]\n"})
	w.disk.gain.Store(0)
	w.disk.free.Store(0)
}

func TestTheAuditLogSaysWhatIsHeldAndWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	product := w.fill(t, "{product.id}")
	before := w.head(t)
	w.do(t, hold("product", product, "H"))
	want := []string{"hold.set | " + w.names["H"] + " | product " + product + ": Case 4711 | a"}
	if got := said(w.since(t, before)); !slices.Equal(got, want) {
		t.Errorf("it says %q, want %q", got, want)
	}
	before = w.head(t)
	w.do(t, step{as: "root", do: "DELETE /holds/{H}", want: 200})
	want[0] = strings.Replace(want[0], "hold.set", "hold.lift", 1)
	if got := said(w.since(t, before)); !slices.Equal(got, want) {
		t.Errorf("it says %q, want %q", got, want)
	}
}
