package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"attachd/server/limits"
)

// clientStall is for how long a client may keep a read or a write waiting, and
// within which it must take or send what the least rate asks for.
const clientStall = 20 * time.Second

// pacedBody is a request body that must keep coming, and of which no more is read
// than was allowed.
type pacedBody struct {
	rq      *request
	control *http.ResponseController
	pace    limits.Progress
	slot    *limits.Slot // of an upload
	over    error        // when more comes than is allowed
	total   int64
	left    int64
}

// paced gives the body of a request as one that must keep coming.
func (rq *request) paced() *pacedBody {
	c := rq.corridor
	return &pacedBody{rq: rq, control: http.NewResponseController(rq.writer), over: invalidRequest("The body is too large."), pace: limits.NewProgress(c.MinUploadRate, c.sendStall)}
}

// allow sets how many more bytes may be read.
func (b *pacedBody) allow(n int64) { b.left = n }

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.over
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	// The kernel's deadlines follow this clock, not a test's. Only a
	// connection that cannot have deadlines (one in memory) refuses.
	if deadline, move := b.pace.Begin(time.Now()); move {
		_ = b.control.SetReadDeadline(deadline)
	}
	if b.slot != nil && b.slot.Lost() {
		return 0, slotLost()
	}
	n, err := b.rq.body.Read(p)
	b.pace.Moved(time.Now(), n)
	if b.slot != nil {
		b.slot.Add(n)
		if err != nil && err != io.EOF && b.slot.Lost() {
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

// cutBody ends the read of the body that is under way, and those that follow.
func (rq *request) cutBody() {
	_ = http.NewResponseController(rq.writer).SetReadDeadline(time.Unix(1, 0))
}

// bodyError says what was wrong with a body that could not be read to its end.
func bodyError(err error) error {
	var refused *refusal
	if errors.As(err, &refused) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	detail := "The multipart body is malformed."
	if errors.Is(err, io.ErrUnexpectedEOF) {
		detail = "The body ends before it is complete."
	}
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", detail: detail, cause: err}
}
