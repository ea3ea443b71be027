package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// createSQL creates the record of an attachment, if nothing is against it, and returns what
// was found. It is one statement, so that it costs one round trip. The hold of the content is
// used up by it. In a space with a quota it creates one only where useSQL follows. The locks
// have deletions of the parent, the space and the comment wait, and a Put that sets a quota.
const createSQL = `with home as (
		select e.space, s.auto, s.quota_bytes, s.quota_files
		from attachd.entities e join attachd.spaces s on s.slug = e.space
		where e.kind = $2 and e.id = $3 for key share of e, s
	), remark as (
		select from attachd.comments where ticket = $3 and id = $5 and $2 = 2 for key share
	), found as materialized (
		select home.space, home.quota_bytes, home.quota_files, coalesce(u.bytes, 0) as bytes, coalesce(u.files, 0) as files, u.space is not null as counted,
			exists (select from attachd.attachments where id = $1) or exists (select from attachd.trash where id = $1) as taken,
			(select full_name from attachd.users where id = $9 and not deleted) as uploader,
			$5::uuid is null or exists (select from remark) as remarked,
			$10::text <> '' and (home.space is null or home.auto and home.space = $10
				and not exists (select from attachd.members m where m.space = home.space and m.user_id = $9)) as makes
		from (select) one left join home on true left join attachd.usage u on u.space = home.space
	), verdict as materialized (
		select *, space is not null and not taken and uploader is not null and remarked and not makes
			and ($10 = '' or $2 <> 1 or space = $10)
			and (quota_files = 0 and quota_bytes = 0 or counted and $15)
			and (quota_files = 0 or files < quota_files) and (quota_bytes = 0 or $7 <= quota_bytes - bytes) as good
		from found
	), made as (
		insert into attachd.attachments (id, kind, parent, space, sha256, comment, name, size, type, uploader)
		select $1, $2, $3, space, $4, $5, $6, $7, $8, $9 from verdict where good returning space
	), counted as (
		insert into attachd.usage_delta (space, bytes, files) select made.space, $7, 1 from made, verdict v where v.quota_files = 0 and v.quota_bytes = 0
	), summed as (
		insert into attachd.checksums (sha256, sums) select $4, $11 from made
		where $11 <> ''::bytea and not exists (select from attachd.checksums where sha256 = $4 and sums = $11)
		on conflict (sha256) do update set sums = excluded.sums
	), kept as (
		delete from attachd.uploads where sha256 = $4 and key = $12 and exists (select from made)
	), logged as (
		insert into attachd.audit_waiting (entry) select entry from made, unnest($13::bytea[]) with ordinality as e (entry, n) order by n
	), told as (
		insert into attachd.outbox (event)
		select jsonb_set(jsonb_set($14::text::jsonb, '{space}', to_jsonb(v.space)), '{attachment,uploader}', to_jsonb(v.uploader))::json
		from made, verdict v where $14::text is not null returning seq
	)
	select good, taken, coalesce(uploader, ''), uploader is not null, remarked, makes, counted,
		coalesce(space, ''), coalesce(quota_bytes, 0), coalesce(quota_files, 0), bytes, files, (select coalesce(sum(seq), 0)::bigint from told) from verdict`

// useSQL adds the records that the statements before it have created to the usage of their
// spaces, where these have a quota, and fails where one is over it then. It is the last
// statement before the commit, since others wait for the row that it locks. An id that another
// transaction has given a record is none of these.
const useSQL = `with made as materialized (
		select s.slug, s.quota_bytes, s.quota_files, sum(a.size)::bigint as bytes, count(*) as files
		from attachd.attachments a join attachd.spaces s on s.slug = a.space
		where a.id = any($1::uuid[]) and a.xmin = pg_current_xact_id_if_assigned()::xid and (s.quota_files > 0 or s.quota_bytes > 0)
		group by s.slug, s.quota_bytes, s.quota_files
	), used as (
		update attachd.usage u set bytes = u.bytes + m.bytes, files = u.files + m.files,
			fits = (m.quota_files = 0 or m.files <= m.quota_files - u.files) and (m.quota_bytes = 0 or m.bytes <= m.quota_bytes - u.bytes)
		from made m where u.space = m.slug returning 1
	)
	select 1 / (case when (select count(*) from used) = (select count(*) from made) then 1 else 0 end)`

// verdict is what createSQL has found.
type verdict struct {
	good      bool // the record was created
	taken     bool // the id is
	uploader  string
	isUser    bool // the uploader
	remarked  bool // no comment is named, or one that is there
	makes     bool // the parent, its space or a membership has to be made first
	isCounted bool // the space has a row for its usage
	space     store.Space
	used      store.Usage
	event     int64 // the number of the event, if one was added
}

