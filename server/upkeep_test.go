package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/disk"
)

// operators are the routes for operators, beside the directory.
var operators = []string{"GET /stats", "POST /upkeep/check", "POST /upkeep/gc", "POST /upkeep/audit", "GET /audit-logs", "GET /audit-logs/export", "GET /webhooks", "GET /webhooks/dead-letters"}

func TestUpkeepIsForSuperadmins(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	for _, name := range operators {
		for _, who := range callers() {
			s := step{as: who.as, do: name, want: 403}
			switch who.rights {
			case "":
				s.want = 401
			case "root":
				s.want = 200
			}
			m.do(t, s)
		}
	}
}

// commandsOnly are the routes that no key opens.
var commandsOnly = []string{"POST /upkeep/signing-key", "POST /upkeep/compact", "POST /upkeep/migrate", "POST /upkeep/snapshot", "GET /upkeep/contents/:content", "GET /upkeep/status", "PUT /upkeep/backup"}

// CVE-2026-52812
func TestWhatCommandsNeedIsForCommandsOnly(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	for _, name := range commandsOnly {
		for _, who := range callers() {
			s := step{as: who.as, do: strings.Replace(name, ":content", blobs.Ref(m.content.SHA256).String(), 1), want: 403}
			if who.rights == "" {
				s.want = 401
			}
			m.do(t, s)
		}
	}
}

// plant stores a content that nothing refers to.
func (w *world) plant(t *testing.T, content string, written time.Time) (path string) {
	t.Helper()
	ref := blobs.Ref(sha256.Sum256([]byte(content))).String()
	path = filepath.Join(w.dir, "blobs", "sha256", ref[:2], ref)
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chtimes(path, written, written)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckAnswersWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.expectLog("a check found faults")
	w.expectLog("a stored content is damaged")
	ref := filepath.Base(w.blobFile(t, "{A}"))
	clean := fmt.Sprintf(`{"report": {"attachments": 1, "contents": 1, "bytes": %d, "faults": [], "orphans": 0, "orphan_bytes": 0}}`, len(alphabet))
	found := func(what string) string {
		return fmt.Sprintf(`{"report": {"attachments": 1, "contents": 1, "bytes": %d, "faults": [{"attachment": "{A}", "file_name": "a.txt", "blob": "%s", "what": "%s"}], "orphans": 0, "orphan_bytes": 0}}`, len(alphabet), ref, what)
	}
	w.play(t, []step{
		{as: "root", do: "POST /upkeep/check", want: 200, like: clean, header: header{"Content-Type": "application/x-ndjson"}},
		{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200, like: clean},
		{as: "root", do: "POST /upkeep/check", json: `{"deep": "yes"}`, want: 400},
		{as: "root", do: "POST /upkeep/check", json: `[]`, want: 400},
	})
	w.damage(t, "{A}")
	w.play(t, []step{
		{as: "root", do: "POST /upkeep/check", want: 200, like: clean},
		{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200, like: found("The content is damaged: its bytes are not those that were uploaded.")},
		{as: "root", do: "POST /upkeep/check", want: 200, like: found("The content is marked damaged.")},
		{as: "viewer", do: "GET {A.at}", want: 500, code: "damaged"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", alphabet)}, want: 201, save: "B"},
		{as: "root", do: "DELETE /catalog/attachments/{B}", want: 200},
		{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200, like: clean},
	})
}

// ASVS 14.2.7
func TestGCRemovesWhatIsOldAndUnwanted(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	old := w.plant(t, "old", startOfTime.Add(-time.Hour))
	young := w.plant(t, "young", startOfTime.Add(-time.Hour+time.Second))
	w.play(t, []step{
		{as: "root", do: "POST /upkeep/gc", json: `{"min_age": -1}`, want: 400},
		{as: "root", do: "POST /upkeep/gc", json: `{"min_age": 1e300}`, want: 400},
		{as: "root", do: "POST /upkeep/gc", json: `{"min_age": "1h"}`, want: 400},
		{as: "root", do: "POST /upkeep/gc", json: `{"dry_run": true, "min_age": 0}`, want: 200, like: `{"report": {"contents": 2, "bytes": 8}}`},
		{as: "root", do: "POST /upkeep/gc", json: `{"dry_run": true}`, want: 200, like: `{"report": {"contents": 1, "bytes": 3}}`},
		{as: "root", do: "POST /upkeep/gc", want: 200, like: `{"report": {"contents": 1, "bytes": 3}}`},
		{as: "root", do: "POST /upkeep/gc", want: 200, like: `{"report": {"contents": 0, "bytes": 0}}`},
	})
	if there(old) || !there(young) {
		t.Errorf("the old one is there: %t, the young one: %t", there(old), there(young))
	}
	w.play(t, []step{
		{as: "root", do: "POST /upkeep/gc", json: `{"min_age": 0.5}`, want: 200, like: `{"report": {"contents": 1, "bytes": 5}}`},
		{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet},
	})
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestTheServerCollectsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := w.plant(t, "old", startOfTime.Add(-2*time.Hour))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.server.RunJob(ctx, "collect contents", time.Millisecond); close(ended) }()
	eventually(t, "the content to go", func() bool { return !there(path) })
	stop()
	<-ended
	logged := strings.Join(w.log.lines(), "\n")
	if !strings.Contains(logged, `"msg":"removed contents that nothing referred to","contents":1,"bytes":3`) {
		t.Errorf("the log has nothing of it:\n%s", logged)
	}
}

