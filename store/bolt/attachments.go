package bolt

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"
)

// CreateAttachment implements Attachments.
func (b *Store) CreateAttachment(ctx context.Context, a store.Attachment, checksums []byte, autoCreate string) error {
	return b.create(ctx, a, nil, checksums, autoCreate)
}

// CreateStaged implements store.Stager.
func (b *Store) CreateStaged(ctx context.Context, a store.Attachment, content, checksums []byte, autoCreate string) error {
	if int64(len(content)) != a.Size {
		return fmt.Errorf("store: attachment %s has %d bytes, and its content %d", a.ID, a.Size, len(content))
	}
	return b.create(ctx, a, content, checksums, autoCreate)
}

// create stores the record of an attachment, and its content where that is not nil.
func (b *Store) create(ctx context.Context, a store.Attachment, content, checksums []byte, autoCreate string) error {
	if a.ID == uuid.Nil || a.Size < 0 || autoCreate != "" && !store.ValidSlug(autoCreate) {
		return fmt.Errorf("store: malformed attachment %v in space %q", a, autoCreate)
	}
	apply := func(tx *writeTx) error {
		if err := createAttachment(tx, a, autoCreate); err != nil {
			return err
		}
		tx.putChecksums(a.SHA256, checksums)
		if content != nil {
			tx.contents = append(tx.contents, wal.Content{Bucket: schema.Staged, Key: a.ID[:], Bytes: content})
		}
		return nil
	}
	return b.whenFree(ctx, func() error { return b.updateSoon(ctx, content, apply) })
}

func createAttachment(tx *writeTx, a store.Attachment, autoCreate string) error {
	if tx.Has(schema.AttachmentIDs, a.ID[:]) {
		return store.AttachmentTaken(a.ID)
	}
	if err := records.NeedUser(tx.Tx, a.UploaderID); err != nil {
		return err
	}
	if err := records.CheckComment(tx.Tx, a); err != nil {
		return err
	}
	home, err := findDestination(tx.Tx, a, autoCreate)
	if err != nil {
		return err
	}
	if home.changes() {
		if err := tx.imports.free(); err != nil {
			return err
		}
	}
	usage, err := records.Usage(tx.Tx, home.entity.Space)
	if err != nil {
		return err
	}
	if err := store.CheckQuota(home.space.Space(home.entity.Space), usage, a.Size); err != nil {
		return err
	}

	home.createMissing(tx, a)
	tx.Put(schema.Attachments, schema.Join(schema.ParentKey(a.Parent), a.ID[:]), schema.EncodeAttachment(a))
	tx.Put(schema.AttachmentIDs, a.ID[:], schema.ParentKey(a.Parent))
	tx.Put(schema.Contents, schema.Join(a.SHA256[:], a.ID[:]), schema.Nothing)
	usage.Bytes, usage.Files = usage.Bytes+a.Size, usage.Files+1
	tx.saveUsage(home.entity.Space, usage)
	tx.created = append(tx.created, created{a, home.entity.Space, usage})
	tx.enqueue(store.AttachmentCreated, a, home.entity.Space)
	return nil
}

// destination is where an attachment is to be stored: its parent and its space, and
// which of them have to be created first.
type destination struct {
	entity    *schema.EntityRecord
	space     *schema.SpaceRecord
	newEntity bool
	newSpace  bool
	newAdmin  bool
}

