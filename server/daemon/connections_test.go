package daemon

import (
	"encoding/binary"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// wire is a connection that only records whether it was closed.
type wire struct {
	net.Conn
	closed bool
}

func (w *wire) Close() error {
	w.closed = true
	return nil
}

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestTheConnectionThatWaitsLongestMakesRoom(t *testing.T) {
	t.Parallel()
	c := newConnections(func() int { return 3 }, slog.New(slog.DiscardHandler))
	wires := map[string]*wire{}
	for _, step := range []struct {
		name   string
		state  http.ConnState
		closes string
	}{
		{"a", http.StateNew, ""},
		{"b", http.StateNew, ""},
		{"a", http.StateActive, ""},
		{"c", http.StateNew, ""},
		{"d", http.StateNew, "b"}, // a has a request under way
		{"a", http.StateIdle, ""},
		{"b", http.StateClosed, ""},
		{"e", http.StateNew, "c"}, // idle for longer than d and a
		{"c", http.StateIdle, ""}, // late report about a closed one
		{"d", http.StateActive, ""},
		{"f", http.StateNew, "a"},
		{"e", http.StateActive, ""},
		{"f", http.StateActive, ""},
		{"g", http.StateNew, "g"}, // none is idle
		{"g", http.StateClosed, ""},
		{"d", http.StateClosed, ""},
		{"h", http.StateNew, ""},
		{"i", http.StateNew, "h"},
	} {
		if wires[step.name] == nil {
			wires[step.name] = &wire{}
		}
		open := map[string]bool{}
		for name, w := range wires {
			open[name] = !w.closed
		}
		c.follow(wires[step.name], step.state)
		for name, w := range wires {
			if closed := w.closed && open[name]; closed != (name == step.closes) {
				t.Fatalf("%s is %v: closed %s: %t, want closed: %q", step.name, step.state, name, closed, step.closes)
			}
		}
	}
}

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestConnectionsAreNoMoreThanTheSystemAllowsFiles(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	if got, err := connectionsAllowed(1, log); got != 1 || err != nil {
		t.Errorf("one connection became %d: %v", got, err)
	}
	files, limited := filesAllowed()
	if !limited {
		t.Skip("this system has no limit")
	}
	if got, err := connectionsAllowed(math.MaxInt, log); err != nil || got < leastConnections || 2*got+otherFiles > files {
		t.Errorf("%d connections with %d files: %v", got, files, err)
	}
}

// connected returns both ends of a connection that a clients has accepted.
func connected(t *testing.T, f *freezes) (conn *clientConn, client net.Conn) {
	t.Helper()
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	listener := clients{tcp, f}
	defer listener.Close()
	client, err = net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	return accepted.(*clientConn), client
}

// largeFile returns an open file of more than a connection buffers.
func largeFile(t *testing.T) (file *os.File, content []byte) {
	t.Helper()
	for n := range 2 << 20 {
		content = binary.BigEndian.AppendUint64(content, uint64(n))
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file, content
}

// Data that the kernel still buffers is dropped with the connection.
func TestAClientThatDoesNotReadIsReset(t *testing.T) {
	t.Parallel()
	file, content := largeFile(t)
	for name, send := range map[string]func(*clientConn) (int64, error){
		"bytes": func(c *clientConn) (int64, error) {
			n, err := c.Write(content)
			return int64(n), err
		},
		"a file": func(c *clientConn) (int64, error) {
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				return 0, err
			}
			return c.ReadFrom(io.LimitReader(file, int64(len(content))))
		},
	} {
		conn, client := connected(t, newFreezes(time.Now()))
		if err := conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		written, err := int64(0), error(nil)
		for err == nil {
			var n int64
			n, err = send(conn)
			written += n
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.Copy(io.Discard, client); err == nil {
			t.Errorf("%s: the client still got %d of %d bytes, and a clean end", name, got, written)
		}
	}
}
