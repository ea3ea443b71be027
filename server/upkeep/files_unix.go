//go:build unix

package upkeep

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes a file for this process alone, until it is closed or the
// process ends, however that happens. It says no rather than wait.
func lockFile(file *os.File) (taken bool, err error) {
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// isReadOnly says whether an error comes from a medium that cannot be written.
func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// syncDir puts the names in a folder on stable storage.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
