package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"attachd/blobs"
)

// places are the folders above the contents, as they were opened.
type places map[string]os.FileInfo // by path

func findPlaces(dir string) (places, error) {
	found := places{}
	for _, name := range []string{".", topDir, blobsDir} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		folder, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		_ = os.SameFile(folder, folder) // on Windows, SameFile reads the folder's number only when it is called
		found[path] = folder
	}
	return found, nil
}

// InPlace returns ErrReplaced when a folder was removed or replaced: what is
// written to it now would be missing after the next start.
func (d *Store) InPlace() error {
	for path, folder := range d.places {
		now, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !os.SameFile(folder, now) {
			return fmt.Errorf("%s: %w. Uploads are refused until it is back, or until a start with what is there then", path, blobs.ErrReplaced)
		}
	}
	return nil
}

// outcome returns the error of writing to the folders: ErrReplaced where they, or the one
// for temporary files, were replaced, ErrFull where the disk is full.
func (d *Store) outcome(err error) error {
	if replaced := d.InPlace(); replaced != nil {
		return errors.Join(replaced, err)
	}
	if err != nil {
		if now, gone := d.files.Lstat(tempDir); errors.Is(gone, fs.ErrNotExist) || gone == nil && !now.IsDir() {
			return fmt.Errorf("%s: %w. Nothing can be stored in files until it is back, or until a start: %w", tempDir, blobs.ErrReplaced, err)
		}
	}
	return full(err)
}
