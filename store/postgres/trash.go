package postgres

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// An attachment that is deleted by itself moves to the table "trash". A parent or space stays as
// a row of "removals" that rests: that hides all below it, as a removal does, and takes no longer
// where there is much. Restoring takes the row back, purging has Remove go on with it, and a call
// that puts the object anew has what is below moved to the table.

// TrashAttachment implements store.Trash.
func (s *Store) TrashAttachment(ctx context.Context, id uuid.UUID, d store.Deletion) (a store.Attachment, err error) {
	err = s.change(ctx, func(tx *change) error {
		var space string
		a, space, err = tx.deleteAttachment(id, `, kept as (
				insert into attachd.trash (`+trashColumns+`) select a.id, a.kind, a.parent, a.space, a.sha256, a.comment, a.name, a.size, a.type, a.uploader, $2, $3, $4 from a
			)`, d.At, d.ByID, d.Until)
		if err != nil {
			return err
		}
		tx.countTrash(store.Usage{Bytes: a.Size, Files: 1})
		tx.use(space, store.Usage{Bytes: -a.Size, Files: -1})
		return nil
	})
	if err != nil {
		return store.Attachment{}, err
	}
	return a, nil
}

// trashColumns are all columns of the table.
const trashColumns = `id, kind, parent, space, sha256, comment, name, size, type, uploader, deleted_at, deleted_by, until`

// countTrash adds to what is counted of the trash, with the commit.
func (tx *change) countTrash(by store.Usage) {
	if by != (store.Usage{}) {
		tx.lastly(`insert into attachd.trash_usage (bytes, files) values ($1, $2)`, by.Bytes, by.Files)
	}
}

func negative(u store.Usage) store.Usage { return store.Usage{Bytes: -u.Bytes, Files: -u.Files} }

// TrashEntity implements store.Trash.
func (s *Store) TrashEntity(ctx context.Context, p store.Parent, withAttachments bool, d store.Deletion) error {
	return s.changeDirectory(ctx, func(tx *change) error {
		_, err := tx.deleteEntity(p, withAttachments, &d)
		return err
	})
}

// TrashSpace implements store.Trash.
func (s *Store) TrashSpace(ctx context.Context, slug string, withAttachments bool, d store.Deletion) error {
	return s.changeDirectory(ctx, func(tx *change) error {
		_, err := tx.deleteSpace(slug, withAttachments, &d)
		return err
	})
}

// rested is what a removal that rests keeps of a parent or a space.
type rested struct {
	name                   string
	owner                  *uuid.UUID // of a ticket
	comments               *int32     // of a parent, as the following are of a space
	quotaBytes, quotaFiles *int64
	auto                   *bool
	files                  store.Usage
}

func orZero(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

// rest puts a parent or space that was deleted into the trash, and tells of that.
func (tx *change) rest(m mark, was rested, d store.Deletion) error {
	entry, origin, err := m.encode()
	if err != nil {
		return err
	}
	err = tx.exec(`insert into attachd.removals (id, space, kind, parent, entry, origin, deleted_at, deleted_by, until,
			name, owner, comments, quota_bytes, quota_files, auto, bytes, files) overriding system value
		values (-nextval('attachd.removals_id_seq'), $1, nullif($2::smallint, 0), nullif($3::uuid, `+noID+`), $4, $5, $6, $7, $8,
			$9, $10, $11, $12, $13, $14, $15, $16)`,
		m.of, int16(m.parent.Kind), m.parent.ID, entry, origin, d.At, d.ByID, d.Until,
		was.name, was.owner, was.comments, was.quotaBytes, was.quotaFiles, was.auto, was.files.Bytes, was.files.Files)
	if err != nil {
		return err
	}
	tx.countTrash(was.files)
	return tx.tell(m, store.AttachmentDeleted)
}

// encode returns the entry and the origin as the table has them.
func (m mark) encode() (entry []byte, origin string, err error) {
	if m.entry != nil {
		entry = m.entry.Encode()
	}
	encoded, err := json.Marshal(m.origin)
	return entry, string(encoded), err
}

// convert has what is below a parent or space in the trash move to the table, since it is put
// anew.
func (tx *change) convert(m mark) error {
	return tx.exec(`update attachd.removals set id = default where id = $1`, m.id)
}

// keepInTrash moves attachments to the table, which go on to be in the trash.
func (tx *change) keepInTrash(m mark, list []store.Attachment) error {
	if len(list) == 0 {
		return nil
	}
	var ids []uuid.UUID
	for _, a := range list {
		ids = append(ids, a.ID)
	}
	moved := sizeOf(list)
	return tx.exec(`with gone as (
			delete from attachd.attachments where id = any($1::uuid[]) returning *
		), rest as (
			update attachd.removals set bytes = bytes - $6, files = files - $7 where id = $5
		)
		insert into attachd.trash (`+trashColumns+`) select id, kind, parent, space, sha256, null, name, size, type, uploader, $2, $3, $4 from gone`,
		ids, m.deleted, m.by, m.until, m.id, moved.Bytes, moved.Files)
}

// takeOut takes a parent out of a space in the trash, as if it had been deleted before the space:
// it is put anew elsewhere.
func (tx *change) takeOut(m mark, p store.Parent) error {
	kind := int16(p.Kind)
	var files store.Usage
	err := tx.get(`with used as (
			select coalesce(sum(size), 0)::bigint as bytes, count(*) as files from attachd.attachments where kind = $2 and parent = $3
		)
		insert into attachd.removals (id, space, kind, parent, entry, origin, deleted_at, deleted_by, until, name, owner, comments, bytes, files) overriding system value
		select -nextval('attachd.removals_id_seq'), r.space, e.kind, e.id, r.entry, r.origin, r.deleted_at, r.deleted_by, r.until, e.name, e.owner, e.comments, used.bytes, used.files
			from attachd.removals r join attachd.entities e on e.kind = $2 and e.id = $3 and e.space = r.space cross join used where r.id = $1
		returning bytes, files`, m.id, kind, p.ID).Scan(&files.Bytes, &files.Files)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // by another one already
	}
	if err == nil {
		err = tx.exec(`update attachd.removals set bytes = bytes - $2, files = files - $3 where id = $1`, m.id, files.Bytes, files.Files)
	}
	if err == nil {
		err = tx.exec(`delete from attachd.entities where kind = $1 and id = $2`, kind, p.ID)
	}
	return err
}

