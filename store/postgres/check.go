package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"attachd/store/backend"
)

// questions are what a check asks the database: each row of an answer is a fault, as a
// sentence. What the constraints of the schema guarantee is asked too where others rely on
// it: a restore may have loaded the tables without them.
var questions = []string{
	`select format('Attachment %s was uploaded by user %s, who is not there.', a.id, a.uploader)
		from attachd.attachments a where not exists (select from attachd.users u where u.id = a.uploader)`,
	`select format('Attachment %s belongs to comment %s, which is not there.', a.id, a.comment)
		from attachd.attachments a where a.comment is not null and not exists (
			select from attachd.comments c where a.kind = 2 and c.ticket = a.parent and c.id = a.comment)`,
	`select format('Attachment %s has the content %s, which is in no object.', a.id, encode(a.sha256, 'hex'))
		from attachd.attachments a where not exists (select from attachd.contents c where c.sha256 = a.sha256)`,
	`select format('Attachment %s belongs to %s %s, which is not there.', a.id, ` + kindOf + `, a.parent)
		from attachd.attachments a where not exists (select from attachd.entities e where e.kind = a.kind and e.id = a.parent)
			and not exists (select from attachd.removals r where r.kind = a.kind and r.parent = a.parent or r.kind is null and r.space = a.space)`,
	`select format('Attachment %s is in the space "%s", and its %s in "%s".', a.id, a.space, ` + kindOf + `, e.space)
		from attachd.attachments a join attachd.entities e on e.kind = a.kind and e.id = a.parent where e.space <> a.space`,

	`with used as (
			select a.space, sum(a.size) as bytes, count(*) as files from attachd.attachments a
				join attachd.entities e on e.kind = a.kind and e.id = a.parent join attachd.spaces s on s.slug = e.space group by a.space
		), counted as (
			select space, sum(bytes) as bytes, sum(files) as files
				from (select space, bytes, files from attachd.usage union all select space, bytes, files from attachd.usage_delta) c group by space
		)
		select format('Space "%s" is counted as using %s bytes in %s files, but its files are %s bytes in %s.',
			space, coalesce(c.bytes, 0), coalesce(c.files, 0), coalesce(u.bytes, 0), coalesce(u.files, 0))
		from used u full join counted c using (space) where (coalesce(c.bytes, 0), coalesce(c.files, 0)) <> (coalesce(u.bytes, 0), coalesce(u.files, 0))`,
	`select distinct format('Usage is counted of space "%s", which is not there.', space)
		from (select space from attachd.usage union all select space from attachd.usage_delta) c
		where not exists (select from attachd.spaces where slug = space)`,
	`select format('Space "%s" has a quota, and its usage is not counted as that needs.', slug) from attachd.spaces
		where (quota_bytes > 0 or quota_files > 0) and (not exists (select from attachd.usage u where u.space = slug)
			or exists (select from attachd.usage_delta d where d.space = slug))`,
	`select format('Space "%s" has no quota, but its usage is counted as if it had.', slug) from attachd.spaces
		where quota_bytes = 0 and quota_files = 0 and exists (select from attachd.usage u where u.space = slug)`,

	`select format('User %s, who is not there, is a member of space "%s".', m.user_id, m.space)
		from attachd.members m where not exists (select from attachd.users u where u.id = m.user_id and not u.deleted)`,
	`select format('User %s is a member of space "%s", which is not there.', m.user_id, m.space)
		from attachd.members m where not exists (select from attachd.spaces where slug = m.space)`,
	`select format('The %s %s is in space "%s", which is not there.', ` + kindOf + `, a.id, a.space)
		from attachd.entities a where not exists (select from attachd.spaces where slug = a.space)
			and not exists (select from attachd.removals r where r.kind is null and r.space = a.space)`,
	`select format('The ticket %s belongs to user %s, who is not there.', e.id, e.owner)
		from attachd.entities e where e.kind = 2 and not exists (select from attachd.users u where u.id = e.owner)`,
	`select format('Comment %s belongs to ticket %s, which is not there.', c.id, c.ticket)
		from attachd.comments c where not exists (select from attachd.entities e where e.kind = 2 and e.id = c.ticket)
			and not exists (select from attachd.removals r where r.kind = 2 and r.parent = c.ticket)`,
	`select format('User %s, who is not there, has API key %s.', k.user_id, k.id)
		from attachd.keys k where not exists (select from attachd.users u where u.id = k.user_id and not u.deleted)`,
	`select format('Session %s is of API key %s, which is not there.', encode(s.hash, 'hex'), s.key)
		from attachd.sessions s where not exists (select from attachd.keys k where k.id = s.key)`,

	`select format('What belonged to %s is being removed, but it is there.', e.id)
		from attachd.removals r join attachd.entities e on e.kind = r.kind and e.id = r.parent`,
	`select format('What was in space "%s" is being removed, but it is there.', r.space)
		from attachd.removals r join attachd.spaces s on s.slug = r.space where r.kind is null`,

	`select format('Attachment %s in the trash was uploaded by user %s, who is not there.', a.id, a.uploader)
		from attachd.trash a where not exists (select from attachd.users u where u.id = a.uploader)`,
	`select format('Attachment %s in the trash was deleted by user %s, who is not there.', a.id, a.deleted_by)
		from attachd.trash a where a.deleted_by <> ` + noID + ` and not exists (select from attachd.users u where u.id = a.deleted_by)`,
	`select format('Attachment %s in the trash has the content %s, which is in no object.', a.id, encode(a.sha256, 'hex'))
		from attachd.trash a where not exists (select from attachd.contents c where c.sha256 = a.sha256)`,
	`select format('Attachment %s is in the trash, but it is there.', a.id) from attachd.trash a join attachd.attachments using (id)`,
	`with below as (
			select a.kind, a.parent, a.size, coalesce(p.id, s.id) as removal from attachd.attachments a
				left join attachd.removals p on p.kind = a.kind and p.parent = a.parent
				left join (attachd.entities e join attachd.removals s on s.kind is null and s.space = e.space) on e.kind = a.kind and e.id = a.parent
		), used as (
			select removal, sum(size) as bytes, count(*) as files from below group by removal
		)
		select format('In the trash, %s is counted as having %s bytes in %s files, but its files are %s bytes in %s.',
			coalesce(r.parent::text, 'space "' || r.space || '"'), r.bytes, r.files, coalesce(u.bytes, 0), coalesce(u.files, 0))
		from attachd.removals r left join used u on u.removal = r.id where r.id < 0 and (r.bytes, r.files) <> (coalesce(u.bytes, 0), coalesce(u.files, 0))`,
	`with counted as (
			select coalesce(sum(bytes), 0) as bytes, coalesce(sum(files), 0) as files from attachd.trash_usage
		), resting as (
			select size from attachd.trash
				union all
			select a.size from attachd.attachments a where exists (select from attachd.removals r where r.until is not null and r.kind = a.kind and r.parent = a.parent)
				or exists (select from attachd.removals r join attachd.entities e on r.kind is null and r.space = e.space
					where r.until is not null and e.kind = a.kind and e.id = a.parent)
		), found as (
			select coalesce(sum(size), 0) as bytes, count(*) as files from resting
		)
		select format('The trash is counted as having %s bytes in %s files, but its files are %s bytes in %s.', c.bytes, c.files, f.bytes, f.files)
		from counted c, found f where (c.bytes, c.files) <> (f.bytes, f.files)`,
	`select format('User %s, who is not there, was a member of space "%s", which is in the trash.', m.user_id, m.space)
		from attachd.trash_members m where not exists (select from attachd.users u where u.id = m.user_id and not u.deleted)`,
	`select format('User %s was a member of space "%s", which is not in the trash.', m.user_id, m.space)
		from attachd.trash_members m where not exists (select from attachd.removals r where r.kind is null and r.space = m.space)`,

	`select format('The hold %s was set by user %s, who is not there.', h.id, h.set_by)
		from attachd.holds h where h.set_by <> ` + noID + ` and not exists (select from attachd.users u where u.id = h.set_by)`,
	`select format('The hold %s is in the space "%s", which is not there.', h.id, h.space)
		from attachd.holds h where not exists (select from attachd.spaces s where s.slug = h.space)`,
	`select format('The hold %s is on the %s %s, which is not in the space "%s".', a.hold, ` + kindOf + `, a.parent, a.space)
		from (select id as hold, kind, parent, space from attachd.holds where kind <> 0) a
		where not exists (select from attachd.entities e where e.kind = a.kind and e.id = a.parent and e.space = a.space)`,
	`select format('The hold %s is on the attachment %s, which is not there.', h.id, h.attachment)
		from attachd.holds h where h.attachment <> ` + noID + `
			and not exists (select from attachd.attachments a where a.id = h.attachment and a.kind = h.kind and a.parent = h.parent)`,

	`select format('The content %s is in the object %s, which is to be deleted.', encode(c.sha256, 'hex'), encode(c.key, 'hex'))
		from attachd.contents c join attachd.garbage g using (sha256, key)`,
	`select format('The content %s is in the object %s, which is noted as one that is being written.', encode(c.sha256, 'hex'), encode(c.key, 'hex'))
		from attachd.contents c join attachd.uploads u using (sha256, key) where not u.settled`,
	`select format('The object %s of the content %s is being written, and is to be deleted.', encode(u.key, 'hex'), encode(u.sha256, 'hex'))
		from attachd.uploads u join attachd.garbage g using (sha256, key) where not u.settled`,
}

