package dbfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/pages"
)

// copiedAtOnce is how many bytes are copied in one transaction, with its syncs:
// more would take too much memory, and delay syncs of other files.
const copiedAtOnce = 8 << 20

// Copy is a copy of a database that was renamed to its name, and is to replace it.
type Copy struct {
	file       *File
	old, fresh *handle
	Before     int64 // size of the old file, in bytes
}

// CopyOptions are for tests, which make steps and commits fail.
type CopyOptions struct {
	Step   func(name string) error // called before each step but commits
	Commit func(*bbolt.Tx) error
}

// CanReplace says whether a file can be replaced while it is open.
const CanReplace = replacesOpen

// Copy creates a database with the same data, in as few pages as possible, and
// renames it to the path of f. It is complete and on stable storage before that:
// when Copy fails, it leaves none. Nothing may be changed meanwhile.
func (f *File) Copy(ctx context.Context, opts CopyOptions) (*Copy, error) {
	before, err := lengthOf(f.path)
	if err != nil {
		return nil, err
	}
	c := &Copy{file: f, old: f.current.Load(), Before: before}
	m := &copier{f, opts}
	if c.fresh, err = m.makeCopy(ctx, c.old); err != nil {
		if durable.IsFull(err) {
			err = fmt.Errorf("%w: %w", store.ErrFull, err)
		}
		return nil, fmt.Errorf("make the database anew: %w", err)
	}
	return c, nil
}

// Use makes readers and writers switch to the copy. After an error, a power cut
// could bring the old file back, without later changes.
func (c *Copy) Use(step func(name string) error) error {
	c.file.current.Store(c.fresh)
	return errors.Join(step("sync the name"), c.file.notePlace(), durable.SyncDir(filepath.Dir(c.file.path)))
}

// CloseOld waits for the readers of the old file, and returns the size of the new
// one, in bytes.
func (c *Copy) CloseOld() (after int64, err error) {
	if err := c.file.locked(c.old.Close); err != nil {
		return 0, err
	}
	c.file.known.forget()
	return lengthOf(c.file.path)
}

func lengthOf(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// copier creates a copy.
type copier struct {
	*File
	CopyOptions
}

func (c *copier) makeCopy(ctx context.Context, old *handle) (fresh *handle, err error) {
	if err := c.Step("create"); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(c.path), filepath.Base(c.path)+newSuffix) // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err := errors.Join(c.fillCopy(ctx, file, old), file.Close()); err != nil {
		return nil, err
	}
	if err := c.Step("open"); err != nil {
		return nil, err
	}
	if fresh, err = openHandle(file.Name(), time.Second, false); err != nil {
		return nil, err
	}
	err = c.compare(old, fresh)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = c.Step("rename")
	}
	if err == nil {
		err = os.Rename(file.Name(), c.path)
	}
	if err != nil {
		return nil, errors.Join(err, fresh.Close())
	}
	return fresh, nil
}

// fillCopy writes the data of old to a new file, and syncs it.
func (c *copier) fillCopy(ctx context.Context, file *os.File, old *handle) error {
	if c.opts.Own != nil {
		if err := c.opts.Own(file); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
	}
	to, err := openHandle(file.Name(), time.Second, false)
	if err != nil {
		return err
	}
	to.NoGrowSync = true // the file grows by what is written, and no more
	err = c.viewIn(old, func(tx *Tx) error {
		return (&copying{ctx: ctx, to: to.DB, commit: c.CopyOptions.Commit}).all(tx.Tx)
	})
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	if err := c.Step("sync"); err != nil {
		return err
	}
	return file.Sync()
}

