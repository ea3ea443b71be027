//go:build unix

package backup

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks a file exclusively until it is closed or the process ends in any way.
// It returns false rather than wait.
func lockFile(file *os.File) (taken bool, err error) {
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// openAtOnce keeps an open from waiting for the other end of a FIFO.
const openAtOnce = syscall.O_NONBLOCK

// cannotSync reports whether an error of syncFolder means that the medium does not
// support syncing folders, rather than that it failed.
func cannotSync(err error) bool {
	for _, none := range []error{syscall.EINVAL, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EBADF} {
		if errors.Is(err, none) {
			return true
		}
	}
	return false
}
