package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"attachd/blobs/durable"
	"attachd/store"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// So many bytes are copied in one transaction, with its syncs: more would be a
// burden on memory, and on whoever syncs another file meanwhile.
const copiedAtOnce = 8 << 20

// Compact implements Store. The committer itself makes the copy, so nothing
// changes meanwhile. The copy takes the name of the database once it is whole,
// holds the same, and is on stable storage; until then all that can be lost is
// the copy. Readers turn to the new file when it has the name, and nothing is
// written to it before the last of them has let go of the old one: nobody
// reads what was true before a change that was acknowledged.
//
// It waits for who reads all of the old one: while they went on, no change
// could be made.
func (b *Store) Compact(ctx context.Context) (done store.Compaction, err error) {
	b.whole.Lock()
	defer b.whole.Unlock()
	err = b.handIn(ctx, &change{done: make(chan error, 1), instead: func() (err error) {
		done, err = b.compact(ctx)
		return err
	}})
	return done, err
}

// compact is Compact in the committer.
func (b *Store) compact(ctx context.Context) (done store.Compaction, err error) {
	old := b.db.Load()
	switch {
	case b.broken != nil:
		return done, b.broken
	case b.InPlace() != nil:
		return done, b.InPlace()
	case old.IsReadOnly():
		return done, bolterrors.ErrDatabaseReadOnly
	case !replacesOpen:
		return done, refuse(store.ErrConflict, "On this system the file of the database cannot be replaced while it is open.")
	}
	if done.Before, err = lengthOf(b.path); err != nil {
		return done, err
	}
	fresh, err := b.makeCopy(ctx, old)
	if err != nil {
		if durable.IsFull(err) {
			err = fmt.Errorf("%w: %w", store.ErrFull, err)
		}
		return done, fmt.Errorf("make the database anew: %w", err)
	}
	b.db.Store(fresh)
	if err := errors.Join(b.step("sync the name"), b.findPlace(), durable.SyncDir(filepath.Dir(b.path))); err != nil {
		// A power cut could bring the old file back, without what is written
		// from now on.
		b.broken = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if err := errors.Join(b.broken, b.locked(old.Close)); err != nil { // waits for its readers
		return done, err
	}
	b.known.forget()
	if done.After, err = lengthOf(b.path); err != nil {
		return done, err
	}
	// The log may have what was deleted, too.
	return done, errors.Join(b.wal.Remove(), durable.SyncDir(filepath.Dir(b.path)))
}

func lengthOf(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// makeCopy makes a database that holds the same as old and has its name. When
// it fails, there is none.
func (b *Store) makeCopy(ctx context.Context, old *handle) (fresh *handle, err error) {
	if err := b.step("create"); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(b.path), filepath.Base(b.path)+newSuffix) // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err := errors.Join(b.fillCopy(ctx, file, old), file.Close()); err != nil {
		return nil, err
	}
	if err := b.step("open"); err != nil {
		return nil, err
	}
	if fresh, err = openFile(file.Name(), time.Second, false); err != nil {
		return nil, err
	}
	err = b.compare(old, fresh)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = b.step("rename")
	}
	if err == nil {
		err = os.Rename(file.Name(), b.path)
	}
	if err != nil {
		return nil, errors.Join(err, fresh.Close())
	}
	return fresh, nil
}

// fillCopy writes what is in old to a new file, and syncs it.
func (b *Store) fillCopy(ctx context.Context, file *os.File, old *handle) error {
	if b.own != nil {
		if err := b.own(file); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
	}
	to, err := openFile(file.Name(), time.Second, false)
	if err != nil {
		return err
	}
	to.NoGrowSync = true // the file grows by what is written, and no more
	err = b.viewIn(old, func(tx *dbTx) error {
		return (&copying{ctx: ctx, to: to.DB, commit: b.commit}).all(tx.Tx)
	})
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	if err := b.step("sync"); err != nil {
		return err
	}
	return file.Sync()
}

// copying fills a database from another, in the order of the keys, so that its
// pages are as full as they can be.
type copying struct {
	ctx    context.Context
	to     *bbolt.DB
	commit func(*bbolt.Tx) error
	tx     *bbolt.Tx
	bytes  int // in tx
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
		return into.Put(key, value) // of the old one's memory, which stays
	})
}

// next commits, and goes on in another transaction.
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

// compare sees that a copy holds what it should, and that both are sound: a
// damaged database is evidence, and is not replaced by what can be read of it.
func (b *Store) compare(old, fresh *handle) error {
	if err := b.step("compare"); err != nil {
		return err
	}
	return b.viewIn(old, func(old *dbTx) error {
		return b.viewIn(fresh, func(fresh *dbTx) error {
			return errors.Join(wantSound(b.path, old.Tx), wantSound(fresh.DB().Path(), fresh.Tx), isWhole(fresh), sameIn(old.Tx, fresh.Tx))
		})
	})
}

// wantSound gives the first faults of the file of a database as an error, unless
// pages are lost and that is all: the copy is made without them.
func wantSound(path string, tx *bbolt.Tx) error {
	faults := new(damage)
	w, err := newPageWalk(context.Background(), path, tx, faults.remember)
	if err == nil {
		err = w.all()
	}
	if err == nil && faults.harms() {
		err = damagedFile(faults.sentences())
	}
	return err
}

// sameIn wants in one what is in the other. What is in the copy came from the
// old one, so nothing else needs to be looked for there.
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

// Size implements Store.
func (b *Store) Size(ctx context.Context) (size store.Size, err error) {
	err = b.viewPages(ctx, func(tx *dbTx) (err error) {
		if size.Bytes, err = lengthOf(b.path); err != nil {
			return err
		}
		pageSize := int64(tx.DB().Info().PageSize)
		pages := int(tx.Size() / pageSize)
		used := int64(0)
		for id := 0; id < pages; {
			page, err := tx.Page(id)
			if err != nil {
				return err
			}
			if page.Type == "free" {
				id++ // the header may be of another time
				continue
			}
			used += int64(1 + page.OverflowCount)
			id += 1 + page.OverflowCount
		}
		size.Free = max(0, size.Bytes-used*pageSize)
		return nil
	})
	return size, err
}
