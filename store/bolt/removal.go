package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

// A product or a space may contain more than one transaction should remove: it
// keeps everything it touches in memory, and all other changes wait for it. So a
// deletion deletes only the parent or the space itself, which hides everything
// below it, gives its quota back, and leaves a mark in the bucket "removals" as
// long as something is left below. Remove continues from there, also after a crash.
//
// A deleted object can be put anew at once. The call that does so first continues
// the removal: the old object's files must not appear in the new one.

// removedPart divides the batch size for the transactions of a removal, whose
// entries are spread over the whole database.
const removedPart = 4

// errRemoving is the error of a change that would bring back an object that is
// being removed. Callers do not get it: see whenFree.
var errRemoving = errors.New("what was there before is still being removed")

// isRemoved says whether what belongs to a parent is hidden, and being removed.
func (b *Store) isRemoved(tx *dbfile.Tx, p store.Parent) (bool, error) {
	if tx.HasNone(schema.Removals) { // the usual case
		return false, nil
	}
	record, err := b.entities.Load(tx, schema.Entities, schema.ParentKey(p))
	switch {
	case err != nil:
		return false, err
	case record == nil:
		return records.IsRemoving(tx, schema.ParentRemoval(p)), nil
	}
	return !tx.Has(schema.Spaces, []byte(record.Space)) && records.IsRemoving(tx, schema.SpaceRemoval(record.Space)), nil
}

// removalCache caches isRemoved for the duration of one call.
type removalCache map[store.Parent]bool

func (r removalCache) has(b *Store, tx *dbfile.Tx, p store.Parent) (bool, error) {
	is, known := r[p]
	if known {
		return is, nil
	}
	is, err := b.isRemoved(tx, p)
	r[p] = is
	return is, err
}

// DeleteEntity implements Directory.
func (b *Store) DeleteEntity(ctx context.Context, p store.Parent, withAttachments bool) (freed [][32]byte, err error) {
	err = b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		e, err := b.visibleEntity(tx.Tx, p)
		if err != nil {
			return err
		}
		if !withAttachments && tx.HasUnder(schema.Attachments, schema.ParentKey(p)) {
			return store.HasAttachments(p)
		}
		used, err := records.UsageOf(tx.Tx, p)
		if err != nil {
			return err
		}
		usage, err := records.Usage(tx.Tx, e.Space)
		if err != nil {
			return err
		}
		tx.saveUsage(e.Space, store.Usage{Bytes: usage.Bytes - used.Bytes, Files: usage.Files - used.Files})
		tx.Delete(schema.SpaceEntities, schema.Join(schema.Slug0(e.Space), schema.ParentKey(p)))
		tx.Delete(schema.Entities, schema.ParentKey(p))
		freed, err = tx.beginRemoval(schema.ParentRemoval(p), e.Space, b.batch/removedPart)
		return err
	})
	return freed, err
}

// DeleteSpace implements Directory.
func (b *Store) DeleteSpace(ctx context.Context, slug string, withAttachments bool) (freed [][32]byte, err error) {
	err = b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		if err := records.NeedSpace(tx.Tx, slug); err != nil {
			return err
		}
		if !withAttachments {
			for parent := range tx.Under(schema.SpaceEntities, schema.Slug0(slug), nil) {
				if tx.HasUnder(schema.Attachments, parent) {
					return store.SpaceHasAttachments(slug)
				}
			}
		}
		tx.Delete(schema.Usage, []byte(slug))
		tx.Delete(schema.Spaces, []byte(slug))
		var err error
		freed, err = tx.beginRemoval(schema.SpaceRemoval(slug), slug, b.batch/removedPart)
		return err
	})
	return freed, err
}

// beginRemoval removes what is below a parent or space that was deleted, and leaves
// a mark when that is too much for one transaction.
func (tx *writeTx) beginRemoval(key []byte, space string, limit int) (freed [][32]byte, err error) {
	r := schema.RemovalRecord{Space: space, Origin: tx.change.origin}
	if tx.change.entry != nil {
		r.Entry = tx.change.entry.Encode()
	}
	freed, more, err := tx.removeSome(key, r, limit)
	if more {
		tx.save(schema.Removals, key, r)
	}
	return freed, err
}

// Remove implements Directory. A removal that fails does not block others.
func (b *Store) Remove(ctx context.Context) (freed [][32]byte, more bool, err error) {
	freed, more, err = b.removeNext(ctx)
	b.freed.mu.Lock()
	defer b.freed.mu.Unlock()
	freed, b.freed.contents = append(b.freed.contents, freed...), nil
	return freed, more, err
}

func (b *Store) removeNext(ctx context.Context) (freed [][32]byte, more bool, err error) {
	var marks []dbfile.KeyValue
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		marks = tx.FirstEntries(schema.Removals, nil, maxTriedMarks)
		return nil
	})
	for _, mark := range marks {
		var failed error
		freed, more, failed = b.removeMarked(ctx, mark)
		if failed == nil {
			return freed, more, err
		}
		err = errors.Join(err, failed)
	}
	return nil, false, err
}

