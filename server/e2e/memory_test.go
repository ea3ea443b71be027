//go:build unix

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

var long = flag.Bool("long", false, "measure the memory of a hundred uploads of 50 MB, 5 GB in all")

// CVE-2026-3114, CVE-2026-55078, CVE-2026-55079
func TestMemoryOfLargeUploads(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it writes half a gigabyte")
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells the peak of a process's memory")
	}
	if build, _ := debug.ReadBuildInfo(); slices.Contains(build.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector takes memory of its own")
	}
	server := start(t, dataDir(t), autoCreate, "ATTACHD_LOG_LEVEL=error")
	server.get(server.upload(product, "small.txt", "small").want(t, 201).download()).want(t, 200)
	server.get(product+"/attachments").want(t, 200)
	idle := server.memory("VmRSS")

	server.resetPeak()
	server.uploadAtOnce(1, 50<<20)
	one := server.memory("VmHWM")
	t.Logf("idle %d KB, peak during an upload of 50 MB %d KB: %d KB more", idle, one, one-idle)
	if one-idle > 4<<10 {
		t.Errorf("an upload of 50 MB took %d KB", one-idle)
	}

	many, size := 100, int64(4<<20)
	if *long {
		size = 50 << 20
	}
	server.resetPeak()
	server.uploadAtOnce(many, size)
	all := server.memory("VmHWM")
	t.Logf("peak during %d uploads of %d MB at once %d KB: %d KB more than idle", many, size>>20, all, all-idle)
	if all > 128<<10 {
		t.Errorf("%d uploads at once took the process to %d KB", many, all)
	}
}

// uploadAtOnce uploads n generated files concurrently, none of which ends before
// all have begun.
func (p *process) uploadAtOnce(n int, size int64) {
	p.t.Helper()
	var uploads, begun sync.WaitGroup
	begun.Add(n)
	all := make(chan struct{})
	go func() { begun.Wait(); close(all) }()
	for i := range n {
		uploads.Go(func() {
			lines := &generated{left: size, line: fmt.Sprintf("line of upload %d of %d bytes\n", i, size)}
			var once sync.Once
			body := readerFunc(func(b []byte) (int, error) {
				if lines.left <= size-1<<20 {
					once.Do(begun.Done)
					select {
					case <-all:
					case <-time.After(patience):
						return 0, errors.New("not all uploads began")
					}
				}
				return lines.Read(b)
			})
			a, err := p.try(p.key, "POST", product+"/attachments", formOf("large.txt", body), formHeaders...)
			if err != nil || a.status != 201 {
				p.t.Errorf("upload %d: %v %v", i, err, a)
			}
			once.Do(begun.Done)
		})
	}
	uploads.Wait()
}

// generated is a reader of a repeated line, which is not held in memory.
type generated struct {
	left int64
	line string
	at   int
}

func (g *generated) Read(b []byte) (n int, err error) {
	if g.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), g.left)]
	for n < len(b) {
		m := copy(b[n:], g.line[g.at:])
		g.at = (g.at + m) % len(g.line)
		n += m
	}
	g.left -= int64(n)
	return n, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// memory is a field of the process's /proc status, in KB.
func (p *process) memory(what string) int {
	p.t.Helper()
	status := read(p.t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	found := regexp.MustCompile(what + `:\s+(\d+) kB`).FindStringSubmatch(status)
	if found == nil {
		p.t.Fatalf("no %s in\n%s", what, status)
	}
	kb, err := strconv.Atoi(found[1])
	check(p.t, err)
	return kb
}

// resetPeak resets VmHWM (proc_pid_clear_refs(5)).
func (p *process) resetPeak() {
	p.t.Helper()
	write(p.t, fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), "5")
}
