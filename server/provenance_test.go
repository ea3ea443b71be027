package server_test

import (
	"slices"
	"testing"
	"time"
)

// An imported file is whose it was, and as old as it was; the audit log names who
// imported it.
// ASVS 8.2.1
func TestASuperadminImportsFilesOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const old = "2019-05-04T11:30:00.25+02:00"
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			upload := step{as: "root", do: "POST " + kind.parent + "/attachments", form: parts{file("b.txt", "b")}, want: 201}
			now := upload
			now.form = parts{file("now.txt", "now")}
			first := w.do(t, now).object(t)["id"].(string)
			upload.send = header{"X-Uploaded-By": "{viewer}", "X-Created-At": old} // who may not upload here
			for _, name := range []string{"b.txt", "c.txt"} {
				upload.form = parts{file(name, name)}
				a := w.do(t, upload).object(t)
				if by := a["uploaded_by"].(map[string]any); a["created_at"] != "2019-05-04T09:30:00Z" || by["id"] != w.names["viewer"] || by["full_name"] != "Viewer Person" {
					t.Errorf("imported is %v", a)
				}
				if e := w.audit(t, "attachment.upload"); e.Resource.ID != a["id"] || e.Actor.UserID != w.names["root"] || !e.Time.Equal(startOfTime) {
					t.Errorf("the audit log says %+v", e)
				}
			}
			// The ids made since follow those made before, although the clock stands.
			const timeOfID = len("019bc134-79dc-7a41")
			if second := w.do(t, now).object(t)["id"].(string); second[:timeOfID] <= first[:timeOfID] {
				t.Errorf("the id %s follows %s", second, first)
			}
			list := w.do(t, step{as: "viewer", do: "GET " + kind.parent + "/attachments", want: 200})
			if got := list.strings(t, "file_name"); len(got) != 4 || !slices.Equal(got[2:], []string{"now.txt", "now.txt"}) {
				t.Errorf("listed are %q", got)
			}
		})
	}
}

// ASVS 8.2.1
func TestOnlyASuperadminSaysWhereAFileComesFrom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	upload := func(as string, want int, send header) {
		t.Helper()
		w.do(t, step{as: as, do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, send: send, want: want})
	}
	for _, as := range []string{"editor", "admin", "root for editor", "root for admin"} {
		upload(as, 403, header{"X-Uploaded-By": "{editor}"})
		upload(as, 403, header{"X-Created-At": "2019-05-04T09:30:00Z"})
		upload(as, 403, header{"X-Created-At": "nonsense"})
	}
	tomorrow := startOfTime.Add(24 * time.Hour).Format(time.RFC3339)
	for _, at := range []string{"", "2019-05-04", "1969-12-31T23:59:59Z", tomorrow} {
		upload("root", 400, header{"X-Created-At": at})
	}
	for _, by := range []string{"", "Viewer Person", newID} {
		upload("root", 400, header{"X-Uploaded-By": by})
	}
	if got := w.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200}); string(got.body) != "[]\n" {
		t.Errorf("the list has %s", got.body)
	}
	upload("root", 201, header{"X-Created-At": "1970-01-01T00:00:00Z"})
	upload("root for root", 201, header{"X-Uploaded-By": "{editor}"})
	w.serve(w.server.Operator())
	upload("", 403, header{"X-Created-At": "2019-05-04T09:30:00Z"}) // nobody to name as its uploader
	upload("", 201, header{"X-Uploaded-By": "{editor}"})
}
