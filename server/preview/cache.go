package preview

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"attachd/blobs"
)

// Cache is a cache of thumbnails, in files that are named by the reference of the
// content. All of it may be removed at any time; a damaged thumbnail counts as missing.
type Cache struct {
	dir, tmp string
	own      func(*os.File) error
}

// NewCache returns a cache of thumbnails in dir, which is made when it is needed.
// Incomplete files are written in tmp, on the same disk. own gives a new file to its
// owner.
func NewCache(dir, tmp string, own func(*os.File) error) *Cache {
	return &Cache{dir, tmp, own}
}

// maxCached, in bytes, is more than a thumbnail has; larger files count as damaged.
const maxCached = 1 << 20

// Get returns the thumbnail of a content, exactly as it was put. The error is
// fs.ErrNotExist when there is none, or a damaged one.
func (c *Cache) Get(ref blobs.Ref) (thumbnail []byte, err error) {
	f, err := os.Open(c.path(ref))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(f, maxCached))
	if err != nil {
		return nil, err
	}
	thumbnail = raw[:max(0, len(raw)-sha256.Size)]
	if !bytes.Equal(raw, seal(ref, thumbnail)) {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: fs.ErrNotExist}
	}
	return thumbnail, nil
}

// seal appends a hash to a thumbnail that proves that it is whole, and of this content.
// Viewers of pictures ignore it.
func seal(ref blobs.Ref, thumbnail []byte) []byte {
	hash := sha256.New()
	hash.Write(ref[:])
	hash.Write(thumbnail)
	return hash.Sum(bytes.Clone(thumbnail))
}

// Put stores the thumbnail of a content. It need not survive a power cut, so it is not
// synced.
func (c *Cache) Put(ref blobs.Ref, thumbnail []byte) (err error) {
	f, err := os.CreateTemp(c.tmp, "thumbnail-") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(seal(ref, thumbnail))
	if err := errors.Join(err, c.own(f), f.Close()); err != nil {
		return err
	}
	err = os.Rename(f.Name(), c.path(ref))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := c.makeDir(); err != nil {
		return err
	}
	return os.Rename(f.Name(), c.path(ref))
}

func (c *Cache) makeDir() error {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // another request stored it meanwhile
		}
		return err
	}
	f, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	return errors.Join(c.own(f), f.Close())
}

// Drop removes the thumbnail of a content, if there is one.
func (c *Cache) Drop(ref blobs.Ref) error {
	if err := os.Remove(c.path(ref)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// All iterates over the contents that have thumbnails, in no particular order.
func (c *Cache) All() iter.Seq2[blobs.Ref, error] {
	return func(yield func(blobs.Ref, error) bool) {
		dir, err := os.Open(c.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(blobs.Ref{}, err)
			return
		}
		defer dir.Close() // it was only read
		for {
			names, err := dir.Readdirnames(1000)
			for _, name := range names {
				// A file with another name is not a thumbnail.
				if ref, err := blobs.ParseRef(name); err == nil && !yield(ref, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(blobs.Ref{}, err)
				return
			}
		}
	}
}

func (c *Cache) path(ref blobs.Ref) string { return filepath.Join(c.dir, ref.String()) }
