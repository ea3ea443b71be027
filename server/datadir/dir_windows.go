package datadir

import (
	"fmt"
	"io/fs"
	"os"
)

// ownerOf returns a function that does nothing: files on Windows inherit their owner
// from the folder's permissions.
func ownerOf(string) (func(*os.File) error, error) {
	return func(*os.File) error { return nil }, nil
}

// isReadOnly is false: a write that is not possible fails with an error of its own.
func isReadOnly(string) bool { return false }

func (d *Dir) ownPath(string) error { return nil }

// explain returns err unchanged: Windows says nothing more about permissions.
func explain(err error) error { return err }

func readOnly(path string) error { return fmt.Errorf("%s is on a disk that is read-only", path) }

// bearOpen accepts every directory: Windows has no modes.
func bearOpen(string, fs.FileInfo) (warning string, err error) { return "", nil }

// MayClose is true: there is nothing to close.
func (d *Dir) MayClose() bool { return true }

// keepsModes accepts every directory: permissions come from the folder.
func keepsModes(string, fs.FileInfo) error { return nil }

// closeToGroup does nothing: no mode opens a file on Windows.
func (d *Dir) closeToGroup(string) error { return nil }

func private(path string, _ fs.FileInfo) error { return Private(path) }

// Exposed is false: a mode does not show it.
func Exposed(string) bool { return false }

// onOneDisk accepts every directory: a folder on another disk is a link, which the blob
// store refuses.
func onOneDisk(string) error { return nil }

// Private accepts every file: permissions on Windows come from the folder, not from a
// mode.
func Private(string) error { return nil }
