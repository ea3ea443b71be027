// Package durable has what every package that writes files needs of the operating
// system: putting a new file and its name on stable storage, so that they survive a
// power cut, and distinguishing a full disk, and a read-only one, from other
// failures.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// SyncDir is SyncFolder for the folder at path.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(SyncFolder(dir), dir.Close())
}

// Fill sets the owner of a new file by own, writes it by fill, syncs it, and closes
// it. Its name is for the caller to sync.
func Fill(file *os.File, own func(*os.File) error, fill func(*os.File) error) (err error) {
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := own(file); err != nil {
		return err
	}
	if err := fill(file); err != nil {
		return err
	}
	return file.Sync()
}

// Rename renames a file within its folder, and puts the new name on stable storage.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// Removed returns the error of a removal, and nil where there was nothing to
// remove.
func Removed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// IsFull reports whether err comes from a disk without room.
func IsFull(err error) bool {
	return slices.ContainsFunc(FullErrors, func(full error) bool { return errors.Is(err, full) })
}
