package datadir

import (
	"errors"
	"os"

	"attachd/blobs/durable"
)

// Scratch makes a temporary file. done closes and removes it; if the process ends
// before, the file is already removed or is removed at the next start.
func (d *Dir) Scratch() (file *os.File, done func() error, err error) {
	file, err = os.CreateTemp(d.Join("tmp"), "scratch-") // mode 0600
	if err != nil {
		return nil, nil, err
	}
	// Systems that cannot remove an open file leave that to done.
	unlinked := os.Remove(file.Name()) == nil
	done = func() error {
		err := file.Close()
		if unlinked {
			return err
		}
		return errors.Join(err, durable.Removed(os.Remove(file.Name())))
	}
	return file, done, nil
}
