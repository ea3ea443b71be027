package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// attachmentColumns are what scanAttachment reads, of an attachment a and its uploader u.
const attachmentColumns = `a.id, a.kind, a.parent, a.comment, a.name, a.size, a.type, a.sha256, a.uploader, coalesce(u.full_name, '')`

// visibleAttachments are the attachments that callers see: not those whose parent or space
// was deleted, which wait for their removal.
const visibleAttachments = ` from attachd.attachments a
		join attachd.entities e on e.kind = a.kind and e.id = a.parent
		join attachd.spaces s on s.slug = e.space
		left join attachd.users u on u.id = a.uploader `

func scanAttachment(row pgx.CollectableRow) (a store.Attachment, err error) {
	var sha256 []byte
	err = row.Scan(attachmentInto(&a, &sha256)...)
	copy(a.SHA256[:], sha256)
	return a, err
}

// attachmentInto is where attachmentColumns are scanned into.
func attachmentInto(a *store.Attachment, sha256 *[]byte) []any {
	return []any{&a.ID, &a.Parent.Kind, &a.Parent.ID, &a.CommentID, &a.FileName, &a.Size, &a.Type, sha256, &a.UploaderID, &a.Uploader}
}

// Attachment implements store.Attachments.
func (s *Store) Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error) {
	list, err := rows(ctx, s, scanAttachment, `select `+attachmentColumns+visibleAttachments+`where a.id = $1`, id)
	if err == nil && len(list) == 0 {
		err = store.NoAttachment(id)
	}
	if err != nil {
		return store.Attachment{}, err
	}
	return list[0], nil
}

// AttachmentsOf implements store.Attachments.
func (s *Store) AttachmentsOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) ([]store.Attachment, error) {
	return s.listAttachments(ctx, limit, `a.kind = $2 and a.parent = $3 and a.id > $4`, int16(p.Kind), p.ID, after)
}

// AllAttachments implements store.Attachments. Of what is hidden, it lists what is in the trash.
func (s *Store) AllAttachments(ctx context.Context, after uuid.UUID, limit int) ([]store.Attachment, error) {
	if limit < 1 {
		return nil, ctx.Err()
	}
	return rows(ctx, s, scanAttachment, `select `+attachmentColumns+` from (
			(select a.id, a.kind, a.parent, a.comment, a.name, a.size, a.type, a.sha256, a.uploader from attachd.attachments a
				left join attachd.entities e on e.kind = a.kind and e.id = a.parent
				left join attachd.spaces s on s.slug = e.space
				left join attachd.removals p on p.kind = a.kind and p.parent = a.parent and p.until is not null
				left join attachd.removals r on r.kind is null and r.space = e.space and r.until is not null
			where a.id > $2 and (s.slug is not null or p.id is not null or r.id is not null) order by a.id limit $1)
			union all
			(select id, kind, parent, comment, name, size, type, sha256, uploader from attachd.trash where id > $2 order by id limit $1)
		) a left join attachd.users u on u.id = a.uploader order by a.id limit $1`, limit, after)
}

// AttachmentsWith implements store.Attachments.
func (s *Store) AttachmentsWith(ctx context.Context, sha256 [32]byte, limit int) ([]store.Attachment, error) {
	return s.listAttachments(ctx, limit, `a.sha256 = $2`, sha256[:])
}

// listAttachments lists the first attachments by id that meet a condition.
func (s *Store) listAttachments(ctx context.Context, limit int, where string, args ...any) ([]store.Attachment, error) {
	if limit < 1 {
		return nil, ctx.Err()
	}
	return rows(ctx, s, scanAttachment, `select `+attachmentColumns+visibleAttachments+`where `+where+` order by a.id limit $1`, append([]any{limit}, args...)...)
}

// DeleteAttachment implements store.Attachments.
func (s *Store) DeleteAttachment(ctx context.Context, id uuid.UUID) (a store.Attachment, err error) {
	err = s.change(ctx, func(tx *change) error {
		var space string
		if a, space, err = tx.deleteAttachment(id, ``); err != nil {
			return err
		}
		tx.lastly(lockContents, [][]byte{a.SHA256[:]})
		tx.use(space, store.Usage{Bytes: -a.Size, Files: -1})
		return nil
	})
	if err != nil {
		return store.Attachment{}, err
	}
	return a, nil
}

