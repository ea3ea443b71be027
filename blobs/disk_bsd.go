//go:build darwin || freebsd

package blobs

import (
	"os"

	"golang.org/x/sys/unix"
)

// DiskSpace tells of the disk that a folder is on.
func DiskSpace(dir string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Space{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Space{
		Free: int64(s.Bavail) * int64(s.Bsize), Total: int64(s.Blocks) * int64(s.Bsize),
		FreeFiles: int64(s.Ffree), Files: int64(s.Files),
	}, nil
}
