package store

import (
	"context"
	"io"
	"time"

	"github.com/google/uuid"
)

// The interfaces of this file are optional. A backend has those of which its
// kind of storage is capable; whoever assembles the program finds out which, and
// hands them to those who use them.

// Stager keeps small contents in the database for a while, each with the record
// of one attachment: from the commit of that record until it is unstaged, which
// says that the content is on stable storage elsewhere, or until the record is
// deleted. So a record without a staged content has one elsewhere.
type Stager interface {
	// CreateStaged is CreateAttachment for a content that is nowhere else yet:
	// the record and the content come into being in one commit, and are on stable
	// storage when it returns. The content must not change before that.
	CreateStaged(ctx context.Context, a Attachment, content, checksums []byte, autoCreate string) error
	// StagedContent gives the bytes that are staged with some record of this
	// content, or ErrNotFound. They were not hashed.
	StagedContent(ctx context.Context, sha256 [32]byte) ([]byte, error)
	// StagedSizes gives the length in bytes of each staged content. Those whose
	// record cannot be decoded are left out.
	StagedSizes(ctx context.Context) (map[[32]byte]int64, error)
	// StagedAfter lists staged contents, those of the oldest records first,
	// beginning after the id given: at most limit, and no more once maxBytes of
	// them are reached. Those whose record cannot be decoded are passed over:
	// beside the list there is an ErrUnreadable then.
	StagedAfter(ctx context.Context, after uuid.UUID, limit int, maxBytes int64) ([]StagedContent, error)
	// Unstage removes the contents that are staged with these records. The ids of
	// records that are gone come back: nothing may refer to their content any more.
	Unstage(ctx context.Context, ids []uuid.UUID) (gone []uuid.UUID, err error)
	// StagedBytes is the length of all staged contents. It is O(1).
	StagedBytes() int64
	// MayStage reports whether staging is advisable now: false while the backlog
	// is large, and while a Snapshot or Check runs, when what is removed still
	// takes up room. It is advisory, and O(1).
	MayStage() bool
}

// StagedContent is a content that is staged with a record.
type StagedContent struct {
	ID      uuid.UUID // of the attachment
	SHA256  [32]byte  // as recorded
	Content []byte    // not hashed
}

// Snapshotter can copy all of itself as it is at one moment.
type Snapshotter interface {
	// Snapshot writes everything as it is at one moment to w, in a form from
	// which a store of the same kind can be opened again. Changes go on
	// meanwhile and do not wait for it, but the storage may grow by what they
	// replace until it ends; so w should be quick.
	Snapshot(ctx context.Context, w io.Writer) error
}

// Compacter can give back the room that nothing needs any more.
type Compacter interface {
	// Compact rewrites the storage without the room that nothing needs any more,
	// in which what was deleted can still be found. Changes wait for it, and it
	// for a Snapshot or Check that runs; all other reads go on. It needs as much
	// room again as what is kept has, and is ErrFull where there is none. After
	// any error but ErrUnavailable, all is as it was before, and goes on. When
	// ctx ends, it gives up soon.
	Compact(ctx context.Context) (Compaction, error)
	// Size says how much room the storage takes. Changes wait for it, though
	// not for long.
	Size(ctx context.Context) (Size, error)
}

// Compaction is the size of the storage before and after a Compact.
type Compaction struct {
	Before int64 `json:"bytes_before"`
	After  int64 `json:"bytes_after"`
}

// Size is how much room a storage takes.
type Size struct {
	Bytes int64 `json:"bytes"` // all of it
	Free  int64 `json:"free"`  // of that, what a Compact would give back
}

// Verifier can tell damage of its own storage. A database that is a service of
// its own looks after that itself.
type Verifier interface {
	// Verify looks whether what is stored is what was written, as far as the
	// backend can tell by its own storage, and gives a sentence for each thing
	// that is not: less than a Check, and quicker. It calls rest as that does.
	// What it finds is refused to its readers, with ErrDamaged.
	Verify(ctx context.Context, rest func(took time.Duration)) (faults []string, err error)
	// Damage gives what Verify or a reader has found since the storage was
	// opened. It is O(1).
	Damage() (faults []string)
}

// Watched is a storage of files, which others can remove or replace.
type Watched interface {
	// InPlace fails with ErrReplaced when a file is not the one that was opened.
	InPlace() error
}
