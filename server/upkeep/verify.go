package upkeep

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"attachd/blobs"
)

// A content is read in pieces of so many bytes.
const piece = 256 << 10

// loss is why a content could not be read as it should be.
type loss struct {
	why    string
	marked bool
	failed bool // it is the storage that did not give the bytes, rather than the bytes that are wrong
}

// verify hashes a content and marks it if it is not what its name says. A
// disk that cannot read it back has lost it. The content is read through
// watch, one Read a piece. No loss is nil; the only error is that of ctx.
func verify(ctx context.Context, contents blobs.Store, info blobs.Info, watch func(io.Reader) io.Reader) (*loss, error) {
	content, err := contents.Open(ctx, info.Ref, info.Size)
	switch {
	case errors.Is(err, blobs.ErrNotFound), errors.Is(err, blobs.ErrDamaged):
		return nil, nil // it has gone, or was found out, meanwhile
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		// Rather the server's trouble than the content's: no mark.
		return &loss{why: fmt.Sprintf("The content cannot be opened: %v.", err), failed: true}, nil
	}
	defer content.Close() // only read
	ref, err := hashed(watch(content), info.Size)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return mark(ctx, contents, info.Ref, content, loss{why: fmt.Sprintf("The content cannot be read: %v.", err), failed: true})
	case ref != info.Ref:
		return mark(ctx, contents, info.Ref, content, loss{why: "The content is damaged: its bytes are not those that were uploaded."})
	}
	return nil, nil
}

// verifyMarked hashes a content that is marked damaged, and takes the mark away
// if somebody has put it right, from a backup perhaps. It reads as verify does.
func verifyMarked(ctx context.Context, contents blobs.Store, info blobs.Info, watch func(io.Reader) io.Reader) (*loss, error) {
	content, err := contents.OpenMarked(ctx, info.Ref)
	if errors.Is(err, blobs.ErrNotFound) {
		return nil, nil // it has gone meanwhile
	}
	var ref blobs.Ref
	if err == nil {
		defer content.Close() // only read
		ref, err = hashed(watch(content), info.Size)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil || ref != info.Ref:
		return &loss{why: "The content is marked damaged.", marked: true}, nil
	}
	err = contents.Unmark(ctx, info.Ref, content)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && !errors.Is(err, blobs.ErrNotFound):
		return &loss{why: fmt.Sprintf("The content is whole again, but its mark could not be taken away: %v.", err), marked: true}, nil
	}
	return nil, nil
}

// hashed reads to the end, one Read a piece.
func hashed(content io.Reader, size int64) (blobs.Ref, error) {
	hash := sha256.New()
	_, err := io.CopyBuffer(hash, content, make([]byte, max(1, min(piece, size))))
	return blobs.Ref(hash.Sum(nil)), err
}

// mark leaves a content alone that was repaired while it was read. A disk that
// has no room for a mark is no reason not to report the damage.
func mark(ctx context.Context, contents blobs.Store, ref blobs.Ref, read blobs.Content, lost loss) (*loss, error) {
	err := contents.MarkDamaged(ctx, ref, read)
	if err == nil {
		now, gone := contents.Stat(ctx, ref)
		if gone == nil && !now.Damaged {
			return nil, nil
		}
	}
	switch {
	case err == nil:
		lost.marked = true
		return &lost, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, blobs.ErrNotFound):
		return nil, nil
	}
	lost.why = fmt.Sprintf("%s It could not be marked: %v.", lost.why, err)
	return &lost, nil
}
