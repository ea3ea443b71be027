package bolt

import (
	"fmt"
	"slices"

	"attachd/store/bolt/inplace"
)

// InPlace fails with ErrReplaced when the file of the database was removed or
// replaced, and with ErrOverwritten when it was cut short or overwritten.
func (b *Store) InPlace() error {
	db := b.db.Load()
	length, err := db.written()
	if err == nil {
		err = b.place.Load().Check(length)
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
	if !slices.ContainsFunc(changes, func(c *change) bool { return !c.commitsLog }) {
		return nil
	}
	return b.InPlace()
}

// findPlace notes which file the database is.
func (b *Store) findPlace() error {
	p, err := inplace.Of(b.path)
	if err == nil {
		b.place.Store(&p)
	}
	return err
}
