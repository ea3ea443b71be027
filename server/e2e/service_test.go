//go:build unix

package e2e

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// manager acts as a service manager for attachd: it holds the socket that clients
// connect to, and receives the server's notifications.
type manager struct {
	t      *testing.T
	socket *os.File
	notify *net.UnixConn
	path   string // of notify

	mu    sync.Mutex
	heard []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	folder, err := os.MkdirTemp("", "attachd") // a socket's path must be short
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(folder)) })
	m := &manager{t: t, path: filepath.Join(folder, "notify")}
	m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	check(t, err)
	go m.listen()
	t.Cleanup(func() { check(t, m.notify.Close()) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	m.socket, err = listener.(*net.TCPListener).File()
	check(t, err)
	check(t, listener.Close())
	t.Cleanup(func() { check(t, m.socket.Close()) })
	return m
}

func (m *manager) listen() {
	for message := make([]byte, 4096); ; {
		n, err := m.notify.Read(message)
		if err != nil {
			return // closed
		}
		m.mu.Lock()
		m.heard = append(m.heard, string(message[:n]))
		m.mu.Unlock()
	}
}

func (m *manager) hears(state string, times int) {
	m.t.Helper()
	eventually(m.t, "the service manager hears "+state, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		n := 0
		for _, heard := range m.heard {
			if heard == state {
				n++
			}
		}
		return n >= times
	})
}

