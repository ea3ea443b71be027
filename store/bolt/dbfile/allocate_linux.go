package dbfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// allocate sets blocks of the disk apart for the first size bytes of a file, unless that
// would take more than half of what is free: then it fails.
func allocate(file *os.File, size int64) error {
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &disk); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if int64(disk.Bavail)*int64(disk.Bsize) < 2*min(size, growth) {
		return unix.ENOSPC
	}
	return os.NewSyscallError("fallocate", unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size))
}