// trashed selects attachments that were deleted by themselves, and whose parent is where it was.
const trashed = `select ` + attachmentColumns + `, a.space, a.deleted_at, a.deleted_by, coalesce(d.full_name, ''), a.until,
		exists (select from attachd.comments c where a.kind = 2 and c.ticket = a.parent and c.id = a.comment) from attachd.trash a
		join attachd.entities e on e.kind = a.kind and e.id = a.parent and e.space = a.space
		join attachd.spaces s on s.slug = e.space
		left join attachd.users u on u.id = a.uploader
		left join attachd.users d on d.id = a.deleted_by `

func scanTrashed(row pgx.CollectableRow) (t store.Trashed, err error) {
	var remarked bool
	t.Attachment, err = scanAttachment(withMore{row, []any{&t.Space, &t.At, &t.ByID, &t.By, &t.Until, &remarked}})
	if !remarked {
		t.Attachment.CommentID = uuid.NullUUID{}
	}
	t.At, t.Until = t.At.UTC(), t.Until.UTC()
	t.Files = store.Usage{Bytes: t.Attachment.Size, Files: 1}
	return t, err
}

// resting selects what is in the trash besides attachments.
const resting = `select r.space, r.kind, r.parent, r.name, r.owner, r.bytes, r.files, r.deleted_at, r.deleted_by, coalesce(d.full_name, ''), r.until
		from attachd.removals r left join attachd.users d on d.id = r.deleted_by `

// ofSpace joins the space, which must be there.
const ofSpace = `join attachd.spaces s on s.slug = r.space `

func scanResting(row pgx.CollectableRow) (t store.Trashed, err error) {
	var kind *int16
	var parent uuid.NullUUID
	var owner *uuid.UUID
	var name string
	err = row.Scan(&t.Space, &kind, &parent, &name, &owner, &t.Files.Bytes, &t.Files.Files, &t.At, &t.ByID, &t.By, &t.Until)
	t.At, t.Until = t.At.UTC(), t.Until.UTC()
	if of := removalOf(t.Space, kind, parent); of.space == "" {
		t.Entity = store.Entity{Parent: of.parent, Space: t.Space, Name: name, OwnerID: orZero(owner)}
	} else {
		t.Name = name
	}
	return t, err
}

// one returns the only one of a list, or a refusal.
func one(list []store.Trashed, err, refusal error) (store.Trashed, error) {
	switch {
	case err != nil:
		return store.Trashed{}, err
	case len(list) == 0:
		return store.Trashed{}, refusal
	}
	return list[0], nil
}

// TrashedAttachment implements store.Trash.
func (s *Store) TrashedAttachment(ctx context.Context, id uuid.UUID) (store.Trashed, error) {
	list, err := rows(ctx, s, scanTrashed, trashed+`where a.id = $1`, id)
	return one(list, err, store.NotInTrash(id))
}

