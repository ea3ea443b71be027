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

func TestALimitIsDivided(t *testing.T) {
	t.Parallel()
	processes := 1
	now := time.Now()
	l := NewRate[string](10)
	l.Divide = func() int { return processes }
	allowed := func(key string) (n int) {
		for ; l.Allow(key, now).OK; n++ {
		}
		return n
	}
	if n := allowed("a"); n != 10 {
		t.Errorf("one process allows %d of 10", n)
	}
	processes = 3
	if n, a := allowed("b"), l.Allow("b", now); n != 3 || a.Limit != 3 || a.Reset != 60 {
		t.Errorf("one of three allows %d of 10, and says %+v", n, a)
	}
	now = now.Add(time.Minute)
	if n := allowed("a"); n != 3 {
		t.Errorf("one of three allows %d of 10 to a key that it knew", n)
	}
	processes = 2
	now = now.Add(time.Minute)
	if n := allowed("a"); n != 5 {
		t.Errorf("one of two allows %d of 10", n)
	}
	processes = 100
	if n := allowed("c"); n != 1 {
		t.Errorf("one of a hundred allows %d of 10", n)
	}
	now = now.Add(time.Hour)
	if n := allowed("c"); n != 1 {
		t.Errorf("later it allows %d of 10", n)
	}
}
