package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"attachd/server"
	"attachd/server/ops"
	"attachd/server/upkeep"
	"attachd/store"
)

// stats returns the answer, as JSON, without what depends on the machine.
func (w *world) stats(t *testing.T) map[string]any {
	t.Helper()
	stats := w.do(t, step{as: "root", do: "GET /stats", want: 200}).object(t)
	delete(stats, "disk")
	return stats
}

func (w *world) wantStats(t *testing.T, want string) {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(want), &members); err != nil {
		t.Fatal(err)
	}
	got := w.stats(t)
	for name, value := range members {
		if !reflect.DeepEqual(got[name], value) {
			t.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
}

func TestStatsSayHowTheServerStands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withScrub)
	w.wantStats(t, `{"as_of": "2026-01-15T10:30:00Z", "version": "test", "uptime_seconds": 0, "attachments": {"files": 0, "bytes": 0}, "contents": {"files": 0, "bytes": 0},
		"bytes_saved": 0, "by_type": [], "by_size": [], "hours": [{"start": "2026-01-15T10:00:00Z", "uploads": 0, "upload_bytes": 0, "downloads": 0, "download_bytes": 0}],
		"upload_slots": {"in_use": 0, "max": 256}, "scrub": {"progress": 0, "period_seconds": 2592000, "found": 0, "last": null},
		"last_check": null, "last_gc": null, "last_backup": null, "damaged": 0}`)
	csv := "a,b\n" + fmt.Sprintf("%01020d", 0) // the first that is larger than 1 KB is 1 byte larger
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", alphabet)}, want: 201, save: "A"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("again.txt", alphabet)}, want: 201},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.csv", csv)}, want: 201, save: "B"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("c.csv", csv+"0")}, want: 201},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("d.exe", "MZ")}, want: 400},
		{as: "viewer", do: "GET {A.at}", want: 200},
		{as: "viewer", do: "HEAD {A.at}", want: 200},
		{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-9"}, want: 206},
		{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=900-"}, want: 416},
		{as: "viewer", do: "GET {A.at}", send: header{"If-None-Match": "*"}, want: 304},
		{as: "root", do: "POST /upkeep/gc", json: `{"dry_run": true}`, want: 200},
	})
	w.clock.advance(time.Hour + 61*time.Second)
	w.play(t, []step{
		{as: "root", do: "POST /upkeep/check", want: 200},
		{as: "viewer", do: "GET {A.at}", want: 200},
	})
	w.stats(t) // it is time to count again
	w.clock.advance(time.Second)
	eventually(t, "what came to be counted", func() bool { return w.stats(t)["bytes_saved"] != 0.0 })
	w.wantStats(t, `{"uptime_seconds": 3662, "attachments": {"files": 4, "bytes": 2101}, "contents": {"files": 3, "bytes": 2075}, "bytes_saved": 26,
		"by_type": [{"mime_type": "text/csv", "files": 2, "bytes": 2049}, {"mime_type": "text/plain", "files": 2, "bytes": 52}],
		"by_size": [{"up_to": 1024, "files": 3, "bytes": 1076}, {"up_to": 4096, "files": 1, "bytes": 1025}],
		"hours": [{"start": "2026-01-15T10:00:00Z", "uploads": 4, "upload_bytes": 2101, "downloads": 2, "download_bytes": 36},
		          {"start": "2026-01-15T11:00:00Z", "uploads": 0, "upload_bytes": 0, "downloads": 1, "download_bytes": 26}],
		"last_check": "2026-01-15T11:31:01Z", "last_gc": null}`)
	if err := upkeep.NoteDone(t.Context(), w.store, upkeep.Backup, startOfTime.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	w.play(t, []step{{as: "root", do: "POST /upkeep/gc", want: 200}})
	w.clock.advance(23 * time.Hour)
	stats := w.stats(t)
	if hours := stats["hours"].([]any); len(hours) != 24 || hours[0].(map[string]any)["start"] != "2026-01-15T11:00:00Z" {
		t.Errorf("a day later the hours are %v", hours)
	}
	w.wantStats(t, `{"last_gc": "2026-01-15T11:31:02Z", "last_backup": "2026-01-15T10:31:00Z"}`)
	disk := w.do(t, step{as: "root", do: "GET /stats", want: 200}).object(t)["disk"].(map[string]any)
	if free, total := disk["free"].(float64), disk["total"].(float64); free <= 0 || total < free || disk["reserve"] != 1048576.0 {
		t.Errorf("the disk is %v", disk)
	}
}