// kindOf is the word for the kind of a row "a".
const kindOf = `case a.kind when 1 then 'product' when 2 then 'ticket' when 3 then 'meeting' else 'object' end`

// Check implements store.Store. Each question is a statement, which sees the database as of one
// moment, and for which nobody waits: a transaction around all of them would keep the server
// from tidying up as long as the check rests. The server verifies its own pages.
func (s *Store) Check(ctx context.Context, rest func(took time.Duration)) ([]string, error) {
	var faults backend.Faults
	timed := func(check func() error) error {
		began := time.Now()
		err := check()
		if err == nil && rest != nil {
			rest(time.Since(began))
		}
		return err
	}
	var err error
	for i := 0; i < len(questions) && err == nil; i++ {
		err = timed(func() error { return s.ask(ctx, questions[i], &faults) })
	}
	if err == nil {
		err = timed(func() error {
			return errors.Join(
				checkNumbered(ctx, s, &faults, "Event %d of the outbox cannot be read.", selectEvents, decodeEvent),
				checkNumbered(ctx, s, &faults, "Dead letter %d cannot be read.", selectLetters, decodeLetter))
		})
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("check the database: %w", err)
	}
	return faults.Sentences(), nil
}

// ask adds the faults that a question finds.
func (s *Store) ask(ctx context.Context, question string, faults *backend.Faults) error {
	found, err := s.pool.Query(ctx, question)
	if err != nil {
		return explain(err)
	}
	var sentence string
	_, err = pgx.ForEachRow(found, []any{&sentence}, func() error {
		faults.Add("%s", sentence)
		return nil
	})
	return explain(err)
}

// checkedAtOnce is how many numbered records a check reads at a time.
const checkedAtOnce = 1000

// checkNumbered adds a fault for each numbered record that cannot be decoded.
func checkNumbered[T any](ctx context.Context, s *Store, faults *backend.Faults, sentence, sql string, decode func(seq int64, data []byte) (T, error)) error {
	for after := uint64(0); ; {
		seqs, err := numbered(ctx, s, sql, after, checkedAtOnce, func(seq int64, data []byte) (int64, error) {
			if _, err := decode(seq, data); err != nil {
				faults.Add(sentence, seq)
			}
			return seq, nil
		})
		if err != nil || len(seqs) < checkedAtOnce {
			return err
		}
		after = uint64(seqs[len(seqs)-1])
	}
}
