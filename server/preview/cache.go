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

// Cache keeps thumbnails in files that are named like the contents they are
// of. Nothing depends on it: all of it may be removed at any time, and what is
// damaged counts as not there.
type Cache struct {
	dir, tmp string
	own      func(*os.File) error
}

// NewCache keeps thumbnails in dir, which is made when it is needed, and what
// is not whole yet in tmp on the same disk. own hands a new file to its owner.
func NewCache(dir, tmp string, own func(*os.File) error) *Cache {
	return &Cache{dir, tmp, own}
}

// maxCached is more bytes than a thumbnail has.
const maxCached = 1 << 20

// Get gives the thumbnail of a content, exactly as it was put. fs.ErrNotExist
// when there is none, or a damaged one.
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

// seal puts a hash behind a thumbnail that shows whether it is whole, and of
// this content. Who looks at the file sees the picture all the same.
func seal(ref blobs.Ref, thumbnail []byte) []byte {
	hash := sha256.New()
	hash.Write(ref[:])
	hash.Write(thumbnail)
	return hash.Sum(bytes.Clone(thumbnail))
}

// Put keeps the thumbnail of a content. It need not survive a power cut, so
// nothing waits for the disk.
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
			return nil // made by another this moment
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

// All are the contents that have thumbnails, in no order.
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
				// What has another name is not ours.
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
