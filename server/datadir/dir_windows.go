package datadir

import (
	"fmt"
	"io/fs"
	"os"
)

// ownerOf: files on Windows inherit their owner from the folder's rights.
func ownerOf(string) (func(*os.File) error, error) {
	return func(*os.File) error { return nil }, nil
}

// isReadOnly: what cannot be written says so when it is.
func isReadOnly(string) bool { return false }

func (d *Dir) ownPath(string) error { return nil }

// explain: what Windows says of rights is all there is to say.
func explain(err error) error { return err }

func readOnly(path string) error { return fmt.Errorf("%s is on a disk that is read-only", path) }

// bearOpen: no mode stands in the way.
func bearOpen(string, fs.FileInfo) (warning string, err error) { return "", nil }

// MayClose: there is nothing to close.
func (d *Dir) MayClose() bool { return true }

// keepsModes: rights come from the folder.
func keepsModes(string, fs.FileInfo) error { return nil }

// closeToGroup: no mode opens a file there.
func (d *Dir) closeToGroup(string) error { return nil }

func private(path string, _ fs.FileInfo) error { return Private(path) }

// Exposed: a mode does not show it.
func Exposed(string) bool { return false }

// onOneDisk: a folder that leads to another disk is a link, which the blobs
// refuse.
func onOneDisk(string) error { return nil }

// Private: rights on Windows come from the folder, not from a mode.
func Private(string) error { return nil }
