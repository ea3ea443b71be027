package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"

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

// replaces is the error of a change that would put anew what is in the trash: the
// removals with these keys have to begin before. See whenFree.
type replaces struct{ keys [][]byte }

func (*replaces) Error() string { return "what was there before is in the trash" }

// hiddenBy returns the key of the removal that hides what belongs to a parent, which may
// be one of something in the trash, or nil.
func (b *Store) hiddenBy(tx *dbfile.Tx, p store.Parent) (removal []byte, err error) {
	if tx.HasNone(schema.Removals) && tx.HasNone(schema.TrashObjects) { // the usual case
		return nil, nil
	}
	record, err := b.entities.Load(tx, schema.Entities, schema.ParentKey(p))
	switch {
	case err != nil:
		return nil, err
	case record == nil:
		removal = schema.ParentRemoval(p)
	case tx.Has(schema.Spaces, []byte(record.Space)):
		return nil, nil
	default:
		removal = schema.SpaceRemoval(record.Space)
	}
	if records.IsTrashed(tx, removal) || records.IsRemoving(tx, removal) {
		return removal, nil
	}
	return nil, nil
}

// isHidden says whether what belongs to a parent is hidden: in the trash, or being removed.
func (b *Store) isHidden(tx *dbfile.Tx, p store.Parent) (bool, error) {
	by, err := b.hiddenBy(tx, p)
	return by != nil, err
}

// isGone says whether what belongs to a parent is being removed for good.
func (b *Store) isGone(tx *dbfile.Tx, p store.Parent) (bool, error) {
	by, err := b.hiddenBy(tx, p)
	if err != nil || by == nil {
		return false, err
	}
	return isRemovedBy(tx, by)
}

// isRemovedBy says whether what is below a parent or space is being removed for good.
func isRemovedBy(tx *dbfile.Tx, removal []byte) (bool, error) {
	r, err := dbfile.Load[schema.RemovalRecord](tx, schema.Removals, removal)
	return r != nil && r.Stays == nil, err
}

// parentCache caches what a function says of parents for the duration of one call.
type parentCache map[store.Parent]bool

func (c parentCache) says(is func(*dbfile.Tx, store.Parent) (bool, error), tx *dbfile.Tx, p store.Parent) (bool, error) {
	said, known := c[p]
	if known {
		return said, nil
	}
	said, err := is(tx, p)
	c[p] = said
	return said, err
}

// DeleteEntity implements Directory.
func (b *Store) DeleteEntity(ctx context.Context, p store.Parent, withAttachments bool) (freed [][32]byte, err error) {
	err = b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		e, _, err := b.takeEntity(tx, p, withAttachments)
		if err == nil {
			freed, err = tx.beginRemoval(schema.ParentRemoval(p), e.Space, b.batch/removedPart)
		}
		return err
	})
	return freed, err
}

// takeEntity deletes the record of a parent and gives its quota back. What is below stays.
func (b *Store) takeEntity(tx *writeTx, p store.Parent, withAttachments bool) (e *schema.EntityRecord, used store.Usage, err error) {
	if _, err := b.visibleEntity(tx.Tx, p); err != nil {
		return nil, used, err
	}
	if e, err = dbfile.Load[schema.EntityRecord](tx.Tx, schema.Entities, schema.ParentKey(p)); err != nil {
		return nil, used, err
	}
	if tx.isTelling(schema.ParentRemoval(p)) || tx.isTelling(schema.SpaceRemoval(e.Space)) {
		return nil, used, errRemoving
	}
	if err := refuseHeld(tx.Tx, store.Held{Space: e.Space, Parent: p}); err != nil {
		return nil, used, err
	}
	if !withAttachments && tx.HasUnder(schema.Attachments, schema.ParentKey(p)) {
		return nil, used, store.HasAttachments(p)
	}
	if used, err = records.UsageOf(tx.Tx, p); err != nil {
		return nil, used, err
	}
	usage, err := records.Usage(tx.Tx, e.Space)
	if err != nil {
		return nil, used, err
	}
	tx.saveUsage(e.Space, store.Usage{Bytes: usage.Bytes - used.Bytes, Files: usage.Files - used.Files})
	tx.deleteEntity(p, e.Space)
	return e, used, nil
}

func (tx *writeTx) deleteEntity(p store.Parent, space string) {
	tx.Delete(schema.SpaceEntities, schema.Join(schema.Slug0(space), schema.ParentKey(p)))
	tx.Delete(schema.Entities, schema.ParentKey(p))
}

// DeleteSpace implements Directory.
func (b *Store) DeleteSpace(ctx context.Context, slug string, withAttachments bool) (freed [][32]byte, err error) {
	err = b.changeDirectoryAlone(ctx, func(tx *writeTx) error {
		_, _, err := tx.takeSpace(slug, withAttachments)
		if err == nil {
			freed, err = tx.beginRemoval(schema.SpaceRemoval(slug), slug, b.batch/removedPart)
		}
		return err
	})
	return freed, err
}

