package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"attachd/server"
)

// moreThanBuffers is far more bytes than the kernels on both sides of a connection
// buffer for a client that does not read.
const moreThanBuffers = 24 << 20

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestADownloadWhoseClientDoesNotReadIsCut(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]int64{"with a least rate": 1 << 10, "without one": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, text(moreThanBuffers), func(c *server.Config) { c.MinDownloadRate = rate })
			w.server.SetPatience(patience, 200*time.Millisecond)
			conn := w.dial(t)
			conn.Write(w.rawRequest(t, step{as: "viewer", do: "GET {A.at}"}, 0, "X-Request-Id: stalled"))
			line := w.log.request(t, "stalled")
			if sent := line["bytes_out"].(float64); line["status"] != 200.0 || sent >= moreThanBuffers {
				t.Errorf("%v bytes went out: %v", sent, line)
			}
		})
	}
}

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestADownloadThatIsReadTooSlowlyIsCut(t *testing.T) {
	t.Parallel()
	w := withFile(t, text(moreThanBuffers), func(c *server.Config) { c.MinDownloadRate = 1 << 40 })
	w.server.SetPatience(patience, 200*time.Millisecond)
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, step{as: "viewer", do: "GET {A.at}"}, 0, "X-Request-Id: slow"))
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		w.log.request(t, "slow")
	}()
	for buf := make([]byte, 64<<10); ; time.Sleep(5 * time.Millisecond) { // some 12 MB a second
		select {
		case <-cut:
			return
		default:
		}
		if _, err := conn.Read(buf); err != nil {
			<-cut // fails when the request never ends
			return
		}
	}
}

// Fast sending is no credit for slow sending later.
func TestAnUploadThatBeginsFastMayNotCrawl(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.SetPatience(300*time.Millisecond, patience)
	s := step{as: "editor", do: "POST {product}/attachments", want: 408}
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, s, 10<<20))
	io.WriteString(conn, "--"+boundary+"\r\n"+file("a.txt", "").header+"\r\n\r\n"+text(4<<20))
	go func() {
		for err := error(nil); err == nil; time.Sleep(10 * time.Millisecond) {
			_, err = io.WriteString(conn, "x")
		}
	}()
	w.receive(t, conn, s)
	conn.Close()
}

// slowUploads begins n uploads that stall.
func (w *world) slowUploads(t *testing.T, as string, n int) (conns []net.Conn) {
	t.Helper()
	before := w.server.Uploads()
	for range n {
		conn := w.dial(t)
		conn.Write(w.rawRequest(t, step{as: as, do: "POST {product}/attachments"}, 10_000))
		io.WriteString(conn, "--"+boundary+"\r\n"+file("a.txt", "").header+"\r\n\r\nit begins")
		conns = append(conns, conn)
	}
	eventually(t, "the slow uploads to begin", func() bool { return w.server.Uploads() == before+n })
	return conns
}

// ASVS 2.1.3, 2.3.2, 2.4.1
func TestAUserWhoTakesAllSlotsKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.MaxConcurrentUploads = 4 })
	w.server.SetSlotGrace(0)
	slow := w.slowUploads(t, "editor", 4)
	before := w.server.UploadedBytes()
	io.WriteString(slow[0], text(5000)) // the slowest loses, and not this one
	eventually(t, "the bytes of the fastest to be counted", func() bool { return w.server.UploadedBytes() >= before+5000 })
	upload := step{do: "POST {product}/attachments", form: parts{file("b.txt", "quick")}}
	expect := func(as string, status int) {
		t.Helper()
		s := upload
		s.as, s.want = as, status
		a, err := w.send(t, s)
		if err != nil {
			t.Fatal(err)
		}
		w.judge(t, s, a)
	}
	upload.code = "busy"
	w.expectLog(`"code":"busy"`)
	expect("editor", 503) // no better off than before
	expect("admin", 201)

	w.slowUploads(t, "root", 1) // takes what is free now
	expect("admin", 201)        // takes a second one of the editor's
	expect("admin", 201)        // takes what that left
	w.slowUploads(t, "admin", 1)
	expect("root", 503) // two, one and one: nobody has more than a share
	answered := make(chan int, len(slow))
	for i, conn := range slow {
		go func() {
			if n, _ := conn.Read(make([]byte, 12)); n > 0 {
				answered <- i
			}
		}()
	}
	for range 2 {
		select {
		case i := <-answered:
			if i == 0 {
				t.Error("the fastest upload was cut")
			}
		case <-time.After(patience):
			t.Fatal("no two uploads were cut for others")
		}
	}
	if running := w.server.Uploads(); running != 4 {
		t.Errorf("%d uploads run, want the two that are left of the first four, and one of each other user", running)
	}
}

func TestAnUploadThatLostItsSlotIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.MaxConcurrentUploads = 2 })
	w.server.SetSlotGrace(time.Hour)
	slow := w.slowUploads(t, "editor", 2)
	other := step{as: "admin", do: "POST {product}/attachments", form: parts{file("b.txt", "quick")}, want: 201}
	busy := other
	busy.want, busy.code = 503, "busy"
	w.expectLog(`"code":"busy"`)
	refused, err := w.send(t, busy)
	if err != nil {
		t.Fatal(err)
	}
	w.judge(t, busy, refused) // they have only just begun
	w.server.SetSlotGrace(0)
	if a, err := w.send(t, other); err != nil || a.status != 201 {
		t.Fatalf("answered %d, %v", a.status, err)
	}
	answers := make(chan string, len(slow))
	for _, conn := range slow {
		go func() {
			answer := make([]byte, 1000)
			if n, _ := conn.Read(answer); n > 0 {
				answers <- string(answer[:n])
			}
		}()
	}
	select {
	case answer := <-answers:
		if !strings.Contains(answer, "another user, who has fewer") {
			t.Errorf("it was told %q", answer)
		}
	case <-time.After(patience):
		t.Fatal("no upload was told")
	}
	if running := w.server.Uploads(); running != 1 {
		t.Errorf("%d uploads run, want the one that kept its slot", running)
	}
}

// heldScanner is a scanner that finds nothing, and answers when it is released.
type heldScanner struct{ begun, released chan struct{} }

func (h heldScanner) Scan(ctx context.Context, _ io.Reader) (string, error) {
	h.begun <- struct{}{}
	<-h.released
	return "", ctx.Err()
}

func (heldScanner) Ping(context.Context) error { return nil }

// An upload received completely is not discarded: its client has done its part.
func TestAnUploadThatHasComeWholeKeepsItsSlot(t *testing.T) {
	t.Parallel()
	held := heldScanner{make(chan struct{}, 10), make(chan struct{})}
	w := newWorld(t, func(c *server.Config) { c.MaxConcurrentUploads, c.Scanner = 3, held })
	w.server.SetSlotGrace(0)
	answers := make(chan answer, 3)
	begin := func(as string) {
		go func() {
			a, err := w.send(t, step{as: as, do: "POST {product}/attachments", form: parts{file("a.txt", "whole")}})
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
		<-held.begun
	}
	begin("editor")
	begin("editor")
	slow := w.slowUploads(t, "editor", 1)[0]
	begin("admin") // takes the place of the one that is not whole, though it is no slower
	told := make([]byte, 1000)
	n, err := slow.Read(told)
	if !strings.Contains(string(told[:n]), "another user, who has fewer") {
		t.Errorf("the one that was not whole was told %q, %v", told[:n], err)
	}
	w.expectLog(`"code":"busy"`)
	busy := step{as: "root for owner", do: "POST {ticket}/attachments", form: parts{file("a.txt", "late")}}
	if a, err := w.send(t, busy); err != nil || a.status != 503 {
		t.Errorf("with nothing but whole ones: %d, %v", a.status, err)
	}
	close(held.released)
	for range 3 {
		if a := <-answers; a.status != 201 {
			t.Errorf("one that had come whole was answered %d %s", a.status, a.body)
		}
	}
}

// A connection may be idle for longer than an answer may take.
func TestA100ContinueIsNotLateForTheAnswerBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const taking = 200 * time.Millisecond
	w.server.SetPatience(patience, taking)
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, step{do: "GET /health"}, 0))
	w.receive(t, conn, step{do: "GET /health", want: 200})
	time.Sleep(taking + taking/20) // the write deadline of the first answer passes
	body := parts{file("a.txt", "a")}.encode(t, w)
	s := step{as: "editor", do: "POST {product}/attachments", want: 201}
	conn.Write(w.rawRequest(t, s, len(body), "Expect: 100-continue"))
	if line := readLine(t, conn); !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("answered %q", line)
	}
	readLine(t, conn) // the empty one
	io.WriteString(conn, body)
	w.receive(t, conn, s)
}

func readLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	var line strings.Builder
	for b := make([]byte, 1); b[0] != '\n'; {
		if _, err := conn.Read(b); err != nil {
			t.Fatal(fmt.Errorf("reading a line: %w", err))
		}
		line.Write(b)
	}
	return line.String()
}