// slowTotals is a store whose counts wait until they are released, and are counted.
type slowTotals struct {
	store.Store
	may    chan error
	counts chan struct{}
}

func (s slowTotals) Totals(ctx context.Context, rest func(time.Duration)) (store.Totals, error) {
	s.counts <- struct{}{}
	select {
	case err := <-s.may:
		return store.Totals{}, err
	case <-ctx.Done():
		return store.Totals{}, ctx.Err()
	}
}

func newSlowTotals(t *testing.T) (*world, slowTotals) {
	slow := slowTotals{may: make(chan error, 1), counts: make(chan struct{}, 10)}
	return newWorld(t, func(c *server.Config) { slow.Store = c.Store; c.Store = slow }), slow
}

func TestOnlyTheFirstWhoAskForStatsWait(t *testing.T) {
	t.Parallel()
	w, slow := newSlowTotals(t)
	first := make(chan answer, 3)
	for range cap(first) {
		go func() {
			a, err := w.send(t, step{as: "root", do: "GET /stats"})
			if err != nil {
				t.Error(err)
			}
			first <- a
		}()
	}
	eventually(t, "the count to begin", func() bool { return len(slow.counts) == 1 })
	if len(first) > 0 {
		t.Error("somebody did not wait")
	}
	slow.may <- nil
	for range cap(first) {
		if a := <-first; a.status != 200 || a.object(t)["as_of"] != "2026-01-15T10:30:00Z" {
			t.Errorf("answered %d %s", a.status, a.body)
		}
	}
	w.clock.advance(59 * time.Second)
	w.wantStats(t, `{"as_of": "2026-01-15T10:30:00Z"}`)
	if len(slow.counts) != 1 {
		t.Error("it was counted again within a minute")
	}
	w.clock.advance(time.Hour)
	w.wantStats(t, `{"as_of": "2026-01-15T10:30:00Z"}`) // without waiting
	eventually(t, "the second count to begin", func() bool { return len(slow.counts) == 2 })
	w.wantStats(t, `{"as_of": "2026-01-15T10:30:00Z"}`)
	slow.may <- nil
	eventually(t, "newer figures", func() bool { return w.stats(t)["as_of"] == "2026-01-15T11:30:59Z" })

	w.clock.advance(time.Hour)
	w.expectLog("attachments could not be counted")
	slow.may <- errors.New("no such disk")
	w.stats(t)
	eventually(t, "the third count to fail", func() bool { return strings.Contains(strings.Join(w.log.lines(), ""), "could not be counted") })
	w.wantStats(t, `{"as_of": "2026-01-15T11:30:59Z"}`) // those there are
}

func TestStatsThatWereNeverCountedAreAnError(t *testing.T) {
	t.Parallel()
	w, slow := newSlowTotals(t)
	w.expectLog("no such disk")
	slow.may <- errors.New("no such disk")
	w.play(t, []step{
		{as: "root", do: "GET /stats", want: 500, code: "internal"},
		{as: "root", do: "GET /stats", want: 500, code: "internal"},
	})
	if len(slow.counts) != 1 {
		t.Errorf("it was tried %d times within a minute", len(slow.counts))
	}
}

func TestNobodyWaitsForStatsOfAServerThatStops(t *testing.T) {
	t.Parallel()
	w, slow := newSlowTotals(t)
	w.expectLog("shutting_down")
	asked := make(chan answer)
	go func() {
		a, err := w.send(t, step{as: "root", do: "GET /stats"})
		if err != nil {
			t.Error(err)
		}
		asked <- a
	}()
	eventually(t, "the count to begin", func() bool { return len(slow.counts) == 1 })
	w.server.Drain()
	if a := <-asked; a.status != 503 {
		t.Errorf("answered %d %s", a.status, a.body)
	}
}

