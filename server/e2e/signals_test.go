//go:build unix

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Log rotation and requests for a reload send SIGHUP: no transfer is affected.
func TestSIGHUPCutsNothing(t *testing.T) {
	t.Parallel()
	cert := newCertificate(t, t.TempDir(), "first.example")
	for name, env := range map[string][]string{"plain": nil, "with TLS": cert.env()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t, dataDir(t), slices.Concat([]string{autoCreate}, env)...)
			server.http = trusting(t, cert)
			slow := server.beginUpload(product, "slow.txt")
			slow.inTemp(t)
			for range 3 {
				server.signal(syscall.SIGHUP)
			}
			server.logged("SIGHUP:")
			server.upload(product, "other.txt", "other").want(t, 201)
			slow.end().want(t, 201)
			server.stop()
		})
	}
}

// A server that was started with SIGHUP ignored (nohup) ignores it.
func TestSIGHUPIsIgnoredWhereItWasBefore(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	plain := command(t, autoCreate, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	cmd := exec.Command("sh", slices.Concat([]string{"-c", `trap "" HUP; exec "$@"`, "sh"}, plain.Args)...)
	cmd.Dir, cmd.Env = plain.Dir, plain.Env
	server := startCommand(t, dir, cmd)
	server.signal(syscall.SIGHUP)
	server.upload(product, "a.txt", "a").want(t, 201)
	server.stop()
	if strings.Contains(server.stderr(), "SIGHUP:") {
		t.Error("it was heard")
	}
}

// serveInto runs `attachd serve` with this file as standard error.
func serveInto(t *testing.T, stderr *os.File, wrap ...string) *process {
	t.Helper()
	dir := dataDir(t)
	cmd := command(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if len(wrap) > 0 {
		cmd.Args = append(wrap, cmd.Args...)
		cmd.Path = "/bin/sh"
	}
	cmd.Stderr = stderr
	check(t, cmd.Start())
	p := &process{client: client{t: t}, cmd: cmd, dir: dir, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // ProcessState has the result
	}()
	t.Cleanup(p.kill)
	p.client = *p.overSocket()
	eventually(t, "attachd answers", func() bool {
		_, err := p.try("", "GET", "/health", nil)
		return err == nil
	})
	return p
}

// makeSpace creates a space; the answer comes when it is on the disk.
func (c *client) makeSpace(slug string) answer {
	c.t.Helper()
	return c.call(c.key, "PUT", "/directory/spaces/"+slug, strings.NewReader("{}"), "Content-Type", "application/json")
}

// Requests are answered, whatever happens to the reader of the log.
func TestALogThatNobodyTakesIsNoObstacle(t *testing.T) {
	t.Parallel()
	const closed = `exec "$@" 0<&- 1>&- 2>&-`
	for name, server := range map[string]func(t *testing.T) *process{
		"the reader is gone": func(t *testing.T) *process {
			reader, writer, err := os.Pipe()
			check(t, err)
			p := serveInto(t, writer)
			check(t, reader.Close())
			check(t, writer.Close())
			return p
		},
		"the reader is gone, and SIGPIPE is ignored": func(t *testing.T) *process {
			reader, writer, err := os.Pipe()
			check(t, err)
			p := serveInto(t, writer, "sh", "-c", `trap "" PIPE; exec "$@"`, "sh")
			check(t, reader.Close())
			check(t, writer.Close())
			return p
		},
		"standard files are closed": func(t *testing.T) *process { return serveInto(t, nil, "sh", "-c", closed, "sh") },
		"nothing can be written": func(t *testing.T) *process {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Skip("this system has no /dev/full")
			}
			t.Cleanup(func() { check(t, full.Close()) })
			return serveInto(t, full)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := server(t)
			for i := range 5 {
				p.makeSpace(fmt.Sprintf("space-%d", i)).want(t, 201)
			}
			p.stop()
		})
	}
}

// A log reader that stalls delays no request, and gets the number of lines it
// missed.
func TestALogReaderThatStallsHearsWhatItMissed(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	check(t, err)
	defer reader.Close()
	p := serveInto(t, writer)
	check(t, writer.Close())
	const requests = 200
	long := strings.Repeat("a", 20_000) // 4 MB in all; a pipe holds 64 KB
	for i := range requests {
		p.get(fmt.Sprintf("/asked-%d-%s", i, long)).want(t, 404)
	}
	p.makeSpace("a").want(t, 201)

	listed, lost := 0, 0
	lines := bufio.NewReader(reader)
	for last := false; !last; {
		line, err := lines.ReadBytes('\n')
		check(t, err)
		var entry struct {
			Path  string
			Lines int
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatalf("not a whole line: %v: %.200q", err, line)
		}
		if strings.HasPrefix(entry.Path, "/asked-") || strings.HasPrefix(entry.Path, "/directory/") {
			listed++
		}
		lost += entry.Lines
		last = entry.Lines > 0
	}
	if listed == 0 || listed+lost != requests+1 {
		t.Errorf("%d requests are in the log and %d lines are said to be lost, of %d", listed, lost, requests+1)
	}
	p.get("/asked-again").want(t, 404)
	for {
		line, err := lines.ReadString('\n')
		check(t, err)
		if strings.Contains(line, "/asked-again") {
			break
		}
	}
	p.stop()
}

// A server ends even if its log is not read.
func TestAServerEndsThoughItsLogReaderStalls(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	check(t, err)
	defer reader.Close()
	p := serveInto(t, writer)
	check(t, writer.Close())
	long := strings.Repeat("a", 20_000)
	for i := range 10 {
		p.get(fmt.Sprintf("/asked-%d-%s", i, long)).want(t, 404)
	}
	p.stop()
}

// The output of a command is piped into head(1), which has read enough.
func TestACommandWhoseReaderIsGoneEndsQuietly(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	start(t, dir, "--demo").stop()
	for _, words := range [][]string{{"config", "show"}, {"--help"}, {"user", "list", "--data-dir", dir}, {"audit", "export", "--data-dir", dir}} {
		cmd := command(t, words...)
		reader, writer, err := os.Pipe()
		check(t, err)
		check(t, reader.Close())
		var stderr strings.Builder
		cmd.Stdout, cmd.Stderr = writer, &stderr
		_ = cmd.Run() // it may end by SIGPIPE: a shell uses the exit code of a pipeline's last command
		check(t, writer.Close())
		if stderr.Len() > 0 {
			t.Errorf("%q says %s", words, stderr.String())
		}
	}
}
