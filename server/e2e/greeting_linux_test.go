package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// attend starts a server whose standard error is a terminal, waits until it has
// printed its lines of greeting, and returns them.
func attend(t *testing.T, words ...string) (greeting []string, stop func()) {
	t.Helper()
	s := newScreen(t, 200)
	cmd := command(t, words...)
	cmd.Stderr = s.terminal
	check(t, cmd.Start())
	stop = func() {
		if cmd.ProcessState == nil {
			check(t, cmd.Process.Signal(syscall.SIGTERM))
			check(t, cmd.Wait())
		}
	}
	t.Cleanup(stop)
	eventually(t, "the greeting", func() bool {
		greeting = strings.Split(strings.Join(s.lines(), ""), "\r\n")
		return len(greeting) > 3
	})
	return greeting[:3], stop
}

var onceLink = regexp.MustCompile(`(https?://\S+?)(/\S*)?/#/enter/(attachd-once_[\w-]{43})`)

func TestOnATerminalTheServerSaysHowToBegin(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	serve := []string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}
	lines, stop := attend(t, append(serve, "--demo")...)
	link := onceLink.FindStringSubmatch(lines[1])
	if link == nil || !regexp.MustCompile(`^attachd listens on `+regexp.QuoteMeta(link[1])+` and keeps everything in `+dir+`\.`).MatchString(lines[0]) ||
		!strings.Contains(lines[1], filepath.Join(dir, "admin.key")) || !strings.HasPrefix(lines[2], "Next: ") {
		t.Fatalf("the greeting is\n%s", strings.Join(lines, "\n"))
	}
	enter := func(want int) http.Header {
		t.Helper()
		c := client{t: t, http: &http.Client{}, url: link[1]}
		return c.call("", "POST", "/session", strings.NewReader(`{"link": "`+link[3]+`"}`), "Content-Type", "application/json").want(t, want).header
	}
	cookie, _, _ := strings.Cut(enter(200).Get("Set-Cookie"), ";")
	c := client{t: t, http: &http.Client{}, url: link[1]}
	c.call("", "GET", "/stats", nil, "Cookie", cookie).want(t, 200)
	enter(401)
	stop()

	// Later starts say it too, as long as the first operator's key is there, at the
	// address that people use.
	lines, stop = attend(t, append([]string{"ATTACHD_PUBLIC_URL=https://files.example.org/deep"}, serve...)...)
	stop()
	if again := onceLink.FindStringSubmatch(lines[1]); again == nil || again[1]+again[2] != "https://files.example.org/deep" || again[3] == link[3] {
		t.Errorf("it says %s", lines[1])
	}
	remove(t, filepath.Join(dir, "admin.key"))
	lines, stop = attend(t, serve...)
	stop()
	if strings.Contains(lines[1], "enter") || !strings.Contains(lines[1], "attachd key create USER --data-dir "+dir) {
		t.Errorf("it says %s", lines[1])
	}
	lines, stop = attend(t, append([]string{"ATTACHD_LISTEN=unix:" + filepath.Join(dir, "web.sock")}, "serve", "--data-dir", dir)...)
	stop()
	if !strings.Contains(lines[0], "unix:") || !strings.Contains(lines[1], "set public_url") {
		t.Errorf("it says\n%s", strings.Join(lines, "\n"))
	}
}

// What is kept has no link that signs in: a log that is no terminal, and one in JSON.
// ASVS 6.5.1, 6.5.5
func TestNoLogHasASignInLink(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "ATTACHD_LOG_LEVEL=debug", "ATTACHD_LOG_FORMAT=text", "--demo")
	server.logged("msg=listening")
	server.stop()
	asJSON := newScreen(t, 200)
	cmd := command(t, "ATTACHD_LOG_FORMAT=json", "serve", "--data-dir", dataDir(t), "--listen", "127.0.0.1:0")
	cmd.Stderr = asJSON.terminal
	check(t, cmd.Start())
	eventually(t, "a line", func() bool { return strings.Contains(fmt.Sprint(asJSON.lines()), `"msg":"listening"`) })
	check(t, cmd.Process.Signal(os.Interrupt))
	check(t, cmd.Wait())
	for _, said := range []string{server.stderr(), fmt.Sprint(asJSON.lines())} {
		if strings.Contains(said, "enter") || strings.Contains(said, "attachd-once") {
			t.Errorf("it says %s", said)
		}
	}
}
