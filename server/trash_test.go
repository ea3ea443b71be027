package server_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/server"
)

// withTrash keeps what is deleted for a week.
func withTrash(c *server.Config) { c.TrashKeep = 7 * 24 * time.Hour }

// emptyTrash runs the job that empties the trash once.
func (w *world) emptyTrash(t *testing.T) {
	t.Helper()
	if err := w.server.EmptyTrash(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// trashSize is how many attachments are in the trash.
func (w *world) trashSize(t *testing.T) int64 {
	t.Helper()
	size, _, err := w.store.TrashSize(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return size.Files
}

// used is how many files count towards the quota of a space.
func (w *world) used(t *testing.T, slug string) int64 {
	t.Helper()
	_, used, err := w.store.Space(context.Background(), slug)
	if err != nil {
		t.Fatal(err)
	}
	return used.Files
}

func wantNames(member string, want ...string) func(*testing.T, answer) {
	return func(t *testing.T, a answer) {
		t.Helper()
		if got := a.strings(t, member); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("the list has %q, want %q", got, want)
		}
	}
}

// places are the three kinds of places, with the addresses of an attachment {A} there.
var places = map[string]struct{ parent, file, download string }{
	"product": {"{product}", "/catalog/attachments/{A}", "/catalog/attachments/{A}/download"},
	"ticket":  {"{ticket}", "/issues/attachments/{A}", "/issues/attachments/{A}"},
	"meeting": {"{meeting}", "{meeting}/attachments/{A}", "{meeting}/attachments/{A}"},
}

func TestWhatIsDeletedIsGoneAtOnceAndCanBeRestored(t *testing.T) {
	t.Parallel()
	for kind, at := range places {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withTrash)
			w.play(t, []step{
				{as: "editor", do: "POST " + at.parent + "/attachments", form: parts{file("a.png", string(pngOf(t, 3, 2)))}, want: 201, save: "A"},
				{as: "viewer", do: "POST " + at.file + "/links", want: 201, save: "link"},
			})
			before := w.do(t, step{as: "viewer", do: "GET " + at.parent + "/attachments", want: 200})
			w.clock.advance(time.Minute)
			w.play(t, []step{
				{as: "editor", do: "DELETE " + at.file, want: 200, is: `{"message":"Attachment deleted successfully"}` + "\n"},
				{as: "viewer", do: "GET " + at.download, want: 404},
				{as: "viewer", do: "GET " + at.file + "/thumbnail", want: 404},
				{as: "viewer", do: "GET " + at.file + "/preview", want: 404},
				{as: "viewer", do: "POST " + at.file + "/links", want: 404},
				{as: "editor", do: "DELETE " + at.file, want: 404},
				{do: "GET {link}", want: 404},
				{as: "viewer", do: "GET " + at.parent + "/attachments", want: 200, is: "[]\n"},
				{as: "viewer", do: "GET " + at.parent + "/trash", want: 200, is: "[]\n"}, // which is not the viewer's to restore
				{as: "editor", do: "GET " + at.parent + "/trash", want: 200, check: func(t *testing.T, a answer) {
					got := a.list(t)
					if len(got) != 1 {
						t.Fatalf("the trash is %s", a.body)
					}
					by, _ := got[0]["deleted_by"].(map[string]any)
					if got[0]["id"] != w.names["A"] || got[0]["file_name"] != "a.png" || got[0]["deleted_at"] != "2026-01-15T10:31:00Z" ||
						got[0]["expires_at"] != "2026-01-22T10:31:00Z" || by["id"] != w.names["editor"] || by["full_name"] != fullName("editor") {
						t.Errorf("the trash is %s", a.body)
					}
				}},
				{as: "viewer", do: "POST " + at.file + "/restore", want: 403, says: "may restore this file or remove it for good"},
				{as: "viewer", do: "DELETE " + at.file + "?permanent=true", want: 403, says: "may restore this file or remove it for good"},
				{as: "editor", do: "POST " + at.file + "/restore", send: header{"If-Match": `"another"`}, want: 412},
			})
			if used := w.used(t, "a"); used != 0 {
				t.Errorf("%d files count towards the quota", used)
			}
			w.play(t, []step{
				{as: "editor", do: "POST " + at.file + "/restore?now=1", want: 400, says: "There is no query parameter \"now\" here. This address takes none."},
				{as: "editor", do: "POST " + at.file + "/restore", want: 200, check: func(t *testing.T, a answer) {
					if got := "[" + strings.TrimSpace(string(a.body)) + "]\n"; got != string(before.body) {
						t.Errorf("it came back as %s, and was %s", got, before.body)
					}
				}},
				{as: "viewer", do: "GET " + at.parent + "/attachments", want: 200, is: string(before.body)},
				{as: "viewer", do: "GET " + at.download, want: 200, is: string(pngOf(t, 3, 2))},
				{as: "viewer", do: "GET " + at.file + "/thumbnail", want: 200},
				{as: "editor", do: "GET " + at.parent + "/trash", want: 200, is: "[]\n"},
				{as: "editor", do: "POST " + at.file + "/restore", want: 404},
			})
			if used := w.used(t, "a"); used != 1 {
				t.Errorf("%d files count towards the quota", used)
			}
		})
	}
}

