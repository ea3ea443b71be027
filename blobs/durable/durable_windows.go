package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// FileSystem returns "": Windows has no file system that cannot be relied on.
func FileSystem(string) (string, error) { return "", nil }

// FullErrors are the errors of a disk without room.
var FullErrors = []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL}

// SyncFolder does nothing: Windows cannot sync folders, and NTFS keeps a journal of
// their changes.
func SyncFolder(*os.File) error { return nil }

// IsReadOnly reports whether err comes from a write-protected disk.
func IsReadOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }
