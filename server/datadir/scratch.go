package datadir

import (
	"errors"
	"os"

	"attachd/blobs/durable"
)

// Scratch makes a file for what is needed for a moment only. done closes and
// removes it; should the process end before, it is gone too, or goes at the
// next start.
func (d *Dir) Scratch() (file *os.File, done func() error, err error) {
	file, err = os.CreateTemp(d.Join("tmp"), "scratch-") // mode 0600
	if err != nil {
		return nil, nil, err
	}
	// A system that cannot remove what is open leaves it to done.
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
