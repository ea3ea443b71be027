package backup

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes a file for this process alone, until it is closed or the
// process ends, however that happens. It says no rather than wait.
func lockFile(file *os.File) (taken bool, err error) {
	err = windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

// openAtOnce: what opens a FIFO on Windows is not a file's name.
const openAtOnce = 0

// cannotSync is asked of no error.
func cannotSync(error) bool { return false }
