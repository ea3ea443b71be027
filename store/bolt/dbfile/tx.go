package dbfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"

	"go.etcd.io/bbolt"

	"attachd/store"
	"attachd/store/bolt/pages"
	"attachd/store/bolt/schema"
)

// DamageError says which entry or page is damaged, and how.
type DamageError struct{ what string }

func (d *DamageError) Error() string { return store.ErrDamaged.Error() + ": " + d.what }

func (d *DamageError) Unwrap() error { return store.ErrDamaged }

// Tx is a transaction. All reads of entries use it: what it returns was verified.
// It panics with a DamageError, which View and WithoutPanic return as an error,
// rather than return a damaged entry, or report an entry as missing while keys of
// its bucket are known to be damaged.
type Tx struct {
	*bbolt.Tx
	older   bool // of a read-only copy of an older database, without checksums
	known   *Damage
	version Version // of a read transaction
}

// Version returns the state that a read transaction reads.
func (tx *Tx) Version() Version { return tx.version }

// Bucket returns nil for a bucket that is missing.
func (tx *Tx) Bucket(name []byte) *bbolt.Bucket {
	if err := tx.known.refuses(name); err != nil {
		panic(err)
	}
	return tx.bucket(name)
}

// bucket is Bucket for callers that only check whether it exists.
func (tx *Tx) bucket(name []byte) *bbolt.Bucket {
	if tx.older && bytes.Equal(name, schema.Meta) {
		name = schema.OldMeta
	}
	return tx.Tx.Bucket(name)
}

// Get returns nil for a key or a bucket that is missing.
func (tx *Tx) Get(bucket, key []byte) []byte {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	sealed := b.Get(key)
	if sealed == nil {
		tx.MustKnowKeys(bucket)
		(&Cursor{tx: tx, bucket: bucket, all: true, cursor: b.Cursor()}).Seek(key) // finds a damaged key that misdirected the search
		return nil
	}
	value, err := tx.open(bucket, key, sealed)
	if err != nil {
		panic(err)
	}
	return value
}

// open verifies an entry, and records it when it is damaged.
func (tx *Tx) open(bucket, key, sealed []byte) ([]byte, error) {
	if tx.older {
		return sealed, nil
	}
	value, sound, keyHolds := pages.Unseal(bucket, key, sealed)
	if sound {
		return value, nil
	}
	return nil, tx.known.add(pages.EntryFault(bucket, key, keyHolds))
}

// MustKnowKeys panics while keys of a bucket are known to be damaged.
func (tx *Tx) MustKnowKeys(bucket []byte) {
	if err := tx.known.doubts(bucket); err != nil {
		panic(err)
	}
}

// HasNone says whether a bucket is known to be empty, or does not exist.
func (tx *Tx) HasNone(bucket []byte) bool {
	if tx.known.doubts(bucket) != nil {
		return false
	}
	b := tx.bucket(bucket)
	if b == nil {
		return true
	}
	first, _ := b.Cursor().First()
	return first == nil
}

// Entries is a cursor over a bucket that exists, and of which no key is damaged.
func (tx *Tx) Entries(bucket []byte) *Cursor {
	tx.MustKnowKeys(bucket)
	e := tx.Readable(bucket)
	e.all = true
	return e
}

// Readable is Entries for callers that want all entries that can be read.
func (tx *Tx) Readable(bucket []byte) *Cursor {
	return &Cursor{tx: tx, bucket: bucket, cursor: tx.Bucket(bucket).Cursor()}
}

// Cursor iterates over a bucket. A damaged entry has the value nil, and Bad has the
// error. Keys that do not ascend are damage that ends the iteration: where a page
// leads back to itself, nothing else would end it.
type Cursor struct {
	tx     *Tx
	bucket []byte
	all    bool // a key that may be missing ends the iteration
	cursor *bbolt.Cursor
	Bad    error
	Sealed []byte // the value with its checksum
	at     []byte // the key
}

// First moves to the first entry.
func (e *Cursor) First() (key, value []byte) {
	e.at = nil
	return e.verified(e.cursor.First())
}

// Last moves to the last entry.
func (e *Cursor) Last() (key, value []byte) {
	e.at = nil
	return e.verified(e.cursor.Last())
}

// Seek moves to a key, or to the next one. It also verifies the entry before: where
// a damaged key misdirects the search, it ends next to that entry.
func (e *Cursor) Seek(to []byte) (key, value []byte) {
	key, sealed := e.cursor.Seek(to)
	if before, was := e.cursor.Prev(); before != nil {
		if e.verified(before, was); bytes.Compare(before, to) >= 0 {
			e.misplaced(before)
		}
		e.cursor.Next()
	} else {
		e.cursor.Seek(to)
	}
	e.at = nil
	key, value = e.verified(key, sealed)
	if e.all {
		e.tx.MustKnowKeys(e.bucket)
	}
	return key, value
}

// Next moves to the next entry.
func (e *Cursor) Next() (key, value []byte) {
	key, value = e.cursor.Next()
	e.wantOrder(key, e.at)
	return e.verified(key, value)
}

// Prev moves to the entry before.
func (e *Cursor) Prev() (key, value []byte) {
	key, value = e.cursor.Prev()
	e.wantOrder(e.at, key)
	return e.verified(key, value)
}

