package bolt

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

// An attachment in the trash moves to the bucket "trash" with its record. A parent or space
// moves to the bucket "trash_objects", which hides everything below it as a removal does;
// nothing below is written, however much there is. The buckets "trash_until" and
// "trash_spaces" are indexes of both.
//
// When a parent or space is removed for good, or put anew, its record there becomes a mark
// in the bucket "removals", and Remove does the rest: see removal.go. In the second case,
// the attachments move to the bucket "trash".

// TrashAttachment implements store.Trash.
func (b *Store) TrashAttachment(ctx context.Context, id uuid.UUID, d store.Deletion) (a store.Attachment, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		var space string
		var err error
		if a, space, err = b.doomed(tx, id); err != nil {
			return err
		}
		if err := refuseHeld(tx.Tx, heldAt(space, a)); err != nil {
			return err
		}
		left, err := tx.usageWith(space, store.Usage{}.Minus(a.Usage()))
		if err != nil {
			return err
		}
		if err := tx.countTrash(a.Usage()); err != nil {
			return err
		}
		tx.trash(a, schema.TrashRecord{Deletion: d, Space: space})
		tx.saveUsage(space, left)
		tx.enqueue(store.AttachmentDeleted, a, space)
		return nil
	})
	return a, err
}

// trash moves the record of an attachment to the trash. The caller counts it.
func (tx *writeTx) trash(a store.Attachment, t schema.TrashRecord) {
	parent, key := schema.ParentKey(a.Parent), schema.TrashKey(a)
	tx.Delete(schema.Attachments, schema.AttachmentKey(a))
	tx.Put(schema.AttachmentIDs, a.ID[:], schema.Join(parent, schema.InTrash))
	tx.Put(schema.Contents, schema.Join(a.SHA256[:], a.ID[:]), schema.InTrash)
	tx.Put(schema.Trash, schema.AttachmentKey(a), schema.EncodeTrash(t, a))
	tx.Put(schema.TrashUntil, schema.UntilKey(t.Until, key), schema.Nothing)
	tx.Put(schema.TrashSpaces, schema.Join(schema.Slug0(t.Space), schema.TrashPlace(t.At, key)), schema.Nothing)
}

// untrash deletes the entries that say that an attachment is in the trash.
func (tx *writeTx) untrash(t trashed) {
	key := schema.TrashKey(t.Attachment)
	tx.Delete(schema.Trash, schema.AttachmentKey(t.Attachment))
	tx.Delete(schema.TrashUntil, schema.UntilKey(t.Until, key))
	tx.Delete(schema.TrashSpaces, schema.Join(schema.Slug0(t.Space), schema.TrashPlace(t.At, key)))
}

// purge removes an attachment in the trash for good, and records that for the entry of an
// audit log, unless that is nil. The caller counts it.
func (tx *writeTx) purge(t trashed, entry *store.Entry) {
	tx.untrash(t)
	tx.removeAttachment(t.Attachment, t.Space, store.AttachmentPurged)
	if entry != nil {
		tx.noteFor(*entry, "attachment.purge", "attachment", t.ID.String(), t.FileName, t.Space)
	}
}

// countTrash adds to the usage of all attachments in the trash. It writes only when it
// succeeds.
func (tx *writeTx) countTrash(by store.Usage) error {
	if by == (store.Usage{}) {
		return nil
	}
	sum, err := records.TrashSum(tx.Tx)
	if err == nil {
		tx.Put(schema.Meta, schema.TrashSum, schema.EncodeUsage(sum.Plus(by)))
	}
	return err
}

// usageWith is the usage of a space with more, or less.
func (tx *writeTx) usageWith(space string, more store.Usage) (store.Usage, error) {
	usage, err := records.Usage(tx.Tx, space)
	return usage.Plus(more), err
}

