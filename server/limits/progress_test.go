package limits

import (
	"testing"
	"time"
)

// stretch is a step of a client: it keeps a read waiting, and then sends n bytes.
type stretch struct {
	waits time.Duration
	n     int
	pause time.Duration // in which the server does something else
}

func TestProgressIsKeptInEveryWindow(t *testing.T) {
	t.Parallel()
	const window = 20 * time.Second
	repeat := func(times int, w stretch) (all []stretch) {
		for range times {
			all = append(all, w)
		}
		return all
	}
	for name, c := range map[string]struct {
		rate    int64
		client  []stretch
		cutAt   time.Duration // 0 is never
		without time.Duration // the server's time, which is not included in cutAt
	}{
		"at the least rate":             {1000, repeat(100, stretch{time.Second, 1010, 0}), 0, 0},
		"below it":                      {1000, repeat(100, stretch{time.Second, 900, 0}), window, 0},
		"fast, then standing still":     {1000, append(repeat(5, stretch{time.Second, 100_000, 0}), stretch{time.Hour, 0, 0}), 4*time.Second + window, 0},
		"fast, then a crawl":            {1000, append(repeat(10, stretch{time.Second, 1_000_000, 0}), repeat(100, stretch{time.Second, 1, 0})...), 9*time.Second + window, 0},
		"a crawl without a least rate":  {0, repeat(100, stretch{19 * time.Second, 1, 0}), 0, 0},
		"standing still without one":    {0, []stretch{{time.Second, 1, 0}, {time.Hour, 0, 0}}, time.Second + window, 0},
		"while the server is slow":      {1000, repeat(100, stretch{time.Second, 1010, time.Minute}), 0, 0},
		"slow, and so is the server":    {1000, repeat(100, stretch{time.Second, 900, time.Minute}), window, 20 * time.Minute},
		"never sending anything at all": {1000, []stretch{{time.Hour, 0, 0}}, window, 0},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Unix(1_800_000_000, 0)
			now, deadline := start, time.Time{}
			p := NewProgress(c.rate, window)
			cut := time.Duration(0)
			for _, w := range c.client {
				if d, move := p.Begin(now); move {
					deadline = d
				}
				if now.Add(w.waits).After(deadline) {
					cut = max(deadline.Sub(start), now.Sub(start)) - c.without
					break
				}
				now = now.Add(w.waits)
				p.Moved(now, w.n)
				now = now.Add(w.pause)
			}
			// A deadline is moved in steps of a twentieth of the window.
			if cut != 0 && c.cutAt == 0 || cut < c.cutAt-window/10 || cut > c.cutAt+window/10 {
				t.Errorf("cut after %v, want %v", cut, c.cutAt)
			}
		})
	}
}
