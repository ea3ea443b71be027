package datadir

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// isMount reports whether path is a mount point, also of a folder of the same disk (a
// bind mount).
func isMount(path string) bool {
	var s unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS, &s); err == nil && s.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return s.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	info, err := os.Stat(path) // before Linux 5.8
	above, noAbove := os.Stat(filepath.Dir(path))
	return err == nil && noAbove == nil && device(info) != device(above)
}

// mountedReadOnly reports whether a file is on a read-only mount.
func mountedReadOnly(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Flags&unix.ST_RDONLY != 0
}
