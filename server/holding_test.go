package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/server"
	"attachd/server/memory"
	"attachd/server/preview"
)

// little is a server with little memory for answers, in bytes.
func little(answers int64) func(*server.Config) {
	return func(c *server.Config) {
		c.Memory = func() memory.Plan {
			plan := memory.PlanFor(0)
			plan.Answers = answers
			return plan
		}
	}
}

// unread sends a request on a new connection and does not read the answer.
func (w *world) unread(t *testing.T, key, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	w.must(err)
	w.must(conn.(*net.TCPConn).SetReadBuffer(4 << 10))
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n", path, key)
	w.must(err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Answers that one user does not read are bounded, and delay no other user's; the
// memory is released when the clients disconnect.
// ASVS 13.1.2, 13.1.3, 13.2.6
func TestAnswersThatNobodyReadsAreBounded(t *testing.T) {
	t.Parallel()
	const answers = 24 << 20
	w := newWorld(t, little(answers))
	row := strings.Repeat("plain text to begin with ", 40) + "\n"
	odd := strings.Repeat("\x01", 1000) + "\n" // of each byte JSON makes six
	w.uploaded(t, "{product}", "a.csv", []byte(strings.Repeat(row, 67)+strings.Repeat(odd, 930)), "A")
	var conns []net.Conn
	for range 30 {
		conns = append(conns, w.unread(t, w.keys["viewer"], w.fill(t, "/catalog/attachments/{A}/preview")))
	}
	eventually(t, "the answers to be held", func() bool { return w.server.HeldBytes() > answers/8 })
	for range 5 {
		w.do(t, step{as: "editor", do: "GET {product}/attachments", want: 200})
		w.uploaded(t, "{product}", "b.txt", []byte(alphabet), "B")
		if held := w.server.HeldBytes(); held > answers {
			t.Errorf("%d bytes are held", held)
		}
	}
	w.do(t, step{as: "editor", do: "GET /catalog/attachments/{A}/preview", want: 200})
	refused := false
	for _, conn := range conns {
		w.must(conn.SetReadDeadline(time.Now().Add(patience)))
		a, err := http.ReadResponse(bufio.NewReader(conn), nil)
		w.must(err)
		switch a.StatusCode {
		case 200:
		case 503:
			refused = true
			if a.Header.Get("Retry-After") == "" {
				t.Error("a refusal does not say when to try again")
			}
		default:
			t.Errorf("one is answered %d", a.StatusCode)
		}
		conn.Close()
	}
	if !refused {
		t.Error("none was refused")
	}
	eventually(t, "what was held to be given back", func() bool { return w.server.HeldBytes() == 0 })
}

// A thumbnail is made once for all who request it at the same time, and one that cannot
// be made is not tried again.
// ASVS 5.2.6
func TestAThumbnailThatFailsIsTriedOnce(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]error{"a picture that is broken": preview.ErrNone, "one that takes too long": preview.ErrKilled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var decodes atomic.Int32
			release := make(chan bool)
			w := newWorld(t, func(c *server.Config) {
				c.Decode = func(context.Context, io.ReaderAt, int64, string, int64) ([]byte, error) {
					decodes.Add(1)
					<-release
					return nil, fails
				}
			})
			w.uploaded(t, "{product}", "a.png", pngOf(t, 30, 30), "A")
			w.uploaded(t, "{product}", "t.csv", []byte("a,b\n1,2\n"), "T")
			get := step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 404, code: "no_thumbnail"}
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() { w.do(t, get) })
			}
			eventually(t, "it to be decoded", func() bool { return decodes.Load() > 0 })
			w.do(t, step{as: "editor", do: "GET /catalog/attachments/{T}/preview", want: 200})
			close(release)
			all.Wait()
			w.do(t, get)
			if n := decodes.Load(); n != 1 {
				t.Errorf("it was decoded %d times", n)
			}
			w.clock.advance(25 * time.Hour)
			w.do(t, get)
			if n := decodes.Load(); n != 2 {
				t.Errorf("a day later it was decoded %d times", n)
			}
		})
	}
}

func TestAThumbnailWhoseProcessCannotBeRunIsTriedAgain(t *testing.T) {
	t.Parallel()
	var decodes atomic.Int32
	w := newWorld(t, func(c *server.Config) {
		c.Decode = func(ctx context.Context, file io.ReaderAt, size int64, mimeType string, _ int64) ([]byte, error) {
			if decodes.Add(1) == 1 {
				return nil, fmt.Errorf("%w: fork/exec: resource temporarily unavailable", preview.ErrNotRun)
			}
			return preview.Thumbnail(ctx, file, size, mimeType)
		}
	})
	w.uploaded(t, "{product}", "a.png", pngOf(t, 30, 30), "A")
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 503, code: "busy"})
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 200})
}

// A decoding is cancelled when no request waits for it any more, and users take turns.
func TestThumbnailsAreMadeInTurns(t *testing.T) {
	t.Parallel()
	order, release := make(chan int64, 10), make(chan bool)
	w := newWorld(t, func(c *server.Config) {
		c.Memory = func() memory.Plan {
			plan := memory.PlanFor(0)
			plan.Decoders = 1
			return plan
		}
		c.Decode = func(ctx context.Context, _ io.ReaderAt, size int64, _ string, _ int64) ([]byte, error) {
			order <- size
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, preview.ErrNone
		}
	})
	sizes := map[string]int64{}
	for i, name := range []string{"A", "B", "C", "D"} {
		content := pngOf(t, 10+10*i, 10)
		sizes[name] = int64(len(content))
		w.uploaded(t, "{product}", "a.png", content, name)
	}
	gone, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		rq, err := http.NewRequestWithContext(gone, "GET", w.url+w.fill(t, "/catalog/attachments/{A}/thumbnail"), nil)
		w.must(err)
		rq.Header.Set("Authorization", "Bearer "+w.keys["viewer"])
		if a, err := http.DefaultClient.Do(rq); err == nil {
			a.Body.Close()
		}
	})
	if got := <-order; got != sizes["A"] {
		t.Fatalf("the first has %d bytes", got)
	}
	for i, c := range []struct{ who, what string }{{"viewer", "B"}, {"viewer", "C"}, {"editor", "D"}} {
		all.Go(func() {
			w.do(t, step{as: c.who, do: "GET /catalog/attachments/{" + c.what + "}/thumbnail", want: 404, code: "no_thumbnail"})
		})
		eventually(t, "it to wait", func() bool { return w.server.WaitingForDecodes() == i+1 })
	}
	leave() // so the first ends, and another user's comes before the same user's
	for i, want := range []string{"D", "B", "C"} {
		if got := <-order; got != sizes[want] {
			t.Errorf("place %d has one of %d bytes, want that of %s", i+2, got, want)
		}
		release <- true
	}
	all.Wait()
}
