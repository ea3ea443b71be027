//go:build !windows

package store

import (
	"errors"
	"os"
	"syscall"
)

// fullErrors are the ways to say that a disk has no room.
var fullErrors = []error{syscall.ENOSPC, syscall.EDQUOT}

// syncDir makes a new name in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