// TrashEntity implements store.Trash.
func (b *Store) TrashEntity(ctx context.Context, p store.Parent, withAttachments bool, d store.Deletion) error {
	return b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		e, used, err := b.takeEntity(tx, p, withAttachments)
		if err != nil {
			return err
		}
		key := schema.ParentRemoval(p)
		has, err := hasTrash(tx.Tx, p, e.Space)
		if err != nil {
			return err
		}
		if used.Files == 0 && !has {
			_, err := tx.beginRemoval(key, e.Space, b.batch/removedPart)
			return err
		}
		return tx.trashObject(key, schema.TrashedObject{Space: e.Space, Files: used, Entity: e}, d, b.batch/removedPart)
	})
}

// TrashSpace implements store.Trash.
func (b *Store) TrashSpace(ctx context.Context, slug string, withAttachments bool, d store.Deletion) error {
	return b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		s, used, err := tx.takeSpace(slug, withAttachments)
		if err != nil {
			return err
		}
		key := schema.SpaceRemoval(slug)
		if used.Files == 0 && (tx.HasNone(schema.TrashSpaces) || !tx.HasUnder(schema.TrashSpaces, schema.Slug0(slug))) {
			_, err := tx.beginRemoval(key, slug, b.batch/removedPart)
			return err
		}
		return tx.trashObject(key, schema.TrashedObject{Space: slug, Files: used, Record: s}, d, b.batch/removedPart)
	})
}

