package bolt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/google/uuid"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"
)

// Staged contents are in the write-ahead log; the bucket "staged" has the place of each.
// A reader looks up the place in the database, and reads the bytes from the log then:
// if the segment is gone by that time, and the entry too, the content was unstaged.

// stagedDelta is what changes of what is staged.
type stagedDelta struct{ added, removed []wal.Place }

// stagedStats counts staged contents in memory, so that Staged reads no database.
type stagedStats struct{ contents, bytes atomic.Int64 }

// isCopy says whether this is a copy of a database, which has no log, and so no contents
// in it.
func (b *Store) isCopy() bool { return b.committer.opts.Log == "" || b.file.ReadOnly() }

// publishStaged counts the contents that a transaction staged and unstaged.
func (b *Store) publishStaged(d stagedDelta) {
	for _, p := range d.added {
		b.log.Hold(p)
		b.staged.contents.Add(1)
		b.staged.bytes.Add(int64(p.Length))
	}
	for _, p := range d.removed {
		b.log.Drop(p)
		b.staged.contents.Add(-1)
		b.staged.bytes.Add(-int64(p.Length))
	}
}

// Staged implements Stager.
func (b *Store) Staged() store.Staged {
	return store.Staged{Contents: b.staged.contents.Load(), Bytes: b.staged.bytes.Load(), Room: b.log.Used(), MaxRoom: b.log.Size, Astray: b.log.Astray()}
}

// MayStage implements Stager.
func (b *Store) MayStage() bool { return !b.log.Full() }

// countStaged counts what is staged at a start, and removes the segments of the log that
// hold nothing. With a damaged entry, it is not known which these are: all are kept, since
// the entry may be read again from a better copy of the database.
func (b *Store) countStaged() error {
	lost := 0
	var damaged error
	err := b.viewCommitted(context.Background(), func(tx *dbfile.Tx) error {
		if damaged = tx.Refused(schema.Staged); b.isCopy() || damaged != nil {
			return nil
		}
		entries := tx.Readable(schema.Staged)
		for key, value := entries.First(); key != nil; key, value = entries.Next() {
			p, err := wal.DecodePlace(value)
			if err := cmp.Or(entries.Bad, err); err != nil { // a Check lists it
				damaged = cmp.Or(damaged, err)
				continue
			}
			if !b.log.Hold(p) {
				lost++
			}
			b.staged.contents.Add(1)
			b.staged.bytes.Add(int64(p.Length))
		}
		return nil
	})
	if err == nil && damaged != nil && !b.isCopy() {
		b.log.KeepAll()
		b.doubts = errors.Join(b.doubts, fmt.Errorf("it cannot be read which small uploads are in %s, so that all files there are kept: %w. Run `attachd check`, and restore a backup, or a better copy of the database with this folder beside it", b.committer.opts.Log, damaged))
	}
	if err == nil && lost > 0 {
		err = b.passOver()
	}
	if err == nil {
		err = b.log.Free(false)
	}
	if err == nil && lost > 0 {
		b.doubts = errors.Join(b.doubts, fmt.Errorf("%d small uploads were in parts of the log that are gone from %s: put these files back and restart attachd. Otherwise each of the uploads that has no file in blobs is damaged until the same file is uploaded again", lost, b.committer.opts.Log))
	}
	if err == nil && b.doubts != nil {
		b.committer.opts.LogFailed(b.doubts)
	}
	return err
}

// passOver commits that the log goes on behind all parts of it that are gone: once they
// are put back, their contents are read, and none of their records.
func (b *Store) passOver() error {
	b.log.PassOver()
	err := b.file.WithRoom(func() error {
		return b.file.Update(func(tx *dbfile.Tx) error { return tx.Put(schema.Meta, walKey, b.log.Position()) })
	})
	if durable.IsFull(err) {
		return nil // the next commit does it
	}
	if err == nil {
		b.log.Committed()
	}
	return err
}

// stage writes the entries of the contents that are in the log now.
func (w *writeTx) stage(places []wal.Place) error {
	for i, c := range w.contents {
		if err := w.Tx.Put(c.Bucket, c.Key, places[i].Encode()); err != nil {
			return err
		}
	}
	for i, c := range w.created {
		if c.content >= 0 {
			w.created[i].place = places[c.content]
		}
	}
	w.staged.added = append(w.staged.added, places...)
	return nil
}

// deleteStaged deletes the entry of the content that is staged with a record, if there
// is one.
func (tx *writeTx) deleteStaged(id uuid.UUID) {
	value := tx.Get(schema.Staged, id[:])
	if value == nil {
		return
	}
	if p, err := wal.DecodePlace(value); err == nil {
		tx.staged.removed = append(tx.staged.removed, p)
	}
	tx.Delete(schema.Staged, id[:])
}

// stagedEntry is where the bytes of a staged content are.
type stagedEntry struct {
	wal.Place
	older []byte // the bytes themselves, in a read-only copy of an older database
	err   error
}

// stagedWith returns the entry of the content that is staged with a record.
func (b *Store) stagedWith(tx *dbfile.Tx, id []byte) (e stagedEntry, is bool) {
	if tx.Refused(schema.Pending) != nil {
		// What an earlier version staged cannot be read; the rest can.
	} else if older := tx.Get(schema.Pending, id); older != nil {
		return stagedEntry{Place: wal.Place{Length: uint32(len(older))}, older: bytes.Clone(older)}, true
	}
	if b.isCopy() {
		return e, false
	}
	value := tx.Get(schema.Staged, id)
	if value != nil {
		e.Place, e.err = wal.DecodePlace(value)
	}
	return e, value != nil
}

