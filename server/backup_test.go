package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server"
	"attachd/store"
)

// operator is a way in for commands.
func (w *world) operator(t *testing.T) (url string) {
	t.Helper()
	commands := httptest.NewServer(w.server.Operator())
	t.Cleanup(commands.Close)
	return commands.URL
}

// lease takes a snapshot and keeps the answer open.
func (w *world) lease(t *testing.T, commands string) (snapshot []byte, body io.ReadCloser) {
	t.Helper()
	response, err := http.Post(commands+"/upkeep/snapshot", "", nil)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%v %v", response, err)
	}
	length, err := strconv.Atoi(response.Header.Get("Snapshot-Length"))
	if err != nil {
		t.Fatal(err)
	}
	snapshot = make([]byte, length)
	if _, err := io.ReadFull(response.Body, snapshot); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return snapshot, response.Body
}

func TestASnapshotIsTheMetadataAsItWas(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	snapshot, _ := w.lease(t, w.operator(t))
	w.play(t, []step{{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200}})
	path := filepath.Join(t.TempDir(), "attachd.db")
	w.must(os.WriteFile(path, snapshot, 0o600))
	db, err := store.OpenBolt(path, store.BoltOptions{ReadOnly: true})
	w.must(err)
	defer db.Close()
	if a, err := db.Attachment(t.Context(), uuid.MustParse(w.names["A"])); err != nil || a.FileName != "a.txt" {
		t.Errorf("%+v, %v", a, err)
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

// What is deleted during backups goes when the last of them ends, and what
// was uploaded once more meanwhile stays.
func TestWhileThereIsABackupNoContentGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := range 3 {
		w.play(t, []step{{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", fmt.Sprint("file ", n))}, want: 201, save: fmt.Sprint("F", n)}})
	}
	old := w.plant(t, "old", startOfTime.Add(-2*time.Hour))
	files := []string{w.blobFile(t, "{F0}"), w.blobFile(t, "{F1}"), w.blobFile(t, "{F2}")}
	commands := w.operator(t)
	_, first := w.lease(t, commands)
	_, second := w.lease(t, commands)
	w.play(t, []step{
		{as: "editor", do: "DELETE /catalog/attachments/{F0}", want: 200},
		{as: "editor", do: "DELETE /catalog/attachments/{F1}", want: 200},
		{as: "root", do: "POST /upkeep/gc", json: `{"min_age": 0}`, want: 200, like: `{"report": {"contents": 0, "bytes": 0}}`},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", "file 1")}, want: 201, save: "again"},
	})
	w.must(first.Close())
	for n, path := range append(files, old) {
		if !there(path) {
			t.Errorf("content %d has gone", n)
		}
	}
	ref := filepath.Base(files[0])
	response, err := http.Get(commands + "/upkeep/contents/" + ref)
	w.must(err)
	raw, err := io.ReadAll(response.Body)
	w.must(err)
	w.must(response.Body.Close())
	if response.StatusCode != 200 || string(raw) != "file 0" {
		t.Errorf("%d %q", response.StatusCode, raw)
	}
	w.must(second.Close())
	eventually(t, "the deleted content to go", func() bool { return !there(files[0]) })
	w.play(t, []step{
		{as: "viewer", do: "GET /catalog/attachments/{again}/download", want: 200, is: "file 1"},
		{as: "root", do: "POST /upkeep/gc", want: 200, like: `{"report": {"contents": 1, "bytes": 3}}`},
		{as: "root", do: "POST /upkeep/check", want: 200, like: `{"report": {"attachments": 2, "contents": 2, "bytes": 12, "faults": [], "orphans": 0, "orphan_bytes": 0}}`},
	})
}

func TestAServerThatStopsEndsSnapshots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, body := w.lease(t, w.operator(t))
	w.server.Drain()
	if n, err := io.Copy(io.Discard, body); n > 0 || err != nil {
		t.Errorf("after the copy come %d bytes, %v", n, err)
	}
}

func TestASnapshotLeavesTheDiskItsReserve(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.DiskReserve = 1 << 60 })
	w.expectLog("bytes are free, the reserve is")
	response, err := http.Post(w.operator(t)+"/upkeep/snapshot", "", nil)
	w.must(err)
	raw, err := io.ReadAll(response.Body)
	w.must(err)
	w.must(response.Body.Close())
	if response.StatusCode != 507 || !strings.Contains(string(raw), `"code":"disk_full"`) {
		t.Errorf("%d %s", response.StatusCode, raw)
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

func TestStoredContentsAreGivenByName(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.expectLog("marked or no plain file")
	commands := w.operator(t)
	path := w.blobFile(t, "{A}")
	ref := filepath.Base(path)
	get := func(name string, status int, says string) {
		t.Helper()
		response, err := http.Get(commands + "/upkeep/contents/" + name)
		w.must(err)
		raw, err := io.ReadAll(response.Body)
		w.must(err)
		w.must(response.Body.Close())
		if response.StatusCode != status || !strings.Contains(string(raw), says) {
			t.Errorf("%s: %d %s", name, response.StatusCode, raw)
		}
	}
	get(ref, 200, alphabet)
	get(strings.Repeat("0", 64), 404, "not_found")
	get(strings.ToUpper(ref), 404, "64 hexadecimal digits")
	get("..%2Fsecret.key", 404, "not_found")
	w.must(os.WriteFile(path, []byte("something else"), 0o600))
	get(ref, 200, "something else")
	marked, err := blobs.ParseRef(ref)
	w.must(err)
	w.must(w.blobs.MarkDamaged(t.Context(), marked, nil))
	get(ref, 500, "damaged")
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", alphabet)}, want: 201},
	})
}

// Changes do not wait for a copy, and the database does not grow by more than
// they replace.
func TestChangesGoOnWhileTheMetadataIsCopied(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it makes a hundred thousand records")
	}
	w := withFile(t, alphabet)
	a, err := w.store.Attachment(t.Context(), uuid.MustParse(w.names["A"]))
	w.must(err)
	var crowd sync.WaitGroup
	for range 250 { // who share commits
		crowd.Go(func() {
			for range 400 {
				w.createRecord(t, a)
			}
		})
	}
	crowd.Wait()
	size := func() int64 {
		info, err := os.Stat(filepath.Join(w.dir, "attachd.db"))
		w.must(err)
		return info.Size()
	}
	// worst is the longest of the commits that are made until stop.
	worst := func(stop <-chan struct{}) (longest time.Duration, commits int) {
		for {
			select {
			case <-stop:
				return longest, commits
			default:
			}
			begun := time.Now()
			w.createRecord(t, a)
			longest = max(longest, time.Since(begun))
			commits++
		}
	}
	before := size()
	alone := make(chan struct{})
	time.AfterFunc(time.Second, func() { close(alone) })
	without, n := worst(alone)
	commands := w.operator(t)
	copied := make(chan struct{})
	var took time.Duration
	go func() {
		defer close(copied)
		begun := time.Now()
		for range 5 {
			_, body := w.lease(t, commands)
			body.Close()
		}
		took = time.Since(begun) / 5
	}()
	with, m := worst(copied)
	t.Logf("database of %d MB, copied in %v; the longest of %d commits without a copy took %v, of %d during copies %v; the file grew by %d KB",
		before>>20, took.Round(time.Millisecond), n, without, m, with, (size()-before)>>10)
	// The disk may be slow for everybody: then only a much longer wait counts.
	if limit := max(100*time.Millisecond, 5*without); with > limit {
		t.Errorf("a commit took %v during a copy", with)
	}
	if grown := size() - before; grown > 32<<20 {
		t.Errorf("the database grew by %d bytes", grown)
	}
}
