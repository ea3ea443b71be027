package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"attachd/store"
	"attachd/store/bolt/schema"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/bbolt"
)

// Every value is kept with a checksum behind it, 8 bytes that are bound to its
// bucket and key: a record or an index entry is refused when a bit of it is not
// as it was written. The first half is of bucket and key alone. When it fits, a
// list holds the entry where it belongs, and only this entry is damaged; when
// neither half fits, the key may be another one, and the entry be missing
// elsewhere. It is no protection against somebody who writes to the file.
const checksumLength = 8

// Seal gives a value as it is kept in the database.
func Seal(bucket, key, value []byte) []byte {
	out := make([]byte, len(value), len(value)+checksumLength)
	copy(out, value)
	return binary.BigEndian.AppendUint64(out, checksum(bucket, key, value))
}

func checksum(bucket, key, value []byte) uint64 {
	var room [128]byte // enough for all keys, on the stack
	named := append(append(append(room[:0], bucket...), 0), key...)
	of := xxhash.Sum64(named)
	both := (xxhash.Sum64(value) ^ of) * 0x9e3779b185ebca87
	return of&^0xffffffff | both>>32
}

// unseal gives the value that Seal was given, and whether it is what it was. Of
// a damaged entry, keyHolds says whether at least the key is.
func unseal(bucket, key, sealed []byte) (value []byte, sound, keyHolds bool) {
	at := len(sealed) - checksumLength
	if at < 0 {
		return nil, false, false
	}
	value = sealed[:at:at]
	want, got := binary.BigEndian.Uint64(sealed[at:]), checksum(bucket, key, value)
	return value, want == got, uint32(want>>32) == uint32(got>>32) || uint32(want) == uint32(got)
}

// notAsWritten is the error of what is not as it was written.
type notAsWritten struct{ what string }

func (d *notAsWritten) Error() string { return store.ErrDamaged.Error() + ": " + d.what }

func (d *notAsWritten) Unwrap() error { return store.ErrDamaged }

// dbTx is a transaction. All that reads entries goes through it: what it gives
// was verified, and it panics with an error, which viewIn and the committer
// return, rather than give a damaged entry, or say of something that it is not
// there while keys of its bucket are known to be damaged.
type dbTx struct {
	*bbolt.Tx
	older bool // of a copy of an older database, without checksums
	known *damage
}

// Bucket gives nil for a bucket that is not there.
func (tx *dbTx) Bucket(name []byte) *bbolt.Bucket {
	if err := tx.known.refuses(name); err != nil {
		panic(err)
	}
	return tx.bucket(name)
}

// bucket is Bucket for who looks no further than whether it is there.
func (tx *dbTx) bucket(name []byte) *bbolt.Bucket {
	if tx.older && bytes.Equal(name, schema.Meta) {
		name = schema.OldMeta
	}
	return tx.Tx.Bucket(name)
}

// get gives nil for what is not there, and for a bucket that is not.
func (tx *dbTx) get(bucket, key []byte) []byte {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	sealed := b.Get(key)
	if sealed == nil {
		tx.mustKnowKeys(bucket)
		(&entries{tx: tx, bucket: bucket, all: true, cursor: b.Cursor()}).Seek(key) // looks for a key that led the search astray
		return nil
	}
	value, err := tx.open(bucket, key, sealed)
	if err != nil {
		panic(err)
	}
	return value
}

// open verifies an entry, and remembers it when it is damaged.
func (tx *dbTx) open(bucket, key, sealed []byte) ([]byte, error) {
	if tx.older {
		return sealed, nil
	}
	value, sound, keyHolds := unseal(bucket, key, sealed)
	if sound {
		return value, nil
	}
	return nil, tx.known.add(entryFault(bucket, key, keyHolds))
}

func (tx *dbTx) mustKnowKeys(bucket []byte) {
	if err := tx.known.doubts(bucket); err != nil {
		panic(err)
	}
}

// hasNone says whether a bucket is known to be empty, or is not there.
func (tx *dbTx) hasNone(bucket []byte) bool {
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

// entries is a cursor over a bucket that is there, of which all keys are known.
func (tx *dbTx) entries(bucket []byte) *entries {
	tx.mustKnowKeys(bucket)
	e := tx.entriesLeft(bucket)
	e.all = true
	return e
}

// entriesLeft is entries for who takes what can be read.
func (tx *dbTx) entriesLeft(bucket []byte) *entries {
	return &entries{tx: tx, bucket: bucket, cursor: tx.Bucket(bucket).Cursor()}
}

// entries walks a bucket. A damaged entry has the value nil, and bad says what
// is wrong. Keys that do not ascend are damage that ends the walk: where a page
// leads back to itself, nothing else would.
type entries struct {
	tx     *dbTx
	bucket []byte
	all    bool // a key that may be missing ends it
	cursor *bbolt.Cursor
	bad    error
	sealed []byte // the value with its checksum
	at     []byte // the key
}

func (e *entries) First() (key, value []byte) {
	e.at = nil
	return e.verified(e.cursor.First())
}

func (e *entries) Last() (key, value []byte) {
	e.at = nil
	return e.verified(e.cursor.Last())
}

// Seek verifies the entry before as well: where a damaged key leads the search
// astray, it ends next to that one.
func (e *entries) Seek(to []byte) (key, value []byte) {
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
		e.tx.mustKnowKeys(e.bucket)
	}
	return key, value
}

func (e *entries) Next() (key, value []byte) {
	key, value = e.cursor.Next()
	e.wantOrder(key, e.at)
	return e.verified(key, value)
}

func (e *entries) Prev() (key, value []byte) {
	key, value = e.cursor.Prev()
	e.wantOrder(e.at, key)
	return e.verified(key, value)
}

func (e *entries) wantOrder(after, before []byte) {
	if after != nil && before != nil && bytes.Compare(after, before) <= 0 {
		e.misplaced(after)
	}
}

func (e *entries) misplaced(key []byte) {
	panic(e.tx.known.add(fault{bucket: string(e.bucket), what: fmt.Sprintf("In the bucket %q, the entry %x is not in its place.", e.bucket, key)}))
}

func (e *entries) verified(key, sealed []byte) (_, value []byte) {
	e.at, e.sealed, e.bad = key, sealed, nil
	if key == nil {
		return nil, nil
	}
	value, e.bad = e.tx.open(e.bucket, key, sealed)
	return key, value
}

// must panics at a damaged entry.
func (e *entries) must() {
	if e.bad != nil {
		panic(e.bad)
	}
}

// caught gives the damage that do comes upon as an error, for who goes on with
// something else.
func caught(do func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *notAsWritten:
			err = p
		default:
			panic(p)
		}
	}()
	return do()
}
