//go:build !windows

package store

import (
	"errors"
	"math"
	"os"
	"syscall"
)

// roomToGrow is how much of the address space is set apart for the file, in
// bytes: it costs nothing until it is used. A file that outgrows its part has
// to be mapped anew, and for that every change waits until no read is under
// way: while a snapshot is written, say.
const roomToGrow = math.MaxInt >> 27 // 64 GB; next to nothing on 32-bit systems, which have none to spare

// fullErrors are the ways to say that a disk has no room.
var fullErrors = []error{syscall.ENOSPC, syscall.EDQUOT}

// replacesOpen says whether a file that is open can be replaced by another.
const replacesOpen = true

// syncDir makes a new name in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
