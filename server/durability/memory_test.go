//go:build linux

package durability

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	picture "image" // image is a disk here
	"image/png"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var grouped = flag.Bool("cgroup", false, "run the process in a control group of the memory that Sizing names, which takes root and the right to make one")

// sizing is how many bytes of memory docs/sizing.md says are enough.
const sizing = 256 << 20

// Two users do everything at once that takes memory: one has pictures of 40
// megapixels decoded, two at a time, the other requests previews of megabytes and
// large downloads and reads none of them. The process survives, and other users are
// answered meanwhile.
// ASVS 13.1.2, 13.1.3, 13.2.6
func TestInTheMemoryThatSizingNamesTheServerSurvivesAllAtOnce(t *testing.T) {
	if !*grouped {
		t.Skip("takes root and a control group: go test ./server/durability -run MemoryThatSizing -cgroup")
	}
	pictures := largePictures(t, 4)
	t.Run("HTTP/1.1", func(t *testing.T) { surviveAllAtOnce(t, pictures, false) })
	t.Run("HTTP/2", func(t *testing.T) { surviveAllAtOnce(t, pictures, true) })
}

func surviveAllAtOnce(t *testing.T, pictures [][]byte, secure bool) {
	group := newMemoryGroup(t, sizing)
	dir := t.TempDir()
	var env []string
	if secure {
		env = selfSigned(t)
	}
	p := serveAs(t, filepath.Join(dir, "data"), group.command("serve", "--data-dir", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0"), env...)
	f := &flood{server: p, leave: make(chan struct{}), secure: secure}
	f.prepare(t, pictures)
	most := group.watch(f.leave)
	f.come(t)
	rounds, again := 0, 0
	for done := f.look(t); rounds < 20 || !closed(done); rounds++ {
		again += f.goodRound(t, rounds)
		if closed(p.ended) {
			break
		}
	}
	close(f.leave)
	f.all.Wait()
	if closed(p.ended) {
		t.Fatalf("the process was ended: %v", p.cmd.ProcessState)
	}
	f.goodRound(t, rounds)
	t.Logf("%d requests that nobody read; %d thumbnails made, %d not; the good client: %d rounds, tried again %d times; %d requests of those who read cut off, because there were too many connections; "+
		"the most at once in memory: %d MB, of the server alone %d MB; killed for memory: %d decoders, the server never",
		f.asked.Load(), f.made.Load(), f.none.Load(), rounds, again, f.cut.Load(), most.Load()>>20, p.peakMemory(t)>>20, group.kills(t))
	p.stop(t)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// flood is the concurrent requests of two users.
type flood struct {
	server                 *process
	secure                 bool
	looker, taker          client // the users
	table, file            string // paths of what the taker downloads
	pictures               []string
	leave                  chan struct{}
	all                    sync.WaitGroup
	asked, made, none, cut atomic.Int64
}

func (f *flood) prepare(t *testing.T, pictures [][]byte) {
	t.Helper()
	f.looker = client{f.server.url, f.server.newKey(t, "550e8400-e29b-41d4-a716-4466554400ab")}
	f.taker = client{f.server.url, f.server.newKey(t, "550e8400-e29b-41d4-a716-4466554400ac")}
	saved := func(name string, content []byte) string {
		a, err := f.server.upload(product, name, content)
		must(t, err)
		if a.status != http.StatusCreated {
			t.Fatalf("%s: answered %d %s", name, a.status, a.body)
		}
		return "/catalog/attachments/" + a.id()
	}
	for i, content := range pictures {
		f.pictures = append(f.pictures, saved(fmt.Sprintf("%d.png", i), content)+"/thumbnail")
	}
	// JSON encodes each control character in six bytes: the preview has 5.6 MB.
	text, odd := strings.Repeat("plain text to begin with ", 40)+"\n", strings.Repeat("\x01", 1000)+"\n"
	f.table = saved("a.csv", []byte(strings.Repeat(text, 67)+strings.Repeat(odd, 930))) + "/preview"
	f.file = saved("large.txt", bytes.Repeat([]byte("all work and no play\n"), 1<<20)) + "/download"
}

// come starts the requests whose answers are not read, and goes on until leave: a
// connection that is closed is opened again.
func (f *flood) come(t *testing.T) {
	t.Helper()
	var came sync.WaitGroup
	for _, c := range []struct {
		path string
		n    int
	}{{f.table, 200}, {f.file, 600}} {
		came.Add(1)
		f.all.Go(func() { f.connections(c.path, c.n, sync.OnceFunc(came.Done)) })
	}
	if f.secure {
		for range 4 {
			f.all.Go(f.streams)
		}
	}
	came.Wait()
}

// connections keeps the n latest of the connections that request a path, and calls
// came when there have been n.
func (f *flood) connections(path string, n int, came func()) {
	var open []net.Conn
	defer came()
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n", path, f.taker.key)
	for pace := time.NewTicker(5 * time.Millisecond); !closed(f.leave) && !closed(f.server.ended); {
		conn, err := f.dial()
		if err != nil {
			continue // it was one too many
		}
		f.asked.Add(1)
		_, _ = io.WriteString(conn, request) // as well
		if open = append(open, conn); len(open) > n {
			open[0].Close()
			open = open[1:]
			came()
			<-pace.C
		}
	}
}

func (f *flood) dial() (net.Conn, error) {
	_, address, _ := strings.Cut(f.server.url, "://")
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return nil, err
	}
	err = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	if !f.secure || err != nil {
		return conn, err
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := secure.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, conn.SetDeadline(time.Time{})
}

// streams opens as many streams as one connection of HTTP/2 may have.
func (f *flood) streams() {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
		HTTP2:             &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10, StrictMaxConcurrentRequests: true},
	}
	defer transport.CloseIdleConnections()
	var all sync.WaitGroup
	for i := range 250 {
		all.Go(func() {
			path := f.file
			if i%10 == 0 {
				path = f.table
			}
			for !closed(f.leave) && !closed(f.server.ended) {
				f.stream(transport, path)
			}
		})
	}
	all.Wait()
}

// stream makes one request. Unless it is refused, it stays open without reading
// until leave.
func (f *flood) stream(transport *http.Transport, path string) {
	rq, err := http.NewRequest("GET", f.server.url+path, nil)
	if err != nil {
		panic(err)
	}
	rq.Header.Set("Authorization", "Bearer "+f.taker.key)
	f.asked.Add(1)
	a, err := transport.RoundTrip(rq)
	if err == nil {
		defer a.Body.Close()
	}
	if err == nil && a.StatusCode == http.StatusOK {
		<-f.leave
		return
	}
	select {
	case <-f.leave:
	case <-f.server.ended:
	case <-time.After(200 * time.Millisecond):
	}
}

// look requests thumbnails, two at a time.
func (f *flood) look(t *testing.T) (done <-chan struct{}) {
	end := make(chan struct{})
	todo := make(chan string, len(f.pictures))
	for _, path := range f.pictures {
		todo <- path
	}
	close(todo)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for path := range todo {
				switch a, _ := f.patiently(t, func() (answer, error) { return f.looker.call("GET", path, nil) }); a.status {
				case http.StatusOK:
					f.made.Add(1)
				case 0: // the process has ended, or the request failed
				case http.StatusNotFound: // its process was killed
					f.none.Add(1)
				default:
					t.Errorf("a thumbnail: answered %d %s", a.status, a.body)
				}
			}
		})
	}
	f.all.Go(func() {
		all.Wait()
		close(end)
	})
	return end
}