// trashOf iterates over what was deleted of a parent, by itself, while it was in this space:
// it may have been put into another since. It begins behind an id.
func trashOf(tx *dbfile.Tx, p store.Parent, space string, after []byte) iter.Seq2[trashed, error] {
	return func(yield func(trashed, error) bool) {
		if tx.HasNone(schema.Trash) {
			return
		}
		for rest, record := range tx.Under(schema.Trash, schema.ParentKey(p), after) {
			id, err := schema.ParseID(rest)
			var t trashed
			if err == nil {
				t.TrashRecord, t.Attachment, err = records.Trashed(p, id, record)
			}
			if err == nil && t.Space != space {
				continue
			}
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

func hasTrash(tx *dbfile.Tx, p store.Parent, space string) (bool, error) {
	for _, err := range trashOf(tx, p, space, nil) {
		return err == nil, err
	}
	return false, nil
}

// trashObject writes that a parent or space is in the trash, and tells of its attachments.
func (tx *writeTx) trashObject(key []byte, t schema.TrashedObject, d store.Deletion, limit int) error {
	t.At, t.Until, t.ByID = d.At.Unix(), d.Until.Unix(), d.ByID
	t.Entry, t.Origin = tx.encodedEntry(), tx.change.origin
	tx.save(schema.TrashObjects, key, t)
	tx.Put(schema.TrashUntil, schema.UntilKey(d.Until, key), schema.Nothing)
	tx.Put(schema.TrashSpaces, schema.Join(t.ListedIn(), schema.TrashPlace(d.At, key)), schema.Nothing)
	if err := tx.countTrash(t.Files); err != nil {
		return err
	}
	return tx.tell(key, store.AttachmentDeleted, t.Space, limit)
}

// entriesOf are the entries of a parent or space in the trash.
func entriesOf(key []byte, t *schema.TrashedObject) []bucketKey {
	d := t.Deletion()
	return []bucketKey{
		{schema.TrashObjects, key},
		{schema.TrashUntil, schema.UntilKey(d.Until, key)},
		{schema.TrashSpaces, schema.Join(t.ListedIn(), schema.TrashPlace(d.At, key))},
	}
}

// untrashObject deletes the entries of a parent or space in the trash.
func (tx *writeTx) untrashObject(key []byte, t *schema.TrashedObject) {
	for _, e := range entriesOf(key, t) {
		tx.Delete(e.bucket, e.key)
	}
}

// tell enqueues an event for each attachment below a parent or space, and leaves a mark when
// that is too much for one transaction.
func (tx *writeTx) tell(key []byte, what store.EventType, space string, limit int) error {
	if tx.change.origin == nil {
		return nil
	}
	r := schema.RemovalRecord{Space: space, Origin: tx.change.origin, Event: what}
	if last, _ := tx.Entries(schema.AttachmentIDs).Last(); last != nil {
		id, err := schema.ParseID(last)
		if err != nil {
			return err
		}
		r.Last = id
	}
	more, err := tx.tellSome(key, &r, limit)
	if more {
		tx.save(schema.Removals, schema.Telling(key), r)
	}
	return err
}

// isTelling says whether events of what is below a parent or space are to be enqueued yet.
func (tx *writeTx) isTelling(removal []byte) bool {
	return records.IsRemoving(tx.Tx, schema.Telling(removal))
}

// tellSome enqueues at most limit events, and says whether there are more. What came into a
// parent after it was restored is not told of.
func (tx *writeTx) tellSome(key []byte, r *schema.RemovalRecord, limit int) (more bool, err error) {
	var some []store.Attachment
	for a, err := range attachmentsBelow(tx.Tx, key, r.After) {
		switch {
		case err != nil:
			return false, err
		case bytes.Compare(a.ID[:], r.Last[:]) > 0:
			continue
		case len(some) == limit:
			more = true
		default:
			some = append(some, a)
			continue
		}
		break
	}
	for _, a := range some {
		tx.enqueue(r.Event, a, r.Space)
		r.After = schema.AttachmentKey(a)
	}
	return more, nil
}

// attachmentsBelow iterates over the attachments of a parent, or of all parents of a space,
// behind one of them, by their keys.
func attachmentsBelow(tx *dbfile.Tx, removal, after []byte) func(yield func(store.Attachment, error) bool) {
	return func(yield func(store.Attachment, error) bool) {
		under := func(parent []byte) bool {
			p, err := schema.ParseParent(parent)
			if err != nil {
				return yield(store.Attachment{}, err)
			}
			var behind []byte
			if rest, same := bytes.CutPrefix(after, parent); same {
				behind = rest
			}
			for rest, record := range tx.Under(schema.Attachments, parent, behind) {
				id, err := schema.ParseID(rest)
				var a store.Attachment
				if err == nil {
					a, err = records.DecodeAttachment(p, id, record)
				}
				if !yield(a, err) || err != nil {
					return false
				}
			}
			return true
		}
		if removal[0] == schema.RemovesParent {
			under(removal[1:])
			return
		}
		for parent := range tx.Under(schema.SpaceEntities, schema.Slug0(string(removal[1:])), nil) {
			if len(after) >= len(parent) && bytes.Compare(parent, after[:len(parent)]) < 0 {
				continue
			}
			if !under(parent) {
				return
			}
		}
	}
}

// TrashedAttachment implements store.Trash.
func (b *Store) TrashedAttachment(ctx context.Context, id uuid.UUID) (found store.Trashed, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		t, err := b.trashedAttachment(tx, id)
		if err == nil {
			found, err = make(userNames).trashed(tx, &b.users, t)
		}
		return err
	})
	return found, err
}

// trashedAttachment reads an attachment in the trash whose parent is there.
func (b *Store) trashedAttachment(tx *dbfile.Tx, id uuid.UUID) (trashed, error) {
	t, err := anyTrashed(tx, id)
	if err != nil {
		return t, err
	}
	is, err := b.isIn(tx, t.Parent, t.Space)
	if err == nil && !is {
		err = store.NotInTrash(id)
	}
	return t, err
}

// anyTrashed reads an attachment in the trash.
func anyTrashed(tx *dbfile.Tx, id uuid.UUID) (trashed, error) {
	a, t, err := records.Stored(tx, id)
	if err != nil || t == nil {
		if t == nil && (err == nil || isNotFound(err)) {
			err = store.NotInTrash(id)
		}
		return trashed{}, err
	}
	return trashed{a, *t}, nil
}

// isIn says whether a parent is there, and in that space.
func (b *Store) isIn(tx *dbfile.Tx, p store.Parent, space string) (bool, error) {
	e, err := b.visibleEntity(tx, p)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil && e.Space == space, err
}

// trashed fills in what callers get of an attachment in the trash.
func (n userNames) trashed(tx *dbfile.Tx, users *dbfile.Cache[schema.UserRecord], t trashed) (out store.Trashed, err error) {
	out = store.Trashed{Deletion: t.Deletion, Space: t.Space, Attachment: t.Attachment, Files: t.Usage(), Place: schema.TrashPlace(t.At, schema.TrashKey(t.Attachment))}
	if records.CheckComment(tx, out.Attachment) != nil {
		out.Attachment.CommentID = uuid.NullUUID{}
	}
	if err = n.fill(tx, users, &out.Attachment); err == nil {
		out.By, err = n.of(tx, users, out.ByID)
	}
	return out, err
}

// object fills in what callers get of a parent or space in the trash.
func (n userNames) object(tx *dbfile.Tx, users *dbfile.Cache[schema.UserRecord], key []byte, t *schema.TrashedObject) (out store.Trashed, err error) {
	out = store.Trashed{Deletion: t.Deletion(), Space: t.Space, Files: t.Files}
	out.Place = schema.TrashPlace(out.At, key)
	if t.Record != nil {
		out.Name = t.Record.Name
	} else {
		p, err := schema.ParseParent(key[1:])
		if err != nil {
			return out, err
		}
		if out.Entity, err = records.EntityOf(t.Entity, p); err != nil {
			return out, err
		}
	}
	out.By, err = n.of(tx, users, out.ByID)
	return out, err
}

// TrashedEntity implements store.Trash.
func (b *Store) TrashedEntity(ctx context.Context, p store.Parent) (store.Trashed, error) {
	return b.viewTrashed(ctx, schema.ParentRemoval(p))
}

// TrashedSpace implements store.Trash.
func (b *Store) TrashedSpace(ctx context.Context, slug string) (store.Trashed, error) {
	return b.viewTrashed(ctx, schema.SpaceRemoval(slug))
}

func (b *Store) viewTrashed(ctx context.Context, key []byte) (found store.Trashed, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		t, err := visibleTrashed(tx, key)
		if err == nil {
			found, err = make(userNames).object(tx, &b.users, key, t)
		}
		return err
	})
	return found, err
}

