// Package limits has the limiters of the server: requests per minute, the progress of a
// client, concurrent uploads, and turns for work that takes much memory. It does not
// depend on HTTP.
package limits

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is a limiter by key: each key may make a number of requests per minute, all of
// them at once if it likes.
type Rate[K comparable] struct {
	// Divide returns among how many processes the limit is divided, of which each allows its
	// part, but at least one request; optional.
	Divide    func() int
	perMinute int // 0 is no limit
	mu        sync.Mutex
	limiters  map[K]*rate.Limiter
	swept     time.Time
}

// Allowance is what remains of a key's limit.
type Allowance struct {
	OK        bool // this request is within the limit
	Limit     int  // requests per minute that this process allows; 0 is no limit
	Remaining int
	Reset     int // seconds until the whole limit is available again
	Wait      int // seconds until the next request is allowed, when this one is not
}

// MaxKeys is how many keys a Rate distinguishes at most. All further keys share one
// allowance, so that memory is bounded for any number of clients.
const MaxKeys = 1 << 14

// NewRate returns a limiter that allows each key perMinute requests per minute; 0 is no
// limit.
func NewRate[K comparable](perMinute int) *Rate[K] {
	return &Rate[K]{perMinute: perMinute, limiters: map[K]*rate.Limiter{}}
}

// Allow takes one request from the key's allowance.
func (l *Rate[K]) Allow(key K, now time.Time) Allowance {
	if l.perMinute == 0 {
		return Allowance{OK: true}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	if l.limiters[key] == nil && len(l.limiters) >= MaxKeys {
		var others K
		key = others
	}
	part := l.part()
	limiter := l.limiters[key]
	switch {
	case limiter == nil:
		limiter = rate.NewLimiter(rate.Limit(float64(part)/60), part)
		l.limiters[key] = limiter
	case limiter.Burst() != part:
		limiter.SetLimitAt(now, rate.Limit(float64(part)/60))
		limiter.SetBurstAt(now, part)
	}
	a := Allowance{OK: limiter.AllowN(now, 1), Limit: part}
	left := limiter.TokensAt(now)
	seconds := func(tokens float64) int { return int(math.Ceil(tokens / float64(limiter.Limit()))) }
	a.Remaining = max(0, int(left))
	a.Reset = seconds(float64(part) - left)
	if !a.OK {
		a.Wait = max(1, seconds(1-left))
	}
	return a
}

// part is how many requests per minute this process allows.
func (l *Rate[K]) part() int {
	if l.Divide == nil {
		return l.perMinute
	}
	return max(1, l.perMinute/max(1, l.Divide()))
}

// sweep forgets the keys without a request in the last minute: their allowance is full,
// like that of a new key.
func (l *Rate[K]) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Minute {
		return
	}
	l.swept = now
	for key, limiter := range l.limiters {
		if limiter.TokensAt(now) >= float64(limiter.Burst()) {
			delete(l.limiters, key)
		}
	}
}
