// Package inplace notes which file a path leads to, and finds out when that is
// another one later, or has become shorter: what is written to a file that was
// removed or replaced is on no disk after a restart.
package inplace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"attachd/store"
)

// File is a path with the file that it led to.
type File struct {
	Path string
	Info os.FileInfo
}

// Of notes the file that a path leads to now.
func Of(path string) (File, error) {
	info, err := os.Stat(path)
	if err == nil {
		_ = os.SameFile(info, info) // Windows looks up the number of the file only now
	}
	return File{path, info}, err
}

// Check fails with store.ErrReplaced when the path does not lead to the file any
// more, or when that has fewer bytes than were written. Where neither can be
// seen, as in a folder that may not be entered, it fails with nothing.
func (f File) Check(written int64) error {
	now, err := os.Stat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
	case err != nil, os.SameFile(f.Info, now) && now.Size() >= written:
		return nil
	}
	return fmt.Errorf("%s: %w", f.Path, store.ErrReplaced)
}
