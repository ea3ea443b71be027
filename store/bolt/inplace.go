package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"attachd/store"
)

// place is a path with the file that it led to.
type place struct {
	path string
	file os.FileInfo
}

func placeOf(path string) (place, error) {
	file, err := os.Stat(path)
	if err == nil {
		_ = os.SameFile(file, file) // Windows looks for the number of the file only now
	}
	return place{path, file}, err
}

// holds fails with ErrReplaced when the path does not lead to the file any more,
// or when that has fewer bytes than were written. Where neither can be seen, as
// in a folder that may not be entered, nothing says so.
func (p place) holds(written int64) error {
	now, err := os.Stat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
	case err != nil, os.SameFile(p.file, now) && now.Size() >= written:
		return nil
	}
	return fmt.Errorf("%s: %w", p.path, store.ErrReplaced)
}

// InPlace fails with ErrReplaced when the file of the database was removed or
// replaced, and with ErrOverwritten when it was cut short or overwritten.
func (b *Store) InPlace() error {
	db := b.db.Load()
	length, err := db.written()
	if err == nil {
		err = b.place.Load().holds(length)
	}
	if err == nil {
		return nil
	}
	if err := db.holds(); err != nil {
		return fmt.Errorf("%w. Nothing is read from it or written to it until it is as it was. If it can be put back, copy it over the file, and attachd goes on; if it cannot, restart attachd, which names the snapshot to go back to. Leave the log beside it (attachd.wal) where it is: it has the latest uploads", err)
	}
	return fmt.Errorf("%w. Changes are refused until it is back. This process still has it: if it is gone for good, run `attachd backup DIR` before the server stops, then stop it and restore that", err)
}

// inPlaceFor is InPlace for changes that are to be acknowledged. What is in the
// log was before, and is put where a backup finds it.
func (b *Store) inPlaceFor(changes []*change) error {
	if !slices.ContainsFunc(changes, func(c *change) bool { return !c.settles }) {
		return nil
	}
	return b.InPlace()
}

// findPlace notes which file the database is.
func (b *Store) findPlace() error {
	p, err := placeOf(b.path)
	if err == nil {
		b.place.Store(&p)
	}
	return err
}