func TestAPermanentDeletionLeavesNothing(t *testing.T) {
	t.Parallel()
	for kind, at := range places {
		for _, trashed := range []bool{false, true} {
			t.Run(fmt.Sprintf("of a %s, from the trash: %v", kind, trashed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, withTrash)
				w.do(t, step{as: "editor", do: "POST " + at.parent + "/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"})
				if trashed {
					w.do(t, step{as: "editor", do: "DELETE " + at.file, want: 200})
				} else {
					w.do(t, step{as: "editor", do: "DELETE " + at.file + "?permanent=yes", want: 400})
					w.do(t, step{as: "editor", do: "DELETE " + at.file + "?permanent=true&permanent=true", want: 400})
				}
				w.play(t, []step{
					{as: "viewer", do: "DELETE " + at.file + "?permanent=true", want: 403},
					{as: "editor", do: "DELETE " + at.file + "?permanent=true", send: header{"If-Match": `"another"`}, want: 412},
					{as: "editor", do: "DELETE " + at.file + "?permanent=true", want: 200, is: `{"message":"Attachment deleted successfully"}` + "\n"},
					{as: "editor", do: "DELETE " + at.file + "?permanent=true", want: 404},
					{as: "editor", do: "POST " + at.file + "/restore", want: 404},
				})
				if n, files := w.records(), w.storedContents(); n != 0 || files != 0 || w.trashSize(t) != 0 {
					t.Errorf("%d records and %d contents are left", n, files)
				}
				if e := w.audit(t, "attachment.purge"); e.Resource.Name != "a.txt" {
					t.Errorf("the entry is %+v", e)
				}
			})
		}
	}
}

func TestWithoutATrashADeletionIsForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "viewer", do: "GET /limits", want: 200, check: func(t *testing.T, a answer) {
			if got := a.object(t)["trash_keep_seconds"]; got != 0.0 {
				t.Errorf("trash_keep_seconds is %v", got)
			}
		}},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "editor", do: "POST /catalog/attachments/{A}/restore", want: 404},
		{as: "editor", do: "GET {product}/trash", want: 200, is: "[]\n"},
	})
	if files := w.storedContents(); files != 0 {
		t.Errorf("%d contents are left", files)
	}
}

func TestTheTrashOfAPlaceIsPagedAndShowsWhatTheCallerMayDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	for n := range 4 {
		who := []string{"editor", "admin"}[n%2]
		name := fmt.Sprint("F", n)
		w.play(t, []step{
			{as: who, do: "POST {product}/attachments", form: parts{file(name+".txt", name)}, want: 201, save: name},
			{as: who, do: "DELETE /catalog/attachments/{" + name + "}", want: 200},
		})
	}
	w.play(t, []step{
		{as: "admin", do: "GET {product}/trash", want: 200, check: wantNames("file_name", "F0.txt", "F1.txt", "F2.txt", "F3.txt")},
		{as: "editor", do: "GET {product}/trash", want: 200, check: wantNames("file_name", "F0.txt", "F2.txt")},
		{as: "editor", do: "GET {product}/trash?limit=1", want: 200, check: wantNames("file_name", "F0.txt")},
		{as: "stranger", do: "GET {product}/trash", want: 403},
		{as: "admin", do: "GET {product}/trash?name=a", want: 400},
		{as: "admin", do: "GET {product}/trash?limit=0", want: 400},
		{as: "admin", do: "GET {product}/trash?cursor=bm8", want: 400},
		{as: "viewer", do: "GET /directory/spaces/a/trash", want: 403},
		{as: "editor", do: "GET /directory/spaces/a/trash", want: 403},
		{as: "admin", do: "GET /directory/spaces/ab/trash", want: 403},
		{as: "admin", do: "GET /directory/spaces/none/trash", want: 404},
		{as: "admin", do: "GET /directory/trash", want: 403},
	})
	var seen []string
	for next := "{product}/trash?limit=1"; next != ""; {
		a := w.do(t, step{as: "admin", do: "GET " + next, want: 200})
		seen = append(seen, a.strings(t, "file_name")...)
		next, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
	}
	if strings.Join(seen, " ") != "F0.txt F1.txt F2.txt F3.txt" {
		t.Errorf("page by page, the trash is %q", seen)
	}
}

