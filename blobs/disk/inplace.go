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

// places are the folders that every content lies in, as they were opened.
type places map[string]os.FileInfo // by path

func findPlaces(dir string) (places, error) {
	found := places{}
	for _, name := range []string{".", topDir, blobsDir} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		folder, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		_ = os.SameFile(folder, folder) // Windows looks for the number of the folder only now
		found[path] = folder
	}
	return found, nil
}

// InPlace fails with ErrReplaced when a folder was removed or replaced: what is
// put into it now is not there at the next start.
func (d *Store) InPlace() error {
	for path, folder := range d.places {
		now, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !os.SameFile(folder, now) {
			return fmt.Errorf("%s: %w. Uploads are refused until it is back, or until a start with what is there then", path, blobs.ErrReplaced)
		}
	}
	return nil
}

// outcome is what came of putting a content where it belongs.
func (d *Store) outcome(err error) error {
	if replaced := d.InPlace(); replaced != nil {
		return errors.Join(replaced, err)
	}
	return full(err)
}
