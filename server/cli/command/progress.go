package command

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
	eastasian "golang.org/x/text/width"

	"attachd/server/remote"
	"attachd/server/upkeep"
)

const (
	// drawEvery is the minimum interval between updates of the line.
	drawEvery = 100 * time.Millisecond
	// speedOver is the time over which the speed is averaged.
	speedOver = 10 * time.Second
	// speedAfter is how long the work must have lasted before its speed is shown.
	speedAfter = time.Second / 2
	// longestName is the maximum width of a file's name, in columns.
	longestName = 40
	// longestLeft is the longest time left that is shown.
	longestLeft = 99 * time.Hour
	clearLine   = "\r\x1b[K"
	// usualColumns is how many columns a terminal has that does not say.
	usualColumns = 80
	// shortestBar and longestBar are how many columns the bar has between its brackets:
	// as many as the terminal leaves beside the text, and none below the minimum.
	shortestBar, longestBar = 8, 24
)

// ProgressLine is a line on the terminal, if standard error is one, that shows
// progress. Other lines are printed through Say. It may be used by many goroutines.
type ProgressLine struct {
	terminal *os.File // nil if there is none

	mu      sync.Mutex
	names   []string // names of the files being transferred, in order; nil to show none
	ended   []bool   // whether the transfer of each has ended
	done    upkeep.Progress
	drawn   time.Time
	samples []sample
}

// sample is the progress at a time.
type sample struct {
	at time.Time
	upkeep.Progress
}

// NewProgressLine returns a line that shows nothing where standard error is no
// terminal, or quiet is asked for.
func (s Streams) NewProgressLine(quiet bool) *ProgressLine {
	f, ok := s.Err.(*os.File)
	if quiet || !ok || !term.IsTerminal(int(f.Fd())) {
		f = nil
	}
	return &ProgressLine{terminal: f}
}

// Expect adds bytes to the total that is to be transferred.
func (l *ProgressLine) Expect(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done.AllBytes += bytes
}

// ExpectFiles sets the names of the files that are to be transferred.
func (l *ProgressLine) ExpectFiles(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names, l.ended = names, make([]bool, len(names))
}

// End marks the transfer of a file as ended.
func (l *ProgressLine) End(i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended[i] = true
}

// Moved adds transferred bytes; a negative number subtracts some.
func (l *ProgressLine) Moved(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done.Bytes += bytes
	l.draw()
}

// Contents is an upkeep.ProgressFunc.
func (l *ProgressLine) Contents(done upkeep.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = done
	l.draw()
}

// Say clears the line, and calls write to print others.
func (l *ProgressLine) Say(write func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.terminal != nil {
		fmt.Fprint(l.terminal, clearLine)
	}
	write()
}

// Clear removes the line.
func (l *ProgressLine) Clear() { l.Say(func() {}) }

func (l *ProgressLine) draw() {
	now := time.Now()
	if l.terminal == nil || now.Sub(l.drawn) < drawEvery {
		return
	}
	l.drawn = now
	l.sample(now)
	name, text := l.file(), l.text(now)
	columns, _, err := term.GetSize(int(l.terminal.Fd()))
	if err != nil || columns <= 0 {
		columns = usualColumns
	}
	room := columns - 1 // a line that wraps could not be cleared
	fmt.Fprint(l.terminal, clearLine, shorten(name+l.bar(room-width(name)-width(text))+text, room))
}

// sample records the progress, and drops samples that are too old for the speed.
func (l *ProgressLine) sample(now time.Time) {
	for len(l.samples) > 1 && now.Sub(l.samples[1].at) >= speedOver {
		l.samples = l.samples[1:]
	}
	l.samples = append(l.samples, sample{now, l.done})
}

// bar draws the progress in at most so many columns; it is empty where that is too few,
// or the total is unknown.
func (l *ProgressLine) bar(columns int) string {
	cells := min(longestBar, columns-len("[] "))
	if cells < shortestBar || l.done.AllBytes <= 0 {
		return ""
	}
	full := int(min(l.done.Bytes, l.done.AllBytes) * int64(cells) / l.done.AllBytes)
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", cells-full) + "] "
}

// text formats the progress, the speed, and the time left.
func (l *ProgressLine) text(now time.Time) (text string) {
	if l.done.AllBytes > 0 {
		text += fmt.Sprintf("%d%% of %s", min(100, 100*l.done.Bytes/l.done.AllBytes), megabytes(l.done.AllBytes))
	} else {
		text += megabytes(l.done.Bytes)
	}
	if l.done.AllContents > 0 {
		text += fmt.Sprintf(", %d of %d files", l.done.Contents, l.done.AllContents)
	}
	if len(l.samples) == 0 || now.Sub(l.samples[0].at) < speedAfter {
		return text
	}
	since := l.samples[0]
	took := now.Sub(since.at)
	if moved := l.done.Bytes - since.Bytes; moved > 0 {
		text += ", " + megabytes(int64(float64(moved)/took.Seconds())) + "/s"
	}
	// With many small files, their number decides rather than their bytes.
	left := max(timeLeft(l.done.Bytes-since.Bytes, l.done.AllBytes-l.done.Bytes, took),
		timeLeft(l.done.Contents-since.Contents, l.done.AllContents-l.done.Contents, took))
	if left >= time.Second/2 {
		text += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	return text
}

// file returns the name and number of the first file whose transfer has not ended, for
// which the rest may wait.
func (l *ProgressLine) file() string {
	i := slices.Index(l.ended, false)
	if i < 0 {
		return ""
	}
	name := shorten(remote.Printable(l.names[i]), longestName)
	if len(l.names) > 1 {
		return fmt.Sprintf("%s, %d of %d: ", name, i+1, len(l.names))
	}
	return name + ": "
}

// timeLeft returns how long the rest takes at the speed so far; 0 when unknown or
// nothing is left.
func timeLeft(moved, rest int64, took time.Duration) time.Duration {
	if moved <= 0 || rest <= 0 {
		return 0
	}
	return time.Duration(min(float64(took)/float64(moved)*float64(rest), float64(longestLeft)))
}

func megabytes(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d MB", n>>20)
}

// width returns how many columns of a terminal a text takes.
func width(text string) (columns int) {
	for _, r := range text {
		columns += runeWidth(r)
	}
	return columns
}

func runeWidth(r rune) int {
	if kind := eastasian.LookupRune(r).Kind(); kind == eastasian.EastAsianWide || kind == eastasian.EastAsianFullwidth {
		return 2
	}
	return 1
}

// shorten truncates a text to a number of columns of a terminal.
func shorten(text string, columns int) string {
	used, cut := 0, 0
	for i, r := range text {
		used += runeWidth(r)
		if used > columns {
			return text[:cut] + "…"
		}
		if used < columns {
			cut = i + utf8.RuneLen(r)
		}
	}
	return text
}