// maxTriedMarks is how many removals are tried when those before them fail.
const maxTriedMarks = 100

// removeMarked removes the next batch of what a mark stands for, and with the last
// batch the mark.
func (b *Store) removeMarked(ctx context.Context, mark dbfile.KeyValue) (freed [][32]byte, more bool, err error) {
	err = b.updateAlone(ctx, func(tx *writeTx) error {
		freed, more = nil, true
		r, err := dbfile.Load[schema.RemovalRecord](tx.Tx, schema.Removals, mark.Key)
		if err != nil || r == nil { // another call has removed all of it
			return err
		}
		tx.change.origin = r.Origin
		var left bool
		if freed, left, err = tx.removeSome(mark.Key, *r, b.batch/removedPart); err != nil || left {
			return err
		}
		tx.Delete(schema.Removals, mark.Key)
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("remove what went with %x: %w", mark.Key, err)
	}
	return freed, more, nil
}

// freedContents are the contents that continueRemoval freed, which the next Remove
// returns.
type freedContents struct {
	mu       sync.Mutex
	contents [][32]byte
}

// continueRemoval is Remove for a change that waits for it.
func (b *Store) continueRemoval(ctx context.Context) error {
	freed, _, err := b.removeNext(ctx)
	b.freed.mu.Lock()
	defer b.freed.mu.Unlock()
	b.freed.contents = append(b.freed.contents, freed...)
	return err
}

// removalBatch collects what one transaction of a removal removes.
type removalBatch struct {
	*dbfile.Tx
	room        int // how many more entries fit into the batch
	attachments []store.Attachment
	entries     []bucketKey // all entries that are not of attachments
}

type bucketKey struct{ bucket, key []byte }

// add adds entries, and says whether there was room.
func (d *removalBatch) add(entries ...bucketKey) bool {
	if d.room <= 0 {
		return false
	}
	d.room--
	d.entries = append(d.entries, entries...)
	return true
}

// parent adds what belongs to a parent, and says whether that is all of it.
func (d *removalBatch) parent(p store.Parent) (all bool, err error) {
	for rest, record := range d.Under(schema.Attachments, schema.ParentKey(p), nil) {
		if !d.add() {
			return false, nil
		}
		id, err := schema.ParseID(rest)
		if err != nil {
			return false, err
		}
		a, err := records.DecodeAttachment(p, id, record)
		if err != nil {
			return false, err
		}
		d.attachments = append(d.attachments, a)
	}
	if p.Kind != store.Ticket {
		return true, nil
	}
	for id := range d.Under(schema.Comments, p.ID[:], nil) {
		if !d.add(bucketKey{schema.Comments, schema.Join(p.ID[:], id)}) {
			return false, nil
		}
	}
	return true, nil
}

// space adds what belongs to a space, and says whether that is all of it.
func (d *removalBatch) space(slug string) (all bool, err error) {
	for rest := range d.Under(schema.SpaceEntities, schema.Slug0(slug), nil) {
		p, err := schema.ParseParent(rest)
		if err != nil {
			return false, err
		}
		if all, err := d.parent(p); err != nil || !all {
			return false, err
		}
		if !d.add(bucketKey{schema.SpaceEntities, schema.Join(schema.Slug0(slug), rest)}, bucketKey{schema.Entities, bytes.Clone(rest)}) {
			return false, nil
		}
	}
	for user := range d.Under(schema.Members, schema.Slug0(slug), nil) {
		if !d.add(bucketKey{schema.Members, schema.Join(schema.Slug0(slug), user)}, bucketKey{schema.Memberships, schema.Join(user, []byte(slug))}) {
			return false, nil
		}
	}
	return true, nil
}

// removeSome removes at most limit entries below a parent or space, and returns
// which contents are unreferenced now, and whether anything is left.
func (tx *writeTx) removeSome(key []byte, r schema.RemovalRecord, limit int) (freed [][32]byte, more bool, err error) {
	d := &removalBatch{Tx: tx.Tx, room: limit}
	all := false
	switch key[0] {
	case schema.RemovesParent:
		var p store.Parent
		if p, err = schema.ParseParent(key[1:]); err == nil {
			all, err = d.parent(p)
		}
	case schema.RemovesSpace:
		all, err = d.space(string(key[1:]))
	default:
		err = schema.ErrKey
	}
	var entry store.Entry
	if err == nil && len(r.Entry) > 0 {
		entry, err = store.DecodeEntry(r.Entry)
	}
	if err != nil {
		return nil, false, err
	}
	freed = freedBy(tx.Tx, d.attachments)
	for _, a := range d.attachments {
		tx.removeAttachment(a, r.Space)
		if len(r.Entry) > 0 {
			tx.noteFor(entry, "attachment.delete", "attachment", a.ID.String(), a.FileName, r.Space)
		}
	}
	tx.dropChecksums(freed)
	for _, e := range d.entries {
		tx.Delete(e.bucket, e.key)
	}
	return freed, !all, nil
}