// slowList is a file system that lists each folder slowly, and fails at one.
type slowList struct {
	disk.FileSystem
	before func(folder string) error
}

func (s slowList) List(name string) ([]fs.FileInfo, error) {
	if err := s.before(name); err != nil {
		return nil, err
	}
	return s.FileSystem.List(name)
}

// ASVS 15.1.3, 15.2.2
func TestOfEachKindOfUpkeepOneGoesOnAtATime(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"POST /upkeep/check", "POST /upkeep/gc"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			begun, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			w.disk.FileSystem = slowList{w.disk.FileSystem, func(string) error {
				once.Do(func() { close(begun); <-goOn })
				return nil
			}}
			first := make(chan answer)
			go func() {
				a, err := w.send(t, step{as: "root", do: name})
				if err != nil {
					t.Error(err)
				}
				first <- a
			}()
			<-begun
			w.play(t, []step{{as: "root", do: name, want: 409, says: "already"}})
			// A server that stops does not wait for it.
			w.expectLog("shutting_down")
			w.server.Drain()
			close(goOn)
			if a := <-first; a.status != 503 || !bytes.Contains(a.body, []byte("shutting_down")) {
				t.Errorf("the first ended with %d %s", a.status, a.body)
			}
		})
	}
}

func TestUpkeepTellsHowFarItIsAndHowItEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expectLog("no such disk")
	for n := range 40 {
		w.play(t, []step{{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", fmt.Sprint("file ", n))}, want: 201}})
	}
	w.flushContents()
	whole := w.disk.FileSystem
	for _, c := range []struct {
		order string
		fails bool // a folder, when it is listed
		end   string
	}{
		{"POST /upkeep/check", false, `{"report":{"attachments":40,`},
		{"POST /upkeep/check", true, `{"report":{"attachments":40,`}, // with a fault
		{"POST /upkeep/gc", true, `{"error":{"detail":"The server failed to do this.`},
	} {
		w.disk.FileSystem = slowList{whole, func(folder string) error {
			if time.Sleep(5 * time.Millisecond); c.fails && folder == "blobs/sha256/ff" {
				return errors.New("no such disk")
			}
			return nil
		}}
		a, err := w.send(t, step{as: "root", do: c.order})
		if err != nil || a.status != 200 || a.cut != nil {
			t.Fatalf("%v %v", a, err)
		}
		lines := bytes.Split(bytes.TrimSpace(a.body), []byte("\n"))
		if len(lines) < 2 || !bytes.HasPrefix(lines[0], []byte(`{"progress":{"done":`)) {
			t.Errorf("the lines are\n%s", a.body)
		}
		if last := lines[len(lines)-1]; !bytes.HasPrefix(last, []byte(c.end)) || !json.Valid(last) {
			t.Errorf("%s ends with %s", c.order, last)
		}
		if told := bytes.Contains(a.body, []byte("listing contents: no such disk")); told != (c.fails && c.order == "POST /upkeep/check") {
			t.Errorf("%s says\n%s", c.order, a.body)
		}
	}
	w.disk.FileSystem = whole
}

// Uploads and deletes of the same few contents, while contents of every age are
// collected: what was acknowledged and not deleted is there.
func TestCollectingTakesNothingFromAnybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const clients, rounds = 8, 100 // of three or four operations each
	working, stop := context.WithCancel(t.Context())
	collected := make(chan int)
	go func() {
		n := 0
		for ; working.Err() == nil; n++ {
			a, err := w.send(t, step{as: "root", do: "POST /upkeep/gc", json: `{"min_age": 0}`})
			if err != nil || a.status != 200 || !bytes.Contains(a.body, []byte(`{"report"`)) {
				t.Errorf("collecting: %v %d %s", err, a.status, a.body)
				break
			}
		}
		collected <- n
	}()
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			for round := range rounds {
				w.uploadReadDelete(t, fmt.Sprint("content ", (client+round)%3))
			}
		})
	}
	all.Wait()
	stop()
	if n := <-collected; n < 10 {
		t.Errorf("contents were collected only %d times", n)
	}
	w.play(t, []step{{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200,
		like: `{"report": {"attachments": 0, "contents": 0, "bytes": 0, "faults": [], "orphans": 0, "orphan_bytes": 0}}`}})
}

func (w *world) uploadReadDelete(t *testing.T, content string) {
	try := func(s step) answer {
		a, err := w.send(t, s)
		if err != nil || a.status != s.want {
			t.Errorf("%v: %v %d %s", s.do, err, a.status, a.body)
		}
		return a
	}
	a := try(step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", content)}, want: http.StatusCreated})
	at := a.header.Get("Location")
	for range 2 {
		if got := try(step{as: "viewer", do: "GET " + at, want: 200}); string(got.body) != content {
			t.Errorf("%s came back as %q", at, got.body)
		}
	}
	try(step{as: "editor", do: "DELETE " + strings.TrimSuffix(at, "/download"), want: 200})
}