func findDestination(tx *dbfile.Tx, a store.Attachment, autoCreate string) (h destination, err error) {
	h.entity, err = dbfile.Load[schema.EntityRecord](tx, schema.Entities, schema.ParentKey(a.Parent))
	if err != nil {
		return h, err
	}
	if autoCreate != "" && isBeingRemoved(tx, a.Parent, h.entity, autoCreate) {
		return h, errRemoving
	}
	elsewhere := h.entity != nil && a.Parent.Kind == store.Product && autoCreate != "" && h.entity.Space != autoCreate
	missing := h.entity == nil && (autoCreate == "" || a.Parent.ID == uuid.Nil)
	if elsewhere || missing {
		return h, store.NoParent(a.Parent)
	}
	if h.entity == nil {
		h.newEntity = true
		h.entity = &schema.EntityRecord{Space: autoCreate}
		if a.Parent.Kind == store.Ticket {
			h.entity.OwnerID = a.UploaderID
		}
	}

	h.space, err = dbfile.Load[schema.SpaceRecord](tx, schema.Spaces, []byte(h.entity.Space))
	if err != nil {
		return h, err
	}
	if h.space == nil && !h.newEntity {
		return h, store.NoParent(a.Parent)
	}
	if h.space == nil {
		h.newSpace = true
		h.space = &schema.SpaceRecord{Name: autoCreate, Auto: true}
	}
	h.newAdmin = h.space.Auto && h.entity.Space == autoCreate &&
		!tx.Has(schema.Members, schema.Join(schema.Slug0(autoCreate), a.UploaderID[:]))
	return h, nil
}

// isBeingRemoved says whether the parent or space that would be created existed
// before, and its removal is not complete yet.
func isBeingRemoved(tx *dbfile.Tx, p store.Parent, known *schema.EntityRecord, space string) bool {
	if known != nil {
		return records.IsRemoving(tx, schema.SpaceRemoval(known.Space))
	}
	return records.IsRemoving(tx, schema.ParentRemoval(p)) || records.IsRemoving(tx, schema.SpaceRemoval(space))
}

// changes says whether something has to be created.
func (h destination) changes() bool { return h.newSpace || h.newEntity || h.newAdmin }

// createMissing creates the missing space, entity and membership.
func (h destination) createMissing(tx *writeTx, a store.Attachment) {
	slug := h.entity.Space
	const why = "made by an upload"
	tx.direct = tx.direct || h.changes()
	if h.newSpace {
		tx.note("space.put", "space", slug, why, slug)
		tx.save(schema.Spaces, []byte(slug), h.space)
	}
	if h.newEntity {
		tx.note(a.Parent.Kind.String()+".put", a.Parent.Kind.String(), a.Parent.ID.String(), why, slug)
		tx.save(schema.Entities, schema.ParentKey(a.Parent), h.entity)
		tx.Put(schema.SpaceEntities, schema.Join(schema.Slug0(slug), schema.ParentKey(a.Parent)), schema.Nothing)
	}
	if h.newAdmin {
		m := store.Member{Space: slug, UserID: a.UploaderID, Role: store.Admin}
		tx.note("member.put", "user", m.UserID.String(), store.Granted(m)+", "+why, slug)
		tx.saveMember(m)
	}
}

func (tx *writeTx) saveUsage(slug string, u store.Usage) {
	tx.Put(schema.Usage, []byte(slug), schema.EncodeUsage(u))
}

// Attachment implements Attachments.
func (b *Store) Attachment(ctx context.Context, id uuid.UUID) (a store.Attachment, err error) {
	read := func(tx *dbfile.Tx) (store.Attachment, error) {
		a, err := b.visibleAttachment(tx, id)
		if err != nil {
			return a, err
		}
		return a, make(uploaderNames).fill(tx, &b.users, &a)
	}
	if !b.unflushed.has(id) {
		return latest(ctx, b, &b.attachments, id, read)
	}
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		a, err = read(tx)
		return err
	})
	return a, err
}

// visibleAttachment is records.Attachment for callers: it hides what is being
// removed.
func (b *Store) visibleAttachment(tx *dbfile.Tx, id uuid.UUID) (store.Attachment, error) {
	a, err := records.Attachment(tx, id)
	if err != nil {
		return a, err
	}
	removed, err := b.isRemoved(tx, a.Parent)
	if err == nil && removed {
		err = store.NoAttachment(id)
	}
	return a, err
}

// uploaderNames caches the full names of users for the duration of one call.
type uploaderNames map[uuid.UUID]string

func (n uploaderNames) fill(tx *dbfile.Tx, users *dbfile.Cache[schema.UserRecord], a *store.Attachment) error {
	name, known := n[a.UploaderID]
	if !known {
		user, err := users.Load(tx, schema.Users, a.UploaderID[:])
		if err != nil {
			return err
		}
		if user != nil {
			name = user.FullName
		}
		n[a.UploaderID] = name
	}
	a.Uploader = name
	return nil
}

