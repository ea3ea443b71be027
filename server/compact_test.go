package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// compact requests what the command does, and returns the answer with its last line.
func (w *world) compact(t *testing.T, commands string) (status int, body string) {
	t.Helper()
	response, err := http.Post(commands+"/upkeep/compact", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(raw))
}

func needsReplacing(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be replaced")
	}
}

// database returns the content of the database's file.
func (w *world) database(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(w.dir, "attachd.db"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// databases lists the files in its folder whose names contain its name, including
// itself.
func (w *world) databases(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.dir, "attachd.db*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// ASVS 14.2.7
func TestCompactingLeavesNoByteOfWhatWasDeleted(t *testing.T) {
	t.Parallel()
	needsReplacing(t)
	w := newWorld(t)
	commands := w.operator(t)
	const files = 20
	secret := func(n int) string { return fmt.Sprintf("the secret of file %d, which nobody may read", n) }
	for n := range files {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("secret.txt", strings.Repeat(secret(n), 800))}, want: 201, save: fmt.Sprint("F", n)})
	}
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("kept.txt", "what is kept")}, want: 201, save: "K"},
		{as: "editor", do: "POST {ticket}/attachments", form: parts{file("late.txt", "still waits")}, want: 201, save: "L"},
	})
	w.flushContents()
	for n := range files {
		w.do(t, step{as: "editor", do: fmt.Sprintf("DELETE /catalog/attachments/{F%d}", n), want: 200})
	}
	w.do(t, step{as: "root", do: "POST /upkeep/gc", json: `{"min_age": 0}`, want: 200})
	left := func() (n int) {
		raw := w.database(t)
		segments, err := filepath.Glob(filepath.Join(w.dir, "wal", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range segments {
			segment, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			raw = append(raw, segment...)
		}
		for i := range files {
			if bytes.Contains(raw, []byte(secret(i))) {
				n++
			}
		}
		return n
	}
	if left() == 0 {
		t.Fatal("nothing is left before it is compacted, so this test shows nothing")
	}
	before := len(w.database(t))
	status, body := w.compact(t, commands)
	if n := left(); n > 0 {
		t.Errorf("of %d contents that were deleted, %d are still there", files, n)
	}
	var line struct {
		Report struct {
			Before int `json:"bytes_before"`
			After  int `json:"bytes_after"`
		}
	}
	if err := json.Unmarshal([]byte(body), &line); err != nil || status != 200 || line.Report.Before != before || line.Report.After != len(w.database(t)) || line.Report.After >= before {
		t.Errorf("answered %d %s (%v); it had %d bytes and has %d", status, body, err, before, len(w.database(t)))
	}
	if e := w.audit(t, "upkeep.compact"); !e.Actor.Operator || e.Outcome != "done" {
		t.Errorf("the log has %+v", e)
	}
	for range 2 {
		w.play(t, []step{
			{as: "viewer", do: "GET {K.at}", want: 200, is: "what is kept"},
			{as: "viewer", do: "GET {L.at}", want: 200, is: "still waits"},
			{as: "root", do: "GET /users/me", want: 200},
		})
		w.wantClean(t, `"attachments":2,"contents":2,"bytes":23`)
		w.restart()
	}
}

func TestPeopleWorkOnWhileTheDatabaseIsCompacted(t *testing.T) {
	t.Parallel()
	needsReplacing(t)
	w := withFile(t, alphabet)
	commands := w.operator(t)
	stop := make(chan struct{})
	var people sync.WaitGroup
	for n := range 4 {
		people.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				w.uploadReadDelete(t, fmt.Sprintf("content %d of person %d", i, n))
				a, err := w.send(t, step{as: "viewer", do: "GET {product}/attachments"})
				if err != nil || a.status != 200 || !strings.Contains(string(a.body), w.names["A"]) {
					t.Errorf("the list: %d %s, %v", a.status, a.body, err)
				}
				a, err = w.send(t, step{as: "viewer", do: "GET {A.at}"})
				if err != nil || a.status != 200 || string(a.body) != alphabet {
					t.Errorf("a download: %d %s, %v", a.status, a.body, err)
				}
			}
		})
	}
	for range 8 {
		if status, body := w.compact(t, commands); status != 200 || !strings.Contains(body, "bytes_after") {
			t.Errorf("answered %d %s", status, body)
		}
		w.flushContents()
	}
	close(stop)
	people.Wait()
	w.settle(t)
	w.flushContents()
	w.collect(t)
	w.wantClean(t, fmt.Sprintf(`"attachments":1,"contents":1,"bytes":%d`, len(alphabet)))
}