func TestMetricsTellHowTheServerStands(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", alphabet)}, want: 201},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.exe", "MZ")}, want: 400},
		{as: "viewer", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 403},
		{as: "viewer", do: "GET /metrics", want: 403},
		{as: "root", do: "POST /upkeep/check", want: 200},
	})
	eventually(t, "what is there to be counted", func() bool {
		return w.measures(t, "attachd_attachments 2", "attachd_attachment_bytes 52", "attachd_contents 1", "attachd_content_bytes 26", "attachd_bytes_saved 26",
			"attachd_counted_timestamp_seconds 1.768473e+09")
	})
	if !w.measures(t, `attachd_uploads_refused_total{code="invalid_file"} 1`, `attachd_uploads_refused_total{code="forbidden"} 1`, `attachd_http_refusals_total{code="forbidden"} 2`,
		"attachd_disk_reserve_bytes 1.048576e+06", "attachd_last_check_timestamp_seconds 1.768473e+09", "attachd_last_backup_timestamp_seconds 0", "attachd_ready 1") {
		t.Errorf("the metrics are\n%s", w.do(t, step{as: "root", do: "GET /metrics", want: 200}).body)
	}
	w.expectLog("not ready")
	w.flushContents()
	w.disk.free.Store(1)
	if !w.measures(t, "attachd_ready 1") {
		t.Error("the look of this minute does not stand")
	}
	w.clock.advance(time.Minute)
	if !w.measures(t, "attachd_ready 0", "attachd_disk_free_bytes 1") {
		t.Error("a full disk does not show")
	}
	w.server.Drain()
	w.disk.free.Store(0)
	w.clock.advance(time.Minute)
	if !w.measures(t, "attachd_ready 0") {
		t.Error("a server that stops is ready")
	}
}

// sweeper is an object store in which 3 objects are yet to be deleted.
type sweeper struct{}

func (sweeper) Sweep(context.Context, time.Time) error { return nil }
func (sweeper) Unswept() int64                         { return 3 }

func TestStatsAndMetricsSayWhereFilesAreKept(t *testing.T) {
	t.Parallel()
	plain := newWorld(t)
	plain.wantStats(t, `{"storage": {"backend": "disk"}}`)
	if a := plain.do(t, step{as: "root", do: "GET /metrics", want: 200}); bytes.Contains(a.body, []byte("object_store")) {
		t.Errorf("a server without an object store says\n%s", a.body)
	}
	times := ops.NewStorageTimes()
	w := newWorld(t, func(cfg *server.Config) {
		cfg.Storage = upkeep.StorageStatus{Backend: "s3", Endpoint: "https://s3.example.com", Bucket: "files", Prefix: "attachd/"}
		cfg.Sweeper, cfg.StorageTimes = sweeper{}, times
	})
	w.wantStats(t, `{"storage": {"backend": "s3", "endpoint": "https://s3.example.com", "bucket": "files", "prefix": "attachd/", "unswept": 3}}`)
	times.Called("put", "ok", 20*time.Millisecond)
	times.Called("get", "not_found", time.Second)
	if !w.measures(t, "attachd_object_store_unswept_objects 3", `attachd_object_store_call_duration_seconds_count{operation="put",outcome="ok"} 1`,
		`attachd_object_store_call_duration_seconds_sum{operation="get",outcome="not_found"} 1`) {
		t.Errorf("the metrics are\n%s", w.do(t, step{as: "root", do: "GET /metrics", want: 200}).body)
	}
}

// What was deleted by mistake stays for its time, also where the clock says that it is over.
func TestAClockThatIsAheadSweepsNothingFromTheBucket(t *testing.T) {
	t.Parallel()
	swept := make(sweeps)
	w := newWorld(t, func(cfg *server.Config) { cfg.Sweeper = swept })
	w.expectLog("the clock jumped")
	w.server.ClockIsSettled(t.Context()) // reads the clock
	w.clock.set(30 * 24 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	var sweeping sync.WaitGroup
	sweeping.Go(func() { w.server.RunJob(ctx, "sweep the bucket", 0) })
	if by := <-swept; by.Sub(startOfTime) > time.Hour {
		t.Errorf("it is swept by the clock that is ahead: %v", by)
	}
	cancel()
	sweeping.Wait()
}

// sweeps is an object store that says when it is swept.
type sweeps chan time.Time

func (s sweeps) Sweep(ctx context.Context, now time.Time) error {
	select {
	case s <- now:
	case <-ctx.Done():
	}
	return nil
}

func (sweeps) Unswept() int64 { return 0 }
