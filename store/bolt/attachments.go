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
		c := &tx.created[len(tx.created)-1]
		if c.checksums = bytes.Clone(checksums); content != nil {
			c.content = len(tx.contents)
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

	if len(home.replaces) > 0 && a.CommentID.Valid { // its comments go
		return store.NoComment(a.Parent.Kind, a.CommentID.UUID)
	} else if len(home.replaces) > 0 {
		return &replaces{home.replaces}
	}

	home.createMissing(tx, a)
	tx.putAttachment(a)
	usage.Bytes, usage.Files = usage.Bytes+a.Size, usage.Files+1
	tx.saveUsage(home.entity.Space, usage)
	tx.created = append(tx.created, created{Attachment: a, content: -1, space: home.entity.Space, usage: usage})
	tx.enqueue(store.AttachmentCreated, a, home.entity.Space)
	return nil
}

// putAttachment writes a record and its index entries.
func (tx *writeTx) putAttachment(a store.Attachment) {
	tx.Put(schema.Attachments, schema.AttachmentKey(a), schema.EncodeAttachment(a))
	tx.Put(schema.AttachmentIDs, a.ID[:], schema.ParentKey(a.Parent))
	tx.Put(schema.Contents, schema.Join(a.SHA256[:], a.ID[:]), schema.Nothing)
}

// destination is where an attachment is to be stored: its parent and its space, and
// which of them have to be created first.
type destination struct {
	entity    *schema.EntityRecord
	space     *schema.SpaceRecord
	newEntity bool
	newSpace  bool
	newAdmin  bool
	replaces  [][]byte // what has to leave the trash before, by the keys of removals
}

