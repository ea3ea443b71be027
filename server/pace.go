package server

import (
	"io"
	"net/http"
	"time"
)

// A client may keep a read or a write waiting for so long, and within that
// time must take or send what the least rate asks for.
const clientStall = 20 * time.Second

// pace is the deadline of a client that has to keep going: it moves on when
// as many bytes have passed as the least rate wants in one window. Bytes of
// earlier windows are no credit, so nobody can hurry at first and crawl ever
// after, and time in which the client does not wait for us does not count.
type pace struct {
	window time.Duration
	quota  int64 // bytes that have to pass in a window, at least 1

	begun  time.Time // of the window
	passed int64     // bytes in it
	idle   time.Time // when the last read or write ended
	set    time.Time // the deadline in force
}

// newPace wants rate bytes a second, or any progress if that is 0.
func newPace(rate int64, window time.Duration) pace {
	return pace{window: window, quota: max(1, int64(float64(rate)*window.Seconds()))}
}

// before is called ahead of a read or write. It gives the deadline when that
// has to be moved. Moving it for each byte would cost more than reading it.
func (p *pace) before(now time.Time) (deadline time.Time, move bool) {
	switch {
	case p.begun.IsZero() || p.passed >= p.quota && now.Sub(p.begun) > p.window/20:
		p.begun, p.passed = now, 0
	default:
		p.begun = p.begun.Add(now.Sub(p.idle))
	}
	deadline = p.begun.Add(p.window)
	if deadline.Sub(p.set) < p.window/20 {
		return p.set, false
	}
	p.set = deadline
	return deadline, true
}

// after is called behind a read or write of n bytes.
func (p *pace) after(now time.Time, n int) {
	p.idle = now
	p.passed += int64(n)
}

// pacedBody is a request body that must keep coming, and of which only so
// much is read.
type pacedBody struct {
	rq      *request
	control *http.ResponseController
	pace    pace
	slot    *slot // of an upload
	total   int64
	left    int64
}

func (s *Server) paced(rq *request) *pacedBody {
	return &pacedBody{rq: rq, control: http.NewResponseController(rq.writer), pace: newPace(s.MinUploadRate, s.sendStall)}
}

// allow sets how many more bytes may be read.
func (b *pacedBody) allow(n int64) { b.left = n }

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, tooMuch()
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	// The kernel's deadlines follow this clock, not a test's. Only a
	// connection that cannot have deadlines (one in memory) refuses.
	if deadline, move := b.pace.before(time.Now()); move {
		_ = b.control.SetReadDeadline(deadline)
	}
	if b.slot != nil && b.slot.lost.Load() {
		return 0, slotLost()
	}
	n, err := b.rq.body.Read(p)
	b.pace.after(time.Now(), n)
	if b.slot != nil {
		b.slot.bytes.Add(int64(n))
		if err != nil && err != io.EOF && b.slot.lost.Load() {
			err = slotLost()
		}
	}
	b.total += int64(n)
	b.left -= int64(n)
	return n, err
}

// done takes the deadline away: it would end the connection while the answer
// is made.
func (b *pacedBody) done() { _ = b.control.SetReadDeadline(time.Time{}) }
