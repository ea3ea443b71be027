// Package inplace records which file a path leads to, and detects when that is
// another one later, or has become shorter: what is written to a file that was
// removed or replaced is lost at a restart.
package inplace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"attachd/store"
)

// File is a path with the identity of the file that it led to.
type File struct {
	Path string
	Info os.FileInfo
}

// Of records the file that a path leads to now.
func Of(path string) (File, error) {
	info, err := os.Stat(path)
	if err == nil {
		_ = os.SameFile(info, info) // on Windows, SameFile reads the file's number only when it is called
	}
	return File{path, info}, err
}

// Check returns store.ErrReplaced when the path does not lead to the file any more,
// or when the file has fewer bytes than were written. Where neither can be checked,
// as in a folder that may not be entered, it returns nil.
func (f File) Check(written int64) error {
	now, err := os.Stat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
	case err != nil, os.SameFile(f.Info, now) && now.Size() >= written:
		return nil
	}
	return fmt.Errorf("%s: %w", f.Path, store.ErrReplaced)
}
