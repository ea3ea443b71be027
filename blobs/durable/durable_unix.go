//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
)

// FullErrors are the errors of a disk without room, or of a user whose disk quota
// is used up.
var FullErrors = []error{syscall.ENOSPC, syscall.EDQUOT}

// SyncFolder puts the names in an open folder on stable storage.
func SyncFolder(dir *os.File) error { return dir.Sync() }

// IsReadOnly reports whether err comes from a read-only file system, which some
// become at the first error that they detect.
func IsReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
