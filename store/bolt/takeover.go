package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/schema"

	"go.etcd.io/bbolt"
)

// A database of an earlier format has no checksums. It gets them when it is first
// opened for writing, in batches, one transaction each, so that little disk space
// and memory is needed. The bucket "takeover" exists meanwhile and holds the last
// entry that was done: after a crash, the next start continues there. The first
// transaction renames the bucket "meta", so that earlier versions refuse the file
// from then on.
const (
	takenAtOnce  = 20_000  // entries in a transaction
	takenAtATime = 8 << 20 // bytes in a transaction, about
)

var takeoverKey = []byte("at") // in schema.Takeover: bucket 0 key, of the entry that was done last

// takeOver gives an older database its checksums. What only its log has comes
// first, since that fits the database as it was.
func (b *Store) takeOver(db *handle, opts Options) error {
	if !b.older && !b.mixed {
		return nil
	}
	if b.known.harms() { // with checksums, what is damaged would pass for what was written
		return damagedFile(b.known.sentences())
	}
	if b.older {
		log, err := b.openLog(db, opts)
		if err != nil {
			return err
		}
		if err := log.Close(); err != nil {
			return err
		}
		if err := b.withRoom(func() error { return b.updateIn(db, replaceMeta) }); err != nil {
			return fmt.Errorf("take over an older database: %w", err)
		}
		b.older, b.mixed = false, true
	}
	for b.mixed {
		err := b.withRoom(func() error {
			return b.updateIn(db, func(tx *dbTx) (err error) {
				b.mixed, err = takeOverMore(tx.Tx)
				return err
			})
		})
		if err != nil {
			return fmt.Errorf("take over an older database: %w", err)
		}
	}
	return nil
}

// withRoom runs do, and runs it again while the disk is full: up to fullTries
// times, with the ballast given up.
func (b *Store) withRoom(do func() error) error {
	err := do()
	for tries := 0; tries < fullTries && durable.IsFull(err); tries++ {
		_ = b.makeRoom != nil && b.makeRoom()
		time.Sleep(fullPause)
		err = do()
	}
	return err
}

func replaceMeta(tx *dbTx) error {
	old := tx.Tx.Bucket(schema.OldMeta)
	fresh, err := tx.CreateBucket(schema.Meta)
	if err != nil {
		return err
	}
	err = old.ForEach(func(key, value []byte) error {
		return fresh.Put(key, Seal(schema.Meta, key, value))
	})
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(schema.Takeover); err != nil {
		return err
	}
	return tx.DeleteBucket(schema.OldMeta)
}

// takeOverMore says whether there is more to do.
func takeOverMore(tx *bbolt.Tx) (more bool, err error) {
	state := tx.Bucket(schema.Takeover)
	last, after, _ := bytes.Cut(bytes.Clone(state.Get(takeoverKey)), []byte{0})
	names := slices.DeleteFunc(slices.Concat(schema.Original, schema.Later), func(name []byte) bool {
		return bytes.Equal(name, schema.Meta)
	})
	left, room := takenAtOnce, takenAtATime
	for _, name := range names[max(0, slices.IndexFunc(names, func(name []byte) bool { return bytes.Equal(name, last) })):] {
		bucket := tx.Bucket(name)
		if bucket == nil {
			continue // preparePending makes it
		}
		if !bytes.Equal(name, last) {
			after = nil
		}
		keys, values, done := someEntries(bucket, after, &left, &room)
		for i, key := range keys {
			if err := bucket.Put(key, Seal(name, key, values[i])); err != nil {
				return false, fmt.Errorf("bucket %q: %w", name, err)
			}
		}
		if !done {
			return true, state.Put(takeoverKey, schema.Join(name, []byte{0}, keys[len(keys)-1]))
		}
	}
	return false, tx.DeleteBucket(schema.Takeover)
}

// someEntries copies entries behind a key, as many as there is room for.
func someEntries(bucket *bbolt.Bucket, after []byte, left, room *int) (keys, values [][]byte, done bool) {
	cursor := bucket.Cursor()
	key, value := cursor.First()
	if after != nil {
		if key, value = cursor.Seek(after); bytes.Equal(key, after) {
			key, value = cursor.Next()
		}
	}
	for ; key != nil; key, value = cursor.Next() {
		keys, values = append(keys, bytes.Clone(key)), append(values, bytes.Clone(value))
		*left--
		*room -= len(key) + len(value)
		if *left <= 0 || *room <= 0 {
			return keys, values, false
		}
	}
	return keys, values, true
}

// coldSize, in bytes, is the largest database that a start verifies as a whole,
// in about a tenth of a second. Of a larger one, the start verifies the pages
// above the leaves, and a goroutine the rest once the server runs.
const coldSize = 64 << 20

// lookOver verifies a database that is being opened. Damage with which bbolt might
// loop or crash is an error; other damage is remembered, and refused when asked
// for.
func (b *Store) lookOver(db *handle) error {
	err := b.viewIn(db, func(tx *dbTx) error {
		w, err := newPageWalk(context.Background(), b.path, tx.Tx, b.known.remember)
		if err != nil {
			return err
		}
		if err := w.metas(tx.ID()); err != nil {
			return errors.Join(err, w.file.Close())
		}
		if b.large = tx.Size() > coldSize; b.large {
			err = w.above()
		} else {
			err = w.all()
		}
		b.older, b.mixed = w.older, w.mixed
		return err
	})
	if err == nil && b.known.refuses(nil) != nil {
		err = damagedFile(b.known.sentences())
	}
	return err
}

// lookFurther looks at the rest of a large database, until ctx ends.
func (b *Store) lookFurther(ctx context.Context) {
	if !b.large {
		return
	}
	_, _ = b.Verify(ctx, func(took time.Duration) { // what cannot be read is remembered as damage
		select {
		case <-time.After(took):
		case <-ctx.Done():
		}
	})
}

// Verify implements Store.
func (b *Store) Verify(ctx context.Context, rest func(took time.Duration)) ([]string, error) {
	b.whole.RLock()
	defer b.whole.RUnlock()
	faults, err := b.verify(ctx, rest)
	return faults.sentences(), err
}

// verify is Verify for who keeps the file from being replaced.
func (b *Store) verify(ctx context.Context, rest func(took time.Duration)) (faults *damage, err error) {
	for range overtakenTries {
		faults = new(damage)
		err = b.look(ctx, func(tx *dbTx) error {
			w, err := newPageWalk(ctx, b.path, tx.Tx, func(f fault) {
				faults.remember(f)
				b.known.remember(f)
			})
			if err != nil {
				return err
			}
			w.rest = rest
			return w.all()
		})
		if !errors.Is(err, errOvertaken) {
			break
		}
	}
	return faults, err
}

// overtakenTries is how often a walk begins again when commits are too quick.
const overtakenTries = 100

// Damage implements Store.
func (b *Store) Damage() []string { return b.known.sentences() }

func damagedFile(faults []string) error { return &store.DamagedError{Faults: faults} }
