package server

import (
	"net/http"
	"time"
)

// An upload may stand still for so long.
const uploadStall = 20 * time.Second

// pacedBody is a request body that must keep coming, and of which only so
// much is read.
type pacedBody struct {
	rq      *request
	control *http.ResponseController
	rate    int64 // bytes a second, 0 is any
	stall   time.Duration
	began   time.Time
	set     time.Time // when the deadline was last moved
	total   int64
	left    int64
}

func (s *Server) paced(rq *request) *pacedBody {
	return &pacedBody{rq: rq, control: http.NewResponseController(rq.writer), rate: s.MinUploadRate, stall: s.stall, began: time.Now()}
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
	b.move()
	n, err := b.rq.body.Read(p)
	b.total += int64(n)
	b.left -= int64(n)
	return n, err
}

// move lets the deadline follow the bytes: behind the last by stall at
// most, and behind the slowest rate allowed.
func (b *pacedBody) move() {
	now := time.Now() // the kernel's deadlines follow this clock, not a test's
	if now.Sub(b.set) < b.stall/20 {
		return
	}
	b.set = now
	deadline := now.Add(b.stall)
	if b.rate > 0 {
		slowest := b.began.Add(b.stall + time.Duration(float64(b.total)/float64(b.rate)*float64(time.Second)))
		if slowest.Before(deadline) {
			deadline = slowest
		}
	}
	// Only a connection that cannot have deadlines (one in memory) refuses.
	_ = b.control.SetReadDeadline(deadline)
}

// done takes the deadline away: it would end the connection while the answer
// is made.
func (b *pacedBody) done() { _ = b.control.SetReadDeadline(time.Time{}) }
