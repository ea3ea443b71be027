package preview

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// heapSlack is how many bytes Go may map beyond those that it uses: it maps pieces of
// 64 MB.
const heapSlack = 128 << 20

func (b bounds) confineLinux() {
	// If memory runs out, the kernel kills this process rather than the server.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	// Applies to all threads; a build with cgo cannot do that.
	_, _, _ = syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	limit(unix.RLIMIT_DATA, b.memory+heapSlack)
}
