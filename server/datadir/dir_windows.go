package datadir

import "os"

// ownerOf: files on Windows inherit their owner from the folder's rights.
func ownerOf(string) (func(*os.File) error, error) {
	return func(*os.File) error { return nil }, nil
}

// isReadOnly: what cannot be written says so when it is.
func isReadOnly(string) bool { return false }

func (d *Dir) ownPath(string) error { return nil }

// Private: rights on Windows come from the folder, not from a mode.
func Private(string) error { return nil }

// syncDir: Windows makes a rename durable with the file (NTFS journals it)
// and cannot sync a folder.
func syncDir(string) error { return nil }
