package daemon

import (
	"container/list"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections limits how many connections are open. A new one beyond the limit replaces
// the one that has been idle longest; if none is idle, the new one is closed.
type connections struct {
	max func() int
	log *slog.Logger

	mu      sync.Mutex
	open    map[net.Conn]*list.Element // element in waiting; nil while a request is under way
	waiting *list.List                 // idle ones, of net.Conn, the longest first
	warned  time.Time
}

func newConnections(max func() int, log *slog.Logger) *connections {
	return &connections{max: max, log: log, open: map[net.Conn]*list.Element{}, waiting: list.New()}
}

// follow is the http.Server's ConnState.
func (c *connections) follow(conn net.Conn, state http.ConnState) {
	if surplus := c.track(conn, state); surplus != nil {
		// Closing a TLS connection would send an alert, and wait until it is sent.
		if secure, ok := surplus.(*tls.Conn); ok {
			surplus = secure.NetConn()
		}
		_ = surplus.Close() // its goroutine then fails and cleans up
	}
}

// track records a connection's state, and returns the connection to close, if any.
func (c *connections) track(conn net.Conn, state http.ConnState) (surplus net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	place, known := c.open[conn]
	if place != nil {
		c.waiting.Remove(place)
	}
	switch state {
	case http.StateNew:
		if len(c.open) >= c.max() {
			surplus = c.surplus(conn)
		}
		c.open[conn] = c.waiting.PushBack(conn)
	case http.StateIdle:
		if known { // otherwise it was closed to make room for another
			c.open[conn] = c.waiting.PushBack(conn)
		}
	case http.StateActive:
		if known {
			c.open[conn] = nil
		}
	default: // StateClosed; no handler here hijacks connections
		delete(c.open, conn)
	}
	return surplus
}

// surplus chooses a connection to close for a new one.
func (c *connections) surplus(fresh net.Conn) net.Conn {
	if now := time.Now(); now.Sub(c.warned) > time.Minute {
		c.warned = now
		c.log.Warn("there are as many connections as limits.max_connections, open files and memory allow: those that wait longest are closed", "max", c.max())
	}
	longest := c.waiting.Front()
	if longest == nil {
		return fresh
	}
	c.waiting.Remove(longest)
	conn := longest.Value.(net.Conn)
	delete(c.open, conn)
	return conn
}

// otherFiles is how many open files are reserved for other uses than connections: the
// database, the socket, logs, backups.
const otherFiles = 64

// leastConnections is how many connections the system's limit of open files must allow:
// with fewer, people would wait for each other.
const leastConnections = 64

// connectionsAllowed returns most, or less where the system allows fewer open files:
// each connection may have one more file open for what it sends or receives. (Go raises
// the soft limit to the hard one at its start.)
func connectionsAllowed(most int, log *slog.Logger) (int, error) {
	files, limited := filesAllowed()
	if !limited || most <= (files-otherFiles)/2 {
		return most, nil
	}
	fewer := (files - otherFiles) / 2
	if fewer < leastConnections {
		return 0, fmt.Errorf("the system lets this process open %d files, and %d are needed at least. Raise the hard limit (LimitNOFILE in the unit of the service, ulimit -Hn in a shell), or lower limits.max_connections to what fits: two files for each, and %d for other work",
			files, otherFiles+2*leastConnections, otherFiles)
	}
	log.Warn("the system allows fewer open files than limits.max_connections needs; raise that limit (ulimit -n, LimitNOFILE)",
		"max_connections", most, "allowed_files", files, "connections", fewer)
	return fewer, nil
}
