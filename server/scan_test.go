package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"attachd/server"
	"attachd/server/scan"
)

// fakeScanner is a scanner whose results are in the contents themselves.
type fakeScanner struct {
	mu    sync.Mutex
	down  error // error of every call, if any
	asked []string
	pings int
	old   bool          // its signatures do not include the malware yet
	hang  chan struct{} // closed when a scan has begun that ends only with its request
}

func (f *fakeScanner) Scan(ctx context.Context, content io.Reader) (string, error) {
	all, err := io.ReadAll(content)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, string(all))
	if f.hang != nil {
		close(f.hang)
		f.hang = nil
		<-ctx.Done()
		return "", ctx.Err()
	}
	if f.down == nil && !f.old && bytes.Contains(all, []byte("malware")) {
		return "Test.Signature", nil
	}
	return "", f.down
}

func (f *fakeScanner) Ping(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pings++
	return f.down
}

func (f *fakeScanner) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

var errDown = errors.New("dial unix /run/secret.ctl: connection refused")

// scanning returns a world with a scanner.
func scanning(t *testing.T, options ...func(*server.Config)) (*world, *fakeScanner) {
	f := &fakeScanner{}
	return newWorld(t, append(options, func(c *server.Config) { c.Scanner = f })...), f
}

func acceptUnscanned(c *server.Config) { c.AcceptUnscanned = true }

// metrics checks that the metrics have these lines.
func (w *world) metrics(t *testing.T, lines ...string) {
	t.Helper()
	a := w.do(t, step{as: "root", do: "GET /metrics", want: 200})
	for _, line := range lines {
		if !bytes.Contains(a.body, []byte("\n"+line+"\n")) {
			t.Errorf("the metrics do not have %q", line)
		}
	}
}

// ASVS 5.4.3
func TestAFileWithMalwareIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	w, _ := scanning(t)
	for _, kind := range kinds {
		w.do(t, step{as: "editor", do: "POST " + kind.parent + "/attachments", form: parts{file("a.txt", "some malware for "+kind.parent)},
			send: header{"X-Request-Id": "find"}, want: 400, code: "malware_found", says: "malware"})
		if n := w.storedContents(); n != 0 {
			t.Errorf("%d contents are stored", n)
		}
	}
	w.metrics(t, `attachd_scans_total{result="found"} 3`, `attachd_scans_total{result="clean"} 0`, `attachd_http_refusals_total{code="malware_found"} 3`, "attachd_scan_duration_seconds_count 3")
	logged := strings.Join(w.log.lines(), "\n")
	for _, part := range []string{`"msg":"malware found"`, `"signature":"Test.Signature"`, `"file_name":"a.txt"`, w.names["editor"]} {
		if !strings.Contains(logged, part) {
			t.Errorf("the log does not have %s", part)
		}
	}
	if e := w.audit(t, "attachment.upload"); e.Outcome != "malware_found" || !strings.HasPrefix(e.Resource.Name, "a.txt: ") {
		t.Errorf("a find left %+v", e)
	}
}

func TestACleanFileIsTakenAndScannedByteForByte(t *testing.T) {
	t.Parallel()
	w, f := scanning(t)
	content := text(300_000)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", content)}, want: 201, save: "A"},
		{as: "viewer", do: "GET {A.at}", want: 200, is: content},
	})
	if len(f.asked) != 1 || f.asked[0] != content {
		t.Errorf("the scanner was asked %d times, or about something else", len(f.asked))
	}
	w.metrics(t, `attachd_scans_total{result="clean"} 1`)
}

func TestAContentThatIsStoredIsScannedAgain(t *testing.T) {
	t.Parallel()
	w, f := scanning(t)
	upload := step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "malware of tomorrow")}, want: 201, save: "A"}
	f.old = true
	w.do(t, upload)
	f.old = false
	w.play(t, []step{
		{as: "editor", do: "POST {ticket}/attachments", form: upload.form, want: 400, code: "malware_found"},
		{as: "viewer", do: "GET {A.at}", want: 200, is: "malware of tomorrow"},
	})
}

func TestWhatIsRefusedAnywayIsNotScanned(t *testing.T) {
	t.Parallel()
	w, f := scanning(t)
	w.play(t, []step{
		{as: "viewer", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 403},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.sh", "#!/bin/sh\n")}, want: 400, code: "invalid_file"},
	})
	if len(f.asked) > 0 {
		t.Errorf("the scanner was asked about %q", f.asked)
	}
}

