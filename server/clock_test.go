package server_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"attachd/server"
)

const year = 365 * 24 * time.Hour

// uploadedNow uploads a file, which was made at the time that the clock says, and
// gives its id.
func (w *world) uploadedNow(t *testing.T, name string) (id string) {
	t.Helper()
	a := w.do(t, step{as: "editor", do: "POST {product}/attachments", want: 201, form: parts{file(name, name)}}).object(t)
	if got, want := a["created_at"], w.clock.Now().Format(time.RFC3339); got != want {
		t.Errorf("%s was created at %v, and the clock says %v", name, got, want)
	}
	return a["id"].(string)
}

// What is uploaded has the time that the clock says, also after that was set
// ahead or back, and lists are in the order of these times.
func TestCreatedAtFollowsTheClockBothWays(t *testing.T) {
	t.Parallel()
	for name, below := range map[string]int64{"first in the log": 64 << 10, "in files": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *server.Config) { c.LogBelow = below })
			made := map[int64]string{}
			for i, by := range []time.Duration{0, 12 * year, -13 * year, 2 * time.Second, year + time.Hour, -55 * year} {
				w.clock.advance(by)
				made[w.clock.Now().Unix()] = w.uploadedNow(t, fmt.Sprintf("%d.txt", i))
				if i%2 == 0 {
					w.settleContents()
				}
			}
			var want []string
			for _, at := range slices.Sorted(maps.Keys(made)) {
				want = append(want, made[at])
			}
			if got := w.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200}).strings(t, "id"); !slices.Equal(got, want) {
				t.Errorf("the list is %q, by time it is %q", got, want)
			}
		})
	}
}

// Whoever pages through a list meets each attachment that was there at the
// beginning once, whatever is uploaded meanwhile by a clock that was set back
// or ahead.
func TestPagesHoldWhileTheClockIsSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want []string
	for i := range 7 {
		w.clock.advance(time.Minute)
		want = append(want, w.uploadedNow(t, fmt.Sprintf("%d.txt", i)))
	}
	var got []string
	path := "{product}/attachments?limit=2"
	for i, by := range []time.Duration{-time.Hour, 3 * time.Minute, 24 * time.Hour, -25 * time.Hour} {
		a := w.do(t, step{as: "viewer", do: "GET " + path, want: 200})
		got = append(got, a.strings(t, "id")...)
		if path = nextOf(t, a); path == "" {
			break
		}
		w.clock.advance(by)
		w.uploadedNow(t, fmt.Sprintf("meanwhile %d.txt", i))
	}
	for path != "" {
		a := w.do(t, step{as: "viewer", do: "GET " + path, want: 200})
		got, path = append(got, a.strings(t, "id")...), nextOf(t, a)
	}
	for _, id := range want {
		if n := len(slices.DeleteFunc(slices.Clone(got), func(one string) bool { return one != id })); n != 1 {
			t.Errorf("%s was on %d of the pages %q", id, n, got)
		}
	}
}
