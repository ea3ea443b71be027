// Package blobs keeps contents under the SHA-256 of their bytes.
//
// A content is written once, never changed, and stored once however often it is
// uploaded. The package does not know what refers to a content, or why.
package blobs

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

var (
	// ErrNotFound means that no content of that name is stored.
	ErrNotFound = errors.New("no such blob")
	// ErrDamaged means that the bytes stored under that name are known not to be
	// the content: they are marked damaged, or have another length.
	ErrDamaged = errors.New("blob is damaged")
	// ErrFull means that the storage has no room left.
	ErrFull = errors.New("storage is full")
	// ErrUnavailable means that the storage cannot be used at present, for a reason that
	// is outside of this machine.
	ErrUnavailable = errors.New("storage is not available")
	// ErrReplaced means that the storage was removed, or replaced by another, since
	// it was opened.
	ErrReplaced = errors.New("the folder was removed or replaced while it was open")
)

// Store is the contract of every backend; package blobstest tests it. abilities.go
// has what some backends can do beyond it. All methods may be called from many
// goroutines at once.
//
// ErrNotFound and ErrDamaged are returned for a stored content only where that is
// known. Any other error, also of reading a Content, means that the storage cannot
// deliver it now, and says nothing about the content: the same call may succeed a
// moment later.
type Store interface {
	// Create opens an empty Spool. ErrFull when there is no room.
	Create(ctx context.Context) (Spool, error)

	// Open opens the content of ref, which is size bytes long. ErrNotFound when it
	// is not stored; ErrDamaged when it is marked damaged (see Marker) or its
	// length is another. The bytes are not hashed while they are read: a caller
	// that doubts them hashes them.
	Open(ctx context.Context, ref Ref, size int64) (Content, error)

	// Stat describes a stored content, damaged or not. ErrNotFound when it is not
	// stored.
	Stat(ctx context.Context, ref Ref) (Info, error)

	// All lists what is stored, in order of Ref, beginning with from; the zero Ref
	// begins at the start. A content that is stored or removed while All runs may
	// or may not be listed.
	All(ctx context.Context, from Ref) iter.Seq2[Info, error]

	// Remove deletes the content of ref unless referenced returns true, and says
	// whether it did. It waits until every hold on ref (see Spool.Keep) is
	// released; while it runs, no new one begins. So a referenced that reads what
	// callers record before they release their hold cannot be wrong. A ref that is
	// not stored is not an error.
	Remove(ctx context.Context, ref Ref, referenced func() (bool, error)) (removed bool, err error)

	// Capacity returns how much room there is, in bytes.
	Capacity(ctx context.Context) (Capacity, error)

	// Probe writes, syncs and removes a few bytes the way a content is stored,
	// under a name that All does not list, to check whether contents can be stored
	// now.
	Probe(ctx context.Context) error

	// Close releases the storage. No method may be called after it.
	Close() error
}

// Spool receives one content whose name is not known before its last byte. It
// belongs to one goroutine.
type Spool interface {
	// Write appends, and hashes the bytes at the same time. ErrFull when there is
	// no room.
	io.Writer
	// ReadAt reads the bytes written before.
	io.ReaderAt
	// Size is the number of bytes written so far.
	Size() int64
	// Ref is the name of the bytes written so far.
	Ref() Ref
	// Keep makes what was written the content of Ref. When it returns without an
	// error, the content, its name and every folder above it are on stable storage,
	// also where the content was stored before; and the content is held: Remove
	// waits until release is called. Call release after recording a reference to
	// the content; further calls do nothing. A content that was missing, short, or
	// marked damaged is intact afterwards. Nothing may be written or read after
	// Keep, and a spool that failed once is never kept.
	Keep(ctx context.Context) (release func(), err error)
	// Close discards what was not kept, and must always be called. After Keep it
	// does nothing.
	Close() error
}

// Content is an open content. It stays readable until it is closed, even when it is
// removed meanwhile.
type Content interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Info describes a stored content.
type Info struct {
	Ref      Ref
	Size     int64     // bytes that are stored
	Modified time.Time // when its bytes were written
	Damaged  bool      // known not to be the content, whatever its size
}

// Capacity is the size of a storage and its free room, in bytes. A backend without
// a limit gives the largest int64 for both.
type Capacity struct {
	Free  int64 // what attachd can still write
	Total int64
	// Files is how many files the file system can hold (inodes), and FreeFiles how
	// many more can be created. Both are 0 where there is no such limit.
	Files, FreeFiles int64
}