// TrashedEntity implements store.Trash.
func (s *Store) TrashedEntity(ctx context.Context, p store.Parent) (store.Trashed, error) {
	list, err := rows(ctx, s, scanResting, resting+ofSpace+`where r.kind = $1 and r.parent = $2 and r.id < 0`, int16(p.Kind), p.ID)
	return one(list, err, store.ParentNotInTrash(p))
}

// TrashedSpace implements store.Trash.
func (s *Store) TrashedSpace(ctx context.Context, slug string) (store.Trashed, error) {
	if !store.ValidSlug(slug) {
		return store.Trashed{}, store.SpaceNotInTrash(slug)
	}
	list, err := rows(ctx, s, scanResting, resting+`where r.space = $1 and r.kind is null and r.id < 0`, slug)
	return one(list, err, store.SpaceNotInTrash(slug))
}

// TrashOf implements store.Trash.
func (s *Store) TrashOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) ([]store.Trashed, error) {
	if limit < 1 {
		return nil, ctx.Err()
	}
	return rows(ctx, s, scanTrashed, trashed+`where a.kind = $1 and a.parent = $2 and a.id > $3 order by a.id limit $4`, int16(p.Kind), p.ID, after, limit)
}

// TrashIn implements store.Trash. What was deleted at the same time is in the opposite order of
// its ids, so that an index has the order.
func (s *Store) TrashIn(ctx context.Context, space string, after []byte, limit int) ([]store.Trashed, error) {
	if limit < 1 || space != "" && !store.ValidSlug(space) {
		return nil, ctx.Err()
	}
	at, rest := readPlace(after)
	if space == "" {
		// At the same time, slugs come in their order: few spaces are deleted at once.
		list, err := rows(ctx, s, scanResting, resting+`where r.kind is null and r.id < 0 and r.deleted_at <= $1 and (r.deleted_at < $1 or r.space > $2)
			order by r.deleted_at desc, r.space limit $3`, at, textBefore(string(rest)), limit)
		for i := range list {
			list[i].Place = placeOf(list[i].At, []byte(list[i].Space))
		}
		return list, err
	}
	id, kind := uuid.Max, int16(store.Meeting)+1
	if len(rest) == len(id)+1 {
		id, kind = uuid.UUID(rest), int16(rest[len(id)])
	}
	before := `<`
	if kind > 0 { // an attachment of that id comes after it
		before = `<=`
	}
	list, err := rows(ctx, s, scanTrashed, trashed+`where a.space = $1 and (a.deleted_at, a.id) `+before+` ($2, $3) order by a.deleted_at desc, a.id desc limit $4`, space, at, id, limit)
	if err != nil {
		return nil, err
	}
	parents, err := rows(ctx, s, scanResting, resting+ofSpace+`where r.space = $1 and r.kind is not null and r.id < 0 and (r.deleted_at, r.parent, r.kind) < ($2, $3, $4)
		order by r.deleted_at desc, r.parent desc, r.kind desc limit $5`, space, at, id, kind, limit)
	if err != nil {
		return nil, err
	}
	return merged(append(list, parents...), limit), nil
}

// merged brings attachments and parents into the order of TrashIn.
func merged(list []store.Trashed, limit int) []store.Trashed {
	for i, t := range list {
		id := t.Attachment.ID
		if t.Entity.Kind != 0 {
			id = t.Entity.ID
		}
		list[i].Place = placeOf(t.At, append(id[:], byte(t.Entity.Kind)))
	}
	slices.SortFunc(list, func(a, b store.Trashed) int {
		return cmp.Or(b.At.Compare(a.At), bytes.Compare(b.Place, a.Place))
	})
	return list[:min(limit, len(list))]
}

// placeOf is the Place of something that was deleted at that time.
func placeOf(at time.Time, rest []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(at.Unix())), rest...)
}

// readPlace reads a Place, which may be any bytes of a caller.
func readPlace(place []byte) (at time.Time, rest []byte) {
	const end = 1 << 37 // in the seventh millennium
	if len(place) < 8 {
		return time.Unix(end, 0), nil
	}
	return time.Unix(int64(min(binary.BigEndian.Uint64(place), end)), 0), place[8:]
}

// TrashSize implements store.Trash.
func (s *Store) TrashSize(ctx context.Context) (size store.Usage, earliest time.Time, err error) {
	var first *time.Time
	err = s.row(ctx, `select (select coalesce(sum(bytes), 0)::bigint from attachd.trash_usage), (select coalesce(sum(files), 0)::bigint from attachd.trash_usage),
		least((select until from attachd.trash order by until limit 1), (select until from attachd.removals where id < 0 order by until limit 1))`).
		Scan(&size.Bytes, &size.Files, &first)
	return size, timeOf(first), err
}
