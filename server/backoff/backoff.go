// Package backoff computes how long to wait before a failed operation is retried.
package backoff

import (
	"crypto/rand"
	"math/big"
	"net/http"
	"strconv"
	"time"
)

// Doubled is the wait after a number of failures in a row: first after one failure,
// doubled by each further one, at most most.
func Doubled(first time.Duration, failures int, most time.Duration) time.Duration {
	for ; failures > 1 && first < most; failures-- {
		first *= 2
	}
	return min(first, most)
}

// Jitter is a random wait from least to most, so that clients that failed together do
// not retry together.
func Jitter(least, most time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(most-least)+1))
	if err != nil { // crypto/rand.Reader does not fail
		return most
	}
	return least + time.Duration(n.Int64())
}

// RetryAfter parses a Retry-After header (RFC 9110, section 10.2.3), which holds
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
