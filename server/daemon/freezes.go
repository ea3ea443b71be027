package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	// beatEvery is how often a process notes that it runs.
	beatEvery = time.Second
	// shortestFreeze is for how long it has not, where it was stopped, or its
	// machine was: for a snapshot of a virtual machine, say, or to be moved to
	// another host. Its clients could not know.
	shortestFreeze = 3 * beatEvery
)

// freezes knows when this process last stood still. Time in which it did is
// not held against clients: what they sent meanwhile is there to be read, but
// the deadlines by which it should have come are over when the process wakes.
type freezes struct {
	mu         sync.Mutex
	beat       time.Time // last
	began, end time.Time // of the last freeze
}

func newFreezes(now time.Time) *freezes { return &freezes{beat: now} }

func (f *freezes) beatNow(context.Context) error {
	f.record(time.Now())
	return nil
}

func (f *freezes) record(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.beat) >= shortestFreeze {
		f.began, f.end = f.beat, now
	}
	if now.After(f.beat) {
		f.beat = now
	}
}

// lost is how much of the time from set to deadline and after the last freeze took
// away.
func (f *freezes) lost(set, deadline time.Time) time.Duration {
	f.record(time.Now()) // the first to wake up asks
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !deadline.After(f.began):
		return 0
	case set.After(f.began): // between two beats, or when the freeze was over
		return max(0, f.end.Sub(set))
	default:
		return f.end.Sub(f.began)
	}
}

// clients accepts their connections. The deadlines of these leave out the time in
// which the process stood still; and they end at once when a client does not take
// what is written: a kernel would otherwise keep some megabytes for it, for as
// long as it cares to read a byte now and then.
type clients struct {
	net.Listener
	freezes *freezes
}

func (l clients) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newClientConn(conn.(stream), l.freezes), nil
}

// stream is a TCP connection or one of a unix socket.
type stream interface {
	net.Conn
	CloseWrite() error // net/http looks for it
}

type clientConn struct {
	stream
	read, write limit
}

func newClientConn(conn stream, f *freezes) *clientConn {
	return &clientConn{stream: conn,
		read:  limit{freezes: f, apply: conn.SetReadDeadline},
		write: limit{freezes: f, apply: conn.SetWriteDeadline}}
}

func (c *clientConn) SetReadDeadline(t time.Time) error  { return c.read.move(t) }
func (c *clientConn) SetWriteDeadline(t time.Time) error { return c.write.move(t) }

func (c *clientConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *clientConn) Read(p []byte) (int, error) {
	for {
		n, err := c.stream.Read(p)
		if n > 0 || !c.read.again(err) {
			return n, err
		}
	}
}

func (c *clientConn) Write(p []byte) (written int, err error) {
	for {
		n, err := c.stream.Write(p[written:])
		written += n
		if err == nil {
			return written, nil
		}
		if c.write.again(err) {
			continue
		}
		if tcp, ok := c.stream.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // fails where the connection is gone already
		}
		return written, err
	}
}

// limit is a deadline and when it was set.
type limit struct {
	freezes *freezes
	apply   func(deadline time.Time) error

	mu            sync.Mutex
	set, deadline time.Time
}

func (l *limit) move(deadline time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set, l.deadline = time.Now(), deadline
	return l.apply(deadline)
}

// again moves the deadline on when a freeze is why err came, and reports whether it
// did.
func (l *limit) again(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.thaw() && l.apply(l.deadline) == nil
}

// thaw adds to the deadline what a freeze took away, and reports whether one did. A
// deadline that was over when it was set, to end a read or write, stays. The caller
// holds mu.
func (l *limit) thaw() bool {
	if !l.deadline.After(l.set) {
		return false
	}
	lost := l.freezes.lost(l.set, l.deadline)
	if lost == 0 {
		return false
	}
	l.set, l.deadline = time.Now(), l.deadline.Add(lost)
	return true
}

// thawing is a handler whose requests over HTTP/2 have deadlines that leave out
// the time in which the process stood still. net/http keeps these by timers of its
// own, for each stream, and not by those of the connection.
func (f *freezes) thawing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		s := &streamWriter{ResponseWriter: w,
			read:  streamLimit{limit: limit{freezes: f, apply: control.SetReadDeadline}},
			write: streamLimit{limit: limit{freezes: f, apply: control.SetWriteDeadline}}}
		defer s.write.end() // net/http may not be asked after that
		defer s.read.end()
		next.ServeHTTP(s, r)
	})
}

// streamWriter has the methods that a http.ResponseController looks for.
type streamWriter struct {
	http.ResponseWriter
	read, write streamLimit
}

func (s *streamWriter) Unwrap() http.ResponseWriter        { return s.ResponseWriter }
func (s *streamWriter) SetReadDeadline(t time.Time) error  { return s.read.move(t) }
func (s *streamWriter) SetWriteDeadline(t time.Time) error { return s.write.move(t) }

// streamLimit is a limit that net/http hears of when it is over.
type streamLimit struct {
	limit
	timer *time.Timer
	ended bool
}

func (l *streamLimit) move(deadline time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	l.set, l.deadline = time.Now(), deadline
	if deadline.After(l.set) {
		l.wait()
		return nil
	}
	return l.apply(deadline)
}

// wait has the deadline looked at when it is over.
func (l *streamLimit) wait() {
	l.timer = time.AfterFunc(time.Until(l.deadline), l.over)
}

func (l *streamLimit) over() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.deadline.IsZero() || l.deadline.After(time.Now()) {
		return // it was moved meanwhile
	}
	if l.thaw() {
		l.wait()
		return
	}
	_ = l.apply(l.deadline) // HTTP/2 knows deadlines
}

func (l *streamLimit) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
