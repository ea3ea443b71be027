//go:build !windows

package dbfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapMetas maps the first bytes of a file.
func mapMetas(file *os.File, length int) ([]byte, error) {
	return unix.Mmap(int(file.Fd()), 0, length, unix.PROT_READ, unix.MAP_SHARED)
}

func unmapMetas(metas []byte) error {
	if metas == nil {
		return nil
	}
	return unix.Munmap(metas)
}
