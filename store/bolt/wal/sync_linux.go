package wal

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData puts the bytes of a file on stable storage, and of its metadata only
// what is needed to read them.
func syncData(file *os.File) error {
	for {
		err := unix.Fdatasync(int(file.Fd()))
		if err == nil || !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
