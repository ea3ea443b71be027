package upkeep

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

// isReadOnly says whether an error comes from a medium that cannot be written.
func isReadOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

// openAtOnce: what opens a FIFO on Windows is not a file's name.
const openAtOnce = 0

// syncFolder does nothing: Windows syncs no folders, and NTFS keeps a journal of
// their changes.
var syncFolder = func(*os.File) error { return nil }

// cannotSync is asked of no error.
func cannotSync(error) bool { return false }

// IsFull says whether an error comes from a medium without room.
func IsFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