// isLimited says whether the space has a quota.
func (v verdict) isLimited() bool { return v.space.QuotaFiles > 0 || v.space.QuotaBytes > 0 }

// errMakes has an upload make something of the directory first.
const errMakes = instead("the parent, its space or a membership has to be made first")

// errLimited has an upload count what it uses.
const errLimited = instead("the space has a quota")

// refusal returns why a record was not created. uses says that useSQL was to follow.
func (v verdict) refusal(a store.Attachment, autoCreate string, uses bool) error {
	elsewhere := autoCreate != "" && a.Parent.Kind == store.Product && v.space.Slug != "" && v.space.Slug != autoCreate
	switch {
	case v.good:
		return nil
	case v.taken:
		return store.AttachmentTaken(a.ID)
	case !v.isUser:
		return store.NoUser(a.UploaderID)
	case !v.remarked:
		return store.NoComment(a.Parent.Kind, a.CommentID.UUID)
	case v.makes:
		return errMakes
	case v.space.Slug == "" || elsewhere:
		return store.NoParent(a.Parent)
	}
	if err := store.CheckQuota(v.space, v.used, a.Size); err != nil && v.isCounted {
		return err
	}
	if v.isLimited() && !uses {
		return errLimited
	}
	return errAgain
}

// newRecord is a record that is to be created.
type newRecord struct {
	store.Attachment
	checksums  []byte
	hold       []byte // the key of the upload that holds the content, or nil
	autoCreate string
	alone      bool // whatever becomes of it, no other has to do with it
}

// arguments are those of createSQL, with the entries and perhaps the event that are stored
// with it.
func (n *newRecord) arguments(entries [][]byte, event *string, uses bool) []any {
	var comment *uuid.UUID
	if n.CommentID.Valid {
		comment = &n.CommentID.UUID
	}
	return []any{n.ID, int16(n.Parent.Kind), n.Parent.ID, n.SHA256[:], comment, n.FileName, n.Size, n.Type, n.UploaderID,
		n.autoCreate, n.checksums, n.hold, entries, event, uses}
}

// scan reads what createSQL has found.
func (v *verdict) scan(row pgx.Row) error {
	return row.Scan(&v.good, &v.taken, &v.uploader, &v.isUser, &v.remarked, &v.makes, &v.isCounted,
		&v.space.Slug, &v.space.QuotaBytes, &v.space.QuotaFiles, &v.used.Bytes, &v.used.Files, &v.event)
}

// CreateAttachment implements store.Attachments.
func (s *Store) CreateAttachment(ctx context.Context, a store.Attachment, checksums []byte, autoCreate string) error {
	if a.ID == uuid.Nil || a.Size < 0 || autoCreate != "" && !store.ValidSlug(autoCreate) {
		return fmt.Errorf("store: malformed attachment %v in space %q", a, autoCreate)
	}
	hold, giveBack := s.takeHold(a.SHA256)
	err := s.createSurely(ctx, &newRecord{a, append([]byte{}, checksums...), hold, autoCreate, false})
	if err != nil {
		giveBack()
	}
	if code(err) == foreignKeyViolation {
		err = fmt.Errorf("%w: %w", store.ErrNoContent, err)
	}
	return err
}

const (
	// defaultAttemptFor is how long an attempt to create a record may take before it counts
	// as one whose connection was lost. With defaultAskFor it is less than proxies and clients
	// wait for an answer.
	defaultAttemptFor = 20 * time.Second
	// defaultAskFor is how long CreateAttachment asks whether it has created a record when
	// the connection was lost, before it leaves that open.
	defaultAskFor = 15 * time.Second
	// askAgain is the time before it asks for the second time. It doubles each time, up to
	// askSeldom.
	askAgain, askSeldom = 10 * time.Millisecond, 500 * time.Millisecond
)

// createSurely creates a record, and finds out whether it has where the connection was lost, or
// given up, before the answer came. It does so by creating it again: the first attempt may
// still be under way in the server, and the id, which only one of them can take, makes the
// second wait for it. Once something was sent, the end of ctx does not end this.
func (s *Store) createSurely(ctx context.Context, n *newRecord) error {
	err := within(ctx, s.attemptFor, func(ctx context.Context) error { return s.createOrMake(ctx, n) })
	if !errors.Is(err, store.ErrAway) || errors.As(err, new(notSent)) {
		return err
	}
	return within(context.WithoutCancel(ctx), s.askFor, func(ctx context.Context) error {
		for pause := askAgain; ; pause = min(2*pause, askSeldom) {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(pause):
			}
			if err = s.createAgain(ctx, n); !errors.Is(err, store.ErrAway) {
				return err
			}
		}
	})
}

