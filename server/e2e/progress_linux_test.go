package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen is a terminal, and everything written to it.
type screen struct {
	terminal *os.File
	mu       sync.Mutex
	written  strings.Builder
}

// newScreen returns a terminal of the given width.
func newScreen(t *testing.T, columns uint16) *screen {
	t.Helper()
	window, terminal := newTerminal(t)
	check(t, unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}))
	s := &screen{terminal: terminal}
	var reading sync.WaitGroup
	reading.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, err := window.Read(buffer)
			s.mu.Lock()
			s.written.Write(buffer[:n])
			s.mu.Unlock()
			if err != nil { // the last writer has closed it
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = terminal.Close() // a test may have closed it
		reading.Wait()
		_ = window.Close() // everything was read
	})
	return s
}

// run runs a command whose standard error is the terminal, and returns its standard
// output.
func (s *screen) run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, s.terminal
	overdue := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer overdue.Stop()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %q", err, s.lines())
	}
	return stdout.String()
}

// lines are the lines shown on the screen, in order.
func (s *screen) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(s.written.String(), "\r\x1b[K")
}

// shown says whether a complete line matched a pattern: the next one has begun.
func (s *screen) shown(pattern string) bool {
	lines := s.lines()
	return slices.ContainsFunc(lines[:len(lines)-1], regexp.MustCompile("^"+pattern+"$").MatchString)
}

// A proxy forwards bytes slowly, until the screen has shown the progress.
func TestATerminalShowsHowFarAnUploadIs(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	const large = "Verkäufe データ.csv"
	files := []string{fileOf(t, "a.csv", "a\n"), fileOf(t, large, strings.Repeat(lines(), 40)), fileOf(t, "z.csv", "z\n")}
	s := newScreen(t, 90)
	m := server.meddle("POST", func(_ int, w http.ResponseWriter, r *http.Request, forward http.Handler) {
		r.Body = &throttled{r.Body, func() bool { return s.shown(large + `, 2 of 3: \[#*-*\] \d+% of 19 MB, [0-9.]+ MB/s, \d+s left`) }, 0}
		forward.ServeHTTP(w, r)
	})
	out := s.run(t, command(t, slices.Concat([]string{"ATTACHD_SERVER=" + m.url, "ATTACHD_KEY=" + server.key, "put", "--to", place}, files)...))
	if got := strings.Count(out, "\n"); got != 3 || len(server.in(product)) != 3 {
		t.Errorf("put printed %s", out)
	}
	for _, line := range s.lines() {
		if utf8.RuneCountInString(line) > 89 {
			t.Errorf("it wrote %q", line)
		}
	}
	eventually(t, "nothing is left of it", func() bool { return s.lines()[len(s.lines())-1] == "" })
}

// throttled reads its first bytes at full speed, and the rest slowly until a
// condition is true.
type throttled struct {
	io.ReadCloser
	until func() bool
	read  int
}

func (r *throttled) Read(p []byte) (int, error) {
	if r.read > 1000 && !r.until() {
		time.Sleep(20 * time.Millisecond) // the delay of the transfer
		p = p[:min(len(p), 100_000)]
	}
	n, err := r.ReadCloser.Read(p)
	r.read += n
	return n, err
}

func TestATerminalShowsHowFarABackupIs(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	for i := range 3 {
		server.upload(product, "a.txt", fmt.Sprint(i)).want(t, 201)
	}
	s := newScreen(t, 20)
	to := t.TempDir()
	s.run(t, command(t, "backup", to, "--data-dir", server.dir))
	s.run(t, command(t, "restore", to, "--data-dir", dataDir(t)))
	eventually(t, "two cut lines", func() bool {
		cut := strings.Split(strings.Join(s.lines(), "\n"), "% of 0.0 MB, 0 o…\n")
		return len(cut) == 3 && cut[2] == ""
	})
	silent := newScreen(t, 80)
	silent.run(t, command(t, "backup", t.TempDir(), "--quiet", "--data-dir", server.dir))
	silent.run(t, command(t, "check", "--deep", "-q", "--data-dir", server.dir))
	silent.run(t, command(t, "ATTACHD_SERVER="+server.url, "ATTACHD_KEY="+server.key, "put", "-q", "--to", place, fileOf(t, "q.csv", lines())))
	if said := strings.Join(silent.lines(), "|"); said != "" {
		t.Errorf("quiet commands say %q", said)
	}
	unknown := newScreen(t, 0)
	unknown.run(t, command(t, "backup", "verify", to))
	eventually(t, "a line of the usual width", func() bool { return unknown.shown(`\[#*-*\] \d+% of 0\.0 MB, 0 of 3 files`) })
	wide := newScreen(t, 80)
	wide.run(t, command(t, "backup", "verify", to))
	eventually(t, "a whole line", func() bool { return wide.shown(`\[#*-*\] \d+% of 0\.0 MB, 0 of 3 files`) })
}
