//go:build darwin || freebsd

package disk

import (
	"os"

	"golang.org/x/sys/unix"

	"attachd/blobs"
)

// CapacityOf returns the size and the free room of the disk that a folder is on.
func CapacityOf(dir string) (blobs.Capacity, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return blobs.Capacity{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return blobs.Capacity{
		Free: int64(s.Bavail) * int64(s.Bsize), Total: int64(s.Blocks) * int64(s.Bsize),
		FreeFiles: int64(s.Ffree), Files: int64(s.Files),
	}, nil
}