// takeSpace deletes the record of a space and its usage. What is below stays.
func (tx *writeTx) takeSpace(slug string, withAttachments bool) (s *schema.SpaceRecord, used store.Usage, err error) {
	if s, err = dbfile.Load[schema.SpaceRecord](tx.Tx, schema.Spaces, []byte(slug)); err != nil {
		return nil, used, err
	}
	switch {
	case s == nil:
		return nil, used, store.NoSpace(slug)
	case tx.isTelling(schema.SpaceRemoval(slug)):
		return nil, used, errRemoving
	}
	if err := refuseHeld(tx.Tx, store.Held{Space: slug}); err != nil {
		return nil, used, err
	}
	if !withAttachments {
		for parent := range tx.Under(schema.SpaceEntities, schema.Slug0(slug), nil) {
			if tx.HasUnder(schema.Attachments, parent) {
				return nil, used, store.SpaceHasAttachments(slug)
			}
		}
	}
	if used, err = records.Usage(tx.Tx, slug); err != nil {
		return nil, used, err
	}
	tx.Delete(schema.Usage, []byte(slug))
	tx.Delete(schema.Spaces, []byte(slug))
	return s, used, nil
}

// beginRemoval removes what is below a parent or space that was deleted, and leaves
// a mark when that is too much for one transaction.
func (tx *writeTx) beginRemoval(key []byte, space string, limit int) (freed [][32]byte, err error) {
	r := schema.RemovalRecord{Space: space, Entry: tx.encodedEntry(), Origin: tx.change.origin}
	freed, more, err := tx.removeSome(key, &r, limit)
	if more {
		tx.save(schema.Removals, key, r)
	}
	return freed, err
}

// encodedEntry is the audit entry of the change being applied, or nil.
func (tx *writeTx) encodedEntry() []byte {
	if tx.change.entry == nil {
		return nil
	}
	return tx.change.entry.Encode()
}

// Remove implements Directory. A removal that fails does not block others.
func (b *Store) Remove(ctx context.Context) (freed [][32]byte, more bool, err error) {
	freed, more, err = b.removeNext(ctx)
	return append(b.freed.take(), freed...), more, err
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
		tx.change.origin, tx.change.entry = r.Origin, nil
		var left bool
		if mark.Key[0] == schema.Tells {
			left, err = tx.tellSome(mark.Key[1:], r, b.batch/removedPart)
		} else {
			freed, left, err = tx.removeSome(mark.Key, r, b.batch/removedPart)
		}
		switch {
		case err != nil:
		case left:
			tx.save(schema.Removals, mark.Key, r)
		default:
			tx.Delete(schema.Removals, mark.Key)
		}
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("remove what went with %x: %w", mark.Key, err)
	}
	return freed, more, nil
}

// freedContents are the contents that continueRemoval freed, which the next Remove
// returns. The lock is held from before the mark goes until they are here: a Remove that
// finds no mark has nothing after it that would call it again.
type freedContents struct {
	mu       sync.Mutex
	contents [][32]byte
}

// take waits for a continueRemoval under way.
func (f *freedContents) take() [][32]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.contents
	f.contents = nil
	return taken
}

// continueRemoval is Remove for a change that waits for it.
func (b *Store) continueRemoval(ctx context.Context) error {
	b.freed.mu.Lock()
	defer b.freed.mu.Unlock()
	freed, _, err := b.removeNext(ctx)
	b.freed.contents = append(b.freed.contents, freed...)
	return err
}

// removalBatch collects what one transaction of a removal removes.
type removalBatch struct {
	*dbfile.Tx
	room        int // how many more entries fit into the batch
	attachments []store.Attachment
	fromTrash   []store.Attachment // of parents in the trash of a space
	trashed     []trashed          // those that were deleted by themselves
	entries     []bucketKey        // all entries that are not of attachments
	trash       store.Usage        // counted of parents in the trash
}