func findDestination(tx *dbfile.Tx, a store.Attachment, autoCreate string) (h destination, err error) {
	h.entity, err = dbfile.Load[schema.EntityRecord](tx, schema.Entities, schema.ParentKey(a.Parent))
	if err != nil {
		return h, err
	}
	if autoCreate != "" && isBeingRemoved(tx, a.Parent, h.entity, autoCreate) {
		return h, errRemoving
	}
	if autoCreate != "" {
		h.outOfTrash(tx, a.Parent, autoCreate)
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

// outOfTrash notes what in the trash the parent and the space would replace. A parent of a
// space in the trash is treated as one that is not there, unless that space comes back.
func (h *destination) outOfTrash(tx *dbfile.Tx, p store.Parent, space string) {
	if tx.HasNone(schema.TrashObjects) {
		return
	}
	removal := schema.ParentRemoval(p)
	switch {
	case h.entity == nil && records.IsTrashed(tx, removal):
		h.replaces = append(h.replaces, removal)
	case h.entity != nil && h.entity.Space != space && records.IsTrashed(tx, schema.SpaceRemoval(h.entity.Space)):
		h.replaces, h.entity = append(h.replaces, removal), nil
	}
	if in := schema.SpaceRemoval(space); (h.entity == nil || h.entity.Space == space) && records.IsTrashed(tx, in) {
		h.replaces, h.entity = append(h.replaces, in), nil
	}
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
	if !b.unflushed.has(id) {
		return latest(ctx, b, &b.attachments, id, func(tx *dbfile.Tx) (store.Attachment, error) { return b.namedAttachment(tx, id, nil) })
	}
	look := func(u *unflushed) *created { return u.ids[id] }
	err = viewWith(ctx, b, look, func(tx *dbfile.Tx, ahead *created) (err error) {
		a, err = b.namedAttachment(tx, id, ahead)
		return err
	})
	return a, err
}

// namedAttachment returns an attachment that is not hidden, with the name of its uploader.
// ahead is what the database lacks of it, or nil.
func (b *Store) namedAttachment(tx *dbfile.Tx, id uuid.UUID, ahead *created) (a store.Attachment, err error) {
	if ahead != nil {
		a, err = b.visible(tx, ahead.Attachment)
	} else {
		a, err = b.visibleAttachment(tx, id)
	}
	if err != nil {
		return a, err
	}
	return a, make(userNames).fill(tx, &b.users, &a)
}

// visibleAttachment is records.Attachment for callers: it hides what is in the trash, or
// being removed, with its parent.
func (b *Store) visibleAttachment(tx *dbfile.Tx, id uuid.UUID) (store.Attachment, error) {
	a, err := records.Attachment(tx, id)
	if err != nil {
		return a, err
	}
	return b.visible(tx, a)
}

// visible returns an attachment unless it is hidden.
func (b *Store) visible(tx *dbfile.Tx, a store.Attachment) (store.Attachment, error) {
	hidden, err := b.isHidden(tx, a.Parent)
	if err == nil && hidden {
		err = store.NoAttachment(a.ID)
	}
	return a, err
}

// userNames caches the full names of users for the duration of one call.
type userNames map[uuid.UUID]string

// fill fills in the name of the uploader.
func (n userNames) fill(tx *dbfile.Tx, users *dbfile.Cache[schema.UserRecord], a *store.Attachment) (err error) {
	a.Uploader, err = n.of(tx, users, a.UploaderID)
	return err
}

func (n userNames) of(tx *dbfile.Tx, users *dbfile.Cache[schema.UserRecord], id uuid.UUID) (name string, err error) {
	name, known := n[id]
	if known {
		return name, nil
	}
	user, err := users.Load(tx, schema.Users, id[:])
	if err != nil {
		return "", err
	}
	if user != nil {
		name = user.FullName
	}
	n[id] = name
	return name, nil
}

// AttachmentsOf implements Attachments.
func (b *Store) AttachmentsOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) (list []store.Attachment, err error) {
	l := attachmentList{
		bucket: schema.Attachments, prefix: schema.ParentKey(p), hidden: b.isHidden,
		read: func(_ *dbfile.Tx, id uuid.UUID, record []byte) (store.Attachment, error) {
			return records.DecodeAttachment(p, id, record)
		},
	}
	look := func(u *unflushed) []store.Attachment { return u.of(p, after) }
	err = viewWith(ctx, b, look, func(tx *dbfile.Tx, ahead []store.Attachment) (err error) {
		list, err = l.of(tx, b, ahead, after, limit)
		return err
	})
	return list, err
}

// AllAttachments implements Attachments.
func (b *Store) AllAttachments(ctx context.Context, after uuid.UUID, limit int) ([]store.Attachment, error) {
	return attachmentList{
		bucket: schema.AttachmentIDs, hidden: b.isGone,
		read: func(tx *dbfile.Tx, id uuid.UUID, _ []byte) (store.Attachment, error) {
			a, _, err := records.Stored(tx, id)
			return a, err
		},
	}.ofAll(ctx, b, after, limit)
}

// lists are buffers in which lists grow before they are copied and returned, so
// that each returned list takes no more memory than it needs.
var lists = sync.Pool{New: func() any { return new([]store.Attachment) }}

// attachmentList lists the attachments whose ids are under a prefix of a bucket.
type attachmentList struct {
	bucket, prefix []byte
	hidden         func(*dbfile.Tx, store.Parent) (bool, error) // whether what belongs to a parent is left out
	skip           []byte                                       // the value of those that are left out; nil for none
	read           func(tx *dbfile.Tx, id uuid.UUID, value []byte) (store.Attachment, error)
}

// ofAll is of, in a transaction that lacks nothing.
func (l attachmentList) ofAll(ctx context.Context, b *Store, after uuid.UUID, limit int) (list []store.Attachment, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) (err error) {
		list, err = l.of(tx, b, nil, after, limit)
		return err
	})
	return list, err
}

