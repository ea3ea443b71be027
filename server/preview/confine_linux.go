package preview

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// heapSlack is how many bytes Go maps beyond those that it uses: it does so in
// pieces of 64 MB.
const heapSlack = 128 << 20

func (b bounds) confineLinux() {
	// Where memory runs out after all, this process goes, not the server.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	// Of all threads; a build with cgo cannot.
	_, _, _ = syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	limit(unix.RLIMIT_DATA, b.memory+heapSlack)
}
