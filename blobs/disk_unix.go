//go:build unix

package blobs

import (
	"errors"
	"os"
	"syscall"
)

func openNoFollow(root *os.Root, name string) (*os.File, error) {
	return os.OpenFile(path(root, name), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
}

func syncDir(dir *os.File) error { return dir.Sync() }

// IsReadOnly says whether an error is that of a file system that takes no
// changes, as some do from the first fault on that they see.
func IsReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
