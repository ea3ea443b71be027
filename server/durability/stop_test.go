//go:build linux

package durability

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopTime is how long a stop may take, as docs/operating.md says, and what a busy
// machine may add.
const stopTime = 40*time.Second + 10*time.Second

// Where nothing can be written to files, a stop finds that out once, and not for each
// content that is staged. The contents stay in the log.
func TestAStopWhileNothingCanBeFlushedIsShortAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, dir string) (mend func()){
		"tmp is removed": func(t *testing.T, dir string) func() {
			must(t, os.RemoveAll(filepath.Join(dir, "tmp")))
			return func() {} // a start makes it anew
		},
		"tmp is a link": func(t *testing.T, dir string) func() {
			tmp := filepath.Join(dir, "tmp")
			must(t, os.RemoveAll(tmp))
			must(t, os.Symlink(t.TempDir(), tmp))
			return func() { must(t, os.Remove(tmp)) }
		},
		"the folder for blobs is moved away": func(t *testing.T, dir string) func() {
			blobs, away := filepath.Join(dir, "blobs"), filepath.Join(t.TempDir(), "away")
			must(t, os.Rename(blobs, away))
			return func() { must(t, os.Rename(away, blobs)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, t.TempDir())
			kept := p.wait(t, "kept.txt") // which keeps others from being flushed before the fault
			all := append(p.burst(t, 3000, 10), kept)
			mend := spoil(t, p.dir)
			begun := time.Now()
			p.stop(t)
			if took := time.Since(begun); took > stopTime {
				t.Errorf("the stop took %s", took)
			}
			log := p.log.String()
			for _, want := range []string{
				"small contents have no files yet; they stay in the write-ahead log until the next start: ",
				`"msg":"a job did not do its last work, since another one before it failed","job":"take snapshots","failed":"flush staged contents"`,
			} {
				if !strings.Contains(log, want) {
					t.Errorf("the log does not say %s", want)
				}
			}
			mend()
			let(t, kept)
			p = serve(t, p.dir)
			p.holds(t, all...)
			p.stop(t)
			wantSound(t, p.dir)
		})
	}
}

// A disk that takes hold of a sync and never ends it does not keep the process.
func TestAStopOverADiskThatHangsEndsInTimeAndLosesNothing(t *testing.T) {
	needStrace(t)
	t.Parallel()
	p := serve(t, t.TempDir())
	w := p.wait(t, "kept.txt")
	hang := exec.Command("strace", "-f", "-qq", "-o", os.DevNull, "-p", strconv.Itoa(p.cmd.Process.Pid),
		"-e", "trace=fsync,fdatasync,syncfs", "-e", "inject=fsync,fdatasync,syncfs:delay_enter=300000000")
	must(t, hang.Start())
	t.Cleanup(func() {
		_ = hang.Process.Kill() // or it has ended
		_ = hang.Wait()
	})
	eventually(t, "the tracer", func() bool {
		threads := p.threads()
		traced := 0
		for _, status := range threads {
			if strings.Contains(status, "\nTracerPid:\t"+strconv.Itoa(hang.Process.Pid)+"\n") {
				traced++
			}
		}
		return traced > 0 && traced == len(threads)
	})
	let(t, w) // its flush hangs
	begun := time.Now()
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	eventually(t, "the server to give up", func() bool { return strings.Contains(p.log.String(), "the stop took longer than 40s") })
	if took := time.Since(begun); took > stopTime {
		t.Errorf("the stop took %s", took)
	}
	must(t, hang.Process.Kill()) // a process cannot end in a sync that the kernel has
	<-p.ended
	for _, want := range []string{"background jobs have not ended in time", `"flush staged contents"`} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log does not say %s", want)
		}
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	p = serve(t, p.dir)
	p.holds(t, w)
	p.stop(t)
	wantSound(t, p.dir)
}