// within calls do with a context that ends after a while, too.
func within(ctx context.Context, d time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return do(ctx)
}

// createAgain creates a record that an earlier attempt may have created.
func (s *Store) createAgain(ctx context.Context, n *newRecord) error {
	n.alone = true
	err := within(ctx, s.attemptFor, func(ctx context.Context) error { return s.createOrMake(ctx, n) })
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	var mine bool
	is := s.row(ctx, `select exists (select from attachd.attachments where id = $1 and sha256 = $2 and uploader = $3 and parent = $4 and name = $5)
			or exists (select from attachd.trash where id = $1 and sha256 = $2 and uploader = $3 and parent = $4 and name = $5)`,
		n.ID, n.SHA256[:], n.UploaderID, n.Parent.ID, n.FileName).Scan(&mine)
	switch {
	case is != nil:
		return is
	case mine:
		return s.confirm(ctx)
	}
	return err
}

// confirm returns once all that can be seen is as lasting as what was committed: after a restart
// of the server, or the end of a session, a record can be seen that no standby has yet.
func (s *Store) confirm(ctx context.Context) error {
	return s.atomic(ctx, func(b *pgx.Batch) { b.Queue(touchVersion) })
}

// notSent is the error of a change for which there was no connection: it was not made.
type notSent struct{ error }

func (e notSent) Unwrap() error { return e.error }

// createOrMake creates a record, and before it what is missing of its parent.
func (s *Store) createOrMake(ctx context.Context, n *newRecord) error {
	err := s.again(ctx, func() error { return s.createAtOnce(ctx, n) })
	if errors.Is(err, errMakes) {
		err = s.changeDirectory(ctx, func(tx *change) error {
			busy, err := tx.makeParent(n.Attachment, n.autoCreate)
			if err != nil {
				return err
			}
			var v verdict
			err = v.scan(tx.get(createSQL, n.arguments(nil, nil, true)...))
			if err == nil {
				err = v.refusal(n.Attachment, n.autoCreate, true)
			}
			if err == nil && busy != nil {
				err = busy
			}
			if err != nil {
				return err
			}
			tx.lastly(useSQL, []uuid.UUID{n.ID})
			made := n.Attachment
			made.Uploader = v.uploader
			tx.enqueue(store.AttachmentCreated, made, v.space.Slug)
			return nil
		})
	}
	if code(err) == uniqueViolation {
		err = store.AttachmentTaken(n.ID)
	}
	return err
}

// makeParent makes what is missing of the parent of an attachment: the parent, its space, and
// in a space that was made by an upload, the membership of the uploader. Where it would bring
// back what is being removed or in the trash, it returns that: then what it has made shows only
// whether the upload is refused anyway, and must be undone.
func (tx *change) makeParent(a store.Attachment, autoCreate string) (busy *removing, err error) {
	const why = "made by an upload"
	member := memberKey{autoCreate, a.UploaderID}
	p := newPlan([]store.Object{store.Entity{Parent: a.Parent, Space: autoCreate, OwnerID: a.UploaderID}, store.Member{Space: autoCreate, UserID: a.UploaderID}})
	if err := p.read(tx); err != nil {
		return nil, err
	}
	if err := p.leave(tx, a.Parent); err != nil {
		return nil, err
	}
	e, there := p.entities.get(a.Parent)
	if there && a.Parent.Kind == store.Product && e.space != autoCreate || !there && a.Parent.ID == uuid.Nil {
		return nil, store.NoParent(a.Parent)
	}
	if !there && !p.spaces.has(autoCreate) {
		tx.note("space.put", "space", autoCreate, why, autoCreate)
		if _, err := p.putSpace(store.Space{Slug: autoCreate, Name: autoCreate, Auto: true}); err != nil {
			return nil, err
		}
	}
	if !there {
		tx.note(a.Parent.Kind.String()+".put", a.Parent.Kind.String(), a.Parent.ID.String(), why, autoCreate)
		made := store.Entity{Parent: a.Parent, Space: autoCreate}
		if a.Parent.Kind == store.Ticket {
			made.OwnerID = a.UploaderID
		}
		if _, err := p.putEntity(made); err != nil {
			return nil, err
		}
		e.space = autoCreate
	}
	if e.space == autoCreate && p.spaces.rows[autoCreate].Auto && !p.members.has(member) {
		m := store.Member{Space: autoCreate, UserID: a.UploaderID, Role: store.Admin}
		tx.note("member.put", "user", m.UserID.String(), store.Granted(m)+", "+why, autoCreate)
		if _, err := p.putMember(m); err != nil {
			return nil, err
		}
	}
	return p.busy, p.write(tx)
}
