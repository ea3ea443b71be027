package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// Batch is the encoded writes of one record, in order: 'p' bucket key value, 'd'
// bucket key, 's' bucket number (its sequence), or 'c' bucket key content. Names,
// keys, values and contents are preceded by their lengths as varints. The contents
// follow all other writes. With 'k' instead of 'c', a content is only kept, and nothing
// is written: the database names it once the transaction that came with it is committed.
type Batch []byte

// Content is the bytes of a content, which a record takes and the database does not:
// there, the key of the bucket has their Place as its value.
type Content struct{ Bucket, Key, Bytes []byte }

// Target is a transaction that writes are replayed in. Writes to a bucket that it
// lacks are refused before they are made.
type Target interface {
	HasBucket(name []byte) bool
	Put(bucket, key, value []byte) error
	Delete(bucket, key []byte) error
	SetSequence(bucket []byte, seq uint64) error
}

// Put appends the write of a value.
func (b Batch) Put(bucket, key, value []byte) Batch {
	return appendBytes(appendBytes(appendBytes(append(b, 'p'), bucket), key), value)
}

// Delete appends the deletion of a key.
func (b Batch) Delete(bucket, key []byte) Batch {
	return appendBytes(appendBytes(append(b, 'd'), bucket), key)
}

// SetSequence appends the last number that a bucket assigned.
func (b Batch) SetSequence(bucket []byte, seq uint64) Batch {
	return binary.AppendUvarint(appendBytes(append(b, 's'), bucket), seq)
}

// head appends what precedes the bytes of a content, of which a replay writes the place
// if named is set.
func (c Content) head(b Batch, named bool) Batch {
	op := byte('k')
	if named {
		op = 'c'
	}
	return binary.AppendUvarint(appendBytes(appendBytes(append(b, op), c.Bucket), c.Key), uint64(len(c.Bytes)))
}

func appendBytes(to, b []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(b))), b...)
}

var errBatch = errors.New("a record of the log that cannot be read")

// replay makes the writes. at is the place of the batch, from which those of its
// contents follow.
func (b Batch) replay(to Target, at Place) error {
	in := bytes.NewReader(b)
	next := func() []byte {
		n, err := binary.ReadUvarint(in)
		if err != nil || n > uint64(in.Len()) {
			return nil
		}
		at := len(b) - in.Len()
		_, _ = in.Seek(int64(n), io.SeekCurrent) // never fails
		return b[at : at+int(n)]
	}
	for in.Len() > 0 {
		op, _ := in.ReadByte() // never fails: in is not empty
		bucket := next()
		if !to.HasBucket(bucket) {
			return errBatch
		}
		var err error
		switch op {
		case 'p':
			key := next()
			err = to.Put(bucket, key, next())
		case 'c':
			key := next()
			content := next()
			err = to.Put(bucket, key, at.inside(len(b)-in.Len()-len(content), len(content)).Encode())
		case 'k':
			next()
			next()
		case 'd':
			err = to.Delete(bucket, next())
		case 's':
			var seq uint64
			if seq, err = binary.ReadUvarint(in); err != nil {
				return errBatch
			}
			err = to.SetSequence(bucket, seq)
		default:
			return errBatch
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Record is a record as it is kept in memory until the database has it: a Target
// that collects the writes, with the places of contents instead of their bytes.
type record struct{ Batch }

func (r *record) HasBucket([]byte) bool { return true }

func (r *record) Put(bucket, key, value []byte) error {
	r.Batch = r.Batch.Put(bucket, key, value)
	return nil
}

func (r *record) Delete(bucket, key []byte) error {
	r.Batch = r.Batch.Delete(bucket, key)
	return nil
}

func (r *record) SetSequence(bucket []byte, seq uint64) error {
	r.Batch = r.Batch.SetSequence(bucket, seq)
	return nil
}