// deleteAttachment deletes the record of an attachment, with its event, and returns its space.
// A statement with it may put what is in "a" elsewhere. The locks have a deletion of the parent
// or the space wait, which gives back the quota of what it finds then, and a Put that moves the
// usage of the space.
func (tx *change) deleteAttachment(id uuid.UUID, with string, args ...any) (a store.Attachment, space string, err error) {
	a, err = tx.attachment([]any{&space}, `with home as (
			select a.id, e.space from attachd.attachments a
				join attachd.entities e on e.kind = a.kind and e.id = a.parent
				join attachd.spaces s on s.slug = e.space
			where a.id = $1 and not `+isHeld("a", "e.space")+` for key share of e, s
		), a as (
			delete from attachd.attachments a using home where a.id = home.id returning a.*
		)`+with+`
		select `+attachmentColumns+`, a.space from a left join attachd.users u on u.id = a.uploader`, append([]any{id}, args...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, "", tx.notDeleted(homeOf, id, store.NoAttachment(id))
	}
	if err == nil {
		tx.unlessHeld(store.Held{Space: space, Parent: a.Parent, Attachment: id})
		tx.enqueue(store.AttachmentDeleted, a, space)
	}
	return a, space, err
}

// attachment reads the row of a query that has attachmentColumns and more columns.
func (tx *change) attachment(more []any, sql string, args ...any) (store.Attachment, error) {
	found, err := tx.Query(tx.ctx, sql, args...)
	if err != nil {
		return store.Attachment{}, err
	}
	return pgx.CollectExactlyOneRow(found, func(row pgx.CollectableRow) (store.Attachment, error) {
		return scanAttachment(withMore{row, more})
	})
}

// withMore is a row with more columns than Scan is asked for.
type withMore struct {
	pgx.CollectableRow
	more []any
}

func (r withMore) Scan(into ...any) error { return r.CollectableRow.Scan(append(into, r.more...)...) }

// use adds to the usage of a space, whose row the change has locked, with its commit. A space
// has a row of its own there if it has a quota.
func (tx *change) use(space string, by store.Usage) {
	tx.lastly(`with limited as (
			update attachd.usage set bytes = bytes + $2, files = files + $3 where space = $1 returning space
		)
		insert into attachd.usage_delta (space, bytes, files) select $1, $2, $3 where not exists (select from limited)`, space, by.Bytes, by.Files)
}

// Referenced implements store.Attachments.
func (s *Store) Referenced(ctx context.Context, sha256 [32]byte) (found bool, err error) {
	err = s.row(ctx, `select exists (select from attachd.attachments where sha256 = $1) or exists (select from attachd.trash where sha256 = $1)`, sha256[:]).Scan(&found)
	return found, err
}

// Checksums implements store.Attachments. The row stays until the content goes, so that a
// record which comes while the last other one goes finds it.
func (s *Store) Checksums(ctx context.Context, sha256 [32]byte) (checksums []byte, err error) {
	err = s.row(ctx, `select sums from attachd.checksums where sha256 = $1
		and (exists (select from attachd.attachments where sha256 = $1) or exists (select from attachd.trash where sha256 = $1))`, sha256[:]).Scan(&checksums)
	return checksums, err
}

// AddChecksums implements store.Attachments.
func (s *Store) AddChecksums(ctx context.Context, checksums map[[32]byte][]byte) error {
	var contents, sums [][]byte
	for sha256, of := range checksums {
		if len(of) > 0 {
			contents, sums = append(contents, sha256[:]), append(sums, of)
		}
	}
	if len(contents) == 0 {
		return ctx.Err()
	}
	return s.change(ctx, func(tx *change) error {
		// In the order of the contents, so that two that add the same do not wait for each other.
		return tx.exec(`insert into attachd.checksums (sha256, sums)
			select c.sha256, new.sums from unnest($1::bytea[], $2::bytea[]) as new (sha256, sums) join attachd.contents c on c.sha256 = new.sha256
				where exists (select from attachd.attachments a where a.sha256 = c.sha256) or exists (select from attachd.trash t where t.sha256 = c.sha256)
				order by c.sha256 for key share of c
			on conflict (sha256) do update set sums = excluded.sums where checksums.sums <> excluded.sums`, contents, sums)
	})
}