// compare returns an error unless a copy has the same data, and both files are
// intact: a damaged database is evidence, and is not replaced with what can be read
// of it.
func (c *copier) compare(old, fresh *handle) error {
	if err := c.Step("compare"); err != nil {
		return err
	}
	return c.viewIn(old, func(old *Tx) error {
		return c.viewIn(fresh, func(fresh *Tx) error {
			return errors.Join(wantSound(c.path, old.Tx), wantSound(fresh.DB().Path(), fresh.Tx), isWhole(fresh), sameIn(old.Tx, fresh.Tx))
		})
	})
}

// wantSound returns the first faults of a database file as an error, except lost
// pages: the copy is made without them.
func wantSound(path string, tx *bbolt.Tx) error {
	faults := new(Damage)
	_, err := pages.Verify(context.Background(), path, tx, pages.Options{}, faults.remember)
	if err == nil && faults.Harms() {
		err = damagedFile(faults.Sentences())
	}
	return err
}

// sameIn returns an error unless fresh has all that old has. All of fresh was
// copied from old, so the other direction need not be compared.
func sameIn(old, fresh *bbolt.Tx) error {
	return old.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
		copied := fresh.Bucket(name)
		if copied == nil || copied.Sequence() != bucket.Sequence() {
			return fmt.Errorf("the copy of bucket %q is not the same", name)
		}
		entries, others := bucket.Cursor(), copied.Cursor()
		key, value := entries.First()
		otherKey, otherValue := others.First()
		for key != nil || otherKey != nil {
			if !bytes.Equal(key, otherKey) || !bytes.Equal(value, otherValue) {
				return fmt.Errorf("the copy of bucket %q has not the same entries", name)
			}
			key, value = entries.Next()
			otherKey, otherValue = others.Next()
		}
		return nil
	})
}

// copying fills a database from another, in the order of the keys, so that its
// pages are as full as possible.
type copying struct {
	ctx    context.Context
	to     *bbolt.DB
	commit func(*bbolt.Tx) error
	tx     *bbolt.Tx
	bytes  int // written in tx
}

func (c *copying) all(from *bbolt.Tx) (err error) {
	if c.tx, err = c.to.Begin(true); err != nil {
		return err
	}
	defer func() { c.tx.Rollback() }()
	err = from.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
		if err := c.bucket(name, bucket); err != nil {
			return fmt.Errorf("copy bucket %q: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.commit(c.tx)
}

func (c *copying) bucket(name []byte, from *bbolt.Bucket) error {
	into, err := c.tx.CreateBucket(name)
	if err != nil {
		return err
	}
	if err := into.SetSequence(from.Sequence()); err != nil {
		return err
	}
	return from.ForEach(func(key, value []byte) error {
		if c.bytes >= copiedAtOnce {
			if err := c.next(); err != nil {
				return err
			}
			into = c.tx.Bucket(name)
		}
		into.FillPercent = 1
		c.bytes += len(key) + len(value)
		return into.Put(key, value) // it points into the old file's memory, which stays mapped
	})
}

// next commits, and continues in another transaction.
func (c *copying) next() (err error) {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if err := c.commit(c.tx); err != nil {
		return err
	}
	c.bytes = 0
	tx, err := c.to.Begin(true)
	if err != nil {
		return err
	}
	c.tx = tx
	return nil
}

// Size returns the size of the file, and how much of it is free. The transaction
// must be writable, or of a file opened read-only: pages are not safe to read while
// another transaction writes.
func (f *File) Size(tx *Tx) (size store.Size, err error) {
	if size.Bytes, err = lengthOf(f.path); err != nil {
		return size, err
	}
	pageSize := int64(tx.DB().Info().PageSize)
	pages := int(tx.Size() / pageSize)
	used := int64(0)
	for id := 0; id < pages; {
		page, err := tx.Page(id)
		if err != nil {
			return size, err
		}
		if page.Type == "free" {
			id++ // the header may be of an earlier use of the page
			continue
		}
		used += int64(1 + page.OverflowCount)
		id += 1 + page.OverflowCount
	}
	size.Free = max(0, size.Bytes-used*pageSize)
	return size, nil
}