// trashed is an attachment in the trash.
type trashed struct {
	store.Attachment
	schema.TrashRecord
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

// trashOf adds what was deleted of a parent while it was in this space, and says whether
// that is all of it.
func (d *removalBatch) trashOf(p store.Parent, space string) (all bool, err error) {
	for t, err := range trashOf(d.Tx, p, space, nil) {
		if err != nil {
			return false, err
		}
		if !d.add() {
			return false, nil
		}
		d.trashed = append(d.trashed, t)
	}
	return true, nil
}

func (d *removalBatch) addTrashed(p store.Parent, id uuid.UUID, record []byte) (room bool, err error) {
	if !d.add() {
		return false, nil
	}
	t, a, err := records.Trashed(p, id, record)
	d.trashed = append(d.trashed, trashed{a, t})
	return true, err
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

// trashIn adds what is in the trash of a space, and says whether that is all of it.
func (d *removalBatch) trashIn(slug string) (all bool, err error) {
	if d.HasNone(schema.TrashSpaces) {
		return true, nil
	}
	for place := range d.Under(schema.TrashSpaces, schema.Slug0(slug), nil) {
		if len(place) < 8+2 {
			return false, schema.ErrKey
		}
		all, key := false, bytes.Clone(place[8:])
		if key[0] == schema.TrashesAttachment {
			var p store.Parent
			var id uuid.UUID
			if p, id, err = schema.ParseAttachmentKey(key[1:]); err == nil {
				all, err = d.addTrashed(p, id, d.Get(schema.Trash, key[1:]))
			}
		} else {
			all, err = d.trashedParent(key)
		}
		if err != nil || !all {
			return false, err
		}
	}
	return true, nil
}

// trashedParent adds what belongs to a parent in the trash, and then itself.
func (d *removalBatch) trashedParent(key []byte) (all bool, err error) {
	p, err := schema.ParseParent(key[1:])
	if err != nil {
		return false, err
	}
	before := len(d.attachments)
	all, err = d.parent(p)
	d.fromTrash, d.attachments = append(d.fromTrash, d.attachments[before:]...), d.attachments[:before]
	if err != nil || !all {
		return false, err
	}
	t, err := dbfile.Load[schema.TrashedObject](d.Tx, schema.TrashObjects, key)
	if err == nil && t == nil {
		err = fmt.Errorf("there is no record of the %s %s in the trash", p.Kind, p.ID)
	}
	if err != nil || !d.add(entriesOf(key, t)...) {
		return false, err
	}
	d.trash = d.trash.Plus(t.Files)
	return true, nil
}

// below adds what is below a parent or space, and says whether that is all of it.
func (d *removalBatch) below(key []byte, r *schema.RemovalRecord) (all bool, err error) {
	stays := r.Stays != nil
	switch key[0] {
	case schema.RemovesParent:
		p, err := schema.ParseParent(key[1:])
		if err != nil {
			return false, err
		}
		if all, err = d.parent(p); err == nil && all && !stays {
			all, err = d.trashOf(p, r.Space)
		}
		return all, err
	case schema.RemovesSpace:
		slug := string(key[1:])
		if all, err = d.space(slug); err == nil && all && !stays {
			all, err = d.trashIn(slug)
		}
		return all, err
	}
	return false, schema.ErrKey
}

// removeSome removes at most limit entries below a parent or space, and returns
// which contents are unreferenced now, and whether anything is left.
func (tx *writeTx) removeSome(key []byte, r *schema.RemovalRecord, limit int) (freed [][32]byte, more bool, err error) {
	d := &removalBatch{Tx: tx.Tx, room: limit}
	all, err := d.below(key, r)
	var entry *store.Entry
	if err == nil && len(r.Entry) > 0 {
		var e store.Entry
		e, err = store.DecodeEntry(r.Entry)
		entry = &e
	}
	if err != nil {
		return nil, false, err
	}
	if r.Stays != nil {
		for _, a := range d.attachments {
			tx.trash(a, schema.TrashRecord{Deletion: *r.Stays, Space: r.Space})
			r.Files = r.Files.Minus(a.Usage())
		}
	} else {
		freed, err = tx.purgeBelow(d, r, entry)
	}
	for _, e := range d.entries {
		tx.Delete(e.bucket, e.key)
	}
	return freed, !all, err
}

// purgeBelow removes the attachments of a batch, and returns which contents are
// unreferenced now.
func (tx *writeTx) purgeBelow(d *removalBatch, r *schema.RemovalRecord, entry *store.Entry) (freed [][32]byte, err error) {
	doomed := slices.Concat(d.attachments, d.fromTrash)
	for _, t := range d.trashed {
		doomed = append(doomed, t.Attachment)
	}
	freed = freedBy(tx.Tx, doomed)
	remove := func(list []store.Attachment, what store.EventType, action string) {
		for _, a := range list {
			tx.removeAttachment(a, r.Space, what)
			if entry != nil {
				tx.noteFor(*entry, action, "attachment", a.ID.String(), a.FileName, r.Space)
			}
		}
	}
	if r.Purges {
		remove(d.attachments, store.AttachmentPurged, "attachment.purge")
	} else {
		remove(d.attachments, store.AttachmentDeleted, "attachment.delete")
	}
	remove(d.fromTrash, store.AttachmentPurged, "attachment.purge")
	for _, t := range d.trashed {
		d.trash = d.trash.Plus(t.Usage())
		tx.purge(t, entry)
	}
	tx.dropChecksums(freed)
	return freed, tx.countTrash(store.Usage{}.Minus(d.trash))
}
