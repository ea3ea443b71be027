package server_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"attachd/server"
	"attachd/store"
)

// withScrub gives a server a scrub with a high rate.
func withScrub(c *server.Config) { c.ScrubRate, c.ScrubPeriod = 1<<30, 30*24*time.Hour }

// startScrub has the server scrub until the test ends or the server drains.
func (w *world) startScrub() (ended <-chan struct{}) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.server.RunJob(ctx, "scrub", 0); close(done) }()
	w.t.Cleanup(func() { stop(); <-done })
	return done
}

// measures reports whether all of these lines are in the metrics.
func (w *world) measures(t *testing.T, lines ...string) bool {
	t.Helper()
	a := w.do(t, step{as: "root", do: "GET /metrics", want: 200})
	for _, line := range lines {
		if !bytes.Contains(a.body, []byte("\n"+line+"\n")) {
			return false
		}
	}
	return true
}

func TestTheServerFindsDamageByItself(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, withScrub)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("sound.txt", "sound")}, want: 201})
	w.expectLog("the scrub found a fault")
	w.expectLog("a stored content is damaged")
	w.expectLog(`"code":"damaged"`)
	w.damage(t, "{A}")
	if !w.measures(t, "attachd_scrub_progress_ratio 0", "attachd_scrub_last_pass_timestamp_seconds 0", "attachd_damaged_contents 0") {
		t.Error("a scrub that has not begun shows something else")
	}
	w.startScrub()
	eventually(t, "the metrics to show the damage", func() bool {
		w.clock.advance(time.Second) // since the last upload
		return w.measures(t, "attachd_scrub_bytes_total 31", "attachd_scrub_progress_ratio 1", "attachd_damaged_contents 1", "attachd_damaged_reads_total 0") &&
			!w.measures(t, "attachd_scrub_last_pass_timestamp_seconds 0")
	})
	logged := strings.Join(w.log.lines(), "\n")
	if !strings.Contains(logged, w.fill(t, `"attachments":["{A} (\"a.txt\")"]`)) {
		t.Errorf("the log does not name the file:\n%s", logged)
	}
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", want: 500, code: "damaged"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", alphabet)}, want: 201},
		{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet},
	})
	if !w.measures(t, "attachd_damaged_contents 0") {
		t.Error("the repair does not show")
	}
}

func TestPeopleAreServedUntilASecondAfterTheLastAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var during bool
	w.disk.FileSystem = slowList{w.disk.FileSystem, func(string) error {
		during = w.server.Busy()
		return nil
	}}
	answered := func(id, do string) {
		t.Helper()
		w.do(t, step{as: "root", do: do, send: header{"X-Request-Id": id}, want: 200})
		w.log.request(t, id) // which is written last
	}
	want := func(when string, got, busy bool) {
		t.Helper()
		if got != busy {
			t.Errorf("%s: busy is %t", when, got)
		}
	}
	want("before anything", w.server.Busy(), false)
	answered("work", "POST /upkeep/check")
	want("during a request", during, true)
	w.clock.advance(time.Second - 1)
	want("less than a second after it", w.server.Busy(), true)
	w.clock.advance(1)
	want("a second after it", w.server.Busy(), false)

	for _, path := range []string{"/health", "/health/ready", "/metrics"} {
		answered(path, "GET "+path)
		want("after "+path, w.server.Busy(), false)
	}
	w.serve(w.server.Operator())
	answered("command", "POST /upkeep/check")
	want("during a command", during, false)
	want("after a command", w.server.Busy(), false)
}

func TestADrainEndsTheScrubWhichRemembersWhereItWas(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, func(c *server.Config) { c.ScrubRate, c.ScrubPeriod = 1, time.Hour })
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("large.txt", strings.Repeat("x", 1<<20))}, want: 201})
	ended := w.startScrub()
	eventually(t, "the scrub to begin", func() bool {
		w.clock.advance(time.Second)
		return !w.measures(t, "attachd_scrub_bytes_total 0")
	})
	w.server.Drain()
	<-ended
	if _, err := w.store.Note(t.Context(), "scrub"); err != nil {
		t.Errorf("where it was is not remembered: %v", err)
	}
}

func TestWithoutARateThereIsNoScrub(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	if w.server.HasJob("scrub") {
		t.Error("a job scrubs")
	}
	if a := w.do(t, step{as: "root", do: "GET /metrics", want: 200}); bytes.Contains(a.body, []byte("attachd_scrub_")) {
		t.Error("it is measured")
	}
	if _, err := w.store.Note(t.Context(), "scrub"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it left a note: %v", err)
	}
}