func TestTheTrashOfASpaceSaysWhatItHasAndWhereThatWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("first.txt", "1")}, want: 201, save: "A"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("b.txt", "22")}, want: 201, save: "B"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("c.txt", "333")}, want: 201, save: "C"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
	w.clock.advance(time.Minute)
	w.play(t, []step{
		{as: "root", do: "DELETE /directory/meetings/{meeting.id}", want: 409},
		{as: "root", do: "DELETE /directory/meetings/{meeting.id}?attachments=delete", want: 200, is: `{"message":"Meeting deleted successfully"}` + "\n"},
	})
	person := func(name string) string {
		return fmt.Sprintf(`{"id": %q, "full_name": %q}`, w.names[name], fullName(name))
	}
	meeting := `{"kind": "meeting", "id": "` + w.names["meeting.id"] + `", "name": "A meeting", "parent": {"kind": "space", "id": "a"}, "files": 2, "bytes": 5,
		"deleted_at": "2026-01-15T10:31:00Z", "deleted_by": ` + person("root") + `, "expires_at": "2026-01-22T10:31:00Z"}`
	attachment := `{"kind": "attachment", "id": "` + w.names["A"] + `", "name": "first.txt", "parent": {"kind": "product", "id": "` + w.names["product.id"] + `"}, "files": 1, "bytes": 1,
		"deleted_at": "2026-01-15T10:30:00Z", "deleted_by": ` + person("editor") + `, "expires_at": "2026-01-22T10:30:00Z"}`
	w.play(t, []step{
		{as: "admin", do: "GET /directory/spaces/a/trash", want: 200, like: "[" + meeting + "," + attachment + "]"},
		{as: "admin", do: "GET /directory/spaces/a/trash?limit=1", want: 200, like: "[" + meeting + "]", check: func(t *testing.T, a answer) {
			next, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
			w.do(t, step{as: "admin", do: "GET " + next, want: 200, like: "[" + attachment + "]"})
		}},
		{as: "root", do: "GET /directory/trash", want: 200, is: "[]\n"},
		{as: "root", do: "DELETE /directory/spaces/a?attachments=delete", want: 200},
		{as: "admin", do: "GET /directory/spaces/a/trash", want: 404},
		{as: "root", do: "GET /directory/trash", want: 200, check: func(t *testing.T, a answer) {
			got := a.list(t)
			if len(got) != 1 || got[0]["kind"] != "space" || got[0]["id"] != "a" || got[0]["name"] != "The space a" || got[0]["parent"] != nil {
				t.Errorf("the spaces in the trash are %s", a.body)
			}
		}},
	})
	for _, path := range []string{"/directory/spaces/ab/trash", "/directory/trash"} { // a cursor may be anything
		for _, cursor := range []string{"AA", "bm8", strings.Repeat("_", 400)} {
			if a, err := w.send(t, step{as: "root", do: "GET " + path + "?cursor=" + cursor}); err != nil || a.status != 200 && a.status != 400 {
				t.Errorf("%s with the cursor %s: %d, %v", path, cursor, a.status, err)
			}
		}
	}
}