// wantClean runs a deep check, which must find these counts and no fault.
func (w *world) wantClean(t *testing.T, counts string) {
	t.Helper()
	a := w.do(t, step{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200})
	if end := `{"report":{` + counts + `,"faults":[],"orphans":0,"orphan_bytes":0}}` + "\n"; !strings.HasSuffix(string(a.body), end) {
		t.Errorf("a check says %s and not %s", a.body, end)
	}
}

// Compaction is repeated, and another step or commit of it fails each time, until none
// is left. Until the copy has the name of the database, everything continues as before.
func TestWhicheverStepOfACompactionFailsTheServerGoesOn(t *testing.T) {
	t.Parallel()
	needsReplacing(t)
	for name, plan := range map[string]*fault{
		"EIO":                        {err: syscall.EIO},
		"ENOSPC":                     {err: syscall.ENOSPC},
		"EIO after a commit is made": {err: syscall.EIO, committed: true, only: "commit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, alphabet)
			w.expectLog("injected")
			w.expectLog(`"status":50`)
			w.flushContents()
			for at := int64(1); ; at++ {
				// Nothing else is to be written meanwhile.
				w.flush(t)
				failing := &fault{err: plan.err, at: at, committed: plan.committed, only: plan.only}
				w.fault.Store(failing)
				status, body := w.compact(t, w.operator(t))
				w.fault.Store(nil)
				failed := failing.failed.Load()
				if failed == nil {
					if status != 200 || at == 1 {
						t.Errorf("although nothing failed, or no step could: %d %s", status, body)
					}
					t.Logf("%d steps failed, one at a time", at-1)
					return
				}
				want, later := http.StatusInternalServerError, http.StatusCreated
				switch {
				case *failed == "compact: sync the name":
					want, later = http.StatusServiceUnavailable, http.StatusServiceUnavailable
				case errors.Is(plan.err, syscall.ENOSPC) && strings.HasPrefix(*failed, "co"):
					want = http.StatusInsufficientStorage
				}
				if status != want {
					t.Errorf("when %q fails, the answer is %d %s, not %d", *failed, status, body, want)
				}
				w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet})
				a, err := w.send(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}})
				if err != nil || a.status != later {
					t.Errorf("when %q has failed, an upload is answered %d %s (%v), not %d", *failed, a.status, a.body, err, later)
				}
				if files := w.databases(t); len(files) != 1 {
					t.Errorf("when %q has failed, there are %v", *failed, files)
				}
				if later != http.StatusCreated {
					if status, body := w.compact(t, w.operator(t)); status != 503 {
						t.Errorf("then another is answered %d %s", status, body)
					}
				}
				w.restart()
				w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("c.txt", "c")}, want: 201})
				w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet})
				w.flushContents()
			}
		})
	}
}

func TestACompactionWithoutRoomIsRefusedWithTheSizes(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.disk.free.Store(4096)
	w.expectLog(`"status":507`)
	status, body := w.compact(t, w.operator(t))
	if status != 507 || !strings.Contains(body, "disk_full") || !strings.Contains(body, "To make the database anew takes up to") || !strings.Contains(body, " are free") {
		t.Errorf("answered %d %s", status, body)
	}
	w.disk.free.Store(0)
}
