package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// RestoreAttachment implements store.Trash. The locks are those of an upload.
func (s *Store) RestoreAttachment(ctx context.Context, id uuid.UUID) (a store.Attachment, err error) {
	err = s.change(ctx, func(tx *change) error {
		var to store.Space
		a, err = tx.attachment([]any{&to.Slug, &to.QuotaBytes, &to.QuotaFiles}, `with home as (
				select t.id, s.slug, s.quota_bytes, s.quota_files from attachd.trash t
					join attachd.entities e on e.kind = t.kind and e.id = t.parent and e.space = t.space
					join attachd.spaces s on s.slug = e.space
				where t.id = $1 for key share of e, s
			), remark as (
				select c.id from attachd.trash t join attachd.comments c on t.kind = 2 and c.ticket = t.parent and c.id = t.comment
				where t.id = $1 for key share of c
			), gone as (
				delete from attachd.trash t using home where t.id = home.id returning t.*
			), a as (
				insert into attachd.attachments (id, kind, parent, space, sha256, comment, name, size, type, uploader)
				select id, kind, parent, space, sha256, (select r.id from remark r where r.id = gone.comment), name, size, type, uploader from gone returning *
			)
			select `+attachmentColumns+`, home.slug, home.quota_bytes, home.quota_files from a cross join home left join attachd.users u on u.id = a.uploader`, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return tx.notRestored(id)
		}
		if err != nil {
			return err
		}
		tx.enqueue(store.AttachmentRestored, a, to.Slug)
		tx.countTrash(negative(a.Usage()))
		return tx.takeRoom(to, a.Usage())
	})
	if err != nil {
		return store.Attachment{}, err
	}
	return a, nil
}

// notRestored returns why an attachment cannot be restored. One that only waits for its removal,
// since that of its parent or space has begun, is not in the trash any more.
func (tx *change) notRestored(id uuid.UUID) error {
	var of store.Parent
	err := tx.get(`select kind, parent from attachd.trash t where id = $1 and not exists (select from attachd.removals r
		where r.until is null and r.space = t.space and (r.kind is null or r.kind = t.kind and r.parent = t.parent))`, id).Scan(&of.Kind, &of.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return store.NotInTrash(id)
	}
	if err != nil {
		return err
	}
	return store.WithoutParent(of)
}

// takeRoom adds to the usage of a space, whose row the change has locked, if its quota has room
// for the files. It comes last, since others wait for its row.
func (tx *change) takeRoom(of store.Space, files store.Usage) error {
	if of.QuotaBytes == 0 && of.QuotaFiles == 0 {
		tx.use(of.Slug, files)
		return nil
	}
	var used store.Usage
	err := tx.get(`update attachd.usage set bytes = bytes + $2, files = files + $3 where space = $1 returning bytes - $2, files - $3`,
		of.Slug, files.Bytes, files.Files).Scan(&used.Bytes, &used.Files)
	if errors.Is(err, pgx.ErrNoRows) {
		return errAgain
	}
	if err != nil {
		return err
	}
	return store.CheckRestore(of, used, files)
}

// RestoreEntity implements store.Trash.
func (s *Store) RestoreEntity(ctx context.Context, p store.Parent) (e store.Entity, err error) {
	err = s.changeDirectory(ctx, func(tx *change) error {
		e = store.Entity{Parent: p}
		m := mark{removal: removal{parent: p}}
		var was rested
		err := tx.get(`select id, space, name, owner, comments, bytes, files from attachd.removals where kind = $1 and parent = $2 and id < 0 for update`, int16(p.Kind), p.ID).
			Scan(&m.id, &m.of, &was.name, &was.owner, &was.comments, &was.files.Bytes, &was.files.Files)
		if errors.Is(err, pgx.ErrNoRows) {
			return store.ParentNotInTrash(p)
		}
		if err != nil {
			return err
		}
		to := store.Space{Slug: m.of}
		err = tx.get(`select quota_bytes, quota_files from attachd.spaces where slug = $1 for key share`, m.of).Scan(&to.QuotaBytes, &to.QuotaFiles)
		if errors.Is(err, pgx.ErrNoRows) {
			return tx.withoutSpace(m)
		}
		if err == nil {
			err = tx.waitTold(m)
		}
		if err != nil {
			return err
		}
		e.Space, e.Name, e.OwnerID = m.of, was.name, orZero(was.owner)
		err = tx.exec(`insert into attachd.entities (kind, id, space, name, owner, comments) values ($1, $2, $3, $4, $5, $6)`,
			int16(p.Kind), p.ID, m.of, was.name, was.owner, was.comments)
		if err == nil {
			err = tx.wake(m, was.files)
		}
		if err != nil {
			return err
		}
		return tx.takeRoom(to, was.files)
	})
	return e, err
}

// withoutSpace refuses to restore a parent whose space is in the trash, or being removed: then it
// is not in the trash any more.
func (tx *change) withoutSpace(m mark) error {
	var trashed bool
	err := tx.get(`select exists (select from attachd.removals where space = $1 and kind is null and until is not null)`, m.of).Scan(&trashed)
	switch {
	case err != nil:
		return err
	case trashed:
		return store.WithoutSpace(m.parent, m.of)
	}
	return store.ParentNotInTrash(m.parent)
}

// wake ends the rest of a removal whose object is there again, and tells of that.
func (tx *change) wake(m mark, files store.Usage) error {
	if err := tx.exec(`delete from attachd.removals where id = $1`, m.id); err != nil {
		return err
	}
	tx.countTrash(negative(files))
	return tx.tell(m, store.AttachmentRestored)
}

// RestoreSpace implements store.Trash.
func (s *Store) RestoreSpace(ctx context.Context, slug string) (of store.Space, err error) {
	if !store.ValidSlug(slug) {
		return store.Space{}, store.SpaceNotInTrash(slug)
	}
	err = s.changeDirectory(ctx, func(tx *change) error {
		of = store.Space{Slug: slug}
		m := mark{removal: removal{space: slug}, of: slug}
		var files store.Usage
		err := tx.get(`select id, name, quota_bytes, quota_files, auto, bytes, files from attachd.removals where space = $1 and kind is null and id < 0 for update`, slug).
			Scan(&m.id, &of.Name, &of.QuotaBytes, &of.QuotaFiles, &of.Auto, &files.Bytes, &files.Files)
		if errors.Is(err, pgx.ErrNoRows) {
			return store.SpaceNotInTrash(slug)
		}
		if err == nil {
			err = tx.waitTold(m)
		}
		if err != nil {
			return err
		}
		usage := `usage_delta`
		if of.QuotaBytes > 0 || of.QuotaFiles > 0 {
			usage = `usage`
		}
		var batch pgx.Batch
		batch.Queue(`insert into attachd.spaces (slug, name, quota_bytes, quota_files, auto) values ($1, $2, $3, $4, $5)`, slug, of.Name, of.QuotaBytes, of.QuotaFiles, of.Auto)
		batch.Queue(`with back as (delete from attachd.trash_members where space = $1 returning user_id, role)
			insert into attachd.members (space, user_id, role) select $1, user_id, role from back`, slug)
		batch.Queue(`insert into attachd.`+usage+` (space, bytes, files) values ($1, $2, $3)`, slug, files.Bytes, files.Files)
		if err := tx.SendBatch(tx.ctx, &batch).Close(); err != nil {
			return err
		}
		return tx.wake(m, files)
	})
	if err != nil {
		return store.Space{}, err
	}
	return of, nil
}
