// Package records reads single records in a verified transaction, each together
// with the fields that are in its key and in other records. The store and its check
// share it.
package records

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/backend"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

// Attachment reads the record of an attachment, without the name of its uploader. One
// that was deleted into the trash by itself is not found.
func Attachment(tx *dbfile.Tx, id uuid.UUID) (store.Attachment, error) {
	a, trashed, err := Stored(tx, id)
	if err == nil && trashed != nil {
		return store.Attachment{}, store.NoAttachment(id)
	}
	return a, err
}

// Stored is Attachment also for one in the trash. Of that, trashed says how it came there.
func Stored(tx *dbfile.Tx, id uuid.UUID) (a store.Attachment, trashed *schema.TrashRecord, err error) {
	at := tx.Get(schema.AttachmentIDs, id[:])
	if at == nil {
		return a, nil, store.NoAttachment(id)
	}
	isTrashed := len(at) == 18 && bytes.HasSuffix(at, schema.InTrash)
	if isTrashed {
		at = at[:17]
	}
	p, err := schema.ParseParent(at)
	if err != nil {
		return a, nil, fmt.Errorf("find attachment %s: %w", id, err)
	}
	key := schema.Join(at, id[:])
	if isTrashed {
		t, a, err := Trashed(p, id, tx.Get(schema.Trash, key))
		return a, &t, err
	}
	a, err = DecodeAttachment(p, id, tx.Get(schema.Attachments, key))
	return a, nil, err
}

// Trashed decodes the record of an attachment in the trash.
func Trashed(p store.Parent, id uuid.UUID, data []byte) (schema.TrashRecord, store.Attachment, error) {
	t, a, err := schema.DecodeTrash(p, id, data)
	if err != nil {
		err = fmt.Errorf("read attachment %s in the trash: %w", id, err)
	}
	return t, a, err
}

// IsTrashed says whether a parent or space is in the trash, by the key of its removal.
func IsTrashed(tx *dbfile.Tx, removal []byte) bool { return tx.Has(schema.TrashObjects, removal) }

// TrashSum reads the usage of all attachments in the trash.
func TrashSum(tx *dbfile.Tx) (store.Usage, error) {
	return schema.DecodeUsage(tx.Get(schema.Meta, schema.TrashSum))
}

// DecodeAttachment decodes the record of an attachment.
func DecodeAttachment(p store.Parent, id uuid.UUID, data []byte) (store.Attachment, error) {
	a, err := schema.DecodeAttachment(p, id, data)
	if err != nil {
		return a, fmt.Errorf("read attachment %s: %w", id, err)
	}
	return a, nil
}