// ASVS 5.4.3
func TestAFileThatCannotBeScannedIsRefusedForNow(t *testing.T) {
	t.Parallel()
	w, f := scanning(t)
	w.expectLog("not ready") // say the metrics
	upload := step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 503, code: "scan_unavailable", header: header{"Retry-After": "60"}}
	for err, says := range map[error]string{
		errDown:             "Try again later",
		context.Canceled:    "Try again later", // not the client's
		io.ErrUnexpectedEOF: "Try again later",
		fmt.Errorf("%w: MaxFileSize", scan.ErrLimit): "cannot look at all of this file",
	} {
		f.fail(err)
		upload.says = says
		a := w.do(t, upload)
		if bytes.Contains(a.body, []byte("secret")) {
			t.Errorf("answered %s", a.body)
		}
	}
	if n := w.storedContents(); n != 0 {
		t.Errorf("%d contents are stored", n)
	}
	w.metrics(t, `attachd_scans_total{result="error"} 4`, `attachd_unscanned_uploads_total{outcome="refused"} 4`, `attachd_unscanned_uploads_total{outcome="accepted"} 0`)
	f.fail(nil)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: upload.form, want: 201})
}

func TestAFileThatCannotBeScannedIsTakenWhereTheOperatorSaysSo(t *testing.T) {
	t.Parallel()
	w, f := scanning(t, acceptUnscanned)
	f.fail(errDown)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "malware")}, want: 201},
		{do: "GET /health/ready", want: 200},
	})
	w.metrics(t, `attachd_scans_total{result="error"} 1`, `attachd_unscanned_uploads_total{outcome="refused"} 0`, `attachd_unscanned_uploads_total{outcome="accepted"} 1`)
	if e := w.audit(t, "attachment.upload"); e.Outcome != "done" || e.Resource.Name != "a.txt: not scanned for malware" {
		t.Errorf("the audit log has %+v", e)
	}
	if logged := strings.Join(w.log.lines(), "\n"); !strings.Contains(logged, `"msg":"taken without a scan for malware"`) || !strings.Contains(logged, "connection refused") {
		t.Error("the log does not say that it was not scanned, and why")
	}
	f.fail(nil)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "malware")}, want: 400, code: "malware_found"})
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "clean")}, want: 201})
	if e := w.audit(t, "attachment.upload&outcome=done"); e.Resource.Name != "a.txt" {
		t.Errorf("of a file that was scanned the audit log has %+v", e)
	}
}

func TestAScanEndsWhenItsClientGoesAway(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]func(*server.Config){"reject": nil, "accept": {acceptUnscanned}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := scanning(t, options...)
			begun := make(chan struct{})
			f.hang = begun
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-begun; cancel() }()
			r := w.request(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, send: header{"X-Request-Id": "gone"}})
			if _, err := w.client.Do(r.WithContext(ctx)); err == nil {
				t.Fatal("it was answered")
			}
			if line := w.log.request(t, "gone"); line["status"] != 499.0 {
				t.Errorf("the log has %v", line)
			}
			if n := w.records(); n != 0 {
				t.Errorf("%d records", n)
			}
		})
	}
}

func TestWithoutItsScannerTheServerIsNotReady(t *testing.T) {
	t.Parallel()
	w, f := scanning(t)
	w.expectLog("not ready")
	w.do(t, step{do: "GET /health/ready", want: 200})
	f.fail(errDown)
	w.clock.advance(2 * time.Second)
	w.do(t, step{do: "GET /health/ready", want: 200}) // the scanner's answer is cached for a while
	w.clock.advance(4 * time.Second)
	for range 3 {
		w.do(t, step{do: "GET /health/ready", want: 503, check: func(t *testing.T, a answer) {
			if !strings.Contains(string(a.body), "scanned") || strings.Contains(string(a.body), "secret") {
				t.Errorf("answered %s", a.body)
			}
		}})
	}
	if f.pings != 2 {
		t.Errorf("the scanner was asked %d times", f.pings)
	}
}

func TestWithoutAScannerThereAreNoMetricsOfScans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if a := w.do(t, step{as: "root", do: "GET /metrics", want: 200}); bytes.Contains(a.body, []byte("attachd_scan_")) || bytes.Contains(a.body, []byte("attachd_scans_")) {
		t.Error("there are some")
	}
}