// patiently retries requests that are refused for now, or cut off because there are
// too many connections.
func (f *flood) patiently(t *testing.T, try func() (answer, error)) (a answer, again int) {
	for begun := time.Now(); ; again++ {
		a, err := try()
		if err == nil && a.status != http.StatusServiceUnavailable || closed(f.server.ended) {
			return a, again
		}
		if err == nil && a.header.Get("Retry-After") == "" {
			t.Errorf("a refusal does not say when to try again: %s", a.body)
		}
		if time.Since(begun) > patience {
			t.Errorf("in vain for %v: %d %s, %v", patience, a.status, a.body, err)
			return a, again
		}
		if err != nil {
			f.cut.Add(1)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// goodRound is an upload and a download by another user, and returns how often they
// were retried.
func (f *flood) goodRound(t *testing.T, n int) (again int) {
	t.Helper()
	connections.CloseIdleConnections() // the server closes idle connections to make room
	content := bytes.Repeat(fmt.Appendf(nil, "round %d\n", n), 10_000)
	saved, first := f.patiently(t, func() (answer, error) { return f.server.upload(product, "good.txt", content) })
	given, second := f.patiently(t, func() (answer, error) { return f.server.download(saved.id()) })
	if !closed(f.server.ended) && (saved.status != http.StatusCreated || given.status != http.StatusOK || !bytes.Equal(given.body, content)) {
		t.Errorf("round %d: answered %d and %d, with %d bytes", n, saved.status, given.status, len(given.body))
	}
	return first + second
}

// largePictures returns n pictures of 40 megapixels each, 160 MB when they are
// decoded.
func largePictures(t *testing.T, n int) (files [][]byte) {
	t.Helper()
	for i := range n {
		row := bytes.Repeat([]byte{byte(i), 2, 3, 254}, 8000)
		var file bytes.Buffer
		// A stride of 0 makes all rows the same one.
		must(t, (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&file, &picture.NRGBA{Pix: row, Rect: picture.Rect(0, 0, 8000, 5000)}))
		files = append(files, file.Bytes())
	}
	return files
}

// selfSigned returns settings with a self-signed certificate.
func selfSigned(t *testing.T) (env []string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pair := s.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	cert, keyFile := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	return []string{"ATTACHD_TLS_CERT_FILE=" + cert, "ATTACHD_TLS_KEY_FILE=" + keyFile}
}

// memoryGroup is a control group with a memory limit.
type memoryGroup struct {
	dir      string
	resident *regexp.Regexp // of memory.stat: what processes hold
	killed   string         // the file that counts kills
}

var oomKills = regexp.MustCompile(`(?m)^oom_kill (\d+)$`)

// newMemoryGroup creates one, of the version that this system has.
func newMemoryGroup(t *testing.T, limit int) *memoryGroup {
	t.Helper()
	const root = "/sys/fs/cgroup"
	g := &memoryGroup{dir: filepath.Join(root, "memory"), resident: regexp.MustCompile(`(?m)^rss (\d+)$`), killed: "memory.oom_control"}
	most, swap := "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	if _, err := os.Stat(g.dir); errors.Is(err, fs.ErrNotExist) {
		*g = memoryGroup{root, regexp.MustCompile(`(?m)^anon (\d+)$`), "memory.events"}
		most, swap = "memory.max", "memory.swap.max"
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0) // it may be on
	}
	var err error
	g.dir, err = os.MkdirTemp(g.dir, "attachd-test-")
	if err != nil {
		t.Skipf("no control group can be made here: %v", err)
	}
	t.Cleanup(func() { must(t, os.Remove(g.dir)) }) // after the cleanup that ends the process
	must(t, os.WriteFile(filepath.Join(g.dir, most), []byte(strconv.Itoa(limit)), 0))
	swapped := limit // includes memory; version 2 counts swap separately
	if swap == "memory.swap.max" {
		swapped = 0
	}
	_ = os.WriteFile(filepath.Join(g.dir, swap), []byte(strconv.Itoa(swapped)), 0) // there may be none
	return g
}

// command is attachd in the group.
func (g *memoryGroup) command(words ...string) *exec.Cmd {
	enter := []string{"-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs"), binary()}
	return exec.Command("sh", append(enter, words...)...)
}

// number is the first match of a pattern in a file of the group.
func (g *memoryGroup) number(file string, pattern *regexp.Regexp) (int64, error) {
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0, err
	}
	found := pattern.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("%s has no %v", file, pattern)
	}
	return strconv.ParseInt(string(found[1]), 10, 64)
}

// kills is how many processes of the group were killed for lack of memory.
func (g *memoryGroup) kills(t *testing.T) int64 {
	t.Helper()
	n, err := g.number(g.killed, oomKills)
	must(t, err)
	return n
}

// watch records the maximum of what the processes of the group hold, in bytes,
// until leave.
func (g *memoryGroup) watch(leave <-chan struct{}) (most *atomic.Int64) {
	most = &atomic.Int64{}
	go func() {
		for !closed(leave) {
			n, _ := g.number("memory.stat", g.resident) // less is no harm
			most.Store(max(most.Load(), n))
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return most
}
