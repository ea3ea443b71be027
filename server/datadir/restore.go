package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The file that is in a data directory while it is restored from a backup.
const restoring = "RESTORING"

// Restore takes a directory that is missing or empty, or that an earlier
// restore did not finish, to restore a backup into. Until Restored, Open
// refuses it.
func Restore(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := makeAll(path); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	begun, err := isRestoring(path)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if !begun && !ofTheDisk(entry) {
			return nil, fmt.Errorf("%s is not empty: there is %s in it. Restore into a new or empty data directory", path, entry.Name())
		}
	}
	if err := closeToOthers(path); err != nil {
		return nil, err
	}
	d := &Dir{path: path}
	if d.own, err = ownerOf(path); err != nil || begun {
		return d, err
	}
	return d, d.WriteFile(restoring, []byte("A backup is being restored here.\n"))
}

// ofTheDisk says whether what is in a folder belongs to the disk that is
// mounted there: a fresh one has a lost+found, and is empty all the same.
func ofTheDisk(entry fs.DirEntry) bool { return entry.IsDir() && entry.Name() == "lost+found" }

// RestoringFile is the path of a file that is there from Restore to Restored.
func (d *Dir) RestoringFile() string { return d.Join(restoring) }

// Restored makes a data directory of what Restore took.
func (d *Dir) Restored() error {
	return errors.Join(os.Remove(d.Join(restoring)), syncDir(d.path))
}

func isRestoring(path string) (bool, error) {
	_, err := os.Lstat(filepath.Join(path, restoring))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// refuseUnfinished keeps everybody but a restore out of what is not restored
// to its end.
func refuseUnfinished(path string) error {
	begun, err := isRestoring(path)
	if begun {
		return fmt.Errorf("%s is being restored from a backup, or that was cut off. Run `attachd restore` again to finish it, or empty the directory to begin anew", path)
	}
	return err
}
