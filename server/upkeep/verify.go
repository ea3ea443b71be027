package upkeep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"attachd/blobs"
	"attachd/store"
)

// piece is how many bytes of a content are read at once.
const piece = 256 << 10

// What is wrong with a content, in a sentence.
const (
	Missing = "The content is missing."
	Damaged = "The content is damaged: its bytes are not those that were uploaded."
)

// WrongLength returns the sentence about a content of the wrong length.
func WrongLength(has, should int64) string {
	return fmt.Sprintf("The content has %d bytes, not %d.", has, should)
}

// Loss is why a content is damaged or missing, or could not be read.
type Loss struct {
	Why    string // a sentence
	Marked bool
	Unread bool // the storage could not read the bytes, which may be right
	Many   bool // it is missing, and so are many others, of which the log speaks once
}

// VerifyContent hashes a content and marks it if it was read in full and has the wrong
// hash, or if an object store says that it has no such object, or one of another length.
// What cannot be read is not marked: a cable or a path to a disk may fail for a
// while, and the bytes be intact. A marked content that is whole loses its mark: it was
// repaired, perhaps from a backup, or marked wrongly. Without a marker, nothing is
// marked.
//
// The content is read through watch, in pieces of at most piece bytes. For a whole one
// it returns checksums, if it needs any, and no loss; the only error is that of ctx.
func VerifyContent(ctx context.Context, contents blobs.Store, marker blobs.Marker, info blobs.Info, watch func(io.Reader) io.Reader) (sums blobs.Checksums, lost *Loss, err error) {
	if info.Damaged {
		return verifyMarked(ctx, marker, info, watch)
	}
	content, err := contents.Open(ctx, info.Ref, info.Size)
	switch {
	case errors.Is(err, blobs.ErrNotFound), errors.Is(err, blobs.ErrDamaged):
		return nil, nil, nil // it was removed, or found to be damaged, meanwhile
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case err != nil:
		return nil, unread("The content cannot be opened: %v.", err), nil
	}
	defer content.Close() // only read
	ref, sums, err := hashed(watch(content), info.Size)
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.Is(err, blobs.ErrNotFound): // an object store that has lost it
		lost, err := mark(ctx, contents, marker, info.Ref, content, Missing)
		return nil, lost, err
	case err != nil && !errors.Is(err, blobs.ErrDamaged):
		return nil, unread("The content cannot be read: %v.", err), nil
	case err != nil || ref != info.Ref:
		lost, err := mark(ctx, contents, marker, info.Ref, content, Damaged)
		return nil, lost, err
	}
	return sums, nil, nil
}

func unread(format string, err error) *Loss {
	return &Loss{Why: fmt.Sprintf(format, err), Unread: true}
}

// verifyMarked is VerifyContent for a content that is marked damaged.
func verifyMarked(ctx context.Context, marker blobs.Marker, info blobs.Info, watch func(io.Reader) io.Reader) (sums blobs.Checksums, lost *Loss, err error) {
	if marker == nil {
		return nil, &Loss{Why: "The content is damaged.", Marked: true}, nil
	}
	content, err := marker.OpenMarked(ctx, info.Ref)
	if errors.Is(err, blobs.ErrNotFound) {
		return nil, nil, nil // it was removed meanwhile
	}
	var ref blobs.Ref
	if err == nil {
		defer content.Close() // only read
		ref, sums, err = hashed(watch(content), info.Size)
	}
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.Is(err, blobs.ErrNotFound):
		return nil, &Loss{Why: Missing, Marked: true}, nil
	case err != nil && !errors.Is(err, blobs.ErrDamaged):
		return nil, &Loss{Why: fmt.Sprintf("The content is marked damaged, and cannot be read: %v.", err), Marked: true, Unread: true}, nil
	case err != nil || ref != info.Ref:
		return nil, &Loss{Why: "The content is marked damaged.", Marked: true}, nil
	}
	err = marker.Unmark(ctx, info.Ref, content)
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case err != nil && !errors.Is(err, blobs.ErrNotFound):
		return nil, &Loss{Why: fmt.Sprintf("The content is whole again, but its mark could not be taken away: %v.", err), Marked: true}, nil
	}
	return sums, nil, nil
}

// hashed reads and hashes a content to its end, one piece at a time.
func hashed(content io.Reader, size int64) (blobs.Ref, blobs.Checksums, error) {
	return blobs.Hash(content, size, make([]byte, max(1, min(piece, size))))
}

// mark marks a content as damaged, unless it was repaired while it was read; why is the
// sentence about it. That the disk has no room for a mark must not keep the damage from
// being reported.
func mark(ctx context.Context, contents blobs.Store, marker blobs.Marker, ref blobs.Ref, read blobs.Content, why string) (*Loss, error) {
	if marker == nil {
		return &Loss{Why: why}, nil
	}
	err := marker.MarkDamaged(ctx, ref, read)
	if err == nil {
		now, gone := contents.Stat(ctx, ref)
		if gone == nil && !now.Damaged {
			return nil, nil
		}
	}
	switch {
	case err == nil:
		return &Loss{Why: why, Marked: true}, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, blobs.ErrNotFound):
		return nil, nil
	case errors.Is(err, blobs.ErrManyLost):
		return &Loss{Why: why, Many: true}, nil
	}
	return &Loss{Why: fmt.Sprintf("%s It could not be marked: %v.", why, err)}, nil
}

// ChecksumRecords is the methods of a store that keep the checksums of contents.
type ChecksumRecords interface {
	Checksums(ctx context.Context, sha256 [32]byte) ([]byte, error)
	AddChecksums(ctx context.Context, checksums map[[32]byte][]byte) error
}

// checksums is a batch of checksums for contents that lack theirs, because they are
// from an earlier version. They are right, since the content was hashed: differing ones
// in the store are wrong.
type checksums struct {
	records ChecksumRecords
	log     *slog.Logger // may be nil
	waiting map[[32]byte][]byte
	bytes   int
}

// checksumBytes and checksumContents limit a batch: the bytes of its checksums, and the
// contents that they belong to.
const (
	checksumBytes    = 1 << 20
	checksumContents = 256
)

// add adds the checksums of a content that was found whole. If they cannot be kept,
// they are added again when the content is next read.
func (c *checksums) add(ctx context.Context, ref blobs.Ref, sums blobs.Checksums) {
	if len(sums) == 0 {
		return
	}
	known, err := c.records.Checksums(ctx, ref)
	if err == nil && bytes.Equal(known, sums) {
		return
	}
	if !errors.Is(err, store.ErrNotFound) && !blobs.Checksums(known).Lacks(sums) && ctx.Err() == nil {
		c.warn("the checksums of a content were wrong, and are kept anew", "blob", ref.String(), "error", err)
	}
	if c.waiting == nil {
		c.waiting = map[[32]byte][]byte{}
	}
	c.waiting[ref] = sums
	c.bytes += len(sums)
	if len(c.waiting) >= checksumContents || c.bytes >= checksumBytes {
		c.keep(ctx)
	}
}

// keep writes the batch in one commit.
func (c *checksums) keep(ctx context.Context) {
	if len(c.waiting) == 0 {
		return
	}
	if err := c.records.AddChecksums(ctx, c.waiting); err != nil && ctx.Err() == nil {
		c.warn("checksums of contents could not be kept", "error", err)
	}
	c.waiting, c.bytes = nil, 0
}

func (c *checksums) warn(message string, args ...any) {
	if c.log != nil {
		c.log.Warn(message, args...)
	}
}