// AttachmentsOf implements Attachments.
func (b *Store) AttachmentsOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) ([]store.Attachment, error) {
	return b.listAttachments(ctx, b.viewIf(b.unflushed.hasUnder(p)), schema.Attachments, schema.ParentKey(p), after, limit, func(_ *dbfile.Tx, id uuid.UUID, record []byte) (store.Attachment, error) {
		return records.DecodeAttachment(p, id, record)
	})
}

// AllAttachments implements Attachments.
func (b *Store) AllAttachments(ctx context.Context, after uuid.UUID, limit int) ([]store.Attachment, error) {
	return b.listAttachments(ctx, b.viewAll, schema.AttachmentIDs, nil, after, limit, func(tx *dbfile.Tx, id uuid.UUID, _ []byte) (store.Attachment, error) {
		return records.Attachment(tx, id)
	})
}

// lists are buffers in which lists grow before they are copied and returned, so
// that each returned list takes no more memory than it needs.
var lists = sync.Pool{New: func() any { return new([]store.Attachment) }}

// listAttachments reads the attachments whose ids are under a prefix of a bucket.
func (b *Store) listAttachments(ctx context.Context, view viewer, bucket, prefix []byte, after uuid.UUID, limit int,
	read func(tx *dbfile.Tx, id uuid.UUID, value []byte) (store.Attachment, error)) ([]store.Attachment, error) {
	grown := lists.Get().(*[]store.Attachment)
	list := (*grown)[:0]
	err := view(ctx, func(tx *dbfile.Tx) error {
		uploaders, gone := make(uploaderNames), make(removalCache)
		var before store.Attachment // usually of the same parent and uploader
		for rest, value := range tx.Under(bucket, prefix, after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := schema.ParseID(rest)
			if err != nil {
				return err
			}
			a, err := read(tx, id, value)
			if err != nil {
				return err
			}
			if len(list) == 0 || a.Parent != before.Parent {
				if is, err := gone.has(b, tx, a.Parent); err != nil {
					return err
				} else if is {
					continue
				}
			}
			if a.Uploader = before.Uploader; len(list) == 0 || a.UploaderID != before.UploaderID {
				if err := uploaders.fill(tx, &b.users, &a); err != nil {
					return err
				}
			}
			list, before = append(list, a), a
		}
		return nil
	})
	out := append([]store.Attachment(nil), list...)
	clear(list)
	*grown = list
	lists.Put(grown)
	return out, err
}

// DeleteAttachment implements Attachments.
func (b *Store) DeleteAttachment(ctx context.Context, id uuid.UUID) (a store.Attachment, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		var err error
		if a, err = b.visibleAttachment(tx.Tx, id); err != nil {
			return err
		}
		if err := make(uploaderNames).fill(tx.Tx, &b.users, &a); err != nil {
			return err
		}
		entity, err := dbfile.Load[schema.EntityRecord](tx.Tx, schema.Entities, schema.ParentKey(a.Parent))
		if err != nil {
			return err
		}
		if entity == nil {
			return fmt.Errorf("attachment %s belongs to a %s that is not there", id, a.Parent.Kind)
		}
		usage, err := records.Usage(tx.Tx, entity.Space)
		if err != nil {
			return err
		}
		freed := freedBy(tx.Tx, []store.Attachment{a})
		tx.removeAttachment(a, entity.Space)
		tx.dropChecksums(freed)
		tx.saveUsage(entity.Space, store.Usage{Bytes: usage.Bytes - a.Size, Files: usage.Files - 1})
		return nil
	})
	return a, err
}

// removeAttachment deletes a record and its index entries. The caller updates the
// usage of the space.
func (tx *writeTx) removeAttachment(a store.Attachment, space string) {
	tx.Delete(schema.Attachments, schema.Join(schema.ParentKey(a.Parent), a.ID[:]))
	tx.Delete(schema.AttachmentIDs, a.ID[:])
	tx.Delete(schema.Contents, schema.Join(a.SHA256[:], a.ID[:]))
	tx.deleteStaged(a.ID)
	tx.enqueue(store.AttachmentDeleted, a, space)
}

