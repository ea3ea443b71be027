package datadir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

const (
	// maxBallast is the size of the ballast in bytes, except on a small disk.
	maxBallast = 8 << 20
	// ballastPart limits the ballast to one part in a hundred of the disk.
	ballastPart = 100
)

// Ballast is a file that reserves disk space and is removed when the disk is full: a
// database that cannot be written cannot delete anything either, so the disk would stay
// full.
type Ballast struct {
	dir  *Dir
	mu   sync.Mutex
	held int64 // bytes of the file
}

// Ballast is the ballast of the data directory, at its current size.
func (d *Dir) Ballast() (*Ballast, error) {
	info, err := os.Lstat(d.Join("ballast"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Ballast{dir: d}, nil
	case err != nil:
		return nil, err
	}
	return &Ballast{dir: d, held: info.Size()}, nil
}

// Missing is how many bytes the ballast is too small by, on a disk of total bytes.
func (b *Ballast) Missing(total int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.missing(total)
}

func (b *Ballast) missing(total int64) int64 {
	return max(0, min(maxBallast, total/ballastPart)-b.held)
}

// GiveUp frees the space of the ballast, and reports whether there was any.
func (b *Ballast) GiveUp() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == 0 {
		return false
	}
	b.held = 0 // also when the file was already removed
	return os.Remove(b.dir.Join("ballast")) == nil
}

// Refill grows the ballast to its full size for a disk of total bytes. The caller has
// checked that there is space.
func (b *Ballast) Refill(total int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	missing := b.missing(total)
	if missing == 0 {
		return nil
	}
	if err := b.write(missing); err != nil {
		b.held = 0
		return errors.Join(fmt.Errorf("setting the ballast apart: %w", err), os.Remove(b.dir.Join("ballast")))
	}
	b.held += missing
	return nil
}

// write appends random bytes: a file system that compresses would reserve no space for
// others.
func (b *Ballast) write(bytes int64) (err error) {
	if _, err := os.Lstat(b.dir.Join("ballast")); errors.Is(err, fs.ErrNotExist) {
		// The file is given its owner before it gets its name.
		if err := b.dir.WriteFile("ballast", nil); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(b.dir.Join("ballast"), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyN(f, rand.Reader, bytes); err != nil {
		return err
	}
	return f.Sync()
}