// visibleTrashed reads a parent in the trash whose space is there, or a space in the trash.
func visibleTrashed(tx *dbfile.Tx, key []byte) (*schema.TrashedObject, error) {
	t, err := dbfile.Load[schema.TrashedObject](tx, schema.TrashObjects, key)
	if err == nil && (t == nil || t.Record == nil && !tx.Has(schema.Spaces, []byte(t.Space))) {
		err = notInTrash(key)
	}
	return t, err
}

// notInTrash refuses what is not in the trash.
func notInTrash(key []byte) error {
	if p, err := schema.ParseParent(key[1:]); err == nil && key[0] == schema.RemovesParent {
		return store.ParentNotInTrash(p)
	}
	return store.SpaceNotInTrash(string(key[1:]))
}

// TrashOf implements store.Trash.
func (b *Store) TrashOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) (list []store.Trashed, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		e, err := b.visibleEntity(tx, p)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		names := make(userNames)
		for t, err := range trashOf(tx, p, e.Space, after[:]) {
			if err != nil || len(list) >= limit {
				return err
			}
			one, err := names.trashed(tx, &b.users, t)
			if err != nil {
				return err
			}
			list = append(list, one)
		}
		return nil
	})
	return list, err
}

// TrashIn implements store.Trash.
func (b *Store) TrashIn(ctx context.Context, space string, after []byte, limit int) (list []store.Trashed, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		if tx.HasNone(schema.TrashSpaces) || space != "" && !tx.Has(schema.Spaces, []byte(space)) {
			return nil
		}
		names, there := make(userNames), make(parentCache)
		isHere := func(tx *dbfile.Tx, p store.Parent) (bool, error) { return b.isIn(tx, p, space) }
		for place := range tx.Under(schema.TrashSpaces, schema.Slug0(space), after) {
			if len(list) >= limit {
				return nil
			}
			if len(place) < 8+2 {
				return schema.ErrKey
			}
			key := place[8:]
			if key[0] == schema.TrashesAttachment {
				p, _, err := schema.ParseAttachmentKey(key[1:])
				if err != nil {
					return err
				}
				if is, err := there.says(isHere, tx, p); err != nil {
					return err
				} else if !is {
					continue
				}
			}
			one, err := b.listed(tx, names, key)
			if err != nil {
				return err
			}
			list = append(list, one)
		}
		return nil
	})
	return list, err
}

