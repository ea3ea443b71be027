package command

import (
	"strings"
	"testing"
	"time"

	"attachd/server/upkeep"
)

func TestALineOfProgressSaysHowFarItIs(t *testing.T) {
	const mb = 1 << 20
	began := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	type progress = upkeep.Progress
	at := func(after time.Duration, bytes, contents int64) sample {
		return sample{began.Add(after), progress{Bytes: bytes, Contents: contents}}
	}
	for _, c := range []struct {
		names   []string
		ended   int
		samples []sample // the last is how far it is now
		all     progress
		want    string
	}{
		{nil, 0, []sample{at(0, 3*mb/2, 0)}, progress{}, "1.5 MB"},
		{nil, 0, []sample{at(0, 0, 0)}, progress{AllBytes: 40 * mb}, "0% of 40 MB"},
		{[]string{"a.csv"}, 0, []sample{at(0, 0, 0), at(400*time.Millisecond, 10*mb, 0)}, progress{AllBytes: 40 * mb}, "a.csv: 25% of 40 MB"},
		{[]string{"a.csv"}, 0, []sample{at(0, 0, 0), at(2*time.Second, 10*mb, 0)}, progress{AllBytes: 40 * mb}, "a.csv: 25% of 40 MB, 5.0 MB/s, 6s left"},
		{[]string{"a.csv", "b.csv", "c.csv"}, 1, []sample{at(0, 0, 0), at(time.Second, 20*mb, 0)}, progress{AllBytes: 4000 * mb}, "b.csv, 2 of 3: 0% of 4000 MB, 20 MB/s, 3m19s left"},
		{[]string{"a.csv"}, 1, []sample{at(0, 0, 0), at(4*time.Second, 40*mb, 0)}, progress{AllBytes: 40 * mb}, "100% of 40 MB, 10 MB/s"},
		// Bytes from before count for the progress, not for the speed.
		{[]string{"a.csv"}, 0, []sample{at(0, 30*mb, 0), at(2*time.Second, 32*mb, 0)}, progress{AllBytes: 40 * mb}, "a.csv: 80% of 40 MB, 1.0 MB/s, 8s left"},
		// Nothing was transferred, or a failed transfer was subtracted.
		{[]string{"a.csv"}, 0, []sample{at(0, 9*mb, 0), at(5*time.Second, 9*mb, 0)}, progress{AllBytes: 40 * mb}, "a.csv: 22% of 40 MB"},
		{[]string{"a.csv"}, 0, []sample{at(0, 9*mb, 0), at(5*time.Second, 0, 0)}, progress{AllBytes: 40 * mb}, "a.csv: 0% of 40 MB"},
		{[]string{"a.csv"}, 0, []sample{at(0, 0, 0), at(5*time.Second, 50*mb, 0)}, progress{AllBytes: 40 * mb}, "a.csv: 100% of 40 MB, 10 MB/s"},
		{nil, 0, []sample{at(0, 0, 0), at(5*time.Second, 1, 0)}, progress{AllBytes: 1 << 50}, "0% of 1073741824 MB, 0.0 MB/s, 99h0m0s left"},
		// With many small files, their number decides rather than their bytes.
		{nil, 0, []sample{at(0, 0, 0), at(10*time.Second, 99*mb, 100)}, progress{AllBytes: 100 * mb, AllContents: 1000}, "99% of 100 MB, 100 of 1000 files, 9.9 MB/s, 1m30s left"},
		{nil, 0, []sample{at(0, 0, 0), at(10*time.Second, 0, 10)}, progress{AllBytes: 100 * mb, AllContents: 20}, "0% of 100 MB, 10 of 20 files, 10s left"},
		// A name cannot move the cursor, and is truncated by its width in columns.
		{[]string{"a\x1b[2J\r\nb.csv"}, 0, []sample{at(0, 0, 0)}, progress{AllBytes: mb}, "a[2Jb.csv: 0% of 1.0 MB"},
		{[]string{strings.Repeat("x", 50)}, 0, []sample{at(0, 0, 0)}, progress{AllBytes: mb}, strings.Repeat("x", 39) + "…: 0% of 1.0 MB"},
		{[]string{strings.Repeat("デ", 20)}, 0, []sample{at(0, 0, 0)}, progress{AllBytes: mb}, strings.Repeat("デ", 20) + ": 0% of 1.0 MB"},
		{[]string{strings.Repeat("デ", 21)}, 0, []sample{at(0, 0, 0)}, progress{AllBytes: mb}, strings.Repeat("デ", 19) + "…: 0% of 1.0 MB"},
	} {
		line := &ProgressLine{names: c.names, ended: make([]bool, len(c.names)), samples: c.samples}
		for i := range c.ended {
			line.ended[i] = true
		}
		now := c.samples[len(c.samples)-1]
		line.done = progress{Bytes: now.Bytes, AllBytes: c.all.AllBytes, Contents: now.Contents, AllContents: c.all.AllContents}
		if got := line.file() + line.text(now.at); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

// The bar has the columns that the text leaves, and is left out where they are few.
func TestABarTakesTheRoomThatIsLeft(t *testing.T) {
	for _, c := range []struct {
		columns   int
		done, all int64
		want      string
	}{
		{80, 0, 100, "[------------------------] "},
		{80, 50, 100, "[############------------] "},
		{80, 99, 100, "[#######################-] "},
		{80, 100, 100, "[########################] "},
		{80, 120, 100, "[########################] "},
		{13, 50, 100, "[#####-----] "},
		{11, 50, 100, "[####----] "},
		{10, 50, 100, ""},
		{-5, 50, 100, ""},
		{80, 50, 0, ""},
	} {
		line := &ProgressLine{}
		line.done.Bytes, line.done.AllBytes = c.done, c.all
		if got := line.bar(c.columns); got != c.want {
			t.Errorf("%d of %d in %d columns: %q, want %q", c.done, c.all, c.columns, got, c.want)
		}
	}
}

// The speed is that of the last seconds, and the samples kept for it are bounded.
func TestTheSpeedIsThatOfTheLastSeconds(t *testing.T) {
	line := &ProgressLine{}
	line.done.AllBytes = 1000 << 20
	now := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	for i := range 400 {
		if i < 200 {
			line.done.Bytes += 2 << 20
		} else {
			line.done.Bytes += 1 << 20
		}
		now = now.Add(drawEvery)
		line.sample(now)
	}
	if got, want := line.text(now), "60% of 1000 MB, 10 MB/s, 40s left"; got != want || len(line.samples) > 110 {
		t.Errorf("got %q after %d samples, want %q", got, len(line.samples), want)
	}
}
