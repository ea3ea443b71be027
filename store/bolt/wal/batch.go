package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// Batch is the encoded writes of one record, in order: 'p' bucket key value, 'd'
// bucket key, or 's' bucket number (its sequence). Names, keys and values are
// preceded by their lengths as varints.
type Batch []byte

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

func appendBytes(to, b []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(b))), b...)
}

var errBatch = errors.New("a record of the log that cannot be read")

// replay makes the writes.
func (b Batch) replay(to Target) error {
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