// listed reads something in the trash by the key that is in the indexes.
func (b *Store) listed(tx *dbfile.Tx, names userNames, key []byte) (out store.Trashed, err error) {
	if key[0] != schema.TrashesAttachment {
		t, err := dbfile.Load[schema.TrashedObject](tx, schema.TrashObjects, key)
		if err == nil && t == nil {
			err = notInTrash(key)
		}
		if err != nil {
			return out, err
		}
		return names.object(tx, &b.users, key, t)
	}
	t, err := trashedAt(tx, key)
	if err != nil {
		return out, err
	}
	return names.trashed(tx, &b.users, t)
}

// trashedAt reads an attachment in the trash by its TrashKey.
func trashedAt(tx *dbfile.Tx, key []byte) (trashed, error) {
	p, id, err := schema.ParseAttachmentKey(key[1:])
	if err != nil {
		return trashed{}, err
	}
	t, a, err := records.Trashed(p, id, tx.Get(schema.Trash, key[1:]))
	return trashed{a, t}, err
}

// RestoreAttachment implements store.Trash.
func (b *Store) RestoreAttachment(ctx context.Context, id uuid.UUID) (a store.Attachment, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		t, err := anyTrashed(tx.Tx, id)
		if err != nil {
			return err
		}
		if is, err := b.isIn(tx.Tx, t.Parent, t.Space); err != nil {
			return err
		} else if !is {
			return b.withoutParent(tx.Tx, t)
		}
		if err := records.CheckComment(tx.Tx, t.Attachment); isNotFound(err) {
			t.CommentID = uuid.NullUUID{}
		}
		used, err := b.roomFor(tx, t.Parent, t.Space, t.Usage())
		if err != nil {
			return err
		}
		a = t.Attachment
		if err := make(userNames).fill(tx.Tx, &b.users, &a); err != nil {
			return err
		}
		if err := tx.countTrash(store.Usage{}.Minus(a.Usage())); err != nil {
			return err
		}
		tx.untrash(t)
		tx.putAttachment(a)
		tx.saveUsage(t.Space, used)
		tx.enqueue(store.AttachmentRestored, a, t.Space)
		return nil
	})
	return a, err
}

// withoutParent refuses to bring an attachment back whose parent is not there.
func (b *Store) withoutParent(tx *dbfile.Tx, t trashed) error {
	gone, err := b.isGone(tx, t.Parent)
	if err == nil && !gone {
		gone, err = isRemovedBy(tx, schema.SpaceRemoval(t.Space))
	}
	switch {
	case err != nil:
		return err
	case gone: // Remove has not come to it yet
		return store.NotInTrash(t.ID)
	}
	return store.WithoutParent(t.Parent)
}

// roomFor returns the usage of a space with files of a parent that come back, or ErrQuota.
func (b *Store) roomFor(tx *writeTx, p store.Parent, slug string, back store.Usage) (used store.Usage, err error) {
	space, err := dbfile.Load[schema.SpaceRecord](tx.Tx, schema.Spaces, []byte(slug))
	if err != nil {
		return used, err
	}
	if space == nil {
		return used, store.WithoutSpace(p, slug)
	}
	if used, err = records.Usage(tx.Tx, slug); err != nil {
		return used, err
	}
	return used.Plus(back), store.CheckRestore(space.Space(slug), used, back)
}

