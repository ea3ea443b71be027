package blobs

import (
	"context"
	"errors"
	"iter"
	"time"
)

// The interfaces of this file are optional. A backend implements those of which its
// kind of storage is capable; the code that assembles the program checks which, and
// passes them to the packages that use them.

// Batcher stores many contents at less cost than storing one after the other.
type Batcher interface {
	// KeepAll makes contents the contents of their Refs, which it believes, each as
	// Spool.Keep does: it may sync more than these. It needs no content any more once
	// it asks for the next one. When it fails, some may have been stored, and none is
	// held.
	KeepAll(ctx context.Context, contents iter.Seq2[Ref, []byte]) (release func(), err error)
}

// Versioner detects whether a file was touched since it was read.
type Versioner interface {
	// Version identifies the present state of an open content's file. It is zero
	// where the file system cannot be trusted to change it.
	Version(c Content) Version
	// Kept identifies the state of the file that the last Keep of a Spool has made, whose
	// bytes were hashed on their way there. Any later change gives it another Version,
	// however soon after. It is zero where that is not certain, and where Keep has left a
	// content in place that was stored before.
	Kept(s Spool) Version
}

// Version changes whenever a file is replaced or written to, or anything else than
// a read is done to it. Two equal Versions are of one file that was not touched
// between them, except by a change that followed another at once (see OlderThan),
// or was made through a mapping of the file into memory.
type Version struct {
	File    uint64 // the file's number on the file system (inode)
	Changed int64  // when it was last changed (ctime), in nanoseconds since 1970
}

// OlderThan says whether the last change is at least age ago. Until the file
// system's clock has advanced, another change could have the same time as that one.
func (v Version) OlderThan(age time.Duration) bool {
	return v != Version{} && time.Since(time.Unix(0, v.Changed)) >= age
}

// ErrManyLost means that a content was not marked damaged, since many are missing at once.
var ErrManyLost = errors.New("many contents are missing from the object store at once")

// Marker remembers which contents are damaged.
type Marker interface {
	// MarkDamaged records, across restarts, that the bytes under ref are not its
	// content. The next Keep of the same content replaces them and removes the
	// mark; so does Unmark. The bytes stay, to be examined. read is the Content
	// that Open returned and that turned out to be wrong: where it has been
	// replaced meanwhile, nothing is marked. With a nil read, the content that is
	// stored now is marked. MarkDamaged waits for holds as Remove does. ErrNotFound
	// when nothing is stored under ref; ErrManyLost where it would be one mark too many of
	// contents that every reader finds missing anyway.
	MarkDamaged(ctx context.Context, ref Ref, read Content) error
	// OpenMarked opens what is stored under ref although it is marked damaged, to
	// hash it anew. ErrNotFound when nothing is stored there, ErrDamaged when it is
	// not something that can be read.
	OpenMarked(ctx context.Context, ref Ref) (Content, error)
	// Unmark removes the mark of a content that was repaired by hand, once the
	// bytes are on stable storage. read is the Content that OpenMarked returned,
	// and was hashed to be the content of ref: where it has been replaced
	// meanwhile, the mark stays. Unmark waits for holds as Remove does. ErrNotFound
	// when nothing is stored under ref.
	Unmark(ctx context.Context, ref Ref, read Content) error
	// Damaged returns the number of contents that are marked damaged. It is O(1).
	Damaged() int
	// Marked lists the contents that are marked damaged.
	Marked() []Ref
}

// Linker is a storage that clients can read from themselves.
type Linker interface {
	// Link returns a URL at which anybody can read the content of ref, which is size
	// bytes long, and when it expires. Errors are those of Store.Open.
	Link(ctx context.Context, ref Ref, size int64, how LinkOptions) (url string, expires time.Time, err error)
}

// LinkOptions say how a link answers.
type LinkOptions struct {
	TTL         time.Duration // how long it is valid at most
	Type        string        // Content-Type of the answer
	Disposition string        // Content-Disposition of the answer
}

// Fetched is a Content whose bytes come from elsewhere, and cost there what is asked for.
type Fetched interface {
	Content
	// Want says that what is read next ends before the byte end. To read on from there is
	// right all the same, and takes another request.
	Want(end int64)
}

// Sweeper is a storage that deletes what was removed only later.
type Sweeper interface {
	// Sweep deletes what was removed long enough before now, which a clock that is ahead
	// must not give. What fails is left to the next call.
	Sweep(ctx context.Context, now time.Time) error
	// Unswept returns how many objects may have to be deleted, in O(1).
	Unswept() int64
}

// Comparer is a storage in which others can write and delete, and which can be compared with
// what it should have.
type Comparer interface {
	// Compare lists what is in the storage, and yields each difference, in no order. After
	// an error, which is the last it yields, none of them is certain. It changes nothing.
	Compare(ctx context.Context) iter.Seq2[Difference, error]
	// RemoveStrays deletes objects that Compare has found to be strays, except those that
	// have turned out to be none, and returns which it has deleted.
	RemoveStrays(ctx context.Context, strays []Difference) (removed []Difference, err error)
}

// Difference is something in a storage that is not as it should be.
type Difference struct {
	Kind DifferenceKind
	Name string // of the object
	Ref  Ref    // the content whose object it is, or was; zero when it is of none
	// Size and Modified are the object's. Want is the size that it should have, and Lost
	// the content for Marker.MarkDamaged, where it is missing or has another length.
	Size, Want int64
	Modified   time.Time
	Lost       Content
}

// DifferenceKind is what is not as it should be.
type DifferenceKind int

const (
	Missing     DifferenceKind = iota // the object of a content is not there
	WrongLength                       // the object of a content has another length
	Stray                             // an object was written by a Store, and has no content any more
	Foreign                           // an object was written by somebody else
)

// Watched is a storage of files, which other processes can remove or replace.
type Watched interface {
	// InPlace returns ErrReplaced when a folder is not the one that was opened.
	InPlace() error
}
