package postgres

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
	"attachd/store/portable"
)

// noKey is the key, as in SQL, of the object of a content that is in none, although a record
// names it: it was lost before the records came here. As the content is marked damaged, an
// upload of it puts it into an object.
const noKey = `'\x0000000000000000'`

// errNotEmpty is the error of an Import into a database that is in use.
var errNotEmpty = outside{errors.New("the database has records already")}

// badText are PostgreSQL's codes of texts with a zero byte, or that are no UTF-8.
var badText = []string{"22021", "22P05"}

// Import implements portable.Target, in one transaction.
func (s *Store) Import(ctx context.Context, rows iter.Seq2[portable.Row, error]) error {
	begun, err := s.pool.Begin(ctx)
	if err != nil {
		return explain(err)
	}
	l := &loader{Tx: begun, ctx: ctx}
	if err := l.load(rows); err != nil {
		return explain(errors.Join(err, ignoreClosed(begun.Rollback(context.WithoutCancel(ctx)))))
	}
	s.outbox.begin()
	err = begun.Commit(context.WithoutCancel(ctx))
	s.outbox.end(outboxDelta{outboxCount: l.outbox, added: int(l.outbox.events)}, err == nil)
	if err != nil {
		return explain(err)
	}
	return s.countObjects(ctx)
}

// ClearRecords implements portable.Target.
func (s *Store) ClearRecords(ctx context.Context) error {
	err := s.atomic(ctx, func(b *pgx.Batch) {
		b.Queue(`truncate attachd.users, attachd.spaces, attachd.members, attachd.entities, attachd.comments, attachd.removals,
			attachd.attachments, attachd.checksums, attachd.usage, attachd.usage_delta, attachd.trash, attachd.trash_members, attachd.trash_usage, attachd.tellings, attachd.holds, attachd.keys, attachd.sessions,
			attachd.audit, attachd.audit_waiting, attachd.audit_ends, attachd.outbox, attachd.dead_letters, attachd.ages restart identity`)
		b.Queue(`insert into attachd.audit_ends default values`)
		b.Queue(`delete from attachd.contents where key = ` + noKey)
	})
	return errors.Join(err, s.countObjects(ctx))
}

// loader copies rows into the tables of a database.
type loader struct {
	pgx.Tx
	ctx    context.Context
	outbox outboxCount
}

