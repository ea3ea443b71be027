package backoff

import (
	"testing"
	"time"
)

func TestAWaitDoublesUpToTheMost(t *testing.T) {
	for failures, want := range []time.Duration{time.Second, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		if got := Doubled(time.Second, failures, 5*time.Second); got != want {
			t.Errorf("after %d failures it is %v, not %v", failures, got, want)
		}
	}
}

func TestAJitterIsWithinItsBounds(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 1000 {
		got := Jitter(3, 5)
		if got < 3 || got > 5 {
			t.Fatalf("it is %d", got)
		}
		seen[got] = true
	}
	if len(seen) != 3 {
		t.Errorf("of three waits there were %d", len(seen))
	}
}

func TestWhatAServerAsksToWait(t *testing.T) {
	now := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"-3":                            0,
		"soon":                          0,
		"120":                           2 * time.Minute,
		"2000000000":                    1 << 30 * time.Second,
		"Sun, 29 Nov 2026 09:01:30 GMT": 90 * time.Second,
		"Sun, 29 Nov 2026 08:59:00 GMT": 0,
	} {
		if got := RetryAfter(header, now); got != want {
			t.Errorf("%q asks to wait %v, not %v", header, got, want)
		}
	}
}
