package bolt

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

// maxStagedBytes and maxStagedContents are how much may be staged before MayStage
// returns false. bbolt writes the list of its free pages with every commit, and the
// pages of flushed contents are on it, so the most that was ever staged makes every
// later commit more expensive.
const (
	maxStagedBytes    = 16 << 20
	maxStagedContents = 8192
)

// stagedDelta is how much is staged, or by how much that changes.
type stagedDelta struct{ contents, bytes int64 }

// stagedStats counts staged contents in memory, so that StagedBytes reads no
// database.
type stagedStats struct {
	contents, bytes atomic.Int64
	paused          atomic.Int64 // number of long reads, during which bbolt cannot reuse pages
}

func (l *stagedStats) add(w stagedDelta) {
	l.contents.Add(w.contents)
	l.bytes.Add(w.bytes)
}

func (l *stagedStats) pause() (resume func()) {
	l.paused.Add(1)
	return func() { l.paused.Add(-1) }
}

// StagedBytes implements Stager.
func (b *Store) StagedBytes() int64 { return b.staged.bytes.Load() }

// MayStage implements Stager.
func (b *Store) MayStage() bool {
	l := &b.staged
	return l.paused.Load() == 0 && l.bytes.Load() < maxStagedBytes && l.contents.Load() < maxStagedContents
}

// prepareStaging counts what is staged, and creates the bucket in a database that
// is older than it.
func (b *Store) prepareStaging(readOnly bool) error {
	missing := false
	err := b.viewAll(context.Background(), func(tx *dbfile.Tx) error {
		if tx.Refused(schema.Pending) != nil {
			return nil
		}
		if missing = tx.Bucket(schema.Pending) == nil; missing {
			return nil
		}
		entries := tx.Readable(schema.Pending)
		for key, content := entries.First(); key != nil; key, content = entries.Next() {
			b.staged.add(stagedDelta{1, int64(len(content))})
		}
		return nil
	})
	if err != nil || !missing || readOnly {
		return err
	}
	return b.file.Update(func(tx *dbfile.Tx) error {
		_, err := tx.CreateBucket(schema.Pending)
		return err
	})
}

func (tx *writeTx) putStaged(id uuid.UUID, content []byte) {
	tx.Put(schema.Pending, id[:], content)
	tx.staged.contents++
	tx.staged.bytes += int64(len(content))
}

// deleteStaged deletes the content that is staged with a record, if there is one.
func (tx *writeTx) deleteStaged(id uuid.UUID) {
	content := tx.Get(schema.Pending, id[:])
	if content == nil {
		return
	}
	tx.staged.contents--
	tx.staged.bytes -= int64(len(content))
	tx.Delete(schema.Pending, id[:])
}

// StagedContent implements Stager. Of many records with the content, the newest are
// the likeliest to have it staged.
func (b *Store) StagedContent(ctx context.Context, sha256 [32]byte) (content []byte, err error) {
	err = b.viewIf(b.unflushed.hasContent(sha256))(ctx, func(tx *dbfile.Tx) error {
		if tx.Bucket(schema.Pending) == nil {
			return store.ErrNotFound // a read-only copy of an older database
		}
		for id := range newestWith(tx, sha256) {
			if waiting := tx.Get(schema.Pending, id); waiting != nil {
				content = bytes.Clone(waiting)
				return nil
			}
		}
		return store.ErrNotFound
	})
	return content, err
}

// newestWith returns the ids of the records with a content, the newest first.
func newestWith(tx *dbfile.Tx, sha256 [32]byte) iter.Seq[[]byte] {
	return func(yield func(id []byte) bool) {
		cursor := tx.Entries(schema.Contents)
		last := uuid.Max
		key, _ := cursor.Seek(schema.Join(sha256[:], last[:]))
		if key == nil {
			key, _ = cursor.Last()
		} else {
			key, _ = cursor.Prev()
		}
		for bytes.HasPrefix(key, sha256[:]) {
			if cursor.Must(); !yield(key[len(sha256):]) {
				return
			}
			key, _ = cursor.Prev()
		}
		tx.MustKnowKeys(schema.Contents)
	}
}

// StagedSizes implements Stager.
func (b *Store) StagedSizes(ctx context.Context) (map[[32]byte]int64, error) {
	sizes := make(map[[32]byte]int64)
	_, err := b.eachStaged(ctx, uuid.Nil, func(id uuid.UUID, sha256 [32]byte, content []byte) bool {
		sizes[sha256] = int64(len(content))
		return true
	})
	return sizes, err
}

// StagedAfter implements Stager.
func (b *Store) StagedAfter(ctx context.Context, after uuid.UUID, limit int, maxBytes int64) (list []store.StagedContent, err error) {
	var size int64
	unreadable, err := b.eachStaged(ctx, after, func(id uuid.UUID, sha256 [32]byte, content []byte) bool {
		if len(list) >= limit || size >= maxBytes {
			return false
		}
		size += int64(len(content))
		list = append(list, store.StagedContent{ID: id, SHA256: sha256, Content: bytes.Clone(content)})
		return true
	})
	if err != nil {
		return nil, err
	}
	return list, unreadable
}

// eachStaged visits staged contents until visit returns false. The content must not
// be used after visit returns. What is staged with a record that cannot be read is
// skipped: it must not block the others. unreadable is the first of these errors.
func (b *Store) eachStaged(ctx context.Context, after uuid.UUID, visit func(id uuid.UUID, sha256 [32]byte, content []byte) bool) (unreadable, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		if tx.Bucket(schema.Pending) == nil {
			return nil
		}
		waits := tx.Readable(schema.Pending)
		for key, content := waits.Seek(after[:]); key != nil; key, content = waits.Next() {
			if bytes.Equal(key, after[:]) {
				continue
			}
			id, err := schema.ParseID(key)
			var a store.Attachment
			if err == nil {
				err = dbfile.Caught(func() (err error) {
					waits.Must()
					a, err = records.Attachment(tx, id)
					return err
				})
			}
			if err != nil {
				unreadable = cmp.Or(unreadable, fmt.Errorf("%w: entry %x: %v", store.ErrUnreadable, key, err))
				continue
			}
			if !visit(id, a.SHA256, content) {
				return nil
			}
		}
		return nil
	})
	return unreadable, err
}

// Unstage implements Stager.
func (b *Store) Unstage(ctx context.Context, ids []uuid.UUID) (gone []uuid.UUID, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		gone = nil // the change may run twice
		for _, id := range ids {
			if !tx.Has(schema.AttachmentIDs, id[:]) {
				gone = append(gone, id)
			}
			tx.deleteStaged(id)
		}
		return nil
	})
	return gone, err
}
