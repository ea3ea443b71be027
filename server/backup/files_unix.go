//go:build unix

package backup

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes a file for this process alone, until it is closed or the
// process ends, however that happens. It says no rather than wait.
func lockFile(file *os.File) (taken bool, err error) {
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// openAtOnce keeps an open from waiting for the other end of a FIFO.
const openAtOnce = syscall.O_NONBLOCK

// cannotSync says whether an error of syncFolder means that the medium has no
// such call for folders, rather than that it failed.
func cannotSync(err error) bool {
	for _, none := range []error{syscall.EINVAL, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EBADF} {
		if errors.Is(err, none) {
			return true
		}
	}
	return false
}
