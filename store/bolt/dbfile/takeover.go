package dbfile

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"attachd/blobs/durable"
	"attachd/store/bolt/pages"
	"attachd/store/bolt/schema"
)

// A commit that fails because the disk is full is retried FullTries times,
// FullPause apart: a page that was freed can be reused once no reader needs it any
// more.
const (
	FullTries = 5
	FullPause = 10 * time.Millisecond
)

// A database of an earlier format has no checksums. It is taken over when it is
// first opened for writing: checksums are added in batches, one transaction each,
// so that little disk space and memory is needed. The bucket "takeover" exists
// meanwhile and holds the last entry that was done: after a crash, the next start
// continues there. The first transaction renames the bucket "meta", so that earlier
// versions refuse the file from then on.
const (
	takenAtOnce  = 20_000  // entries in a transaction
	takenAtATime = 8 << 20 // bytes in a transaction, about
)

var takeoverKey = []byte("at") // in schema.Takeover; its value is the bucket, 0, and the key of the last entry that was done

// TakeOver adds checksums to an older database. First it calls replay for the
// changes that only its write-ahead log has, since they fit the database as it was.
func (f *File) TakeOver(replay func() error) error {
	if !f.older && !f.mixed {
		return nil
	}
	if f.known.Harms() { // with checksums, damaged entries would pass for intact ones
		return damagedFile(f.known.Sentences())
	}
	if f.older {
		if err := replay(); err != nil {
			return err
		}
		if err := f.WithRoom(func() error { return f.Update(replaceMeta) }); err != nil {
			return fmt.Errorf("take over an older database: %w", err)
		}
		f.older, f.mixed = false, true
	}
	for f.mixed {
		err := f.WithRoom(func() error {
			return f.Update(func(tx *Tx) (err error) {
				f.mixed, err = takeOverMore(tx.Tx)
				return err
			})
		})
		if err != nil {
			return fmt.Errorf("take over an older database: %w", err)
		}
	}
	return nil
}

// WithRoom runs do, and retries it while the disk is full: up to FullTries times,
// FullPause apart, after giving up the ballast.
func (f *File) WithRoom(do func() error) error {
	err := do()
	for tries := 0; tries < FullTries && durable.IsFull(err); tries++ {
		_ = f.opts.MakeRoom != nil && f.opts.MakeRoom()
		time.Sleep(FullPause)
		err = do()
	}
	return err
}

func replaceMeta(tx *Tx) error {
	old := tx.Tx.Bucket(schema.OldMeta)
	fresh, err := tx.CreateBucket(schema.Meta)
	if err != nil {
		return err
	}
	err = old.ForEach(func(key, value []byte) error {
		return fresh.Put(key, pages.Seal(schema.Meta, key, value))
	})
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(schema.Takeover); err != nil {
		return err
	}
	return tx.DeleteBucket(schema.OldMeta)
}

// takeOverMore takes over a batch, and says whether there is more to do.
func takeOverMore(tx *bbolt.Tx) (more bool, err error) {
	state := tx.Bucket(schema.Takeover)
	last, after, _ := bytes.Cut(bytes.Clone(state.Get(takeoverKey)), []byte{0})
	names := slices.DeleteFunc(slices.Concat(schema.Original[:3], [][]byte{schema.Pending}, schema.Original[3:], schema.Later), func(name []byte) bool {
		return bytes.Equal(name, schema.Meta)
	})
	left, room := takenAtOnce, takenAtATime
	for _, name := range names[max(0, slices.IndexFunc(names, func(name []byte) bool { return bytes.Equal(name, last) })):] {
		bucket := tx.Bucket(name)
		if bucket == nil {
			continue // it is created later
		}
		if !bytes.Equal(name, last) {
			after = nil
		}
		keys, values, done := someEntries(bucket, after, &left, &room)
		for i, key := range keys {
			if err := bucket.Put(key, pages.Seal(name, key, values[i])); err != nil {
				return false, fmt.Errorf("bucket %q: %w", name, err)
			}
		}
		if !done {
			return true, state.Put(takeoverKey, schema.Join(name, []byte{0}, keys[len(keys)-1]))
		}
	}
	return false, tx.DeleteBucket(schema.Takeover)
}

// someEntries copies the entries after a key, as many as fit into a batch.
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
