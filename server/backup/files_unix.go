//go:build unix

package backup

import (
	"errors"
	"syscall"
)

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