func (l *loader) load(rows iter.Seq2[portable.Row, error]) error {
	if err := l.prepare(); err != nil {
		return err
	}
	rebuild, err := l.dropIndexes()
	if err != nil {
		return err
	}
	if err := l.copyAll(rows); err != nil {
		return err
	}
	for _, statement := range append([]string{
		// A foreign key wants a place of each content.
		`insert into attachd.contents (sha256, key, size, stored, damaged)
			select sha256, ` + noKey + `, max(size), now(), true
			from (select sha256, size from attachd.attachments union all select sha256, size from attachd.trash) a
			where not exists (select from attachd.contents c where c.sha256 = a.sha256) group by sha256`,
		`insert into attachd.usage (space, bytes, files)
			select slug, coalesce(sum(bytes), 0), coalesce(sum(files), 0) from attachd.spaces left join attachd.usage_delta on space = slug
			where quota_bytes > 0 or quota_files > 0 group by slug`,
		`delete from attachd.usage_delta d using attachd.usage u where u.space = d.space`,
		`insert into attachd.trash_usage (bytes, files) select coalesce(sum(size), 0), count(*) from attachd.trash`,
		`insert into attachd.trash_usage (bytes, files) select coalesce(sum(bytes), 0), coalesce(sum(files), 0) from attachd.removals where until is not null`,
		`select setval('attachd.removals_id_seq', count(*) + 1) from attachd.removals`,
	}, rebuild...) {
		if _, err := l.Exec(l.ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// prepare locks the database against others that load or change it, and looks whether it is
// empty.
func (l *loader) prepare() error {
	if _, err := l.Exec(l.ctx, unlimited+`, set_config('maintenance_work_mem', '256MB', true), pg_advisory_xact_lock(`+fmt.Sprint(directoryLock)+`)`); err != nil {
		return err
	}
	var some bool
	err := l.QueryRow(l.ctx, `select exists (select from attachd.users) or exists (select from attachd.spaces) or exists (select from attachd.attachments)
		or exists (select from attachd.entities) or exists (select from attachd.audit) or exists (select from attachd.audit_waiting)
		or exists (select from attachd.outbox) or exists (select from attachd.dead_letters) or exists (select from attachd.removals) or exists (select from attachd.trash) or exists (select from attachd.holds)
		or (select head_seq > 0 from attachd.audit_ends)`).Scan(&some)
	if err == nil && some {
		err = errNotEmpty
	}
	return err
}

// largeTables are the tables that may be large, and that have more than one index. large is
// the query that finds them.
var largeTables = []string{"attachments", "contents", "checksums", "comments", "entities", "trash"}

const large = `(select oid from pg_class where relnamespace = 'attachd'::regnamespace and relname = any($1))`

// dropIndexes drops the indexes and keys of large tables, and returns the statements that
// make them again: it is quicker to sort all rows at the end.
func (l *loader) dropIndexes() (rebuild []string, err error) {
	var drop, indexes, keys []string
	collect := func(sql string, into func(table, name, definition string, foreign bool)) error {
		var table, name, definition string
		var foreign bool
		found, err := l.Query(l.ctx, sql, largeTables)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(found, []any{&table, &name, &definition, &foreign}, func() error {
			into(table, name, definition, foreign)
			return nil
		})
		return err
	}
	// Foreign keys go first, since they need the others, and come back last.
	err = collect(`select conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid), contype = 'f' from pg_constraint
		where connamespace = 'attachd'::regnamespace and contype in ('p', 'u', 'f') and conrelid in `+large+`
		order by contype = 'f' desc, conname`, func(table, name, definition string, foreign bool) {
		drop = append(drop, `alter table `+table+` drop constraint `+name)
		keys = append(keys, `alter table `+table+` add constraint `+name+` `+definition)
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(keys)
	err = collect(`select indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid), false from pg_index
		where indrelid in `+large+`
		and not exists (select from pg_constraint where conindid = indexrelid and contype in ('p', 'u')) order by 2`, func(_, name, definition string, _ bool) {
		drop = append(drop, `drop index `+name)
		indexes = append(indexes, definition)
	})
	if err != nil {
		return nil, err
	}
	for _, statement := range drop {
		if _, err := l.Exec(l.ctx, statement); err != nil {
			return nil, err
		}
	}
	return append(slices.Concat(indexes, keys), `analyze attachd.attachments, attachd.trash, attachd.contents, attachd.entities, attachd.comments, attachd.audit`), nil
}

// copyAll copies all rows, each run of a kind with one COPY.
func (l *loader) copyAll(rows iter.Seq2[portable.Row, error]) error {
	next, stop := iter.Pull2(portable.Checked(rows))
	defer stop()
	from := &source{next: next, outbox: &l.outbox, trashed: map[string]bool{}}
	for from.advance(); from.err == nil && from.row != nil; {
		table, columns := from.tableOf(from.row)
		if table == "" {
			if err := l.set(from.row); err != nil {
				return err
			}
			from.advance()
			continue
		}
		from.table, from.begun = table, false
		if _, err := l.CopyFrom(l.ctx, pgx.Identifier{"attachd", table}, columns, from); err != nil {
			if from.err != nil { // of which the server has only made its own
				return from.err
			}
			if slices.Contains(badText, code(err)) {
				err = outside{fmt.Errorf("a text in the table %q has a zero byte, or is not UTF-8, which PostgreSQL does not take: %w", table, err)}
			}
			return err
		}
	}
	return from.err
}

// source is a pgx.CopyFromSource of the rows of one kind.
type source struct {
	next  func() (portable.Row, error, bool)
	row   portable.Row // the next one; nil at the end
	table string
	begun bool
	err   error

	outbox   *outboxCount
	removals int64           // so many have come
	trashed  map[string]bool // the spaces in the trash
}

// tableOf is tableOf, except that the members of a space in the trash are there, too.
func (s *source) tableOf(row portable.Row) (table string, columns []string) {
	table, columns = tableOf(row)
	if m, is := row.(portable.Member); is && s.trashed[m.Space] {
		table = "trash_members"
	}
	return table, columns
}

// advance reads the next row.
func (s *source) advance() {
	row, err, more := s.next()
	if !more {
		row, err = nil, nil
	}
	if err != nil {
		err = outside{err}
	}
	s.row, s.err = row, err
}

// Next implements pgx.CopyFromSource.
func (s *source) Next() bool {
	if s.begun {
		s.advance()
	}
	s.begun = true
	if s.err != nil || s.row == nil {
		return false
	}
	table, _ := s.tableOf(s.row)
	return table == s.table
}

// Values implements pgx.CopyFromSource.
func (s *source) Values() ([]any, error) {
	switch r := s.row.(type) {
	case portable.Event:
		s.outbox.events++
		s.outbox.sum += int64(r.Seq)
	case portable.DeadLetter:
		s.outbox.dead++
	case portable.TrashedSpace:
		s.trashed[r.Slug] = true
	}
	values, err := valuesOf(s.row)
	switch s.row.(type) {
	case portable.Removal:
		s.removals++
		values = append(values, s.removals)
	case portable.TrashedSpace, portable.TrashedEntity: // they rest
		s.removals++
		values = append(values, -s.removals)
	}
	return values, err
}

// Err implements pgx.CopyFromSource.
func (s *source) Err() error { return s.err }

// tableOf returns the table of a row, "" where it is none of a table, and the columns.
func tableOf(row portable.Row) (table string, columns []string) {
	switch row.(type) {
	case portable.User:
		return "users", []string{"id", "full_name", "superadmin", "records_manager", "deleted"}
	case portable.Space:
		return "spaces", []string{"slug", "name", "quota_bytes", "quota_files", "auto"}
	case portable.Usage:
		return "usage_delta", []string{"space", "bytes", "files"}
	case portable.Member:
		return "members", []string{"space", "user_id", "role"}
	case portable.Entity:
		return "entities", []string{"kind", "id", "space", "name", "owner", "comments"}
	case portable.Comment:
		return "comments", []string{"ticket", "id", "number", "created_at"}
	case portable.Removal, portable.TrashedSpace, portable.TrashedEntity:
		return "removals", removalColumns
	case portable.Telling:
		return "tellings", []string{"space", "kind", "parent", "event", "origin", "last", "after_kind", "after_parent", "after"}
	case portable.Place:
		return "contents", []string{"sha256", "key", "size", "stored", "damaged"}
	case portable.Intent:
		return "uploads", []string{"sha256", "key", "begun"}
	case portable.Garbage:
		return "garbage", []string{"sha256", "key", "since"}
	case portable.Attachment:
		return "attachments", []string{"id", "kind", "parent", "space", "sha256", "comment", "name", "size", "type", "uploader"}
	case portable.TrashedAttachment:
		return "trash", strings.Split(trashColumns, ", ")
	case portable.Hold:
		return "holds", []string{"space", "kind", "parent", "attachment", "id", "reason", "set_by"}
	case portable.Checksums:
		return "checksums", []string{"sha256", "sums"}
	case portable.Key:
		return "keys", []string{"id", "user_id", "name", "prefix", "hash", "created_at", "created_ns", "expires_at", "expires_ns", "used_at"}
	case portable.Session:
		return "sessions", []string{"hash", "key", "expires_at", "expires_ns"}
	case portable.Entry:
		return "audit", []string{"seq", "entry", "hash"}
	case portable.Event:
		return "outbox", []string{"seq", "event"}
	case portable.DeadLetter:
		return "dead_letters", []string{"seq", "letter"}
	case portable.Ages:
		return "ages", []string{"of", "marks"}
	}
	return "", nil
}

// valuesOf returns the values of the columns that tableOf returns.
func valuesOf(row portable.Row) ([]any, error) {
	switch r := row.(type) {
	case portable.User:
		return []any{r.ID, r.FullName, r.IsSuperadmin, r.IsRecordsManager, r.Deleted}, nil
	case portable.Space:
		return []any{r.Slug, r.Name, r.QuotaBytes, r.QuotaFiles, r.Auto}, nil
	case portable.Usage:
		return []any{r.Space, r.Bytes, r.Files}, nil
	case portable.Member:
		return []any{r.Space, r.UserID, int16(r.Role)}, nil
	case portable.Entity:
		return []any{int16(r.Kind), r.ID, r.Space, r.Name, idOrNull(r.OwnerID), r.Comments}, nil
	case portable.Comment:
		return []any{r.TicketID, r.ID, r.Number, timeOrNull(r.CreatedAt)}, nil
	case portable.Removal, portable.Telling, portable.TrashedSpace, portable.TrashedEntity:
		return removalValues(row)
	case portable.Place:
		return []any{r.Ref[:], r.Key[:], r.Size, r.Stored, r.Damaged}, nil
	case portable.Intent:
		return []any{r.Ref[:], r.Key[:], r.Begun}, nil
	case portable.Garbage:
		return []any{r.Ref[:], r.Key[:], r.Since}, nil
	case portable.Attachment:
		return attachmentValues(r.Attachment, r.Space), nil
	case portable.TrashedAttachment:
		return append(attachmentValues(r.Attachment, r.Space), r.At, r.ByID, r.Until), nil
	}
	return laterValuesOf(row)
}

func attachmentValues(a store.Attachment, space string) []any {
	comment := any(nil)
	if a.CommentID.Valid {
		comment = a.CommentID.UUID
	}
	return []any{a.ID, int16(a.Parent.Kind), a.Parent.ID, space, a.SHA256[:], comment, a.FileName, a.Size, a.Type, a.UploaderID}
}

// removalColumns are those of a removal, also of one that rests: the number comes last.
var removalColumns = []string{"space", "kind", "parent", "entry", "origin", "purges", "deleted_at", "deleted_by", "until", "bytes", "files",
	"name", "owner", "comments", "quota_bytes", "quota_files", "auto", "id"}

// removalValues returns the values of removalColumns but for the number, or of a telling.
func removalValues(row portable.Row) ([]any, error) {
	var space string
	var of store.Parent
	var in portable.InTrash
	purges := false
	more := make([]any, 6)
	switch r := row.(type) {
	case portable.Telling:
		origin, err := json.Marshal(r.Origin)
		return []any{r.Space, kindOrNull(r.Parent), idOrNull(r.Parent.ID), string(r.Event), string(origin), r.Last, int16(r.AfterParent.Kind), r.AfterParent.ID, r.After}, err
	case portable.Removal:
		space, of, purges = r.Space, r.Parent, r.Purges
		in = portable.InTrash{Files: r.Files, Entry: r.Entry, Origin: r.Origin}
		if r.Stays != nil {
			in.Deletion = *r.Stays
		}
	case portable.TrashedSpace:
		space, in = r.Slug, r.InTrash
		more = []any{r.Name, nil, nil, r.QuotaBytes, r.QuotaFiles, r.Auto}
	case portable.TrashedEntity:
		space, of, in = r.Entity.Space, r.Parent, r.InTrash
		more = []any{r.Name, idOrNull(r.OwnerID), r.Comments, nil, nil, nil}
	}
	origin, err := json.Marshal(in.Origin)
	values := []any{space, kindOrNull(of), idOrNull(of.ID), in.Entry, string(origin), purges, timeOrNull(in.At), idOrNull(in.ByID), timeOrNull(in.Until), in.Files.Bytes, in.Files.Files}
	return append(values, more...), err
}

func kindOrNull(of store.Parent) any {
	if of == (store.Parent{}) {
		return nil
	}
	return int16(of.Kind)
}

func laterValuesOf(row portable.Row) ([]any, error) {
	switch r := row.(type) {
	case portable.Hold:
		return append(heldArgs(r.On), r.ID, r.Reason, r.ByID), nil
	case portable.Checksums:
		return []any{r.SHA256[:], r.Sums}, nil
	case portable.Key:
		return []any{r.ID, r.UserID, r.Name, r.Prefix, r.Hash[:], r.CreatedAt, nanos(r.CreatedAt), timeOrNull(r.ExpiresAt), nanos(r.ExpiresAt), timeOrNull(r.LastUsedAt)}, nil
	case portable.Session:
		return []any{r.Hash[:], r.KeyID, r.ExpiresAt, nanos(r.ExpiresAt)}, nil
	case portable.Entry:
		entry := slices.Clone(r.Encoded)
		if len(entry) >= seqAt+8 {
			binary.BigEndian.PutUint64(entry[seqAt:], 0)
		}
		return []any{int64(r.Seq), entry, r.Hash[:]}, nil
	case portable.Event:
		event, err := json.Marshal(newEventRecord(r.Event))
		return []any{int64(r.Seq), string(event)}, err
	case portable.DeadLetter:
		event, err := json.Marshal(newEventRecord(r.Event))
		if err != nil {
			return nil, err
		}
		letter, err := json.Marshal(letterRecord{event, r.Time, r.Reason})
		return []any{int64(r.Seq), string(letter)}, err
	case portable.Ages:
		return []any{string(r.Of), r.Marks}, nil
	}
	return nil, outside{fmt.Errorf("a row of an unknown kind: %T", row)}
}

func idOrNull(id uuid.UUID) any {
	if id == uuid.Nil {
		return nil
	}
	return id
}

// set writes what is in a row that is there already, or may be.
func (l *loader) set(row portable.Row) (err error) {
	switch r := row.(type) {
	case portable.Note:
		value := r.Value
		if value == nil {
			value = []byte{}
		}
		_, err = l.Exec(l.ctx, setNote, r.Name, value)
	case portable.Last:
		sequence := map[portable.Of]string{portable.Outbox: "attachd.outbox_seq_seq", portable.DeadLetters: "attachd.dead_letters_seq_seq"}[r.Of]
		_, err = l.Exec(l.ctx, `select setval($1::text::regclass, $2)`, sequence, int64(r.Seq))
	case portable.Chain:
		runs := r.Runs
		if runs == nil {
			runs = []byte{}
		}
		_, err = l.Exec(l.ctx, `update attachd.audit_ends set anchor_seq = $1, anchor_hash = $2, head_seq = $3, head_hash = $4, runs = $5`,
			int64(r.Anchor.Seq), r.Anchor.Hash[:], int64(r.Head.Seq), r.Head.Hash[:], runs)
	case portable.End:
	default:
		err = outside{fmt.Errorf("a row of an unknown kind: %T", row)}
	}
	return err
}