// start runs `attachd serve` with the socket.
func (m *manager) start(dir string, env ...string) *process {
	m.t.Helper()
	plain := command(m.t, autoCreate, "serve", "--data-dir", dir, "--listen", "192.0.2.1:1")
	cmd := exec.Command("sh", slices.Concat([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, plain.Args)...)
	cmd.Dir = plain.Dir
	cmd.Env = slices.Concat(plain.Env, env, []string{"LISTEN_FDS=1", "NOTIFY_SOCKET=" + m.path})
	cmd.ExtraFiles = []*os.File{m.socket}
	return startCommand(m.t, dir, cmd)
}

func TestAServiceManagerHearsHowTheServerIs(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	server := m.start(dataDir(t), "WATCHDOG_USEC=60000")
	m.hears("READY=1", 1)
	m.hears("WATCHDOG=1", 3)
	server.stop()
	m.hears("STOPPING=1", 1)
}

func TestWithoutAWatchdogNothingIsSentToIt(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	server := m.start(dataDir(t))
	m.hears("READY=1", 1)
	server.stop()
	m.hears("STOPPING=1", 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.heard, "WATCHDOG=1") {
		t.Errorf("the service manager heard %q", m.heard)
	}
}

// No connection is refused while the server restarts: clients wait.
func TestARestartRefusesNoConnection(t *testing.T) {
	t.Parallel()
	m, dir := newManager(t), dataDir(t)
	server := m.start(dir)
	url := server.url
	var (
		people   sync.WaitGroup
		stop     atomic.Bool
		answered atomic.Int64
	)
	for range 4 {
		people.Go(func() {
			for !stop.Load() {
				// A new connection for each call, as a browser's first has.
				conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
				if err != nil {
					t.Errorf("refused: %v", err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(patience))
				_, err = conn.Write([]byte("GET /health HTTP/1.0\r\n\r\n"))
				answer := make([]byte, 64)
				n, read := conn.Read(answer)
				_ = conn.Close()
				if err != nil || read != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.0 200") {
					t.Errorf("answered %q: %v, %v", answer[:n], err, read)
					return
				}
				answered.Add(1)
			}
		})
	}
	for range 5 {
		before := answered.Load()
		server.stop()
		next := m.start(dir)
		if next.url != url {
			t.Fatalf("it listens at %s after %s", next.url, url)
		}
		server = next
		eventually(t, "people are answered again", func() bool { return answered.Load() > before+10 })
	}
	stop.Store(true)
	people.Wait()
	server.stop()
}

// A client with a kept connection learns from an answer that it was the last, and
// does not find the connection closed while it sends a request.
func TestARestartCutsNoKeptConnectionThatIsInUse(t *testing.T) {
	t.Parallel()
	m, dir := newManager(t), dataDir(t)
	server := m.start(dir)
	url := server.url
	var (
		people   sync.WaitGroup
		stop     atomic.Bool
		answered atomic.Int64
	)
	// A connection that was idle for longer, as on a busy machine, may be closed: a
	// server that stops waits a second for the next request.
	const waiting = time.Second / 2
	// keep sends requests on one connection until an answer announces its end.
	keep := func() error {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		reader := bufio.NewReader(conn)
		for asked := time.Now(); !stop.Load() && time.Since(asked) < waiting; {
			asked = time.Now()
			if _, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: attachd\r\n\r\n"); err != nil {
				return err
			}
			answer, err := http.ReadResponse(reader, nil)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, answer.Body); err != nil {
				return err
			}
			answered.Add(1)
			if answer.Close {
				return nil
			}
			time.Sleep(time.Millisecond) // so that the connection is often idle
		}
		return nil
	}
	for range 4 {
		people.Go(func() {
			for !stop.Load() {
				if err := keep(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		before := answered.Load()
		server.stop()
		if server = m.start(dir); server.url != url {
			t.Fatalf("it listens at %s after %s", server.url, url)
		}
		eventually(t, "people are answered again", func() bool { return answered.Load() > before+10 })
	}
	stop.Store(true)
	people.Wait()
	server.stop()
}

func TestASocketThatTakesNoConnectionsIsRefused(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	check(t, m.socket.Close())
	var err error
	m.socket, err = os.Open(os.DevNull)
	check(t, err)
	plain := command(t, "serve", "--data-dir", dataDir(t))
	cmd := exec.Command("sh", slices.Concat([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, plain.Args)...)
	cmd.Dir, cmd.Env = plain.Dir, append(plain.Env, "LISTEN_FDS=1")
	cmd.ExtraFiles = []*os.File{m.socket}
	if r := finish(t, cmd); r.code != 1 || !strings.Contains(r.stderr, "takes TCP connections") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}

// overUnix is a client of a unix socket.
func overUnix(t *testing.T, path string) *client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &client{t: t, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, url: "http://files.example"}
}

// A proxy on the same machine needs no port. Its client's address is taken from
// X-Forwarded-For where 127.0.0.1 is trusted.
func TestServeListensOnAUnixSocket(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", "attachd") // a socket's path must be short
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(folder)) })
	path := filepath.Join(folder, "s")
	begin := func(dir string) *process {
		cmd := command(t, "ATTACHD_TRUSTED_PROXIES=127.0.0.1", "serve", "--data-dir", dir, "--listen", "unix:"+path)
		stderr, err := cmd.StderrPipe()
		check(t, err)
		check(t, cmd.Start())
		p := &process{client: *overUnix(t, path), cmd: cmd, dir: dir, ended: make(chan struct{})}
		go p.listen(stderr)
		t.Cleanup(p.kill)
		p.logged(`"url":"unix:` + path + `"`)
		return p
	}
	refusedFor := func(says string) {
		t.Helper()
		if said := refused(t, 1, "serve", "--data-dir", dataDir(t), "--listen", "unix:"+path); !strings.Contains(said, says) {
			t.Errorf("it says %q, not %q", said, says)
		}
	}
	write(t, path, "a file of somebody's")
	refusedFor("is no socket")
	remove(t, path)

	dir := dataDir(t)
	server := begin(dir)
	if mode := info(t, path).Mode(); mode != fs.ModeSocket|0o660 {
		t.Errorf("the socket has mode %v", mode)
	}
	server.call("", "GET", "/users/me", nil, "X-Forwarded-For", "192.0.2.7").want(t, 401)
	server.logged(`"address":"192.0.2.7"`)
	refusedFor("another process listens there")
	server.get("/health").want(t, 200)
	server.kill() // it leaves the socket
	server = begin(dir)
	server.get("/health").want(t, 200)
	server.stop()
	if left := names(t, folder); len(left) > 0 {
		t.Errorf("a stop left %v", left)
	}
}

// systemd may hand over more than one socket, of either kind.
func TestSeveralSocketsOfAServiceManagerAreServed(t *testing.T) {
	t.Parallel()
	m, dir := newManager(t), dataDir(t)
	path := filepath.Join(filepath.Dir(m.path), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	check(t, err)
	listener.SetUnlinkOnClose(false)
	second, err := listener.File()
	check(t, errors.Join(err, listener.Close()))
	defer second.Close()
	plain := command(t, "serve", "--data-dir", dir)
	cmd := exec.Command("sh", slices.Concat([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, plain.Args)...)
	cmd.Dir, cmd.Env = plain.Dir, append(plain.Env, "LISTEN_FDS=2")
	cmd.ExtraFiles = []*os.File{m.socket, second}
	server := startCommand(t, dir, cmd)
	server.get("/health").want(t, 200)
	overUnix(t, path).get("/health").want(t, 200)
	server.stop()
	info(t, path) // it belongs to the service manager
}
