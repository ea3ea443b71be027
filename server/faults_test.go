package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"attachd/server"
	"attachd/server/upkeep"
)

// fault makes one call of the server to its disk or database fail, or all from that one
// on. A call is one of the file system of the blobs, or the commit of a transaction.
type fault struct {
	err       error
	at        int64 // the call that fails
	forever   bool  // so do those that follow
	committed bool  // a commit fails after it was made
	only      string

	count  atomic.Int64
	failed atomic.Pointer[string] // the first call that failed
}

// strike returns an error if this call is to fail.
func (w *world) strike(call string) error {
	f := w.fault.Load()
	if f == nil || !strings.HasPrefix(call, f.only) {
		return nil
	}
	n := f.count.Add(1)
	if n < f.at || n > f.at && !f.forever {
		return nil
	}
	f.failed.CompareAndSwap(nil, &call)
	return fmt.Errorf("injected: %w", f.err)
}

func (w *world) commit(tx *bbolt.Tx) error {
	failed := w.strike("commit")
	if f := w.fault.Load(); failed != nil && !f.committed {
		return failed
	}
	return errors.Join(failed, tx.Commit())
}

// deed is an operation of a client, in a world with an attachment A to be deleted and a
// bystander B that shares its content with what is uploaded.
type deed struct {
	name  string
	steps []step
	// check checks that the state is as answered, or unchanged, or, where the outcome
	// is unknown, either.
	check func(t *testing.T, w *world, answers []answer)
}

const import3 = `{"kind":"user","id":"0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01","full_name":"Ada"}
{"kind":"space","slug":"new","name":"New"}
{"kind":"member","space":"new","user_id":"0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01","role":"editor"}`

var deeds = []deed{
	{
		"upload",
		[]step{
			{as: "editor", do: "POST {product}/attachments", form: parts{file("new.txt", "never seen before")}},
			{as: "editor", do: "POST {ticket}/attachments", form: parts{file("known.txt", "shared")}},
		},
		func(t *testing.T, w *world, answers []answer) {
			for i, content := range []string{"never seen before", "shared"} {
				if answers[i].status == http.StatusCreated {
					w.do(t, step{as: "viewer", do: "GET " + answers[i].header.Get("Location"), want: 200, is: content})
				}
			}
		},
	},
	{
		"delete",
		[]step{{as: "admin", do: "DELETE /catalog/attachments/{A}"}},
		func(t *testing.T, w *world, answers []answer) {
			a, err := w.send(t, step{as: "viewer", do: "GET {A.at}"})
			gone := a.status == http.StatusNotFound
			whole := a.status == http.StatusOK && string(a.body) == "to be deleted"
			if err != nil || !gone && !whole || whole && answers[0].status == http.StatusOK {
				t.Errorf("the deletion was answered %d, and now the file %d %q, %v", answers[0].status, a.status, a.body, err)
			}
		},
	},
	{
		"import",
		[]step{{as: "root", do: "POST /directory/import", body: import3}},
		func(t *testing.T, w *world, answers []answer) {
			var there []int
			for _, path := range []string{"users/0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01", "spaces/new", "spaces/new/members/0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01"} {
				a, err := w.send(t, step{as: "root", do: "GET /directory/" + path})
				if err != nil || a.status != 200 && (a.status != 404 || answers[0].status == 200) {
					t.Errorf("the import was answered %d, and now %s %d, %v", answers[0].status, path, a.status, err)
				}
				there = append(there, a.status)
			}
			if there[0] != there[1] || there[1] != there[2] {
				t.Errorf("half of an import is there: %v", there)
			}
		},
	},
}

// TestEveryCallFails repeats each deed, with another call of it failing each time,
// until no call is left. Flushing staged contents is a part of the deed.
// ASVS 2.3.3, 16.5.1 to 16.5.4
func TestEveryCallFails(t *testing.T) {
	t.Parallel()
	for name, logBelow := range map[string]int64{"contents wait": 64 << 10, "files at once": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyCallFails(t, func(c *server.Config) { c.LogBelow = logBelow })
		})
	}
}

func everyCallFails(t *testing.T, option func(*server.Config)) {
	for name, f := range map[string]*fault{
		"EIO":                        {err: syscall.EIO},
		"ENOSPC":                     {err: syscall.ENOSPC},
		"EIO from then on":           {err: syscall.EIO, forever: true},
		"ENOSPC from then on":        {err: syscall.ENOSPC, forever: true},
		"EIO after a commit is made": {err: syscall.EIO, committed: true, only: "commit"},
	} {
		for _, d := range deeds {
			t.Run(d.name+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, option)
				w.expectLog("injected")
				w.expectLog(`"status":50`)
				for at := int64(1); ; at++ {
					failing := &fault{err: f.err, at: at, forever: f.forever, committed: f.committed, only: f.only}
					if w.endure(t, d, failing); t.Failed() {
						t.Fatalf("when call %d fails, %s", at, *failing.failed.Load())
					}
					if failing.failed.Load() == nil {
						t.Logf("%d calls failed, one at a time", at-1)
						return
					}
				}
			})
		}
	}
}