// RestoreEntity implements store.Trash.
func (b *Store) RestoreEntity(ctx context.Context, p store.Parent) (e store.Entity, err error) {
	err = b.restoreObject(ctx, schema.ParentRemoval(p), func(tx *writeTx, t *schema.TrashedObject) error {
		used, err := b.roomFor(tx, p, t.Space, t.Files)
		if err != nil {
			return err
		}
		if e, err = records.EntityOf(t.Entity, p); err != nil {
			return err
		}
		tx.save(schema.Entities, schema.ParentKey(p), t.Entity)
		tx.Put(schema.SpaceEntities, schema.Join(schema.Slug0(t.Space), schema.ParentKey(p)), schema.Nothing)
		tx.saveUsage(t.Space, used)
		return nil
	})
	return e, err
}

// RestoreSpace implements store.Trash.
func (b *Store) RestoreSpace(ctx context.Context, slug string) (s store.Space, err error) {
	err = b.restoreObject(ctx, schema.SpaceRemoval(slug), func(tx *writeTx, t *schema.TrashedObject) error {
		s = t.Record.Space(slug)
		tx.save(schema.Spaces, []byte(slug), t.Record)
		tx.saveUsage(slug, t.Files)
		return nil
	})
	return s, err
}

// restoreObject brings a parent or space back, whose records are written by put.
func (b *Store) restoreObject(ctx context.Context, key []byte, put func(*writeTx, *schema.TrashedObject) error) error {
	return b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		t, err := dbfile.Load[schema.TrashedObject](tx.Tx, schema.TrashObjects, key)
		switch {
		case err != nil:
			return err
		case t == nil || key[0] == schema.RemovesParent && records.IsRemoving(tx.Tx, schema.SpaceRemoval(t.Space)):
			return notInTrash(key)
		case tx.isTelling(key):
			return errRemoving
		}
		if err := put(tx, t); err != nil {
			return err
		}
		tx.untrashObject(key, t)
		if err := tx.countTrash(store.Usage{}.Minus(t.Files)); err != nil {
			return err
		}
		return tx.tell(key, store.AttachmentRestored, t.Space, b.batch/removedPart)
	})
}

// PurgeAttachment implements store.Trash.
func (b *Store) PurgeAttachment(ctx context.Context, id uuid.UUID) (a store.Attachment, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		t, err := b.trashedAttachment(tx.Tx, id)
		if err != nil {
			return err
		}
		a = t.Attachment
		if err := refuseHeld(tx.Tx, heldAt(t.Space, a)); err != nil {
			return err
		}
		if err := make(userNames).fill(tx.Tx, &b.users, &a); err != nil {
			return err
		}
		freed := freedBy(tx.Tx, []store.Attachment{a})
		if err := tx.countTrash(store.Usage{}.Minus(a.Usage())); err != nil {
			return err
		}
		tx.purge(t, nil) // the entry of the change says it
		tx.dropChecksums(freed)
		return nil
	})
	return a, err
}

// PurgeEntity implements store.Trash.
func (b *Store) PurgeEntity(ctx context.Context, p store.Parent) error {
	return b.purgeObject(ctx, schema.ParentRemoval(p))
}

// PurgeSpace implements store.Trash.
func (b *Store) PurgeSpace(ctx context.Context, slug string) error {
	return b.purgeObject(ctx, schema.SpaceRemoval(slug))
}

func (b *Store) purgeObject(ctx context.Context, key []byte) error {
	return b.whenFree(ctx, func() error {
		return b.updateAlone(ctx, func(tx *writeTx) error {
			t, err := visibleTrashed(tx.Tx, key)
			switch {
			case err != nil:
				return err
			case tx.isTelling(key):
				return errRemoving
			}
			on, err := heldObject(key, t.Space)
			if err == nil {
				err = refuseHeld(tx.Tx, on)
			}
			if err != nil {
				return err
			}
			return tx.beginPurge(key, t)
		})
	})
}

// beginPurge leaves the mark for which Remove removes a parent or space in the trash.
func (tx *writeTx) beginPurge(key []byte, t *schema.TrashedObject) error {
	if err := tx.countTrash(store.Usage{}.Minus(t.Files)); err != nil {
		return err
	}
	r := schema.RemovalRecord{Space: t.Space, Entry: tx.encodedEntry(), Origin: tx.change.origin, Purges: true}
	if r.Entry == nil {
		r.Entry = t.Entry
	}
	if r.Origin == nil {
		r.Origin = t.Origin
	}
	tx.untrashObject(key, t)
	tx.save(schema.Removals, key, r)
	return nil
}

