package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"attachd/server/limits"
)

// clientStall is how long a read or a write may wait for a client, and the interval in
// which the client must send or take what the minimum rate asks for.
const clientStall = 20 * time.Second

// Body is a reader of a request body that enforces a minimum rate and a maximum size.
type Body struct {
	rq      *Request
	control *http.ResponseController
	pace    limits.Progress
	Slot    *limits.Slot // of an upload
	Over    error        // the error when more comes than is allowed
	Total   int64
	left    int64
}

// Paced returns the request's body with the minimum rate enforced.
func (rq *Request) Paced() *Body {
	c := rq.corridor
	return &Body{rq: rq, control: http.NewResponseController(rq.Writer), Over: InvalidRequest("The body is too large."), pace: limits.NewProgress(c.MinUploadRate, c.sendStall)}
}

// Allow sets how many more bytes may be read.
func (b *Body) Allow(n int64) { b.left = n }

func (b *Body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.Over
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	// The kernel's deadlines follow this clock, not a test's. Only a
	// connection that cannot have deadlines (one in memory) refuses.
	if deadline, move := b.pace.Begin(time.Now()); move {
		_ = b.control.SetReadDeadline(deadline)
	}
	if b.Slot != nil && b.Slot.Lost() {
		return 0, SlotLost()
	}
	n, err := b.rq.body.Read(p)
	b.pace.Moved(time.Now(), n)
	if b.Slot != nil {
		b.Slot.Add(n)
		if err != nil && err != io.EOF && b.Slot.Lost() {
			err = SlotLost()
		}
	}
	b.Total += int64(n)
	b.left -= int64(n)
	return n, err
}

// Close removes the read deadline, which would otherwise end the connection while the
// answer is made.
func (b *Body) Close() { _ = b.control.SetReadDeadline(time.Time{}) }

// CutBody ends the read of the body that is under way, and those that follow.
func (rq *Request) CutBody() {
	_ = http.NewResponseController(rq.Writer).SetReadDeadline(time.Unix(1, 0))
}

// BodyError returns the answer for a body that could not be read to its end.
func BodyError(err error) error {
	var refused *Refusal
	if errors.As(err, &refused) || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	detail := "The multipart body is malformed."
	if errors.Is(err, io.ErrUnexpectedEOF) {
		detail = "The body ends before it is complete."
	}
	return &Refusal{Status: http.StatusBadRequest, Code: "invalid_request", Detail: detail, Cause: err}
}
