package postgres

import (
	"context"

	"github.com/google/uuid"

	"attachd/store"
)

// The statements of Inquire. They start at the key, so that nothing else is looked up for a
// wrong one.
const (
	caller = `with k as materialized (
			select ` + keyColumns + `, actor.full_name as actor_name, actor.superadmin as actor_superadmin, actor.records_manager as actor_records_manager
			from attachd.keys k join attachd.users actor on actor.id = k.user_id and not actor.deleted where `
	byHash, byID = `k.hash = $1)`, `k.id = $1)`

	rights = ` select k.*, who.id, who.full_name, who.superadmin, who.records_manager, e.kind, e.id, e.space, e.name, e.owner, coalesce(m.role, 0)`
	ofUser = ` from k join attachd.users who on who.id = coalesce($2::uuid, k.user_id) and not who.deleted `
	there  = ` join attachd.spaces s on s.slug = e.space
		left join attachd.members m on m.space = e.space and m.user_id = who.id `

	toAttachment = rights + `, ` + attachmentColumns + ofUser + ` join attachd.attachments a on a.id = $3
		left join attachd.users u on u.id = a.uploader
		join attachd.entities e on e.kind = a.kind and e.id = a.parent` + there
	named        = ` join attachd.entities e on e.kind = $3 and e.id = $4` + there
	toParent     = rights + ofUser + named
	toParentFull = rights + `, ` + spaceColumns + ofUser + named + withUsage
)

// Inquire implements store.Inquirer, in one statement.
func (s *Store) Inquire(ctx context.Context, about store.Inquiry) (f store.Findings, err error) {
	sql, key := caller+byID, any(about.Key)
	if about.Key == uuid.Nil {
		sql, key = caller+byHash, about.KeyHash[:]
	}
	args := []any{key, uuid.NullUUID{UUID: about.User, Valid: about.User != uuid.Nil}}
	var k keyRow
	var owner uuid.NullUUID
	var sha256 []byte
	into := append(k.into(), &f.Actor.FullName, &f.Actor.IsSuperadmin, &f.Actor.IsRecordsManager,
		&f.User.ID, &f.User.FullName, &f.User.IsSuperadmin, &f.User.IsRecordsManager,
		&f.Entity.Kind, &f.Entity.ID, &f.Entity.Space, &f.Entity.Name, &owner, &f.Role)
	if about.Attachment != uuid.Nil {
		sql, args = sql+toAttachment, append(args, about.Attachment)
		into = append(into, attachmentInto(&f.Attachment, &sha256)...)
	} else {
		args = append(args, int16(about.Parent.Kind), about.Parent.ID)
		if about.Usage {
			sql += toParentFull
			into = append(into, spaceInto(&f.Space, &f.Used)...)
		} else {
			sql += toParent
		}
	}
	if err = s.row(ctx, sql, args...).Scan(into...); err != nil {
		return store.Findings{}, err
	}
	if f.Key, err = k.key(s); err != nil {
		return store.Findings{}, err
	}
	f.Actor.ID, f.Entity.OwnerID = k.UserID, owner.UUID
	copy(f.Attachment.SHA256[:], sha256)
	if about.Usage && about.Attachment == uuid.Nil {
		f.Space.Slug = f.Entity.Space
	}
	return f, nil
}
