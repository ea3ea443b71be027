package dbfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"attachd/blobs/durable"
	"attachd/store/bolt/schema"
)

// newSuffix follows the database's name in the name under which it is created.
const newSuffix = ".new"

// createOnce creates the database where there is none. A crash at any point leaves
// none or a complete one; of several concurrent processes, one creates it and the
// others find it.
func createOnce(path string, own func(*os.File) error) error {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		failed := makeNew(path, own)
		if _, err := os.Lstat(path); err != nil {
			return errors.Join(failed, err)
		}
	} else if err != nil {
		return err
	}
	// Also where another process created or replaced it, and may not have synced
	// the directory yet.
	return durable.SyncDir(filepath.Dir(path))
}

func makeNew(path string, own func(*os.File) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+newSuffix) // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if err := errors.Join(fillNew(file, own), file.Close()); err != nil {
		return err
	}
	return moveNew(file.Name(), path)
}

// removeLeftovers removes the files that a crash left while the database was
// created or copied. The caller holds the database's lock; a process that is
// creating one at the moment will find that it exists.
func removeLeftovers(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), filepath.Base(path)+newSuffix) {
			continue
		}
		err := os.Remove(filepath.Join(filepath.Dir(path), entry.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	return nil
}

func fillNew(file *os.File, own func(*os.File) error) error {
	if own != nil {
		if err := own(file); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
	}
	db, err := openHandle(file.Name(), time.Second, false)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range schema.Original {
			if _, err := tx.CreateBucket(name); err != nil {
				return fmt.Errorf("make bucket %q: %w", name, err)
			}
		}
		return makeLaterBuckets(&Tx{Tx: tx, known: new(Damage)})
	})
	return errors.Join(err, db.Close(), file.Sync())
}

// moveNew renames a new database to its name. A link, unlike a rename, never
// replaces a database that another process has created meanwhile; where the file
// system has no links, a rename is used.
func moveNew(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, os.ErrExist) {
		return nil
	}
	return os.Rename(from, to)
}
