//go:build unix

package preview

import (
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// apart puts cmd into a process group of its own, so that signals from a terminal do
// not reach it.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func (b bounds) confineSystem() {
	b.confineLinux()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 10) // other processes do not wait for previews
	limit(unix.RLIMIT_CPU, int64(b.time/time.Second)+2)
	limit(unix.RLIMIT_CORE, 0)
	limit(unix.RLIMIT_FSIZE, 0)
	// Last, since no file and no socket can be opened afterwards.
	limit(unix.RLIMIT_NOFILE, 0)
}

func limit(resource int, n int64) {
	var l unix.Rlimit
	set(&l.Cur, n)
	set(&l.Max, n)
	_ = unix.Setrlimit(resource, &l)
}

// set sets a field that is signed on some systems and unsigned on others.
func set[N int64 | uint64](to *N, n int64) { *to = N(n) }

// processorTime is the processor time that this process has used.
func processorTime() time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
