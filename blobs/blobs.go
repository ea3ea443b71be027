// Package blobs keeps contents under the SHA-256 of their bytes.
//
// A content is written once, never changed, and stored once however often it
// is kept. The package knows nothing of who refers to a content or why.
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
	// ErrDamaged means that what is stored under that name is known not to
	// be the content: marked damaged, or of another length.
	ErrDamaged = errors.New("blob is damaged")
	// ErrFull means that the storage has no room left.
	ErrFull = errors.New("storage is full")
	// ErrReplaced means that the storage was removed, or has another in its
	// place, since it was opened.
	ErrReplaced = errors.New("the folder was removed or replaced while it was open")
)

// Store is the promise that every backend keeps; package blobstest holds
// them to it. abilities.go has what some backends can do beyond it. All methods
// may be called from many goroutines at once.
//
// A content that is there is ErrNotFound or ErrDamaged only where that is known.
// Any other error, also of reading a Content, says that the storage does not
// give it now, and nothing of the content: the same may be right a moment later.
type Store interface {
	// Create opens an empty Spool. ErrFull when there is no room.
	Create(ctx context.Context) (Spool, error)

	// Open gives the content of ref, which is size bytes long. ErrNotFound
	// when it is not there; ErrDamaged when it is marked damaged (see
	// Marker) or its length is another. The bytes are not hashed on the way: a
	// caller that doubts them hashes.
	Open(ctx context.Context, ref Ref, size int64) (Content, error)

	// Stat describes a stored content, damaged or not. ErrNotFound when it is
	// not there.
	Stat(ctx context.Context, ref Ref) (Info, error)

	// All lists what is stored, in order of Ref, beginning with from; the zero
	// Ref begins at the start. A content that comes or goes while All runs may
	// or may not be listed.
	All(ctx context.Context, from Ref) iter.Seq2[Info, error]

	// Remove deletes the content of ref unless referenced says that it is
	// still wanted, and says whether it did. It waits until every hold on ref
	// (see Spool.Keep) is released; while it runs, no new one begins. So a
	// referenced that looks at what callers record before they release
	// cannot be wrong. A ref that is not there is not an error.
	Remove(ctx context.Context, ref Ref, referenced func() (bool, error)) (removed bool, err error)

	// Capacity says how much room there is, in bytes.
	Capacity(ctx context.Context) (Capacity, error)

	// Probe writes, syncs and removes a few bytes the way a content is
	// kept, under a name that All does not list, and so says whether contents
	// can be kept now.
	Probe(ctx context.Context) error

	// Close lets go of the storage. No method may be called after it.
	Close() error
}

// Spool takes in one content whose name is not known before its last byte.
// It belongs to one goroutine.
type Spool interface {
	// Write appends, hashing on the way. ErrFull when there is no room.
	io.Writer
	// ReadAt reads what was written so far.
	io.ReaderAt
	// Size is the number of bytes written so far.
	Size() int64
	// Ref is the name of what was written so far.
	Ref() Ref
	// Keep makes what was written the content of Ref. When it returns
	// without an error, the content, its name and every folder above it are
	// on stable storage, also where the content was there before; and it is
	// held: Remove waits until release is called. Call release after
	// recording that the content is wanted; further calls do nothing. A content that was missing,
	// short, or marked damaged is whole afterwards. Nothing may be written or
	// read after Keep, and a spool that failed once is never kept.
	Keep(ctx context.Context) (release func(), err error)
	// Close throws away what was not kept, and is always called. After Keep
	// it does nothing.
	Close() error
}

// Content is an open content. It stays readable until closed, also when it
// is removed meanwhile.
type Content interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Info describes a stored content.
type Info struct {
	Ref      Ref
	Size     int64     // bytes that are there
	Modified time.Time // when its bytes were written
	Damaged  bool      // known not to be the content, whatever its size
}

// Capacity is the room of a storage in bytes. A backend without a limit gives
// the largest int64 for both.
type Capacity struct {
	Free  int64 // what is left for us
	Total int64
	// Files is how many files the file system can hold (inodes), and FreeFiles
	// how many more. Both are 0 where there is no such limit.
	Files, FreeFiles int64
}