func TestWhatIsDeletedTogetherComesBackTogether(t *testing.T) {
	t.Parallel()
	for kind, c := range map[string]struct{ object, parent, download string }{
		"product": {"/directory/spaces/a/products/{product.id}", "{product}", "/catalog/attachments/{A}/download"},
		"ticket":  {"/directory/tickets/{ticket.id}", "{ticket}", "/issues/attachments/{A}"},
		"meeting": {"/directory/meetings/{meeting.id}", "{meeting}", "{meeting}/attachments/{A}"},
		"space":   {"/directory/spaces/a", "{product}", "/catalog/attachments/{A}/download"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withTrash)
			was := w.do(t, step{as: "root", do: "GET " + c.object, want: 200})
			w.play(t, []step{
				{as: "editor", do: "POST " + c.parent + "/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
				{as: "root", do: "POST " + c.object + "/restore", want: 404},
				{as: "root", do: "DELETE " + c.object, want: 409},
				{as: "root", do: "DELETE " + c.object + "?attachments=delete&permanent=1", want: 400},
				{as: "admin", do: "DELETE " + c.object + "?attachments=delete", want: 403},
				{as: "root", do: "DELETE " + c.object + "?attachments=delete", want: 200},
				{as: "root", do: "GET " + c.object, want: 404},
				{as: "root", do: "GET " + c.download, want: 404},
				{as: "admin", do: "POST " + c.object + "/restore", want: 403},
				{as: "root", do: "DELETE " + c.object + "?permanent=true", want: 409, says: "attachments=delete"},
			})
			if n, files := w.trashSize(t), w.storedContents(); n != 1 || files != 1 {
				t.Errorf("%d attachments are in the trash, and %d contents are there", n, files)
			}
			w.play(t, []step{
				{as: "root", do: "POST " + c.object + "/restore", want: 200},
				{as: "viewer", do: "GET " + c.download, want: 200, is: "a"},
			})
			is := w.do(t, step{as: "root", do: "GET " + c.object, want: 200})
			if kind != "space" && string(is.body) != string(was.body) {
				t.Errorf("it came back as %s, and was %s", is.body, was.body)
			}
			w.play(t, []step{
				{as: "root", do: "DELETE " + c.object + "?attachments=delete", want: 200},
				{as: "root", do: "DELETE " + c.object + "?attachments=delete&permanent=true", want: 200},
				{as: "root", do: "POST " + c.object + "/restore", want: 404},
				{as: "root", do: "DELETE " + c.object + "?attachments=delete&permanent=true", want: 404},
			})
			w.server.RunJobOnce(context.Background(), "remove deleted")
			if n, files := w.records(), w.storedContents(); n != 0 || files != 0 || w.trashSize(t) != 0 {
				t.Errorf("%d records and %d contents are left", n, files)
			}
		})
	}
}

func TestWhatIsInTheTrashWithItsParentIsRestoredWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"},
		{as: "editor", do: "DELETE /catalog/attachments/{B}", want: 200},
		{as: "root", do: "DELETE /directory/spaces/a/products/{product.id}?attachments=delete", want: 200},
		{as: "root", do: "POST /catalog/attachments/{A}/restore", want: 404}, // it was not deleted by itself
		{as: "root", do: "POST /catalog/attachments/{B}/restore", want: 409, says: "estore"},
		{as: "editor", do: "POST /catalog/attachments/{A}/restore", want: 404},
		{as: "root", do: "POST /directory/spaces/ab/products/{product.id}/restore", want: 404},
		{as: "root", do: "DELETE /directory/spaces/a?attachments=delete", want: 200},
		{as: "root", do: "POST /directory/spaces/a/products/{product.id}/restore", want: 409, says: "estore"},
		{as: "root", do: "POST /directory/spaces/a/restore", want: 200},
		{as: "root", do: "POST /directory/spaces/a/products/{product.id}/restore", want: 200},
		{as: "viewer", do: "GET {product}/attachments", want: 200, check: wantNames("file_name", "a.txt")},
		{as: "editor", do: "POST /catalog/attachments/{B}/restore", want: 200},
		{as: "viewer", do: "GET {product}/attachments", want: 200, check: wantNames("file_name", "a.txt", "b.txt")},
	})
}

func TestWhatComesBackHasToFitIntoTheQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "root", do: "PUT /directory/spaces/a", json: `{"name": "The space a", "quota_files": 2}`, want: 200},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("c.txt", "c")}, want: 507, code: "quota_exceeded"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("c.txt", "c")}, want: 201, save: "C"},
		{as: "editor", do: "POST /catalog/attachments/{A}/restore", want: 507, code: "quota_exceeded"},
		{as: "root", do: "DELETE /directory/meetings/{meeting.id}?attachments=delete", want: 200},
		{as: "editor", do: "POST /catalog/attachments/{A}/restore", want: 200},
		{as: "root", do: "POST /directory/meetings/{meeting.id}/restore", want: 507, code: "quota_exceeded"},
		{as: "editor", do: "DELETE /catalog/attachments/{B}", want: 200},
		{as: "root", do: "POST /directory/meetings/{meeting.id}/restore", want: 200},
	})
}

