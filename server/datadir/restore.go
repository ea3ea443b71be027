package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"attachd/blobs/durable"
)

// restoring is the name of the file that marks a data directory while a backup is
// restored into it, and restoringNote its content.
const (
	restoring     = "RESTORING"
	restoringNote = "A backup is being restored here.\n"
)

// Restore prepares a directory for a restore: one that is missing or empty, that
// `attachd init` has prepared, or that an earlier restore did not finish. Until
// Restored, Open refuses it.
func Restore(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	found, err := examine(path)
	if err != nil {
		return nil, err
	}
	if err := makeAll(path); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", explain(err))
	}
	begun, err := isRestoring(path)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		isFormat := found.ours && entry.Name() == FormatFile // `attachd init` makes nothing else
		if !begun && !isFormat && !belongs(path, entry, false) {
			return nil, fmt.Errorf("%s is not empty: there is %s in it. Restore into a new or empty data directory", path, entry.Name())
		}
	}
	d := &Dir{path: path, fresh: true}
	if err := errors.Join(onOneDisk(path), d.closeToOthers()); err != nil {
		return nil, err
	}
	if d.own, err = ownerOf(path); err != nil || begun {
		return d, err
	}
	return d, d.WriteFile(restoring, []byte(restoringNote))
}

// RestoringFile is the path of a file that exists from Restore to Restored.
func (d *Dir) RestoringFile() string { return d.Join(restoring) }

// Restored ends a restore: Open accepts the directory from now on.
func (d *Dir) Restored() error {
	return errors.Join(os.Remove(d.Join(restoring)), durable.SyncDir(d.path))
}

// isRestoring reports whether path contains a file RESTORING that attachd wrote.
func isRestoring(path string) (bool, error) {
	raw, err := readNote(filepath.Join(path, restoring))
	return string(raw) == restoringNote, err
}

// IsRestoring reports whether a restore was begun and is not finished.
func (d *Dir) IsRestoring() bool {
	begun, err := isRestoring(d.path)
	return begun && err == nil
}

// readNote reads a small file; it returns nothing if the file is missing, larger than
// maxNote, or no regular file.
func readNote(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxNote {
		return nil, err
	}
	return os.ReadFile(path)
}

// maxNote, in bytes, is more than FORMAT and RESTORING have.
const maxNote = 256

// refuseUnfinished returns an error for a directory whose restore is not finished. Only
// a restore may use it.
func refuseUnfinished(path string) error {
	begun, err := isRestoring(path)
	if begun {
		return fmt.Errorf("%s is being restored from a backup, or that was cut off. Run `attachd restore` again to finish it, or empty the folder to begin anew", path)
	}
	return err
}