func (e *Cursor) wantOrder(after, before []byte) {
	if after != nil && before != nil && bytes.Compare(after, before) <= 0 {
		e.misplaced(after)
	}
}

func (e *Cursor) misplaced(key []byte) {
	panic(e.tx.known.add(pages.Fault{Bucket: string(e.bucket), What: fmt.Sprintf("In the bucket %q, the entry %x is not in its place.", e.bucket, key)}))
}

func (e *Cursor) verified(key, sealed []byte) (_, value []byte) {
	e.at, e.Sealed, e.Bad = key, sealed, nil
	if key == nil {
		return nil, nil
	}
	value, e.Bad = e.tx.open(e.bucket, key, sealed)
	return key, value
}

// Must panics if the current entry is damaged.
func (e *Cursor) Must() {
	if e.Bad != nil {
		panic(e.Bad)
	}
}

// Caught returns damage that do panics with as an error, so that the caller can go
// on with something else.
func Caught(do func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *DamageError:
			err = p
		default:
			panic(p)
		}
	}()
	return do()
}

// Refused returns the damage for which a bucket cannot be read, or nil.
func (tx *Tx) Refused(bucket []byte) error { return tx.known.refuses(bucket) }

// Count counts the entries of a bucket, also damaged ones.
func (tx *Tx) Count(bucket []byte) (n int64) {
	if tx.known.refuses(bucket) != nil || tx.Bucket(bucket) == nil {
		return 0
	}
	cursor := tx.Readable(bucket)
	for key, _ := cursor.First(); key != nil; key, _ = cursor.Next() {
		n++
	}
	return n
}

// Numbered iterates over a bucket whose keys are numbers, from the first greater
// than after on. A read-only copy of an older database may lack the bucket.
func (tx *Tx) Numbered(bucket []byte, after uint64) func(yield func(seq uint64, value []byte) bool) {
	return func(yield func(uint64, []byte) bool) {
		if tx.Bucket(bucket) == nil || after+1 == 0 {
			return
		}
		cursor := tx.Entries(bucket)
		for key, value := cursor.Seek(schema.Number(after + 1)); len(key) == 8; key, value = cursor.Next() {
			if cursor.Must(); !yield(binary.BigEndian.Uint64(key), value) {
				return
			}
		}
	}
}

// KeyValue is a copy of an entry of a bucket.
type KeyValue struct{ Key, Value []byte }

// FirstEntries copies at most limit entries of a bucket from a key on.
func (tx *Tx) FirstEntries(bucket, from []byte, limit int) (list []KeyValue) {
	cursor := tx.Entries(bucket)
	for key, value := cursor.Seek(from); key != nil && len(list) < limit; key, value = cursor.Next() {
		cursor.Must()
		list = append(list, KeyValue{bytes.Clone(key), bytes.Clone(value)})
	}
	return list
}

// Has says whether a key exists.
func (tx *Tx) Has(bucket, key []byte) bool {
	return tx.Get(bucket, key) != nil
}

// Under iterates over the entries whose keys begin with prefix, from the first
// greater than prefix+after on, and yields the rest of the key and the value. They
// are valid until the transaction ends. The bucket must not be changed meanwhile.
func (tx *Tx) Under(bucket, prefix, after []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		start := schema.Join(prefix, after)
		cursor := tx.Entries(bucket)
		key, value := cursor.Seek(start)
		if len(after) > 0 && bytes.Equal(key, start) {
			key, value = cursor.Next()
		}
		for key != nil && bytes.HasPrefix(key, prefix) {
			if cursor.Must(); !yield(key[len(prefix):], value) {
				return
			}
			key, value = cursor.Next()
		}
		tx.MustKnowKeys(bucket) // the entry behind may be one with a damaged key
	}
}

// HasUnder says whether any key begins with prefix.
func (tx *Tx) HasUnder(bucket, prefix []byte) bool {
	for range tx.Under(bucket, prefix, nil) {
		return true
	}
	return false
}

// RestsUnder copies the rests of all keys that begin with the prefix, so that the
// bucket can be changed.
func (tx *Tx) RestsUnder(bucket, prefix []byte) (rests [][]byte) {
	for rest := range tx.Under(bucket, prefix, nil) {
		rests = append(rests, bytes.Clone(rest))
	}
	return rests
}

// HasBucket says whether a bucket exists.
func (tx *Tx) HasBucket(name []byte) bool { return tx.Bucket(name) != nil }

// Put writes a value with its checksum. It keeps no reference to key or value.
func (tx *Tx) Put(bucket, key, value []byte) error {
	// A copy: bbolt keeps a reference to it, and the caller's memory may be reused
	// before the commit.
	if tx.older {
		value = bytes.Clone(value)
	} else {
		value = pages.Seal(bucket, key, value)
	}
	if err := tx.Bucket(bucket).Put(key, value); err != nil {
		return fmt.Errorf("write to bucket %q: %w", bucket, err)
	}
	return nil
}

// Delete deletes a key.
func (tx *Tx) Delete(bucket, key []byte) error {
	if err := tx.Bucket(bucket).Delete(key); err != nil {
		return fmt.Errorf("delete from bucket %q: %w", bucket, err)
	}
	return nil
}

// SetSequence sets the last number that a bucket assigned.
func (tx *Tx) SetSequence(bucket []byte, seq uint64) error { return tx.Bucket(bucket).SetSequence(seq) }
