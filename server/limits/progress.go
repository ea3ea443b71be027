package limits

import "time"

// Progress is the deadline of a client that has to keep going: it moves on when
// as many bytes have passed as the least rate wants in one window. Bytes of
// earlier windows are no credit, so nobody can hurry at first and crawl ever
// after, and time in which the server does not wait for the client does not
// count.
type Progress struct {
	window time.Duration
	quota  int64 // bytes that have to pass in a window, at least 1

	begun  time.Time // of the window
	passed int64     // bytes in it
	idle   time.Time // when the last read or write ended
	set    time.Time // the deadline in force
}

// NewProgress wants rate bytes a second, or any progress if that is 0.
func NewProgress(rate int64, window time.Duration) Progress {
	return Progress{window: window, quota: max(1, int64(float64(rate)*window.Seconds()))}
}

// Begin is called before a read or write. It gives the deadline when that has to
// be moved. Moving it for each byte would cost more than reading it.
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

// Moved is called after a read or write of n bytes.
func (p *Progress) Moved(now time.Time, n int) {
	p.idle = now
	p.passed += int64(n)
}