func TestWhatWasInTheTrashLongEnoughIsRemovedForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("c.txt", "c")}, want: 201, save: "C"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "root", do: "DELETE /directory/meetings/{meeting.id}?attachments=delete", want: 200},
	})
	w.clock.advance(7*24*time.Hour - time.Second)
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{B}", want: 200})
	w.emptyTrash(t)
	if n := w.trashSize(t); n != 3 {
		t.Errorf("%d attachments are in the trash a second early", n)
	}
	w.clock.advance(time.Second)
	w.emptyTrash(t)
	w.server.RunJobOnce(context.Background(), "remove deleted")
	if n, files := w.trashSize(t), w.storedContents(); n != 1 || files != 1 {
		t.Errorf("%d attachments and %d contents are left, want that of the later deletion", n, files)
	}
	w.play(t, []step{
		{as: "editor", do: "POST /catalog/attachments/{A}/restore", want: 404},
		{as: "root", do: "POST /directory/meetings/{meeting.id}/restore", want: 404},
		{as: "editor", do: "POST /catalog/attachments/{B}/restore", want: 200},
	})
	if e := w.audit(t, "trash.purge"); e.Resource.Name != "2" {
		t.Errorf("the entry is %+v", e)
	}
}

// A clock that jumps ahead removes nothing.
func TestAClockThatIsAheadEmptiesNoTrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
	w.emptyTrash(t) // which reads the clock
	w.clock.set(365 * 24 * time.Hour)
	w.emptyTrash(t)
	if n := w.trashSize(t); n != 1 {
		t.Errorf("%d attachments are in the trash", n)
	}
}

// What is deleted while the clock is behind is kept for its time, too, once the clock is right.
func TestAClockThatWasBehindEmptiesNoTrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("c.txt", "c")}, want: 201, save: "C"},
	})
	w.emptyTrash(t) // which reads the clock
	w.clock.set(-60 * 24 * time.Hour)
	w.play(t, []step{
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "root", do: "DELETE /directory/meetings/{meeting.id}?attachments=delete", want: 200},
	})
	w.emptyTrash(t)
	w.clock.set(60 * 24 * time.Hour)
	w.clock.advance(6 * 24 * time.Hour)
	w.emptyTrash(t)
	if n := w.trashSize(t); n != 2 {
		t.Errorf("%d attachments are in the trash after six days", n)
	}
	w.clock.advance(25 * time.Hour)
	w.emptyTrash(t)
	if n := w.trashSize(t); n != 0 {
		t.Errorf("%d attachments are in the trash after a week", n)
	}
}

// full makes the disk full: each content that is removed makes room for one more.
func (w *world) full() {
	w.disk.gain.Store(1 << 20)
	w.disk.free.Store(w.server.DiskReserve)
}

func TestOnAFullDiskTheOldestInTheTrashMakesRoom(t *testing.T) {
	t.Parallel()
	if *withVersitygw || *withPostgres {
		t.Skip("contents are not on the disk")
	}
	w := newWorld(t, withTrash, filesAtOnce)
	for n := range 3 {
		name := fmt.Sprint("F", n)
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(name+".txt", name+text(1<<20))}, want: 201, save: name})
		w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{" + name + "}", want: 200})
		w.clock.advance(time.Minute)
	}
	w.do(t, step{as: "editor", do: "POST {meeting}/attachments", form: parts{file("m.txt", text(1<<20))}, want: 201, save: "M"})
	w.do(t, step{as: "root", do: "DELETE /directory/meetings/{meeting.id}?attachments=delete", want: 200})
	w.full()
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("big.txt", text(3<<20-4<<10))}, want: 201, save: "big"})
	if n := w.trashSize(t); n != 1 {
		t.Errorf("%d attachments are in the trash", n)
	}
	if e := w.audit(t, "trash.purge"); e.Resource.Name == "" {
		t.Errorf("the entry is %+v", e)
	}
	w.full()
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("more.txt", text(9<<20))}, want: 507, code: "disk_full"})
	if n := w.trashSize(t); n != 1 {
		t.Errorf("%d attachments are in the trash, which could not make room", n)
	}
	w.disk.gain.Store(0)
	w.disk.free.Store(0)
}

