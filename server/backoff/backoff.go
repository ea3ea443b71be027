// Package backoff says how long to wait before what failed is tried again.
package backoff

import (
	"crypto/rand"
	"math/big"
	"net/http"
	"strconv"
	"time"
)

// Doubled is the wait after a number of failures in a row: first after one,
// doubled by each other, and most at most.
func Doubled(first time.Duration, failures int, most time.Duration) time.Duration {
	for ; failures > 1 && first < most; failures-- {
		first *= 2
	}
	return min(first, most)
}

// Jitter is a random wait from least to most, so that clients that failed together
// do not come back together.
func Jitter(least, most time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(most-least)+1))
	if err != nil { // crypto/rand.Reader does not fail
		return most
	}
	return least + time.Duration(n.Int64())
}

// RetryAfter reads a Retry-After header (RFC 9110, section 10.2.3), which has
// seconds or a date. It is 0 where the header asks for no wait.
func RetryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil {
		return time.Duration(min(max(0, seconds), 1<<30)) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
