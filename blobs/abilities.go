package blobs

import (
	"context"
	"time"
)

// The interfaces of this file are optional. A backend has those of which its
// kind of storage is capable; whoever assembles the program finds out which, and
// hands them to those who use them.

// Batcher keeps many contents for less than it costs to keep one after the other.
type Batcher interface {
	// KeepAll makes contents the contents of their Refs, each as Spool.Keep
	// does: it may sync more than these. No two of them may be the same. When it
	// fails, some may have been kept, and none is held.
	KeepAll(ctx context.Context, contents [][]byte) (release func(), err error)
}

// Versioner can tell whether a file was touched since it was read.
type Versioner interface {
	// Version identifies the present state of an open content's file. It is zero
	// where the file system cannot be trusted to change it.
	Version(c Content) Version
}

// Version changes whenever a file is replaced, or written to, or anything else
// is done to it than to read it. Two that are equal are of one file that nobody
// has touched between them, but for a change that followed another at once (see
// OlderThan), or was made through a mapping of the file into memory.
type Version struct {
	File    uint64 // its number on the file system
	Changed int64  // when it was last changed (ctime), in nanoseconds since 1970
}

// OlderThan says whether the last change is at least age ago. Until the
// file system's clock has moved on, another change could look like that one.
func (v Version) OlderThan(age time.Duration) bool {
	return v != Version{} && time.Since(time.Unix(0, v.Changed)) >= age
}

// Marker remembers which contents are damaged.
type Marker interface {
	// MarkDamaged remembers, across restarts, that the bytes under ref are
	// not its content. The next Keep of the same content replaces them and
	// takes the mark away; so does Unmark. The bytes stay, to be
	// examined. read is what Open gave and what turned out to be wrong: where
	// it has been replaced meanwhile, nothing is marked. Without read, whatever is
	// there now is marked. It waits for holds as Remove does. ErrNotFound
	// when nothing is there.
	MarkDamaged(ctx context.Context, ref Ref, read Content) error
	// OpenMarked gives what is stored under ref although it is marked damaged,
	// to hash it anew. ErrNotFound when nothing is there,
	// ErrDamaged when it is nothing that can be read.
	OpenMarked(ctx context.Context, ref Ref) (Content, error)
	// Unmark takes the mark away from a content that somebody has put right,
	// once the bytes are on stable storage. read is what OpenMarked gave, and
	// was hashed to be the content: where it has been replaced meanwhile, the
	// mark stays. It waits for holds as Remove does. ErrNotFound when nothing
	// is there.
	Unmark(ctx context.Context, ref Ref, read Content) error
	// Damaged counts the contents that are marked damaged. It is O(1).
	Damaged() int
	// Marked lists them.
	Marked() []Ref
}

// Watched is a storage of files, which others can remove or replace.
type Watched interface {
	// InPlace fails with ErrReplaced when a folder is not the one that was opened.
	InPlace() error
}
