package backup

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile locks a file exclusively until it is closed or the process ends in any way.
// It returns false rather than wait.
func lockFile(file *os.File) (taken bool, err error) {
	err = windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

// openAtOnce is 0: on Windows, the name of a file never opens a FIFO.
const openAtOnce = 0

// cannotSync returns false, since syncFolder has no errors on Windows.
func cannotSync(error) bool { return false }
