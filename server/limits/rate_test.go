package limits

import (
	"testing"
	"time"
)

// ASVS 6.1.1, 6.3.1
func TestTheMemoryOfALimiterIsBoundedWhoeverCalls(t *testing.T) {
	t.Parallel()
	l := NewRate[int](60)
	now := time.Unix(1_800_000_000, 0)
	for key := range 10 * MaxKeys {
		l.Allow(key, now)
	}
	if n := len(l.limiters); n > MaxKeys+1 {
		t.Errorf("it remembers %d keys", n)
	}
	if l.Allow(-1, now).OK {
		t.Error("those beyond the bound do not share one allowance")
	}
	if !l.Allow(1, now).OK {
		t.Error("a key that is remembered has not its own allowance")
	}
	l.Allow(1, now.Add(2*time.Minute))
	if n := len(l.limiters); n != 1 {
		t.Errorf("when they were quiet for a minute it still remembers %d keys", n)
	}
}
