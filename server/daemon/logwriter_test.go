package daemon

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// wobbly is a writer that accepts of each write as many bytes as its plan says, and
// after that everything.
type wobbly struct {
	bytes.Buffer
	plan []int
}

func (w *wobbly) Write(p []byte) (int, error) {
	if len(w.plan) == 0 {
		return w.Buffer.Write(p)
	}
	takes := w.plan[0]
	w.plan = w.plan[1:]
	n, _ := w.Buffer.Write(p[:min(takes, len(p))])
	return n, errors.New("no more")
}

// A line that was cut off is ended before the number of lost lines is reported, so that
// no other line is appended to it.
func TestLinesAfterLostOnesAreWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plan []int
		lost string
	}{
		"nothing was taken":        {[]int{0, 0}, "lines=1\n"},
		"half a line was taken":    {[]int{7, 0}, "lines=1\n"},
		"and what ends it was not": {[]int{7, 0, 0}, "lines=2\n"},
		"the report was cut off":   {[]int{0, 0, 30}, "lines=2\n"},
	} {
		out := &wobbly{plan: c.plan}
		w := newLogWriter(out, "text")
		for range 3 {
			if n, err := w.Write([]byte("a line that is longer\n")); n == 0 || err != nil {
				t.Fatal(n, err)
			}
			for waiting := true; waiting; { // until it is being written
				w.mu.Lock()
				waiting = len(w.queue) > 0
				w.mu.Unlock()
			}
		}
		w.close()
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix("a line that is longer\n", strings.TrimSpace(line)) && !strings.HasPrefix(line, "time=") {
				t.Errorf("%s: a line is %q", name, line)
			}
		}
		if strings.Count(out.String(), "lines=") != 1 || !strings.Contains(out.String(), c.lost) {
			t.Errorf("%s: the log holds %q", name, out.String())
		}
	}
}
