package server_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"attachd/server"
	"attachd/server/upkeep"
	"attachd/store"
)

const year = 365 * 24 * time.Hour

// uploadedNow uploads a file, which must have the clock's time, and returns its id.
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
				w.clock.set(by)
				made[w.clock.Now().Unix()] = w.uploadedNow(t, fmt.Sprintf("%d.txt", i))
				if i%2 == 0 {
					w.flushContents()
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

// Paging through a list returns each attachment that was there at the beginning once,
// whatever is uploaded meanwhile by a clock that was set back or ahead.
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
		w.clock.set(by)
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

// A clock that is wrong for a while, by as much as may be and whether or not the
// server is restarted meanwhile, removes nothing of the audit log; and what was
// recorded by it goes when it has been there for as long as anything.
func TestAWrongClockRemovesNothingOfTheAuditLog(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{12 * year, 30 * 24 * time.Hour, -56 * year, 130 * year, -25 * time.Hour} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprint(by, restarts), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, func(c *server.Config) { c.AuditRetention = 40 * 24 * time.Hour })
				days := func(n int) {
					for range n {
						w.clock.advance(24 * time.Hour)
						w.pruneAtStart()
					}
				}
				kept := func(when string, want int) {
					t.Helper()
					if n := w.uploadsListed(t); n != want {
						t.Errorf("%s, %d entries are kept, not %d", when, n, want)
					}
				}
				w.pruneAtStart()
				w.uploadedNow(t, "before.txt")
				days(20)
				w.clock.set(by)
				if restarts {
					w.restart()
				}
				w.uploadedNow(t, "wrong.txt")
				w.pruneAtStart()
				kept("by the wrong clock", 2)
				w.clock.set(-by)
				if restarts {
					w.restart()
				}
				w.pruneAtStart()
				kept("by the right clock", 2)
				w.uploadedNow(t, "after.txt")
				days(18)
				kept("before they are old", 3)
				days(4)
				kept("when the first is old", 2)
				days(20)
				kept("when all are old", 0)
				w.verify(t, "", 0)
			})
		}
	}
}

// Sessions, and keys and links with an end, work again once the clock is right; and
// others may sign in meanwhile.
func TestWhatAWrongClockEndedComesBack(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{2 * 24 * time.Hour, 30 * 24 * time.Hour, 12 * year} {
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			signIn := func(who string) header {
				t.Helper()
				a := w.do(t, step{do: "POST /session", json: fmt.Sprintf(`{"key": %q}`, w.keys[who]), want: 200})
				cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
				return header{"Cookie": cookie}
			}
			cookie := signIn("viewer")
			id := w.uploadedNow(t, "a.txt")
			link := w.do(t, step{as: "editor", do: "POST /catalog/attachments/" + id + "/links", want: 201}).object(t)["download_url"].(string)
			w.keys["short"] = w.do(t, step{as: "editor", do: "POST /api-keys", json: `{"name": "short", "expires_in_days": 1}`, want: 201}).object(t)["full_key"].(string)
			wants := func(status int) {
				t.Helper()
				w.do(t, step{do: "GET /users/me", send: cookie, want: status})
				w.do(t, step{as: "short", do: "GET /users/me", want: status})
			}
			wants(200)
			w.clock.set(by)
			wants(401)
			w.do(t, step{do: "GET " + pathOf(t, link), want: 403, code: "link_expired"})
			for range 3 {
				signIn("editor")
			}
			w.restart()
			signIn("editor")
			w.clock.set(-by)
			wants(200)
			w.do(t, step{do: "GET " + pathOf(t, link), want: 200, is: "a.txt"})
		})
	}
}

// A query by time finds all that is of that time, in whatever order the clock
// gave the times, and however many entries are asked for at once.
func TestEntriesAreFoundByTimeWhateverTheClockSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var times []time.Time
	note := func(n int, by, step time.Duration) {
		w.clock.set(by)
		for range n {
			w.clock.set(step)
			times = append(times, w.clock.Now())
			w.store.Record(store.Entry{Time: w.clock.Now(), Action: "test.note", Name: fmt.Sprint(len(times)), Outcome: "done"})
		}
		w.flush(t)
	}
	note(20, 0, time.Hour)
	note(1, -20*24*time.Hour, 0) // one entry of 20 days ago
	note(20, 20*24*time.Hour, time.Hour)
	note(30, 12*year, 24*time.Hour)
	note(20, -12*year-30*24*time.Hour, time.Hour)
	note(5, -56*year, time.Minute)
	note(40, 56*year, -20*time.Hour)
	note(10, 40*24*time.Hour, time.Hour)
	sinces := append([]time.Time{startOfTime.Add(-year), startOfTime.Add(20 * year), startOfTime.Add(35 * time.Hour), time.Unix(0, 0)}, times[25:30]...)
	for i := 0; i < len(times); i += 17 {
		sinces = append(sinces, times[i])
	}
	for _, since := range sinces {
		var want []string
		for i, at := range slices.Backward(times) {
			if !at.Before(since) {
				want = append(want, fmt.Sprint(i+1))
			}
		}
		for _, limit := range []string{"", "&limit=7"} {
			var got []string
			for path := "/audit-logs?action=test.note&since=" + since.UTC().Format(time.RFC3339) + limit; path != ""; {
				a := w.do(t, step{as: "root", do: "GET " + path, want: 200})
				for _, e := range a.list(t) {
					got = append(got, e["resource"].(map[string]any)["name"].(string))
				}
				path = nextOf(t, a)
			}
			if !slices.Equal(got, want) {
				t.Errorf("since %v%s there are %v, and should be %v", since, limit, got, want)
			}
		}
	}
}

// Monitoring and the verification of the audit log report that the clock was wrong.
func TestAClockThatJumpedIsToldOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	told := func(when string, warned bool, trusted, notes string) {
		t.Helper()
		ready := w.do(t, step{do: "GET /health/ready", want: 200})
		if got := strings.Contains(string(ready.body), "The clock jumped"); got != warned {
			t.Errorf("%s, /health/ready says %s", when, ready.body)
		}
		metrics := w.do(t, step{as: "root", do: "GET /metrics", want: 200})
		if want := "attachd_clock_trusted " + trusted + "\n"; !strings.Contains(string(metrics.body), want) {
			t.Errorf("%s, there is no metric %s", when, want)
		}
		verified := w.do(t, step{as: "root", do: "POST /upkeep/audit", want: 200})
		if !strings.Contains(string(verified.body), notes) || !strings.Contains(string(verified.body), `"faults":[]`) {
			t.Errorf("%s, verifying says %s, and not %q", when, verified.body, notes)
		}
	}
	told("at first", false, "1", "entries")
	w.clock.set(12 * year)
	w.uploadedNow(t, "ahead.txt")
	told("ahead", true, "0", "entries")
	w.clock.set(-12 * year)
	w.clock.advance(10 * time.Minute)
	told("right again, before another entry", false, "1", "which is not yet")
	w.uploadedNow(t, "right.txt")
	told("right again", false, "1", "Times run backwards at entry ")
	if !strings.Contains(strings.Join(w.log.lines(), "\n"), "the clock jumped") {
		t.Error("the log does not tell of it")
	}
	status, err := upkeep.ReadStatus(t.Context(), w.store, w.clock.Now())
	if err != nil || !status.ClockJump.To.Equal(startOfTime.Add(10*time.Minute)) || status.SinceJump > time.Hour {
		t.Errorf("the doctor is told %+v, %v", status, err)
	}
}