// PurgeUntil implements store.Trash. It looks for what is due before it changes anything:
// where holds keep much, that is long.
func (b *Store) PurgeUntil(ctx context.Context, until, held time.Time, limit int) (freed [][32]byte, purged store.Usage, more bool, err error) {
	limit = min(limit, b.batch/removedPart)
	err = b.whenFree(ctx, func() error {
		var due, stay [][]byte
		err := b.viewCommitted(ctx, func(tx *dbfile.Tx) (err error) {
			due, stay, more, err = dueUntil(ctx, tx, until, !held.IsZero(), limit)
			return err
		})
		if err != nil || len(due)+len(stay) == 0 {
			return err
		}
		return b.updateAlone(ctx, func(tx *writeTx) (err error) {
			if freed, purged, err = tx.purgeDue(due); err != nil {
				return err
			}
			for _, entry := range stay {
				if err := tx.staysUntil(entry, held); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, store.Usage{}, false, err
	}
	return freed, purged, more, nil
}

// purgeDue removes for good what is in the trash, given by its entries among what ends, where
// that is so still and nothing holds it.
func (tx *writeTx) purgeDue(entries [][]byte) (freed [][32]byte, purged store.Usage, err error) {
	var due [][]byte
	for _, entry := range entries {
		if !tx.Has(schema.TrashUntil, entry) {
			continue
		}
		_, key, err := schema.ParseUntil(entry)
		if err != nil {
			return nil, purged, err
		}
		if is, err := isHeld(tx.Tx, key); err != nil {
			return nil, purged, err
		} else if !is {
			due = append(due, key)
		}
	}
	var doomed []trashed
	var attachments []store.Attachment
	for _, key := range due {
		if key[0] == schema.TrashesAttachment {
			t, err := trashedAt(tx.Tx, key)
			if err != nil {
				return nil, purged, err
			}
			doomed, attachments = append(doomed, t), append(attachments, t.Attachment)
			purged = purged.Plus(t.Usage())
		} else if tx.isTelling(key) {
			return nil, purged, errRemoving
		}
	}
	freed = freedBy(tx.Tx, attachments)
	if err := tx.countTrash(store.Usage{}.Minus(purged)); err != nil {
		return nil, purged, err
	}
	for _, t := range doomed {
		tx.purge(t, tx.change.entry)
	}
	tx.dropChecksums(freed)
	for _, key := range due {
		if key[0] == schema.TrashesAttachment {
			continue
		}
		t, err := loadTrashed(tx.Tx, key)
		if err == nil {
			purged = purged.Plus(t.Files)
			err = tx.beginPurge(key, t)
		}
		if err != nil {
			return nil, purged, err
		}
	}
	return freed, purged, nil
}

// dueUntil returns the entries, among what ends, of at most limit things in the trash whose
// time has come, the earliest first, and says whether there are more. What is held is
// returned apart, or only passed over.
func dueUntil(ctx context.Context, tx *dbfile.Tx, until time.Time, withHeld bool, limit int) (due, held [][]byte, more bool, err error) {
	if tx.HasNone(schema.TrashUntil) {
		return nil, nil, false, nil
	}
	for entry := range tx.Under(schema.TrashUntil, nil, nil) {
		at, key, err := schema.ParseUntil(entry)
		if err == nil {
			err = ctx.Err() // much may be held
		}
		switch {
		case err != nil:
			return nil, nil, false, err
		case at.After(until):
			return due, held, false, nil
		case len(due)+len(held) >= limit:
			return due, held, true, nil
		}
		switch is, err := isHeld(tx, key); {
		case err != nil:
			return nil, nil, false, err
		case !is:
			due = append(due, bytes.Clone(entry))
		case withHeld:
			held = append(held, bytes.Clone(entry))
		}
	}
	return due, held, false, nil
}

// staysUntil changes when something in the trash is removed for good, given by its entry
// among what ends, where it is there still.
func (tx *writeTx) staysUntil(entry []byte, until time.Time) error {
	if !tx.Has(schema.TrashUntil, entry) {
		return nil
	}
	_, key, err := schema.ParseUntil(entry)
	if err != nil {
		return err
	}
	if key[0] == schema.TrashesAttachment {
		t, err := trashedAt(tx.Tx, key)
		if err != nil {
			return err
		}
		t.Until = until
		tx.Put(schema.Trash, key[1:], schema.EncodeTrash(t.TrashRecord, t.Attachment))
	} else {
		t, err := loadTrashed(tx.Tx, key)
		if err != nil {
			return err
		}
		t.Until = until.Unix()
		tx.save(schema.TrashObjects, key, t)
	}
	tx.Delete(schema.TrashUntil, entry)
	tx.Put(schema.TrashUntil, schema.UntilKey(until, key), schema.Nothing)
	return nil
}

// loadTrashed reads a parent or space that is in the trash as an index says.
func loadTrashed(tx *dbfile.Tx, key []byte) (*schema.TrashedObject, error) {
	t, err := dbfile.Load[schema.TrashedObject](tx, schema.TrashObjects, key)
	if err == nil && t == nil {
		err = fmt.Errorf("what is listed in the trash: %w", schema.ErrKey)
	}
	return t, err
}

// TrashSize implements store.Trash.
func (b *Store) TrashSize(ctx context.Context) (size store.Usage, earliest time.Time, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		if size, err = records.TrashSum(tx); err != nil || tx.HasNone(schema.TrashUntil) {
			return err
		}
		key, _ := tx.Entries(schema.TrashUntil).First()
		earliest, _, err = schema.ParseUntil(key)
		return err
	})
	return size, earliest, err
}

// startReplacing begins the removal of a parent or space in the trash that is to be put
// anew: its attachments stay in the trash.
func (b *Store) startReplacing(ctx context.Context, key []byte) error {
	return b.whenFree(ctx, func() error {
		return b.updateAlone(ctx, func(tx *writeTx) error {
			tx.change.entry = nil // it is that of the change that waits
			if tx.isTelling(key) {
				return errRemoving
			}
			t, err := dbfile.Load[schema.TrashedObject](tx.Tx, schema.TrashObjects, key)
			if err != nil {
				return err
			}
			if t == nil && key[0] == schema.RemovesParent {
				return tx.takeFromTrashed(key)
			}
			if t == nil { // another call did it
				return nil
			}
			tx.untrashObject(key, t)
			tx.stays(key, t.Space, t.Deletion(), t.Files)
			return nil
		})
	})
}

// stays leaves the mark for which Remove moves attachments to the trash, each by itself.
func (tx *writeTx) stays(key []byte, space string, d store.Deletion, files store.Usage) {
	tx.save(schema.Removals, key, schema.RemovalRecord{Space: space, Stays: &d, Files: files})
}

// takeFromTrashed takes a parent out of a space in the trash, since it is to be put into
// another.
func (tx *writeTx) takeFromTrashed(key []byte) error {
	p, err := schema.ParseParent(key[1:])
	if err != nil {
		return err
	}
	e, err := dbfile.Load[schema.EntityRecord](tx.Tx, schema.Entities, key[1:])
	if err != nil || e == nil {
		return err
	}
	in := schema.SpaceRemoval(e.Space)
	t, err := dbfile.Load[schema.TrashedObject](tx.Tx, schema.TrashObjects, in)
	switch {
	case err != nil || t == nil:
		return err
	case tx.isTelling(in):
		return errRemoving
	}
	used, err := records.UsageOf(tx.Tx, p)
	if err != nil {
		return err
	}
	t.Files = t.Files.Minus(used)
	tx.save(schema.TrashObjects, in, t)
	tx.deleteEntity(p, e.Space)
	tx.stays(key, e.Space, t.Deletion(), used)
	return nil
}
