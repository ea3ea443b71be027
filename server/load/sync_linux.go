package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData syncs a file's bytes, and not its times.
func syncData(file *os.File) error { return unix.Fdatasync(int(file.Fd())) }
