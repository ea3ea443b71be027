package server_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"attachd/server"
)

// Far more than the kernels on both sides of a connection hold for a client
// that does not read.
const moreThanBuffers = 24 << 20

func TestADownloadWhoseClientDoesNotReadIsCut(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]int64{"with a least rate": 1 << 10, "without one": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, text(moreThanBuffers), func(c *server.Config) { c.MinDownloadRate = rate })
			w.server.SetPatience(200 * time.Millisecond)
			conn := w.dial(t)
			conn.Write(w.rawRequest(t, step{as: "viewer", do: "GET {A.at}"}, 0, "X-Request-Id: stalled"))
			if sent := w.log.request(t, "stalled")["bytes_out"].(float64); sent == 0 || sent >= moreThanBuffers {
				t.Errorf("%v bytes went out", sent)
			}
		})
	}
}

func TestADownloadThatIsReadTooSlowlyIsCut(t *testing.T) {
	t.Parallel()
	w := withFile(t, text(moreThanBuffers), func(c *server.Config) { c.MinDownloadRate = 1 << 40 })
	w.server.SetPatience(200 * time.Millisecond)
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

// What a client sent quickly is no credit for what it sends later.
func TestAnUploadThatBeginsFastMayNotCrawl(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.SetPatience(300 * time.Millisecond)
	s := step{as: "editor", do: "POST {product}/attachments", want: 408}
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, s, 10<<20))
	io.WriteString(conn, "--"+boundary+"\r\n"+file("a.txt", "").header+"\r\n\r\n"+text(4<<20))
	crawls := time.NewTicker(10 * time.Millisecond)
	defer crawls.Stop()
	go func() {
		for range crawls.C {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
		}
	}()
	w.receive(t, conn, s)
	conn.Close()
}

// A connection may rest for longer than an answer may take.
func TestA100ContinueIsNotLateForTheAnswerBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const patience = 100 * time.Millisecond
	w.server.SetPatience(patience)
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, step{do: "GET /health"}, 0))
	w.receive(t, conn, step{do: "GET /health", want: 200})
	time.Sleep(2 * patience) // the write deadline of the first answer passes
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
