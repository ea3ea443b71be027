//go:build unix

package daemon

import "syscall"

// filesAllowed returns how many files the system lets this process have open.
func filesAllowed() (int, bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return int(min(limit.Cur, 1<<30)), true
}
