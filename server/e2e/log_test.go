//go:build unix

package e2e

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// Whatever clients send, an event is one line of the log, with its time in UTC and
// without characters that a terminal would interpret.
// ASVS 1.1.1, 1.2.2, 1.2.3, 16.2.2, 16.2.4, 16.4.1; CVE-2026-42507
func TestAnEventIsOneLineInWhateverFormAndTimeZone(t *testing.T) {
	t.Parallel()
	const ansi = "\x1b[31m\u009b31m\x7f\u202e"
	for _, form := range []string{"text", "json"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			cmd := command(t, "ATTACHD_LOG_LEVEL=debug", "ATTACHD_LOG_FORMAT="+form, autoCreate,
				"ATTACHD_SCAN_CLAMD=unix:/nowhere", "ATTACHD_SCAN_ON_ERROR=accept", // which logs the name of each file
				"serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
			cmd.Env = append(cmd.Env, "TZ=America/New_York")
			server := startCommand(t, dir, cmd)
			address := strings.TrimPrefix(server.url, "http://")
			for _, rq := range []string{
				"GET /in-a-path%0D%0A%1B%5B31m%C2%9B31m%7F%E2%80%AE HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: in-an-agent\t\u009b31m\u202e\r\nX-Request-Id: in-an-id\tx\r\n\r\n",
				"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: in-an-agent" + ansi + "\r\n\r\n",
				"GET /health HTTP/1.1\r\nHost: a\r\nin-a-header" + ansi + "\r\n\r\n",
				"GET /in-a-line" + ansi + " HTTP/1.1\r\nHost: a\r\n\r\n",
				"GET" + ansi + " /in-a-method HTTP/1.1\r\nHost: a\r\n\r\n",
			} {
				speak(t, address, rq)
			}
			server.upload(product, `in-a-name%0D%0Alevel=ERROR %22,%22level%22:%22ERROR`+ansi+".txt", "a").want(t, 201)
			server.call(server.key, "POST", product+"/attachments", strings.NewReader("--frontier\r\nin-a-part"+ansi+"\r\n\r\na\r\n--frontier--\r\n"), formHeaders...).want(t, 400)
			server.get("/in-the-end").want(t, 404)
			server.logged("in-the-end")

			lines := strings.Split(strings.TrimSpace(server.stderr()), "\n")
			for what, want := range map[string]int{"in-a-path": 1, "in-an-agent": 0, "in-an-id": 0, "in-a-name": 1} {
				if got := strings.Count(strings.Join(lines, "\n"), what); got != want {
					t.Errorf("the log says %s %d times, want %d", what, got, want)
				}
			}
			utc := regexp.MustCompile(`^time=\d{4}-\d\d-\d\dT[\d:.]+Z level=[A-Z]+ msg=`)
			for _, line := range lines {
				if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("a line is not all that it seems: %q", line)
				}
				if form == "text" {
					if !utc.MatchString(line) {
						t.Errorf("a line does not begin as it should: %q", line)
					}
					continue
				}
				var entry struct{ Time, Level, Msg string }
				if err := json.Unmarshal([]byte(line), &entry); err != nil || !strings.HasSuffix(entry.Time, "Z") || entry.Level == "" || entry.Msg == "" {
					t.Errorf("no entry: %v: %q", err, line)
				}
			}
		})
	}
}

// Probes of a load balancer every second are not logged while they succeed. Failed
// probes, and requests of other clients, are.
func TestProbesThatSucceedAreNoLines(t *testing.T) {
	t.Parallel()
	for level, told := range map[string]int{"info": 0, "debug": 4} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			server := start(t, dataDir(t), "ATTACHD_LOG_LEVEL="+level)
			for _, path := range []string{"/health", "/health/ready", "/metrics"} {
				server.get(path).want(t, 200)
			}
			server.call(server.key, "HEAD", "/health", nil).want(t, 200)
			server.call("", "GET", "/metrics", nil).want(t, 401)
			server.get("/users/me").want(t, 200)
			server.logged(`"path":"/users/me"`)
			log := server.stderr()
			if got := strings.Count(log, `"path":"/health`) + strings.Count(log, `"path":"/metrics"`); got != told+1 {
				t.Errorf("probes have %d lines, not %d", got, told+1)
			}
		})
	}
}