// of returns at most limit behind an id, with those that the transaction lacks.
func (l attachmentList) of(tx *dbfile.Tx, b *Store, ahead []store.Attachment, after uuid.UUID, limit int) ([]store.Attachment, error) {
	grown := lists.Get().(*[]store.Attachment)
	list := (*grown)[:0]
	uploaders, hidden := make(userNames), make(parentCache)
	var before store.Attachment // usually of the same parent and uploader
	add := func(a store.Attachment) error {
		if len(list) == 0 || a.Parent != before.Parent {
			if is, err := hidden.says(l.hidden, tx, a.Parent); err != nil || is {
				return err
			}
		}
		if a.Uploader = before.Uploader; len(list) == 0 || a.UploaderID != before.UploaderID {
			if err := uploaders.fill(tx, &b.users, &a); err != nil {
				return err
			}
		}
		list, before = append(list, a), a
		return nil
	}
	// addAhead adds those that the transaction lacks whose ids are before one.
	addAhead := func(end uuid.UUID) (err error) {
		for ; err == nil && len(list) < limit && len(ahead) > 0 && byID(ahead[0].ID, end) < 0; ahead = ahead[1:] {
			err = add(ahead[0])
		}
		return err
	}
	addAll := func() error {
		for rest, value := range tx.Under(l.bucket, l.prefix, after[:]) {
			if len(list) >= limit {
				return nil
			}
			if l.skip != nil && bytes.Equal(value, l.skip) {
				continue
			}
			id, err := schema.ParseID(rest)
			if err != nil {
				return err
			}
			a, err := l.read(tx, id, value)
			if err == nil {
				err = addAhead(id)
			}
			if err == nil && len(list) < limit {
				err = add(a)
			}
			if err != nil {
				return err
			}
		}
		return addAhead(uuid.Max)
	}
	err := addAll()
	out := append([]store.Attachment(nil), list...)
	clear(list)
	*grown = list
	lists.Put(grown)
	return out, err
}

// DeleteAttachment implements Attachments.
func (b *Store) DeleteAttachment(ctx context.Context, id uuid.UUID) (a store.Attachment, err error) {
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
		freed := freedBy(tx.Tx, []store.Attachment{a})
		tx.removeAttachment(a, space, store.AttachmentDeleted)
		tx.dropChecksums(freed)
		tx.saveUsage(space, left)
		return nil
	})
	return a, err
}

// doomed reads an attachment that is to be deleted, and in which space it is.
func (b *Store) doomed(tx *writeTx, id uuid.UUID) (a store.Attachment, space string, err error) {
	if a, err = b.visibleAttachment(tx.Tx, id); err != nil {
		return a, "", err
	}
	if err := make(userNames).fill(tx.Tx, &b.users, &a); err != nil {
		return a, "", err
	}
	entity, err := dbfile.Load[schema.EntityRecord](tx.Tx, schema.Entities, schema.ParentKey(a.Parent))
	if err != nil {
		return a, "", err
	}
	if entity == nil {
		return a, "", fmt.Errorf("attachment %s belongs to a %s that is not there", id, a.Parent.Kind)
	}
	return a, entity.Space, nil
}

// removeAttachment deletes a record and its index entries, but for those of the trash, and
// tells of it. The caller updates the usage of the space.
func (tx *writeTx) removeAttachment(a store.Attachment, space string, what store.EventType) {
	tx.Delete(schema.Attachments, schema.AttachmentKey(a))
	tx.Delete(schema.AttachmentIDs, a.ID[:])
	tx.Delete(schema.Contents, schema.Join(a.SHA256[:], a.ID[:]))
	tx.deleteStaged(a.ID)
	tx.enqueue(what, a, space)
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
	return attachmentList{
		bucket: schema.Contents, prefix: sha256[:], hidden: b.isHidden, skip: schema.InTrash,
		read: func(tx *dbfile.Tx, id uuid.UUID, _ []byte) (store.Attachment, error) {
			return records.Attachment(tx, id)
		},
	}.ofAll(ctx, b, uuid.Nil, limit)
}

// Checksums implements Attachments.
func (b *Store) Checksums(ctx context.Context, sha256 [32]byte) (checksums []byte, err error) {
	look := func(u *unflushed) []byte { return u.checksumsOf(sha256) }
	err = viewWith(ctx, b, look, func(tx *dbfile.Tx, ahead []byte) error {
		if checksums = bytes.Clone(ahead); checksums == nil {
			checksums = bytes.Clone(tx.Get(schema.Checksums, sha256[:])) // a read-only copy of an older database lacks the bucket
		}
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
