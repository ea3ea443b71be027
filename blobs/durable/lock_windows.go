package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Lock locks a file exclusively until it is closed or the process ends in any way.
// It returns false rather than wait.
func Lock(file *os.File) (taken bool, err error) {
	err = windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}
