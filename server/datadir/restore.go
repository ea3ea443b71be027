package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"attachd/blobs/durable"
)

// The file that is in a data directory while it is restored from a backup.
const (
	restoring     = "RESTORING"
	restoringNote = "A backup is being restored here.\n"
)

// Restore takes a directory that is missing or empty, that `attachd init` has
// prepared, or that an earlier restore did not finish, to restore a backup into. Until Restored, Open
// refuses it.
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
		isFormat := found.ours && entry.Name() == FormatFile // `attachd init` makes no more
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

// RestoringFile is the path of a file that is there from Restore to Restored.
func (d *Dir) RestoringFile() string { return d.Join(restoring) }

// Restored makes a data directory of what Restore took.
func (d *Dir) Restored() error {
	return errors.Join(os.Remove(d.Join(restoring)), durable.SyncDir(d.path))
}

// isRestoring reports whether there is a RESTORING that attachd wrote.
func isRestoring(path string) (bool, error) {
	raw, err := readNote(filepath.Join(path, restoring))
	return string(raw) == restoringNote, err
}

// IsRestoring says whether a restore was begun and is not finished.
func (d *Dir) IsRestoring() bool {
	begun, err := isRestoring(d.path)
	return begun && err == nil
}

// readNote reads a short file; nothing where there is none, or anything else.
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

// maxNote is more bytes than FORMAT and RESTORING have.
const maxNote = 256

// refuseUnfinished refuses a directory that is not wholly restored, except to a
// restore.
func refuseUnfinished(path string) error {
	begun, err := isRestoring(path)
	if begun {
		return fmt.Errorf("%s is being restored from a backup, or that was cut off. Run `attachd restore` again to finish it, or empty the folder to begin anew", path)
	}
	return err
}
