package disk

import (
	"context"
	"errors"

	"attachd/blobs"
)

// Spools is a folder in which contents are spooled on their way to another storage. It has
// nothing of value.
type Spools struct {
	disk *Store
	dir  string
}

// OpenSpools opens the folder for temporary files in the data directory dir, which must
// exist, makes it where it is missing, and empties it.
func OpenSpools(dir string, opts Options) (*Spools, error) {
	files, err := openFiles(dir, opts)
	if err != nil {
		return nil, err
	}
	d := &Store{files: files}
	if err = d.makeFolder(tempDir); err == nil {
		err = d.emptyTemp(opts.Shared)
	}
	if err != nil {
		return nil, errors.Join(full(err), files.Close())
	}
	return &Spools{d, dir}, nil
}

// Create opens an empty Spool in a temporary file.
func (s *Spools) Create(ctx context.Context) (blobs.Spool, error) { return s.disk.Create(ctx) }

// Capacity is that of the file system of the folder.
func (s *Spools) Capacity(context.Context) (blobs.Capacity, error) { return CapacityOf(s.dir) }

// Probe spools a few bytes.
func (s *Spools) Probe(ctx context.Context) error {
	spooled, err := s.Create(ctx)
	if err != nil {
		return err
	}
	_, err = spooled.Write([]byte("probe"))
	return errors.Join(err, spooled.Close())
}

// Close releases the folder.
func (s *Spools) Close() error { return s.disk.Close() }
