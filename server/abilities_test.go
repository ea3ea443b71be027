package server_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/server"
	"attachd/store"
)

// plainStore and plainBlobs are backends without optional features.
type (
	plainStore struct{ store.Store }
	plainBlobs struct{ blobs.Store }
)

// plain gives a server backends without optional features.
func plain(c *server.Config) {
	c.Store, c.Blobs = plainStore{c.Store}, plainBlobs{c.Blobs}
	c.Abilities = server.AbilitiesOf(c.Store, c.Blobs)
}

func TestEveryAbilityOfTheFilesIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := server.AbilitiesOf(w.store, w.blobs)
	if a.Stager == nil || a.Snapshotter == nil || a.Compacter == nil || a.Verifier == nil ||
		a.Batcher == nil || a.Versioner == nil || a.Marker == nil || len(a.Watched) != 2 {
		t.Errorf("found %+v", a)
	}
	a = server.AbilitiesOf(plainStore{w.store}, plainBlobs{w.blobs})
	if a.Stager != nil || a.Snapshotter != nil || a.Compacter != nil || a.Verifier != nil ||
		a.Batcher != nil || a.Versioner != nil || a.Marker != nil || len(a.Watched) > 0 {
		t.Errorf("of backends without any, found %+v", a)
	}
}

func TestFilesComeAndGoOnAnyBackends(t *testing.T) {
	t.Parallel()
	l, tell := listen(t)
	w := newWorld(t, plain, tell)
	large := strings.Repeat("large ", 20_000)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("small.txt", "small")}, want: 201, save: "S"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("large.txt", large)}, want: 201, save: "L"},
		{as: "editor", do: "POST {ticket}/attachments", form: parts{file("again.txt", "small")}, want: 201, save: "A"},
	})
	if n, staged := w.storedContents(), w.bolt().Staged().Bytes; n != 2 || staged != 0 {
		t.Errorf("%d contents are stored, and %d bytes are staged", n, staged)
	}
	w.play(t, []step{
		{as: "viewer", do: "GET {S.at}", want: 200, is: "small"},
		{as: "viewer", do: "GET {L.at}", want: 200, is: large},
		{as: "viewer", do: "GET {L.at}", want: 200, is: large}, // hashed again: whether it was changed cannot be determined
		{as: "viewer", do: "GET {L.at}", send: header{"Range": "bytes=6-10"}, want: 206, is: "large"},
		{as: "viewer", do: "GET {product}/attachments", want: 200, check: func(t *testing.T, a answer) {
			if list := a.list(t); len(list) != 2 {
				t.Errorf("listed: %v", list)
			}
		}},
		{as: "admin", do: "DELETE /catalog/attachments/{S}", want: 200},
		{as: "viewer", do: "GET {S.at}", want: 404},
		{as: "viewer", do: "GET {A.at}", want: 200, is: "small"}, // others have the same
		{as: "admin", do: "DELETE /catalog/attachments/{L}", want: 200},
	})
	eventually(t, "the content of the last to go", func() bool { return w.storedContents() == 1 })
	w.deliver(t)
	if events := l.taken(5); events[0].Type != "attachment.created" || events[4].Type != "attachment.deleted" {
		t.Errorf("told: %+v", events)
	}
	if entries := w.auditLog(t, "?action=attachment.upload"); len(entries) != 3 {
		t.Errorf("the audit log has %v", entries)
	}
	w.do(t, step{as: "root", do: "POST /upkeep/audit", want: 200, check: func(t *testing.T, a answer) {
		if !strings.Contains(string(a.body), `"faults":[]`) {
			t.Errorf("the audit log is not whole: %s", a.body)
		}
	}})
}

func TestUpkeepWorksOnAnyBackends(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, plain, filesAtOnce, withScrub)
	orphan, err := w.blobs.Create(t.Context())
	w.must(err)
	_, err = orphan.Write([]byte("of nobody"))
	w.must(err)
	release, err := orphan.Keep(t.Context())
	w.must(err)
	release()
	commands := w.operator(t)
	w.play(t, []step{
		{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200, like: `{"report": {"attachments": 1, "contents": 2, "bytes": 35, "faults": [], "orphans": 1, "orphan_bytes": 9}}`},
		{as: "root", do: "POST /upkeep/gc", json: `{"min_age": 0}`, want: 200, like: `{"report": {"contents": 1, "bytes": 9}}`},
		{as: "root", do: "GET /stats", want: 200, check: func(t *testing.T, a answer) {
			if o := a.object(t); o["damaged"] != 0.0 || o["database_faults"] != 0.0 {
				t.Errorf("the statistics: %s", a.body)
			}
		}},
		{do: "GET /health/ready", want: 200},
		{as: "viewer", do: "GET /faults", want: 200, like: `[]`},
	})
	if !w.measures(t, "attachd_damaged_contents 0", "attachd_database_faults 0", "attachd_pending_bytes 0") {
		t.Error("the metrics show something else")
	}
	status, err := http.Get(commands + "/upkeep/status")
	w.must(err)
	if a := readAnswer(status); a.status != 200 || strings.Contains(string(a.body), `"database"`) || strings.Contains(string(a.body), `"damage"`) {
		t.Errorf("the status: %d %s", a.status, a.body)
	}
	w.startScrub()
	eventually(t, "a pass of the scrub", func() bool {
		w.clock.advance(time.Second)
		return w.measures(t, "attachd_scrub_progress_ratio 1")
	})
}

// Damage is found and reported where it cannot be remembered.
func TestDamageIsToldOnAnyBackends(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, plain, filesAtOnce, withScrub)
	sound, err := os.ReadFile(w.blobFile(t, "{A}"))
	w.must(err)
	w.damage(t, "{A}")
	for _, message := range []string{"a stored content is damaged", "a check found faults", "the scrub found a fault"} {
		w.expectLog(message)
	}
	for range 2 {
		if a, err := w.send(t, step{as: "viewer", do: "GET {A.at}"}); err == nil && a.cut == nil && a.status < 500 {
			t.Errorf("a damaged file was answered %d %q", a.status, a.body)
		}
		a := w.do(t, step{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200})
		if !strings.Contains(string(a.body), w.fill(t, `"attachment":"{A}"`)) || !strings.Contains(string(a.body), "The content is damaged: its bytes are not those that were uploaded.") {
			t.Errorf("the check tells %s", a.body)
		}
	}
	if n := w.blobs.Damaged(); n != 0 {
		t.Errorf("%d are marked", n)
	}
	w.startScrub()
	eventually(t, "the scrub to tell of it", func() bool {
		w.clock.advance(time.Second)
		return strings.Contains(strings.Join(w.log.lines(), "\n"), "the scrub found a fault")
	})
	w.must(os.WriteFile(w.blobFile(t, "{A}"), sound, 0o600))
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet},
		{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200, like: `{"report": {"attachments": 1, "contents": 1, "bytes": 26, "faults": [], "orphans": 0, "orphan_bytes": 0}}`},
	})
}

func TestARouteWithoutItsAbilityAnswers409(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plain)
	commands := w.operator(t)
	for path, says := range map[string]string{
		"/upkeep/compact":  "Compacting the database is not possible with the storage that this server uses.",
		"/upkeep/migrate":  "Moving the contents is not possible with the storage that this server uses.",
		"/upkeep/snapshot": "A snapshot of the metadata is not possible with the storage that this server uses.",
	} {
		response, err := http.Post(commands+path, "", nil)
		w.must(err)
		a := readAnswer(response)
		if o := a.object(t); a.status != 409 || o["code"] != "conflict" || o["detail"] != says {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}