func TestDeletingMakesRoomOnAFullDisk(t *testing.T) {
	t.Parallel()
	if *withVersitygw || *withPostgres {
		t.Skip("contents are not on the disk")
	}
	w := newWorld(t, withTrash, filesAtOnce)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"})
	w.disk.gain.Store(1 << 20)
	w.disk.free.Store(w.server.DiskReserve - 1)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 507, code: "disk_full"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
	w.emptyTrash(t)
	if n := w.trashSize(t); n != 0 {
		t.Errorf("%d attachments are in the trash", n)
	}
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201})
	w.disk.gain.Store(0)
	w.disk.free.Store(0)
}

// What is in the trash is not given up for nothing: while a backup is under way, no content
// is removed.
func TestNothingLeavesTheTrashWhereThatMakesNoRoom(t *testing.T) {
	t.Parallel()
	if *withVersitygw || *withPostgres {
		t.Skip("contents are not on the disk")
	}
	w := newWorld(t, withTrash, filesAtOnce)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
	_, body := w.lease(t, w.operator(t))
	w.full()
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", text(1<<20))}, want: 507, code: "disk_full"})
	w.disk.gain.Store(0)
	w.disk.free.Store(0)
	w.must(body.Close())
	w.do(t, step{as: "editor", do: "POST /catalog/attachments/{A}/restore", want: 200})
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/download", want: 200, is: "a"})
}

// Of two who restore and remove for good at once, the content is there for whom it is told
// to be there.
func TestARestoreAndAPermanentDeletionAtOnceAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	for n := range 20 {
		name := fmt.Sprint("R", n)
		at := "/catalog/attachments/{" + name + "}"
		w.play(t, []step{
			{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", name)}, want: 201, save: name},
			{as: "editor", do: "DELETE " + at, want: 200},
		})
		var restored, purged answer
		var wait sync.WaitGroup
		wait.Go(func() { restored, _ = w.send(t, step{as: "editor", do: "POST " + at + "/restore"}) })
		wait.Go(func() { purged, _ = w.send(t, step{as: "admin", do: "DELETE " + at + "?permanent=true"}) })
		wait.Wait()
		if purged.status != 200 || restored.status != 200 && restored.status != 404 {
			t.Errorf("the restore was answered %d, the deletion %d", restored.status, purged.status)
		}
		w.do(t, step{as: "viewer", do: "GET " + at + "/download", want: 404})
		w.do(t, step{as: "editor", do: "POST " + at + "/restore", want: 404})
	}
	if n, files := w.records(), w.storedContents(); n != 0 || files != 0 {
		t.Errorf("%d records and %d contents are left", n, files)
	}
}

func TestARestoreAndAPermanentDeletionOfAMeetingAtOnceAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	for range 10 {
		id := uuid.NewString()
		at := "/directory/meetings/" + id
		w.play(t, []step{
			{as: "root", do: "PUT " + at, json: `{"space": "a"}`, want: 201},
			{as: "root", do: "POST /meetings/" + id + "/attachments", form: parts{file("a.txt", id)}, want: 201},
			{as: "root", do: "DELETE " + at + "?attachments=delete", want: 200},
		})
		var restored, purged answer
		var wait sync.WaitGroup
		wait.Go(func() { restored, _ = w.send(t, step{as: "root", do: "POST " + at + "/restore"}) })
		wait.Go(func() {
			purged, _ = w.send(t, step{as: "root", do: "DELETE " + at + "?permanent=true&attachments=delete"})
		})
		wait.Wait()
		if purged.status != 200 || restored.status != 200 && restored.status != 404 {
			t.Errorf("the restore was answered %d, the deletion %d", restored.status, purged.status)
		}
		w.do(t, step{as: "root", do: "GET /meetings/" + id + "/attachments", want: 404})
		w.do(t, step{as: "root", do: "POST " + at + "/restore", want: 404})
	}
}

