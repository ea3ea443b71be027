package limits

import "time"

// Progress is the deadline of a client that must keep up a least rate: the deadline
// moves on when the bytes that the rate demands for one window have passed in that
// window. Bytes of earlier windows are no credit, so a client cannot transfer fast at
// first and slowly ever after. Time in which the server does not wait for the client
// does not count.
type Progress struct {
	window time.Duration
	quota  int64 // bytes that have to pass in a window, at least 1

	begun  time.Time // of the window
	passed int64     // bytes that passed in the window
	idle   time.Time // when the last read or write ended
	set    time.Time // the deadline that was returned last
}

// NewProgress demands rate bytes a second, or any progress if that is 0.
func NewProgress(rate int64, window time.Duration) Progress {
	return Progress{window: window, quota: max(1, int64(float64(rate)*window.Seconds()))}
}

// Begin must be called before a read or write. It returns the deadline and whether it
// has to be set: setting it for each byte would cost more than reading the byte.
func (p *Progress) Begin(now time.Time) (deadline time.Time, move bool) {
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

// Moved must be called after a read or write of n bytes.
func (p *Progress) Moved(now time.Time, n int) {
	p.idle = now
	p.passed += int64(n)
}
