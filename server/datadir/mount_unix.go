//go:build unix && !linux

package datadir

import (
	"os"
	"path/filepath"
	"syscall"
)

// isMount reports whether another disk is mounted at path.
func isMount(path string) bool {
	info, err := os.Stat(path)
	above, noAbove := os.Stat(filepath.Dir(path))
	return err == nil && noAbove == nil && device(info) != device(above)
}

// mountedReadOnly reports whether a file is on a read-only mount.
func mountedReadOnly(path string) bool { return syscall.Access(path, mayWrite) == syscall.EROFS }