// endure does a deed while a call fails, and checks the state before and after a
// restart.
func (w *world) endure(t *testing.T, d deed, failing *fault) {
	t.Helper()
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "to be deleted")}, want: 201, save: "A"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("b.txt", "shared")}, want: 201, save: "B"},
	})
	var answers []answer
	w.fault.Store(failing)
	for _, s := range d.steps {
		a, err := w.send(t, s)
		if err != nil {
			t.Errorf("%v: %v", s, err)
		}
		method, path, _ := strings.Cut(w.fill(t, s.do), " ")
		w.checkPromises(t, method, path, a)
		answers = append(answers, a)
	}
	w.settle(t)
	w.flushContents()
	w.fault.Store(nil)
	for again := range 2 {
		d.check(t, w, answers)
		w.do(t, step{as: "viewer", do: "GET {B.at}", want: 200, is: "shared"})
		w.restart()
		if again > 0 {
			w.flushContents()
		}
		if left := w.temporaryFiles(); len(left) > 0 {
			t.Errorf("after a restart: %v", left)
		}
	}
	// Now all is well again, and what was begun can be done.
	for _, s := range d.steps {
		if a, err := w.send(t, s); err != nil || a.status >= 400 && a.status != 404 {
			t.Errorf("later, %v: %d %s, %v", s, a.status, a.body, err)
		}
	}
	w.clear(t)
}

// settle waits until the server has done its work after an answer.
func (w *world) settle(t *testing.T) {
	t.Helper()
	w.do(t, step{do: "GET /health", want: 200})
	eventually(t, "every request to end", func() bool {
		a := w.do(t, step{as: "root", do: "GET /metrics", want: 200})
		return strings.Contains(string(a.body), "\nattachd_http_requests_in_flight 1\n")
	})
}

// clear removes all attachments and what nothing refers to.
func (w *world) clear(t *testing.T) {
	t.Helper()
	for _, parent := range []string{"{product}", "{ticket}", "{meeting}"} {
		list := w.do(t, step{as: "viewer", do: "GET " + parent + "/attachments", want: 200}).list(t)
		for _, a := range list {
			path := map[string]string{"{product}": "/catalog/attachments/", "{ticket}": "/issues/attachments/", "{meeting}": "{meeting}/attachments/"}[parent]
			who := map[bool]string{true: "editor", false: "admin"}[parent == "{ticket}"]
			w.do(t, step{as: who, do: "DELETE " + path + a["id"].(string), want: 200})
		}
	}
	w.settle(t)
	w.collect(t)
}

// collect removes the unreferenced contents that faults left.
func (w *world) collect(t *testing.T) {
	t.Helper()
	_, err := upkeep.Collect(t.Context(), w.store, w.contents(), upkeep.CollectOptions{Now: time.Now().Add(time.Second)})
	if err != nil {
		t.Error(err)
	}
}

// ASVS 16.5.1 to 16.5.4
func TestAfterACommitOfUnknownOutcomeOnlyReadsGoOnUntilARestart(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{false, true} {
		w := newWorld(t)
		w.expectLog("injected")
		w.expectLog("not ready")
		w.play(t, []step{
			{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
			{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"},
			{do: "GET /health/ready", want: 200},
		})
		w.flushContents()
		w.fault.Store(&fault{err: syscall.EIO, at: 1, only: "commit", committed: committed})
		w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 503, code: "unavailable", header: header{"Retry-After": "60"}})
		w.fault.Store(nil)
		w.clock.advance(time.Minute)
		w.play(t, []step{
			{as: "editor", do: "DELETE /catalog/attachments/{B}", want: 503, code: "unavailable"},
			{as: "editor", do: "POST {product}/attachments", form: parts{file("c.txt", "c")}, want: 503, code: "unavailable"},
			{as: "root", do: "PUT /directory/spaces/c", json: `{}`, want: 503, code: "unavailable"},
			{as: "viewer", do: "POST /api-keys", json: `{"name":"k"}`, want: 503, code: "unavailable"},
			{do: "GET /health/ready", want: 503, check: func(t *testing.T, a answer) {
				if !strings.Contains(string(a.body), "Metadata cannot be committed until a restart.") {
					t.Errorf("ready says %s", a.body)
				}
			}},
			{do: "GET /health", want: 200},
			{as: "viewer", do: "GET {B.at}", want: 200, is: "b"},
		})
		if n := w.storedContents(); n < 2 {
			t.Error("a content was removed, though its record may be there")
		}
		w.restart()
		want := map[bool]int{false: 200, true: 404}[committed] // readers saw what was committed
		w.play(t, []step{
			{as: "viewer", do: "GET {A.at}", want: want},
			{do: "GET /health/ready", want: 200},
			{as: "editor", do: "POST {product}/attachments", form: parts{file("c.txt", "c")}, want: 201},
		})
		w.collect(t)
	}
}

func TestAFullDiskCanBeEmptied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expectLog("injected")
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"})
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"})
	deletion := step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 507, code: "disk_full"}
	w.fault.Store(&fault{err: syscall.ENOSPC, only: "commit", forever: true})
	w.do(t, deletion) // there is no ballast yet

	w.ballast.want.Store(8 << 20)
	w.ballast.held.Store(8 << 20)
	w.fault.Store(&fault{err: syscall.ENOSPC, at: 1, only: "commit"}) // once: then there is room
	deletion.want, deletion.code = 200, ""
	w.do(t, deletion)
	if w.ballast.held.Load() > 0 {
		t.Fatal("the deletion was made without giving up the ballast, so this test shows nothing")
	}

	// What the ballast needs is not for uploads.
	upload := step{as: "editor", do: "POST {product}/attachments", form: parts{file("c.txt", "c")}, want: 507, code: "disk_full"}
	w.disk.free.Store(w.server.DiskReserve + 4<<20)
	w.do(t, upload)
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		w.server.RunJob(ctx, "refill ballast", time.Millisecond)
	}()
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{B}", want: 200})
	w.disk.free.Store(w.server.DiskReserve + 9<<20)
	eventually(t, "the ballast to be refilled", func() bool { return w.ballast.held.Load() == 8<<20 })
	cancel()
	<-kept
	upload.want, upload.code = 201, ""
	w.do(t, upload)
}
