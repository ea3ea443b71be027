//go:build unix

package durability

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is a set of connections that occupy the server without doing useful work, a
// quarter each of four kinds.
type crowd struct {
	server *process
	key    string // of the slow user, who is not the good one
	file   string // the path of a large download
	conns  []net.Conn
	begun  time.Time
	leave  chan struct{}
	all    sync.WaitGroup
}

// slowBound and headerBound are how long a slow client may stay, and one that does
// not complete its header.
const (
	slowBound   = 30 * time.Second
	headerBound = 10 * time.Second
)

func TestAFewSlowClientsDoNotDisturbTheGood(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir(), "ATTACHD_LIMITS_MAX_CONCURRENT_UPLOADS=20")
	c := newCrowd(t, p)
	before := c.open(t)
	c.come(t, 200)
	defer c.goAway()
	if came := c.open(t) - before; came < 100 { // a slow machine has closed some already
		t.Errorf("only %d are open", came)
	}
	c.letIn(t)
	for range 20 {
		goodRequests(t, p)
	}
}

// The good client's p99 latency is at most twice that of one at an idle server,
// which is measured in turns, so that other activity of the machine affects both;
// and the slow clients are disconnected in time.
// ASVS 13.1.2, 13.1.3, 13.2.6
func TestThousandsOfSlowClientsDoNotDisturbTheGood(t *testing.T) {
	if !*long {
		t.Skip("opens 5,000 connections; run with -long")
	}
	const slow, measured = 5000, 400
	p, alone := serve(t, t.TempDir()), serve(t, t.TempDir())
	c := newCrowd(t, p)
	for range 50 {
		goodRequests(t, p)
		goodRequests(t, alone)
	}
	memoryBefore := p.peakMemory(t)
	openBefore := c.open(t)
	begun := time.Now()
	c.come(t, slow)
	defer c.goAway()
	came := c.open(t) - openBefore
	opening := time.Since(begun)
	c.letIn(t)
	idle, attacked := p99s(t, alone, p, measured)
	t.Logf("%d files more were open when the measurement began, %d when it ended, %v after the last had come", came, c.open(t)-openBefore, time.Since(c.begun))
	if came < slow && opening < headerBound { // later, the first are closed already
		t.Errorf("only %d were open when the measurement began", came)
	}
	t.Logf("p99 without %v, with %d slow connections %v (%.2f times); peak memory %d MB, before %d MB",
		idle, slow, attacked, float64(attacked)/float64(idle), p.peakMemory(t)>>20, memoryBefore>>20)
	if attacked > 2*idle {
		t.Errorf("p99 is %v with %d slow connections, %v without", attacked, slow, idle)
	}
	for c.open(t) > openBefore+10 {
		if time.Since(c.begun) > slowBound+opening+patience/2 { // a busy machine is late
			t.Fatalf("%d are still open %v after they came", c.open(t), time.Since(c.begun))
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("the slow ones were gone %v after the last had come", time.Since(c.begun))
	goodRequests(t, p)
}

func newCrowd(t *testing.T, p *process) *crowd {
	t.Helper()
	c := &crowd{server: p, leave: make(chan struct{})}
	c.key = p.newKey(t, "550e8400-e29b-41d4-a716-4466554400aa")
	saved, err := p.upload(product, "large.txt", bytes.Repeat([]byte("all work and no play\n"), 1<<20))
	must(t, err)
	c.file = saved.header.Get("Location")
	if c.file == "" {
		t.Fatalf("answered %d", saved.status)
	}
	return c
}

// newKey creates a superadmin, and returns a key of theirs.
func (p *process) newKey(t *testing.T, user string) string {
	t.Helper()
	_, err := p.call("PUT", "/directory/users/"+user, []byte(`{"full_name":"Slow","is_superadmin":true}`))
	must(t, err)
	made, err := p.call("POST", "/directory/users/"+user+"/api-keys", []byte(`{"name":"slow"}`))
	must(t, err)
	var key struct {
		FullKey string `json:"full_key"`
	}
	must(t, json.Unmarshal(made.body, &key))
	if key.FullKey == "" {
		t.Fatalf("answered %d %s", made.status, made.body)
	}
	return key.FullKey
}

// come opens n connections and keeps them slow.
func (c *crowd) come(t *testing.T, n int) {
	t.Helper()
	kinds := []func(net.Conn) error{c.slowHeader, c.slowUpload, c.slowReader, c.idle}
	conns := make([]net.Conn, n)
	var dialled sync.WaitGroup
	for k := range 50 {
		dialled.Go(func() {
			for i := k; i < n; i += 50 {
				conn, err := net.Dial("tcp", strings.TrimPrefix(c.server.url, "http://"))
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				conns[i] = conn
				if err := kinds[i%len(kinds)](conn); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	dialled.Wait()
	if t.Failed() {
		t.FailNow()
	}
	c.conns, c.begun = conns, time.Now()
	c.all.Go(c.trickle)
}

// trickle makes every client send or read a little, some every five seconds.
func (c *crowd) trickle() {
	drop := make([]byte, 1)
	pause := 5 * time.Second / time.Duration(len(c.conns))
	for {
		for i, conn := range c.conns {
			select {
			case <-c.leave:
				return
			case <-time.After(pause):
			}
			switch i % 4 { // every connection ends with an error
			case 0, 1:
				_, _ = conn.Write([]byte("x"))
			case 2:
				_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
				_, _ = conn.Read(drop)
			}
		}
	}
}

func (c *crowd) goAway() {
	close(c.leave)
	c.all.Wait()
	for _, conn := range c.conns {
		conn.Close()
	}
}

func (c *crowd) slowHeader(conn net.Conn) error {
	_, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: ")
	return err
}

func (c *crowd) slowUpload(conn net.Conn) error {
	_, err := fmt.Fprintf(conn, "POST %s/attachments HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: multipart/form-data; boundary=frontier\r\nContent-Length: 10000000\r\n\r\n"+
		"--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nslow", product, c.key)
	return err
}

func (c *crowd) slowReader(conn net.Conn) error {
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		return err
	}
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n", c.file, c.key)
	return err
}

func (c *crowd) idle(conn net.Conn) error {
	if _, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 4096))
	return err
}

var openFiles = regexp.MustCompile(`(?m)^process_open_fds (\S+)$`)

// letIn waits until a good upload is accepted: the slow ones hold their slots for a
// moment in any case.
func (c *crowd) letIn(t *testing.T) {
	t.Helper()
	bound := patience
	if *long { // on a machine that does nothing else
		bound = slowBound / 3
	}
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		a, err := c.server.upload(goodTicket, "good.txt", []byte("good"))
		must(t, err)
		if a.status == http.StatusCreated {
			return
		}
		if time.Since(begun) > bound {
			t.Fatalf("the good client has waited long enough: answered %d %s", a.status, a.body)
		}
	}
}

// open is how many files the server has open: each connection is one, and each
// upload or download over it another.
func (c *crowd) open(t *testing.T) int {
	t.Helper()
	a, err := c.server.call("GET", "/metrics", nil)
	must(t, err)
	found := openFiles.FindSubmatch(a.body)
	if found == nil {
		t.Skip("this system does not tell how many files are open")
	}
	n, err := strconv.ParseFloat(string(found[1]), 64)
	must(t, err)
	return int(n)
}

const goodTicket = "/issues/tickets/550e8400-e29b-41d4-a716-446655440001"

// goodRequests are what an ordinary client does: it uploads, lists, downloads and
// deletes, each over a kept or a new connection.
func goodRequests(t *testing.T, p *process) {
	t.Helper()
	want := func(status int) func(answer, error) answer {
		return func(a answer, err error) answer {
			t.Helper()
			must(t, err)
			if a.status != status {
				t.Fatalf("the good client is answered %d %s", a.status, a.body)
			}
			return a
		}
	}
	if rand.IntN(4) == 0 {
		connections.CloseIdleConnections()
	}
	id := want(http.StatusCreated)(p.upload(goodTicket, "good.txt", []byte("good"))).id()
	want(http.StatusOK)(p.call("GET", goodTicket+"/attachments?limit=1", nil))
	want(http.StatusOK)(p.call("GET", "/issues/attachments/"+id, nil))
	want(http.StatusOK)(p.call("DELETE", "/issues/attachments/"+id, nil))
}

// p99s returns the p99 latencies of n rounds of good requests at each of two
// servers.
func p99s(t *testing.T, one, other *process, n int) (ofOne, ofOther time.Duration) {
	t.Helper()
	took := map[*process][]time.Duration{}
	for range n {
		for _, p := range []*process{one, other} {
			begun := time.Now()
			goodRequests(t, p)
			took[p] = append(took[p], time.Since(begun))
		}
	}
	slices.Sort(took[one])
	slices.Sort(took[other])
	return took[one][n*99/100], took[other][n*99/100]
}

// A part's header of any length takes no more memory than a short one.
func TestEndlessPartHeadersTakeNoMemory(t *testing.T) {
	t.Parallel()
	const bound = 150 << 20
	clients := 20
	if *long {
		clients = 200
	}
	p := serve(t, t.TempDir())
	goodRequests(t, p)
	before := p.peakMemory(t)
	begin := "--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n"
	for name, line := range map[string]string{"one line": strings.Repeat("x", 1000), "many lines": "X-Pad: " + strings.Repeat("x", 991) + "\r\n"} {
		header := []byte(begin + strings.Repeat(line, 9800))
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				fmt.Fprintf(conn, "POST %s/attachments HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n"+
					"Content-Type: multipart/form-data; boundary=frontier\r\nContent-Length: 50000000\r\n\r\n", product, p.key)
				if _, err := conn.Write(header); err != nil {
					t.Errorf("%s: the server hung up: %v", name, err)
				}
				response, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil || response.StatusCode != http.StatusBadRequest {
					t.Errorf("%s: answered %v, %v", name, response, err)
				}
			})
		}
		all.Wait()
	}
	peak := p.peakMemory(t)
	t.Logf("%d clients: peak memory %d MB, before %d MB", clients, peak>>20, before>>20)
	if peak > bound {
		t.Errorf("peak memory is %d MB", peak>>20)
	}
}