func TestTheTrashOutlivesARestartAndAllUpkeep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", alphabet)}, want: 201, save: "A"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("m.txt", "m")}, want: 201, save: "M"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "root", do: "DELETE /directory/meetings/{meeting.id}?attachments=delete", want: 200},
	})
	w.flushContents()
	w.restart()
	w.play(t, []step{
		{as: "root", do: "POST /upkeep/gc", json: `{"min_age": 0}`, want: 200, like: `{"report": {"contents": 0, "bytes": 0}}`},
		{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200, like: `{"report": {"attachments": 2, "contents": 2, "bytes": 27, "faults": [], "orphans": 0, "orphan_bytes": 0}}`},
	})
	w.restart()
	w.play(t, []step{
		{as: "editor", do: "POST /catalog/attachments/{A}/restore", want: 200},
		{as: "viewer", do: "GET /catalog/attachments/{A}/download", want: 200, is: alphabet},
		{as: "root", do: "POST /directory/meetings/{meeting.id}/restore", want: 200},
		{as: "viewer", do: "GET {meeting}/attachments/{M}", want: 200, is: "m"},
	})
}

func TestTheTrashIsTold(t *testing.T) {
	t.Parallel()
	l, tell := listen(t)
	w := newWorld(t, tell, withTrash)
	w.deliver(t)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "admin", do: "POST /catalog/attachments/{A}/restore", want: 200},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "admin", do: "DELETE /catalog/attachments/{A}?permanent=true", want: 200},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"},
		{as: "editor", do: "DELETE /catalog/attachments/{B}", want: 200},
	})
	l.taken(7)
	w.clock.advance(8 * 24 * time.Hour)
	w.emptyTrash(t)
	var got []string
	for _, e := range l.taken(8) {
		who := "nobody"
		if id := e.Data.Actor.UserID; id != nil {
			for _, name := range []string{"editor", "admin"} {
				if w.names[name] == *id {
					who = name
				}
			}
		}
		got = append(got, fmt.Sprintf("%s %s by %s", strings.TrimPrefix(e.Type, "attachment."), e.Data.Attachment.FileName, who))
	}
	want := "created a.txt by editor|deleted a.txt by editor|restored a.txt by admin|deleted a.txt by editor|purged a.txt by admin|created b.txt by editor|deleted b.txt by editor|purged b.txt by nobody"
	if strings.Join(got, "|") != want {
		t.Errorf("told of %s\nwant %s", strings.Join(got, "|"), want)
	}
	for _, action := range []string{"attachment.restore", "attachment.purge"} {
		if e := w.audit(t, action); e.Resource.Name != "a.txt" {
			t.Errorf("the entry is %+v", e)
		}
	}
}

func TestStatsAndMetricsSayWhatIsInTheTrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "abc")}, want: 201, save: "A"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "root", do: "GET /stats", want: 200, check: func(t *testing.T, a answer) {
			trash, _ := a.object(t)["trash"].(map[string]any)
			if trash["files"] != 1.0 || trash["bytes"] != 3.0 || trash["next_expiry"] != "2026-01-22T10:30:00Z" || trash["keep_seconds"] != 604800.0 {
				t.Errorf("the trash is %v", trash)
			}
		}},
	})
	w.do(t, hold("product", w.fill(t, "{product.id}"), "H"))
	if !w.measures(t, "attachd_trash_files 1", "attachd_trash_bytes 3", "attachd_trash_held_bytes 3", "attachd_trash_next_expiry_timestamp_seconds 1.7690778e+09") {
		t.Error("the metrics do not say so")
	}
	w.do(t, step{as: "root", do: "DELETE /holds/{H}", want: 200})
	if !w.measures(t, "attachd_trash_held_bytes 0") {
		t.Error("the metrics do not say that nothing is held")
	}
}

// A parent that is put anew has none of its old files, which can be restored into it.
func TestAParentThatIsPutAnewBeginsWithoutItsFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "root", do: "DELETE /directory/spaces/a/products/{product.id}?attachments=delete", want: 200},
		{as: "root", do: "PUT /directory/spaces/a/products/{product.id}", json: `{"name": "New"}`, want: 201},
		{as: "viewer", do: "GET {product}/attachments", want: 200, is: "[]\n"},
		{as: "root", do: "POST /directory/spaces/a/products/{product.id}/restore", want: 404},
		{as: "editor", do: "POST /catalog/attachments/{A}/restore", want: 200},
		{as: "viewer", do: "GET {product}/attachments", want: 200, check: wantNames("file_name", "a.txt")},
	})
}