// AttachmentsOf lists all attachments of a parent, without names of uploaders.
func AttachmentsOf(tx *dbfile.Tx, p store.Parent) (list []store.Attachment, err error) {
	for rest, record := range tx.Under(schema.Attachments, schema.ParentKey(p), nil) {
		id, err := schema.ParseID(rest)
		if err != nil {
			return nil, err
		}
		a, err := DecodeAttachment(p, id, record)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// CheckComment returns an error when an attachment names a comment that does not
// exist.
func CheckComment(tx *dbfile.Tx, a store.Attachment) error {
	if !a.CommentID.Valid {
		return nil
	}
	id := a.CommentID.UUID
	if a.Parent.Kind != store.Ticket || !tx.Has(schema.Comments, schema.Join(a.Parent.ID[:], id[:])) {
		return store.NoComment(a.Parent.Kind, id)
	}
	return nil
}

// Usage reads the usage of a space.
func Usage(tx *dbfile.Tx, slug string) (store.Usage, error) {
	return schema.DecodeUsage(tx.Get(schema.Usage, []byte(slug)))
}

// Entity reads a product, ticket or meeting.
func Entity(tx *dbfile.Tx, p store.Parent) (store.Entity, error) {
	record, err := dbfile.Load[schema.EntityRecord](tx, schema.Entities, schema.ParentKey(p))
	if err != nil {
		return store.Entity{}, err
	}
	return EntityOf(record, p)
}

// EntityOf returns the entity of a record, which may be nil.
func EntityOf(r *schema.EntityRecord, p store.Parent) (store.Entity, error) {
	if r == nil {
		return store.Entity{}, store.NoParent(p)
	}
	return store.Entity{Parent: p, Space: r.Space, Name: r.Name, OwnerID: r.OwnerID}, nil
}

// User reads the record of a user, including one of a deleted user.
func User(tx *dbfile.Tx, id uuid.UUID) (*schema.UserRecord, error) {
	user, err := dbfile.Load[schema.UserRecord](tx, schema.Users, id[:])
	if err != nil || user == nil || user.Deleted {
		return nil, err
	}
	return user, nil
}

// NeedUser returns an error for a user who does not exist or was deleted.
func NeedUser(tx *dbfile.Tx, id uuid.UUID) error {
	user, err := User(tx, id)
	if err == nil && user == nil {
		err = store.NoUser(id)
	}
	return err
}

// NeedSpace returns an error for a space that does not exist.
func NeedSpace(tx *dbfile.Tx, slug string) error {
	if !tx.Has(schema.Spaces, []byte(slug)) {
		return store.NoSpace(slug)
	}
	return nil
}

// IsRemoving says whether a removal is under way. A read-only copy of an older
// database has none.
func IsRemoving(tx *dbfile.Tx, k []byte) bool {
	return tx.Has(schema.Removals, k)
}

// Touched reads when a key was last used, in unix seconds.
func Touched(tx *dbfile.Tx, id uuid.UUID) (seconds int64, found bool, err error) {
	value := tx.Get(schema.Touched, id[:])
	switch len(value) {
	case 0:
		return 0, false, nil
	case 8:
		return int64(binary.BigEndian.Uint64(value)), true, nil
	}
	return 0, false, fmt.Errorf("damaged time of last use of key %s", id)
}

// Link reads an end of the audit chain.
func Link(tx *dbfile.Tx, key []byte) (l store.ChainPos, known bool, err error) {
	raw := tx.Get(schema.Meta, key)
	if raw == nil {
		return l, false, nil
	}
	if l, err = schema.DecodeLink(raw); err != nil {
		err = fmt.Errorf("the %s: %w", key, err)
	}
	return l, err == nil, err
}

// AuditEnds reads both ends of the audit chain: the last entry that was removed, and the
// last that was written.
func AuditEnds(tx *dbfile.Tx) (anchor, head store.ChainPos, err error) {
	anchor, _, err = Link(tx, schema.AuditAnchor)
	if err != nil {
		return anchor, head, err
	}
	head, known, err := Link(tx, schema.AuditHead)
	if err == nil && !known {
		head = lastEntry(tx)
		if head == (store.ChainPos{}) {
			head = anchor
		}
	}
	return anchor, head, err
}

// LastLink returns the position that the next entry follows: the head, so that the
// gap stays detectable when the newest entries were cut off. An earlier version,
// which had no head, may have written entries since or removed the head's entry as
// too old. Then the next one follows those; but where they do not continue the
// head, its hash is used instead, which breaks the chain permanently.
func LastLink(tx *dbfile.Tx) (store.ChainPos, error) {
	anchor, head, err := AuditEnds(tx)
	if err != nil {
		return store.ChainPos{}, err
	}
	if anchor.Seq > head.Seq {
		head = anchor
	}
	last := lastEntry(tx)
	if last.Seq <= head.Seq {
		return head, nil
	}
	if value := tx.Get(schema.Audit, schema.Number(head.Seq)); head != anchor && !bytes.HasPrefix(value, head.Hash[:]) {
		last.Hash = head.Hash
	}
	return last, nil
}

// lastEntry is the position of the newest stored entry, or the zero ChainPos.
func lastEntry(tx *dbfile.Tx) store.ChainPos {
	if tx.Bucket(schema.Audit) == nil { // a read-only copy from before there was an audit log
		return store.ChainPos{}
	}
	cursor := tx.Readable(schema.Audit)
	key, value := cursor.Last()
	for key != nil && len(key) != 8 {
		key, value = cursor.Prev()
	}
	if key == nil {
		return store.ChainPos{}
	}
	e := schema.ReadEntry(key, value)
	return store.ChainPos{Seq: e.Seq, Hash: e.Hash}
}

// Entries reads at most limit entries, oldest first, from the key on. A key that is
// not a number is skipped; a check reports it.
func Entries(tx *dbfile.Tx, from []byte, limit int) (list []store.Entry, err error) {
	anchor, _, err := AuditEnds(tx)
	if err != nil {
		return nil, err
	}
	cursor := tx.Readable(schema.Audit)
	previous := anchor.Hash
	key, value := cursor.Seek(from)
	if key != nil {
		if _, before := cursor.Prev(); len(before) >= 32 {
			previous = [32]byte(before)
		}
		key, value = cursor.Seek(from)
	}
	for ; key != nil && len(list) < limit; key, value = cursor.Next() {
		if len(key) != 8 {
			continue
		}
		e := schema.ReadEntry(key, value)
		if cursor.Bad != nil && len(cursor.Sealed) >= 32 {
			e.Hash = [32]byte(cursor.Sealed) // so that this is no fault of the next entry
		}
		e.Previous, previous = previous, e.Hash
		list = append(list, e)
	}
	return list, nil
}

// Runs reads the runs of the audit log up to its head.
func Runs(tx *dbfile.Tx, head uint64) ([]store.AuditRun, error) {
	return backend.DecodeRuns(tx.Get(schema.Meta, schema.AuditRuns), head)
}

// UsageOf adds up the attachments of a parent.
func UsageOf(tx *dbfile.Tx, p store.Parent) (used store.Usage, err error) {
	for rest, record := range tx.Under(schema.Attachments, schema.ParentKey(p), nil) {
		id, err := schema.ParseID(rest)
		if err != nil {
			return used, err
		}
		a, err := DecodeAttachment(p, id, record)
		if err != nil {
			return used, err
		}
		used.Bytes, used.Files = used.Bytes+a.Size, used.Files+1
	}
	return used, nil
}
