// Package durable has what every room that writes files needs of the operating
// system: to sync a folder, so that a new name in it survives a power cut, and
// to tell a full disk and one that takes no changes from other failures.
package durable

import (
	"errors"
	"os"
	"slices"
)

// SyncDir syncs the folder at path: SyncFolder for who has not opened it.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(SyncFolder(dir), dir.Close())
}

// IsFull reports whether err comes from a disk without room.
func IsFull(err error) bool {
	return slices.ContainsFunc(FullErrors, func(full error) bool { return errors.Is(err, full) })
}
