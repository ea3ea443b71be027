//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
)

// FullErrors are the errors of a disk without room, or of a user whose share of
// it is used up.
var FullErrors = []error{syscall.ENOSPC, syscall.EDQUOT}

// SyncFolder puts the names in an open folder on stable storage.
func SyncFolder(dir *os.File) error { return dir.Sync() }

// IsReadOnly reports whether err comes from a file system that takes no
// changes, as some do from the first fault on that they see.
func IsReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
