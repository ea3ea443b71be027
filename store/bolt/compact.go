package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	bolterrors "go.etcd.io/bbolt/errors"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

// Compact implements store.Compacter. The committer makes the copy, so nothing
// changes meanwhile. The copy is renamed to the database's name once it is
// complete, equal, and on stable storage; until then only the copy can be lost.
// Readers switch to the new file after the rename, and nothing is written to it
// before the last of them has closed the old one: no reader sees a state from
// before an acknowledged change.
//
// It waits until no Snapshot, Check or Verify reads the old file: changes could not
// be made meanwhile.
func (b *Store) Compact(ctx context.Context) (done store.Compaction, err error) {
	b.replacing.Lock()
	defer b.replacing.Unlock()
	err = b.handIn(ctx, &change{done: make(chan error, 1), instead: func() (err error) {
		done, err = b.committer.compact(ctx)
		return err
	}})
	return done, err
}

// compact replaces the database with a copy.
func (cm *committer) compact(ctx context.Context) (done store.Compaction, err error) {
	file := cm.store.file
	if err := errors.Join(cm.broken, file.InPlace()); err != nil {
		return done, err
	}
	switch {
	case file.ReadOnly():
		return done, bolterrors.ErrDatabaseReadOnly
	case !dbfile.CanReplace:
		return done, store.Refuse(store.ErrConflict, "On this system the file of the database cannot be replaced while it is open.")
	}
	if err := cm.storePosition(); err != nil {
		return done, err
	}
	// The states of the copy are numbered anew.
	if err := cm.store.log.Forget(); err != nil {
		return done, err
	}
	fresh, err := file.Copy(ctx, dbfile.CopyOptions{Step: cm.opts.Compacting, Commit: cm.opts.Commit})
	if err != nil {
		return done, err
	}
	done.Before = fresh.Before
	if err := fresh.Use(cm.opts.Compacting); err != nil {
		cm.broken = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	done.After, err = fresh.CloseOld()
	if err := errors.Join(cm.broken, err); err != nil {
		return done, err
	}
	return done, durable.SyncDir(filepath.Dir(file.Path()))
}

// storePosition commits the position of the log unless the database has it: only what is
// behind it is cleared when the states are numbered anew.
func (cm *committer) storePosition() error {
	_, stored, err := cm.store.logPosition()
	now := cm.store.log.Position()
	if err != nil || now == nil || bytes.Equal(now, stored) {
		return err
	}
	c := newLogCommit()
	c.apply = func(tx *writeTx) error {
		tx.Put(schema.Meta, walKey, now)
		return nil
	}
	cm.perform(c)
	return <-c.done
}

// Size implements store.Compacter. Pages are safe to read only while nothing is written.
func (b *Store) Size(ctx context.Context) (size store.Size, err error) {
	read := func(tx *dbfile.Tx) (err error) {
		size, err = b.file.Size(tx)
		return err
	}
	if b.file.ReadOnly() {
		err = b.viewAll(ctx, read)
	} else {
		err = b.updateAlone(ctx, func(tx *writeTx) error { return read(tx.Tx) })
	}
	return size, err
}