// readStaged returns the bytes of a staged content: ErrNotFound when it was unstaged
// since its entry was read, ErrRotten when they are damaged or lost.
func (b *Store) readStaged(ctx context.Context, id uuid.UUID, e stagedEntry) (content []byte, err error) {
	switch {
	case e.older != nil:
		return e.older, nil
	case e.err != nil:
		return nil, fmt.Errorf("%w: %w", store.ErrRotten, e.err)
	}
	content, err = b.log.Read(e.Place)
	switch {
	case errors.Is(err, wal.ErrRotten):
		return nil, fmt.Errorf("%w: %w", store.ErrRotten, err)
	case errors.Is(err, wal.ErrClosed):
		return nil, errClosed
	}
	if !errors.Is(err, wal.ErrGone) {
		return content, err
	}
	gone := err
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		if now, is := b.stagedWith(tx, id[:]); is && now.Place == e.Place {
			return fmt.Errorf("%w: %w", store.ErrRotten, gone)
		}
		return store.ErrNotFound
	})
	return nil, err
}

// StagedContent implements Stager. Of many records with the content, the newest are
// the likeliest to have it staged. Where that is damaged, another may have it intact.
func (b *Store) StagedContent(ctx context.Context, sha256 [32]byte) (content []byte, err error) {
	content, err = b.stagedContent(ctx, sha256, 1)
	if errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrRotten) {
		if intact, err := b.stagedContent(ctx, sha256, copiesTried); err == nil {
			return intact, nil
		}
	}
	return content, err
}

// copiesTried is how many records are looked at whose copy of a content is staged, when
// the newest copy is damaged.
const copiesTried = 1000

// stagedCopies are copies of a content, each staged with a record.
type stagedCopies struct {
	ids     []uuid.UUID
	entries []stagedEntry
}

func (s *stagedCopies) add(id uuid.UUID, e stagedEntry) {
	s.ids, s.entries = append(s.ids, id), append(s.entries, e)
}

// stagedContent returns the first intact one of the newest copies of a content, or the
// first error.
func (b *Store) stagedContent(ctx context.Context, sha256 [32]byte, copies int) (content []byte, err error) {
	var found stagedCopies
	look := func(u *unflushed) stagedCopies { return u.stagedOf(sha256) }
	err = viewWith(ctx, b, look, func(tx *dbfile.Tx, ahead stagedCopies) error {
		found = ahead
		for id := range newestWith(tx, sha256) {
			if len(found.ids) >= copies {
				return nil
			}
			var e stagedEntry
			is := false
			damaged := dbfile.Caught(func() error { e, is = b.stagedWith(tx, id); return nil })
			if damaged != nil && copies == 1 {
				return damaged
			}
			if damaged == nil && is {
				found.add(uuid.UUID(id), e)
			}
		}
		return nil
	})
	if err == nil && len(found.ids) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	for i, e := range found.entries {
		content, failed := b.readStaged(ctx, found.ids[i], e)
		if failed == nil {
			return content, nil
		}
		err = cmp.Or(err, failed)
	}
	return nil, err
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
	_, err := b.eachStaged(ctx, uuid.Nil, func(a store.Attachment, e stagedEntry) bool {
		sizes[a.SHA256] = int64(e.Length)
		return true
	})
	return sizes, err
}

// StagedAfter implements Stager.
func (b *Store) StagedAfter(ctx context.Context, after uuid.UUID, limit int, maxBytes int64) (list []store.StagedContent, err error) {
	var size int64
	var entries []stagedEntry
	unreadable, err := b.eachStaged(ctx, after, func(a store.Attachment, e stagedEntry) bool {
		if len(list) >= limit || size >= maxBytes {
			return false
		}
		size += int64(e.Length)
		list, entries = append(list, store.StagedContent{ID: a.ID, SHA256: a.SHA256, Size: a.Size}), append(entries, e)
		return true
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		p := &list[i]
		p.Content, p.Err = b.readStaged(ctx, p.ID, entries[i])
	}
	return list, unreadable
}

// eachStaged visits staged contents until visit returns false. What is staged with a
// record that cannot be read is skipped: it must not block the others. unreadable is the
// first of these errors.
func (b *Store) eachStaged(ctx context.Context, after uuid.UUID, visit func(a store.Attachment, e stagedEntry) bool) (unreadable, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		bucket := schema.Staged
		if unreadable = tx.Refused(schema.Pending); unreadable != nil {
			unreadable = fmt.Errorf("%w: %w", store.ErrUnreadable, unreadable)
		} else if tx.Bucket(schema.Pending) != nil {
			bucket = schema.Pending // a copy of an older database
		}
		if b.isCopy() && !bytes.Equal(bucket, schema.Pending) {
			return nil
		}
		waits := tx.Readable(bucket)
		for key, _ := waits.Seek(after[:]); key != nil; key, _ = waits.Next() {
			if bytes.Equal(key, after[:]) {
				continue
			}
			var a store.Attachment
			var e stagedEntry
			id, err := schema.ParseID(key)
			if err == nil {
				err = dbfile.Caught(func() (err error) {
					waits.Must()
					e, _ = b.stagedWith(tx, key)
					a, _, err = records.Stored(tx, id)
					return err
				})
			}
			if err != nil {
				unreadable = cmp.Or(unreadable, fmt.Errorf("%w: entry %x: %v", store.ErrUnreadable, key, err))
				continue
			}
			if !visit(a, e) {
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
