package postgres

import (
	"context"

	"github.com/google/uuid"

	"attachd/store"
)

// The statements of Inquire start at the key, so that a wrong one costs a look at an index.
const (
	inquireSQL = `select ` + keyColumns + `, actor.full_name, actor.superadmin, who.id, who.full_name, who.superadmin,
			e.kind, e.id, e.space, e.name, e.owner, coalesce(m.role, 0), `
	fromCaller = ` from attachd.keys k
		join attachd.users actor on actor.id = k.user_id and not actor.deleted
		join attachd.users who on who.id = coalesce($2::uuid, k.user_id) and not who.deleted `
	inSpaceOfParent = `join attachd.spaces s on s.slug = e.space
		left join attachd.members m on m.space = e.space and m.user_id = who.id `

	aboutAttachment = inquireSQL + attachmentColumns + fromCaller + `join attachd.attachments a on a.id = $3
		left join attachd.users u on u.id = a.uploader
		join attachd.entities e on e.kind = a.kind and e.id = a.parent ` + inSpaceOfParent
	aboutParent = inquireSQL + `s.name, s.quota_bytes, s.quota_files, s.auto,
			(coalesce(u.bytes, 0) + coalesce(d.bytes, 0))::bigint, (coalesce(u.files, 0) + coalesce(d.files, 0))::bigint` + fromCaller + `
		join attachd.entities e on e.kind = $3 and e.id = $4 ` + inSpaceOfParent + `
		left join attachd.usage u on u.space = e.space
		cross join lateral (select sum(bytes) as bytes, sum(files) as files from attachd.usage_delta where space = e.space) d `
)

// Inquire implements store.Inquirer, in one statement.
func (s *Store) Inquire(ctx context.Context, about store.Inquiry) (f store.Facts, err error) {
	where, key := `where k.id = $1`, any(about.Key)
	if about.Key == uuid.Nil {
		where, key = `where k.hash = $1`, about.KeyHash[:]
	}
	args := []any{key, uuid.NullUUID{UUID: about.User, Valid: about.User != uuid.Nil}}
	var k keyRow
	var owner uuid.NullUUID
	into := append(k.into(), &f.Actor.FullName, &f.Actor.IsSuperadmin, &f.User.ID, &f.User.FullName, &f.User.IsSuperadmin,
		&f.Entity.Kind, &f.Entity.ID, &f.Entity.Space, &f.Entity.Name, &owner, &f.Role)
	var sql string
	var sha256 []byte
	if about.Attachment != uuid.Nil {
		sql, args = aboutAttachment, append(args, about.Attachment)
		into = append(into, attachmentInto(&f.Attachment, &sha256)...)
	} else {
		sql, args = aboutParent, append(args, int16(about.Parent.Kind), about.Parent.ID)
		into = append(into, &f.Space.Name, &f.Space.QuotaBytes, &f.Space.QuotaFiles, &f.Space.Auto, &f.Used.Bytes, &f.Used.Files)
	}
	if err = s.row(ctx, sql+where, args...).Scan(into...); err != nil {
		return store.Facts{}, err
	}
	if f.Key, err = k.key(s); err != nil {
		return store.Facts{}, err
	}
	f.Actor.ID, f.Entity.OwnerID = k.UserID, owner.UUID
	if about.Attachment != uuid.Nil {
		copy(f.Attachment.SHA256[:], sha256)
	} else {
		f.Space.Slug = f.Entity.Space
	}
	return f, nil
}
