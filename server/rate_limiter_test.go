package server

import (
	"testing"
	"time"
)

// ASVS 6.1.1, 6.3.1
func TestTheMemoryOfALimiterIsBoundedWhoeverCalls(t *testing.T) {
	t.Parallel()
	l := newRateLimiter[int](60)
	now := time.Unix(1_800_000_000, 0)
	for key := range 10 * maxLimiters {
		l.allow(key, now)
	}
	if n := len(l.limiters); n > maxLimiters+1 {
		t.Errorf("it remembers %d keys", n)
	}
	if l.allow(-1, now).ok {
		t.Error("those beyond the bound do not share one allowance")
	}
	if !l.allow(1, now).ok {
		t.Error("a key that is remembered has not its own allowance")
	}
	l.allow(1, now.Add(2*time.Minute))
	if n := len(l.limiters); n != 1 {
		t.Errorf("when they were quiet for a minute it still remembers %d keys", n)
	}
}
