//go:build unix

package upkeep

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

// isReadOnly says whether an error comes from a medium that cannot be written.
func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// openAtOnce keeps an open from waiting for the other end of a FIFO.
const openAtOnce = syscall.O_NONBLOCK

// syncFolder puts the names in a folder on stable storage. It is a variable for
// tests of media that cannot do that.
var syncFolder = func(dir *os.File) error { return dir.Sync() }

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

// IsFull says whether an error comes from a medium without room.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
