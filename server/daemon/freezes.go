package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	// beatEvery is how often the process records that it runs.
	beatEvery = time.Second
	// shortestFreeze is the shortest time without a beat that counts as a freeze: the
	// process or its machine was stopped, for example for a snapshot of a virtual
	// machine, or to be moved to another host. Its clients could not know.
	shortestFreeze = 3 * beatEvery
)

// freezes records when this process was last frozen. Time in which it was is not
// counted against clients: what they sent meanwhile can be read, but the deadlines for
// it have passed when the process resumes.
type freezes struct {
	mu         sync.Mutex
	beat       time.Time // time of the last beat
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

// lost returns how much of the time from set on the last freeze took away, if the freeze
// began before deadline.
func (f *freezes) lost(set, deadline time.Time) time.Duration {
	f.record(time.Now()) // the first goroutine to run after a freeze may be this one
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !deadline.After(f.began):
		return 0
	case set.After(f.began): // between two beats, or after the freeze
		return max(0, f.end.Sub(set))
	default:
		return f.end.Sub(f.began)
	}
}

// clients is a listener whose connections have deadlines that leave out the time in
// which the process was frozen. A connection also ends at once when its client does not
// read what is written: a kernel would otherwise buffer some megabytes for it as long
// as the client reads a byte now and then.
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

// stream is a TCP or unix socket connection.
type stream interface {
	net.Conn
	CloseWrite() error // net/http checks for it
}

type clientConn struct {
	stream
	read, write limit
	holding     bool                 // the next write is held
	held        *[netHTTPBuffer]byte // what is held; nil when nothing is
	heldLength  int
}

// netHTTPBuffer is how many bytes net/http buffers of an answer at most.
const netHTTPBuffer = 4 << 10

var heldBuffers = sync.Pool{New: func() any { return new([netHTTPBuffer]byte) }}

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

// Hold keeps the bytes of the next write until more are written, to send both by one
// call, or until Release is called. Only one goroutine at a time may write.
func (c *clientConn) Hold() { c.holding = true }

// Release writes what is held, if there is anything. Where that fails, it closes the
// connection, on which net/http would send other answers.
func (c *clientConn) Release() error {
	c.holding = false
	if c.held == nil {
		return nil
	}
	if _, err := c.writeWithHeld(nil); err != nil {
		return errors.Join(err, c.stream.Close())
	}
	return nil
}

func (c *clientConn) Write(p []byte) (written int, err error) {
	hold := c.holding
	c.holding = false
	switch {
	case c.held != nil:
		return c.writeWithHeld(p)
	case hold && len(p) <= netHTTPBuffer:
		c.held = heldBuffers.Get().(*[netHTTPBuffer]byte)
		c.heldLength = copy(c.held[:], p)
		return len(p), nil
	}
	for {
		n, err := c.stream.Write(p[written:])
		written += n
		if err == nil {
			return written, nil
		}
		if c.write.again(err) {
			continue
		}
		c.dropUnsent()
		return written, err
	}
}

func (c *clientConn) writeWithHeld(p []byte) (written int, err error) {
	held, n := c.held, c.heldLength
	c.held = nil
	defer heldBuffers.Put(held)
	rest := net.Buffers{held[:n], p}
	for {
		some, err := rest.WriteTo(c.stream)
		written += int(some)
		if err == nil {
			return len(p), nil
		}
		if !c.write.again(err) {
			c.dropUnsent()
			return max(0, written-n), err
		}
	}
}

// ReadFrom is Write for what is read from src. net/http looks for this method: a part of
// a file is sent by the kernel, which copies no bytes into this process.
func (c *clientConn) ReadFrom(src io.Reader) (sent int64, err error) {
	if err := c.Release(); err != nil {
		return 0, err
	}
	tcp, isTCP := c.stream.(*net.TCPConn)
	part, isPart := src.(*io.LimitedReader)
	if !isTCP || !isPart {
		return io.Copy(struct{ io.Writer }{c}, src)
	}
	file, isFile := part.R.(*os.File)
	if !isFile {
		return io.Copy(struct{ io.Writer }{c}, src)
	}
	for {
		left := part.N
		n, err := tcp.ReadFrom(part)
		sent += n
		if err == nil {
			return sent, nil
		}
		if !c.write.again(err) {
			c.dropUnsent()
			return sent, err
		}
		// Where the kernel cannot send a file, more of it was read than sent.
		if _, err := file.Seek(n-(left-part.N), io.SeekCurrent); err != nil {
			return sent, err
		}
		part.N = left - n
	}
}

// dropUnsent makes a connection that failed end at once when it is closed.
func (c *clientConn) dropUnsent() {
	if tcp, ok := c.stream.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails where the connection is closed already
	}
}

// limit is a deadline with the time at which it was set.
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

// again extends the deadline when err was caused by a freeze, and reports whether it
// did.
func (l *limit) again(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.thaw() && l.apply(l.deadline) == nil
}

// thaw adds the time lost in a freeze to the deadline, and reports whether there was
// any. A deadline that had passed when it was set, to end a read or write, stays. The
// caller holds mu.
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

// thawing returns a handler in which the deadlines of HTTP/2 requests leave out the
// time in which the process was frozen. For HTTP/2, net/http has timers for each stream
// and does not use the connection's deadlines.
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
		defer s.write.end() // net/http must not be called after the handler returns
		defer s.read.end()
		next.ServeHTTP(s, r)
	})
}

// streamWriter has the methods that an http.ResponseController calls.
type streamWriter struct {
	http.ResponseWriter
	read, write streamLimit
}

func (s *streamWriter) Unwrap() http.ResponseWriter        { return s.ResponseWriter }
func (s *streamWriter) SetReadDeadline(t time.Time) error  { return s.read.move(t) }
func (s *streamWriter) SetWriteDeadline(t time.Time) error { return s.write.move(t) }

// streamLimit is a limit that is applied to a stream of net/http when it is over.
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

// wait starts a timer that calls over at the deadline.
func (l *streamLimit) wait() {
	l.timer = time.AfterFunc(time.Until(l.deadline), l.over)
}

func (l *streamLimit) over() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.deadline.IsZero() || l.deadline.After(time.Now()) {
		return // it was extended meanwhile
	}
	if l.thaw() {
		l.wait()
		return
	}
	_ = l.apply(l.deadline) // HTTP/2 supports deadlines, so this cannot fail
}

func (l *streamLimit) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
