package server

import (
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// rateLimiter allows each key so many requests a minute, all of them at once
// if it likes.
type rateLimiter struct {
	perMinute int
	mu        sync.Mutex
	keys      map[uuid.UUID]*rate.Limiter
	swept     time.Time
}

func newRateLimiter(perMinute int) *rateLimiter {
	return &rateLimiter{perMinute: perMinute, keys: map[uuid.UUID]*rate.Limiter{}}
}

// allow takes one request from what the key has left, or says how many
// seconds to wait for the next.
func (l *rateLimiter) allow(key uuid.UUID, now time.Time) (wait int, ok bool) {
	if l.perMinute == 0 {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	limiter := l.keys[key]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.perMinute)
		l.keys[key] = limiter
	}
	if limiter.AllowN(now, 1) {
		return 0, true
	}
	missing := 1 - limiter.TokensAt(now)
	return max(1, int(math.Ceil(missing/float64(limiter.Limit())))), false
}

// sweep forgets the keys that have been quiet for a minute: a new limiter is
// as full as theirs.
func (l *rateLimiter) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Minute {
		return
	}
	l.swept = now
	for key, limiter := range l.keys {
		if limiter.TokensAt(now) >= float64(l.perMinute) {
			delete(l.keys, key)
		}
	}
}
