//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
)

// Lock locks a file exclusively until it is closed or the process ends in any way.
// It returns false rather than wait.
func Lock(file *os.File) (taken bool, err error) {
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
