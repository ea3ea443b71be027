package server

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// rateLimiter allows each key, of whatever kind, so many requests a minute,
// all of them at once if it likes.
type rateLimiter[K comparable] struct {
	perMinute int // 0 is no limit
	mu        sync.Mutex
	limiters  map[K]*rate.Limiter
	swept     time.Time
}

// allowance is what a key has left.
type allowance struct {
	ok        bool // this request is within it
	remaining int
	reset     int // seconds until all of it is there again
	wait      int // seconds until the next request is allowed, when this one is not
}

// The most keys that are told apart within a minute. Those beyond share one
// allowance: memory is bounded, whoever calls.
const maxLimiters = 1 << 14

func newRateLimiter[K comparable](perMinute int) *rateLimiter[K] {
	return &rateLimiter[K]{perMinute: perMinute, limiters: map[K]*rate.Limiter{}}
}

// allow takes one request from what the key has left.
func (l *rateLimiter[K]) allow(key K, now time.Time) allowance {
	if l.perMinute == 0 {
		return allowance{ok: true}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	if l.limiters[key] == nil && len(l.limiters) >= maxLimiters {
		var others K
		key = others
	}
	limiter := l.limiters[key]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)
		l.limiters[key] = limiter
	}
	a := allowance{ok: limiter.AllowN(now, 1)}
	left := limiter.TokensAt(now)
	seconds := func(tokens float64) int { return int(math.Ceil(tokens / float64(limiter.Limit()))) }
	a.remaining = max(0, int(left))
	a.reset = seconds(float64(l.perMinute) - left)
	if !a.ok {
		a.wait = max(1, seconds(1-left))
	}
	return a
}

// sweep forgets the keys that have been quiet for a minute: a new limiter is
// as full as theirs.
func (l *rateLimiter[K]) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Minute {
		return
	}
	l.swept = now
	for key, limiter := range l.limiters {
		if limiter.TokensAt(now) >= float64(l.perMinute) {
			delete(l.limiters, key)
		}
	}
}

// countRequest holds the caller to what one user may ask in a minute, with all
// their keys, and tells what is left of that. Who acts for others is counted
// alone.
func (s *Server) countRequest(rq *request, c caller) error {
	a := s.rates.allow(c.actor.ID, s.Now())
	if s.RequestsPerMinute > 0 {
		h := rq.writer.Header()
		h.Set("X-RateLimit-Limit", strconv.Itoa(s.RequestsPerMinute))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(a.remaining))
		h.Set("X-RateLimit-Reset", strconv.Itoa(a.reset))
	}
	if a.ok {
		return nil
	}
	rq.caller = c
	return tooManyRequests(a.wait, "Too many requests of this user. Wait as long as Retry-After says.")
}

// guessed is the answer to a wrong key or session: err, until its
// address has sent too many of them. By then it has been looked up like any
// other, so the answer comes no sooner; and a right one always works, since
// others may share the address.
func (s *Server) guessed(rq *request, err error) error {
	if a := s.guesses.allow(network(s.clientAddress(rq.Request)), s.Now()); !a.ok {
		return tooManyRequests(a.wait, "Too many wrong keys from this address. Wait as long as Retry-After says.")
	}
	return err
}

// network is what one caller can have for the asking: an IPv4 address, or the
// /64 of an IPv6 address.
func network(address string) netip.Prefix {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // always in range
	return p
}

func tooManyRequests(wait int, detail string) *refusal {
	return &refusal{status: http.StatusTooManyRequests, code: "rate_limited", retryAfter: wait, detail: detail}
}