// freedBy lists the contents that are unreferenced once these attachments are
// deleted. It must be called before they are, since a cursor that searches where
// many keys were deleted in the same transaction steps over every one of them.
func freedBy(tx *dbfile.Tx, doomed []store.Attachment) (contents [][32]byte) {
	ids := make(map[uuid.UUID]bool, len(doomed))
	for _, a := range doomed {
		ids[a.ID] = true
	}
	seen := make(map[[32]byte]bool)
	for _, a := range doomed {
		if !seen[a.SHA256] && onlyIn(tx, a.SHA256, ids) {
			contents = append(contents, a.SHA256)
		}
		seen[a.SHA256] = true
	}
	return contents
}

func onlyIn(tx *dbfile.Tx, content [32]byte, ids map[uuid.UUID]bool) bool {
	for rest := range tx.Under(schema.Contents, content[:], nil) {
		if id, err := schema.ParseID(rest); err != nil || !ids[id] {
			return false
		}
	}
	return true
}

// dropComment removes the reference to c from the attachments of its ticket.
func (tx *writeTx) dropComment(c store.Comment) error {
	list, err := records.AttachmentsOf(tx.Tx, store.Parent{Kind: store.Ticket, ID: c.TicketID})
	if err != nil {
		return err
	}
	for _, a := range list {
		if a.CommentID.Valid && a.CommentID.UUID == c.ID {
			a.CommentID = uuid.NullUUID{}
			tx.Put(schema.Attachments, schema.Join(schema.ParentKey(a.Parent), a.ID[:]), schema.EncodeAttachment(a))
		}
	}
	return nil
}

// Referenced implements Attachments.
func (b *Store) Referenced(ctx context.Context, sha256 [32]byte) (found bool, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		found = tx.HasUnder(schema.Contents, sha256[:])
		return nil
	})
	return found, err
}

// AttachmentsWith implements Attachments.
func (b *Store) AttachmentsWith(ctx context.Context, sha256 [32]byte, limit int) ([]store.Attachment, error) {
	return b.listAttachments(ctx, b.viewAll, schema.Contents, sha256[:], uuid.Nil, limit, func(tx *dbfile.Tx, id uuid.UUID, _ []byte) (store.Attachment, error) {
		return records.Attachment(tx, id)
	})
}

// Checksums implements Attachments.
func (b *Store) Checksums(ctx context.Context, sha256 [32]byte) (checksums []byte, err error) {
	err = b.viewIf(b.unflushed.hasContent(sha256))(ctx, func(tx *dbfile.Tx) error {
		checksums = bytes.Clone(tx.Get(schema.Checksums, sha256[:])) // a read-only copy of an older database lacks the bucket
		if checksums == nil {
			return store.ErrNotFound
		}
		return nil
	})
	return checksums, err
}

// AddChecksums implements Attachments.
func (b *Store) AddChecksums(ctx context.Context, checksums map[[32]byte][]byte) error {
	return b.update(ctx, func(tx *writeTx) error {
		for sha256, sums := range checksums {
			if tx.HasUnder(schema.Contents, sha256[:]) {
				tx.putChecksums(sha256, sums)
			}
		}
		return nil
	})
}

// putChecksums writes nothing where the checksums are stored already: most contents
// that are uploaded again have them.
func (tx *writeTx) putChecksums(sha256 [32]byte, checksums []byte) {
	if len(checksums) > 0 && !bytes.Equal(tx.Get(schema.Checksums, sha256[:]), checksums) {
		tx.Put(schema.Checksums, sha256[:], checksums)
	}
}

// dropChecksums deletes the checksums of contents whose last record is deleted.
func (tx *writeTx) dropChecksums(freed [][32]byte) {
	for _, sha256 := range freed {
		if tx.Has(schema.Checksums, sha256[:]) {
			tx.Delete(schema.Checksums, sha256[:])
		}
	}
}
