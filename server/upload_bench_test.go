package server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs/disk"
	"attachd/server"
	"attachd/server/content"
	"attachd/server/preview"
	"attachd/server/token"
	"attachd/store/bolt"
)

// BenchmarkUpload uploads 10 KB over connections that are kept, to a server as
// the command runs it, on the disk of the test's directory.
func BenchmarkUpload(b *testing.B) {
	for name, logBelow := range map[string]int64{"contents wait": 64 << 10, "files at once": 0} {
		for _, clients := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s, %d clients", name, clients), func(b *testing.B) { benchmarkUpload(b, logBelow, clients) })
		}
	}
}

func benchmarkUpload(b *testing.B, logBelow int64, clients int) {
	s, key := newForBenchmark(b, logBelow)
	address := serveForBenchmark(b, s)
	template := strings.Repeat("a line of sixteen", 10<<10/17)
	var next atomic.Int64
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range clients {
		all.Go(func() {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			body := []byte("--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n" + template + "\r\n--frontier--\r\n")
			at := bytes.Index(body, []byte("a line"))
			head := "POST /catalog/spaces/a/products/" + productOf["a"].ID.String() + "/attachments HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + key +
				"\r\nContent-Type: multipart/form-data; boundary=frontier\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				copy(body[at:], strconv.FormatInt(n, 10))
				if _, err := conn.Write(append([]byte(head), body...)); err != nil {
					b.Error(err)
					return
				}
				answer, err := http.ReadResponse(answers, nil)
				if err == nil {
					_, err = io.Copy(io.Discard, answer.Body)
				}
				if err != nil || answer.StatusCode != http.StatusCreated {
					b.Errorf("%v %v", answer, err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
}

func newForBenchmark(b *testing.B, logBelow int64) (s *server.Server, key string) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	records, err := bolt.Open(filepath.Join(dir, "attachd.db"), bolt.Options{Log: filepath.Join(dir, "wal")})
	must(err)
	b.Cleanup(func() { records.Close() })
	var m made
	m.keys = map[string]string{}
	must(m.populate(records))
	files, err := disk.Open(dir, disk.Options{})
	must(err)
	b.Cleanup(func() { files.Close() })
	policy, err := content.NewPolicy(nil, false)
	must(err)
	s, err = server.New(server.Config{
		Store: records, Blobs: files, Abilities: server.AbilitiesOf(records, files), Ballast: &ballast{}, Policy: policy, SigningKeys: []token.SigningKey{{Secret: make([]byte, 32)}}, KeepSigningKeys: func([]token.SigningKey) error { return nil }, Now: time.Now,
		Log:         slog.New(slog.NewJSONHandler(io.Discard, nil)),
		Scratch:     (&world{dir: dir}).scratch,
		Thumbnails:  preview.NewCache(filepath.Join(dir, "thumbnails"), filepath.Join(dir, "tmp"), func(*os.File) error { return nil }),
		MaxFileSize: 50 << 20, LogBelow: logBelow, MaxConcurrentUploads: 256, MinUploadRate: 1 << 10, URLTTL: time.Hour, VerifyReads: true,
	})
	must(err)
	return s, m.keys["editor"]
}

func serveForBenchmark(b *testing.B, s *server.Server) (address string) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	httpServer := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { httpServer.Serve(listener) })
	running.Go(func() { s.RunJob(ctx, "flush staged contents", 0) })
	b.Cleanup(func() {
		httpServer.Close()
		end()
		running.Wait()
	})
	return listener.Addr().String()
}

// BenchmarkAnswer is what the server itself does of small requests, without net/http's
// connections: downloads of a file that was hashed before, and lists.
func BenchmarkAnswer(b *testing.B) {
	s, key := newForBenchmark(b, 0)
	place := "/catalog/spaces/a/products/" + productOf["a"].ID.String() + "/attachments"
	ask := func(method, path, body string) *http.Request {
		rq := httptest.NewRequest(method, path, strings.NewReader(body))
		if body == "" {
			rq.Body = http.NoBody
		}
		rq.Header.Set("Authorization", "Bearer "+key)
		rq.Header.Set("Content-Type", "multipart/form-data; boundary=frontier")
		return rq
	}
	file := ""
	for n := range 100 {
		to := httptest.NewRecorder()
		s.ServeHTTP(to, ask("POST", place, fmt.Sprintf("--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n%d%s\r\n--frontier--\r\n", n, strings.Repeat("a line of sixteen", 10<<10/17))))
		if file = to.Header().Get("Location"); to.Code != http.StatusCreated {
			b.Fatal(to.Body.String())
		}
	}
	time.Sleep(2100 * time.Millisecond) // a file that was just written is not trusted
	for name, path := range map[string]string{"download 10 KB": file, "list 100": place} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				to := &discarded{header: http.Header{}}
				if s.ServeHTTP(to, ask("GET", path, "")); to.status != http.StatusOK || to.bytes < 10_000 {
					b.Fatal(to)
				}
			}
		})
	}
}

// discarded is a response that nobody reads.
type discarded struct {
	header        http.Header
	status, bytes int
}

func (d *discarded) Header() http.Header    { return d.header }
func (d *discarded) WriteHeader(status int) { d.status = status }
func (d *discarded) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}
