package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// A product or a space may contain more than one transaction should remove. So a deletion
// deletes only the parent or the space itself, which hides everything below it, gives its
// quota back, and leaves a row in "removals" as long as something is left below. Remove
// continues from there, in whichever process.
//
// A deleted object can be put anew at once. The call that does so first continues the
// removal: the old object's files must not appear in the new one.

const (
	// removedAtOnce is how many rows one transaction of a removal deletes at most.
	removedAtOnce = 1000
	// maxTriedRemovals is how many removals are tried when those before them fail.
	maxTriedRemovals = 100
	// directoryLock identifies the lock that one change of the directory at a time holds.
	// It is a lock of the transaction, which poolers do not break.
	directoryLock = migrating + 1
)

// removal names what is being removed: all of a space, or, where that is empty, of a parent.
type removal struct {
	space  string
	parent store.Parent
}

func (r removal) String() string {
	if r.space != "" {
		return fmt.Sprintf("space %q", r.space)
	}
	return fmt.Sprintf("%s %s", r.parent.Kind, r.parent.ID)
}

// removing is the error of a change that would bring back an object that is being removed or in
// the trash, or that comes before all is told of an earlier change of it. Callers do not get
// it: see changeDirectory.
type removing struct {
	of   removal
	in   string       // the space in which it is or was
	but  store.Parent // what leaves the space, where only that would be brought back; else zero
	told bool         // it is only to be told
}

func (*removing) Error() string { return "what was there before is still being removed" }

// lockDirectory waits until no other transaction changes the directory. It is the first
// statement of a change: what was read before may have changed since.
func (tx *change) lockDirectory() error {
	return tx.exec(`select pg_advisory_xact_lock($1)`, int64(directoryLock))
}

// changeDirectory makes a change of the directory, when no other is made.
func (s *Store) changeDirectory(ctx context.Context, do func(tx *change) error) error {
	return s.whenRemoved(ctx, func() error {
		return s.change(ctx, func(tx *change) error {
			if err := tx.lockDirectory(); err != nil {
				return err
			}
			return do(tx)
		})
	})
}

// whenRemoved calls do, and again once what it would bring back has been removed.
func (s *Store) whenRemoved(ctx context.Context, do func() error) error {
	for {
		err := do()
		var busy *removing
		if !errors.As(err, &busy) {
			return err
		}
		if err := s.giveWay(ctx, busy); err != nil {
			return err
		}
	}
}

// DeleteEntity implements store.Directory.
func (s *Store) DeleteEntity(ctx context.Context, p store.Parent, withAttachments bool) (freed [][32]byte, err error) {
	err = s.changeDirectory(ctx, func(tx *change) (err error) {
		freed, err = tx.deleteEntity(p, withAttachments, nil)
		return err
	})
	return freed, err
}

// deleteEntity deletes a product, ticket or meeting for good, or with a Deletion into the
// trash. Its first statement waits for the uploads to it that are under way, which hold its row.
func (tx *change) deleteEntity(p store.Parent, withAttachments bool, into *store.Deletion) (freed [][32]byte, err error) {
	m := mark{removal: removal{parent: p}, entry: tx.entry, origin: tx.origin}
	var was rested
	err = tx.get(`delete from attachd.entities where kind = $1 and id = $2 and exists (select from attachd.spaces where slug = space)
		returning space, name, owner, comments`, int16(p.Kind), p.ID).Scan(&m.of, &was.name, &was.owner, &was.comments)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, store.NoParent(p)
	}
	if err != nil {
		return nil, err
	}
	if err := tx.refuseHeld(store.Held{Space: m.of, Parent: p}); err != nil {
		return nil, err
	}
	var trashed bool
	err = tx.get(`select coalesce(sum(size), 0)::bigint, count(*), exists (select from attachd.trash where kind = $1 and parent = $2 and space = $3)
		from attachd.attachments where kind = $1 and parent = $2`, int16(p.Kind), p.ID, m.of).Scan(&was.files.Bytes, &was.files.Files, &trashed)
	if err != nil {
		return nil, err
	}
	if was.files.Files > 0 && !withAttachments {
		return nil, store.HasAttachments(p)
	}
	if err := tx.waitTold(m); err != nil {
		return nil, err
	}
	if was.files.Files > 0 {
		tx.use(m.of, negative(was.files))
	}
	if into != nil && (trashed || was.files.Files > 0) {
		return nil, tx.rest(m, was, *into)
	}
	return tx.beginRemoval(m)
}

// DeleteSpace implements store.Directory.
func (s *Store) DeleteSpace(ctx context.Context, slug string, withAttachments bool) (freed [][32]byte, err error) {
	err = s.changeDirectory(ctx, func(tx *change) (err error) {
		freed, err = tx.deleteSpace(slug, withAttachments, nil)
		return err
	})
	return freed, err
}

// deleteSpace is deleteEntity for a space.
func (tx *change) deleteSpace(slug string, withAttachments bool, into *store.Deletion) (freed [][32]byte, err error) {
	if !store.ValidSlug(slug) {
		return nil, store.NoSpace(slug)
	}
	m := mark{removal: removal{space: slug}, of: slug, entry: tx.entry, origin: tx.origin}
	var was rested
	err = tx.get(`select name, quota_bytes, quota_files, auto from attachd.spaces where slug = $1 for update`, slug).
		Scan(&was.name, &was.quotaBytes, &was.quotaFiles, &was.auto)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, store.NoSpace(slug)
	}
	if err != nil {
		return nil, err
	}
	if err := tx.refuseHeld(store.Held{Space: slug}); err != nil {
		return nil, err
	}
	var some, trashed bool
	err = tx.get(`select exists (select from attachd.entities e join attachd.attachments a on a.kind = e.kind and a.parent = e.id where e.space = $1),
		exists (select from attachd.trash where space = $1) or exists (select from attachd.removals where space = $1 and id < 0)`, slug).Scan(&some, &trashed)
	if err != nil {
		return nil, err
	}
	if some && !withAttachments {
		return nil, store.SpaceHasAttachments(slug)
	}
	if err := tx.waitTold(m); err != nil {
		return nil, err
	}
	rests := into != nil && (some || trashed)
	var batch pgx.Batch
	if rests {
		batch.Queue(`insert into attachd.trash_members (space, user_id, role) select space, user_id, role from attachd.members where space = $1`, slug)
	}
	batch.Queue(`delete from attachd.spaces where slug = $1`, slug) // and its members
	batch.Queue(`with limited as (delete from attachd.usage where space = $1 returning bytes, files),
			others as (delete from attachd.usage_delta where space = $1 returning bytes, files)
		select coalesce(sum(bytes), 0)::bigint, coalesce(sum(files), 0)::bigint from (select * from limited union all select * from others) u`, slug).
		QueryRow(func(row pgx.Row) error { return row.Scan(&was.files.Bytes, &was.files.Files) })
	if err := tx.SendBatch(tx.ctx, &batch).Close(); err != nil {
		return nil, err
	}
	if rests {
		return nil, tx.rest(m, was, *into)
	}
	return tx.beginRemoval(m)
}

// mark is a removal that is under way, a row of "removals".
type mark struct {
	removal
	id     int64         // negative while it rests
	of     string        // the space that it was in
	entry  *store.Entry  // of the deletion, or nil
	origin *store.Origin // of its events, or nil
	purges bool          // it was in the trash
	// Null but for what is in the trash.
	deleted, until *time.Time
	by             *uuid.UUID
}

// converts says whether attachments go to the trash, since their parent or space is put anew.
func (m mark) converts() bool { return m.until != nil }

// beginRemoval removes what is below a parent or space that was deleted, and leaves a mark
// when that is too much for one transaction.
func (tx *change) beginRemoval(m mark) (freed [][32]byte, err error) {
	freed, more, err := tx.removeSome(m)
	if err != nil || !more {
		return freed, err
	}
	entry, origin, err := m.encode()
	if err != nil {
		return nil, err
	}
	return freed, tx.exec(`insert into attachd.removals (space, kind, parent, entry, origin)
		values ($1, nullif($2::smallint, 0), nullif($3::uuid, `+noID+`), $4, $5)`,
		m.of, int16(m.parent.Kind), m.parent.ID, entry, origin)
}

// selectMark selects the columns that scan takes.
const selectMark = `select r.id, r.space, r.kind, r.parent, r.entry, r.origin, r.purges, r.deleted_at, r.until, r.deleted_by from attachd.removals r `

// scan reads a row of selectMark.
func (m *mark) scan(row pgx.Row) error {
	var kind *int16
	var parent uuid.NullUUID
	var entry []byte
	if err := row.Scan(&m.id, &m.of, &kind, &parent, &entry, &m.origin, &m.purges, &m.deleted, &m.until, &m.by); err != nil {
		return err
	}
	m.removal = removalOf(m.of, kind, parent)
	if len(entry) > 0 {
		e, err := store.DecodeEntry(entry)
		if err != nil {
			return fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		m.entry = &e
	}
	return nil
}

// removalOf reads columns that name a parent, or where they are null all of a space.
func removalOf(space string, kind *int16, parent uuid.NullUUID) removal {
	if kind == nil {
		return removal{space: space}
	}
	return removal{parent: store.Parent{Kind: store.Kind(*kind), ID: parent.UUID}}
}

// toldFirst is the condition that nothing is to be told any more of what is removed, nor of its
// space.
const toldFirst = `not exists (select from attachd.tellings t where t.space = r.space and (t.kind is null or r.kind is null or t.kind = r.kind and t.parent = r.parent))`

// Remove implements store.Directory. A removal that fails does not block others, and what is in
// the trash waits.
func (s *Store) Remove(ctx context.Context) (freed [][32]byte, more bool, err error) {
	more, err = s.tellNext(ctx, `true order by id limit 1 for update skip locked`)
	if err != nil || more {
		return s.freed.take(), more, err
	}
	after := int64(0)
	for range maxTriedRemovals {
		now, id, failed := s.removeNext(ctx, nil, selectMark+`where r.id > $1 and `+toldFirst+` order by r.id limit 1 for update of r skip locked`, after)
		if failed == nil {
			freed, more = now, id > 0
			break
		}
		err, after = errors.Join(err, failed), id
		if id == 0 {
			break
		}
	}
	return append(s.freed.take(), freed...), more, err
}

// giveWay does some of what a change waits for: in another process, too.
func (s *Store) giveWay(ctx context.Context, busy *removing) error {
	told, err := s.tellNext(ctx, `space = $1 and (kind is null or $2 = 0 or kind = $2 and parent = $3) order by id limit 1 for update`,
		busy.in, int16(busy.of.parent.Kind), busy.of.parent.ID)
	if err != nil || told || busy.told {
		return err
	}
	sql, args := selectMark+`where r.space = $1 and r.kind is null for update`, []any{busy.of.space}
	if busy.of.space == "" {
		sql, args = selectMark+`where r.kind = $1 and r.parent = $2 for update`, []any{int16(busy.of.parent.Kind), busy.of.parent.ID}
	}
	resting := (*change).convert
	if busy.but != (store.Parent{}) {
		resting = func(tx *change, m mark) error { return tx.takeOut(m, busy.but) }
	}
	freed, _, err := s.removeNext(ctx, resting, sql, args...)
	s.freed.add(freed)
	return err
}

// removeNext removes the next batch of a mark, which the query selects, and with the last
// batch the mark. One that rests is left to resting. The id is 0 where there is none.
func (s *Store) removeNext(ctx context.Context, resting func(tx *change, m mark) error, query string, args ...any) (freed [][32]byte, id int64, err error) {
	err = s.change(ctx, func(tx *change) (err error) {
		var m mark
		freed = nil
		err = m.scan(tx.get(query, args...))
		if id = m.id; err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				err = nil
			}
			return err
		}
		tx.entry, tx.origin = nil, m.origin // not those of a change that waits
		if m.id < 0 {
			return resting(tx, m)
		}
		var left bool
		if freed, left, err = tx.removeSome(m); err != nil {
			return fmt.Errorf("remove what went with %s: %w", m.removal, err)
		}
		if left {
			return nil
		}
		return tx.exec(`delete from attachd.removals where id = $1`, id)
	})
	if err != nil {
		return nil, id, err
	}
	return freed, id, nil
}

// freedContents are the contents that continueRemoval freed, which the next Remove returns.
type freedContents struct {
	mu       sync.Mutex
	contents [][32]byte
}

func (f *freedContents) add(contents [][32]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.contents = append(f.contents, contents...)
}

func (f *freedContents) take() [][32]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.contents
	f.contents = nil
	return taken
}

// removeSome removes the next batch of what is below a parent or space, and returns which
// contents are unreferenced now, and whether more may be left.
func (tx *change) removeSome(m mark) (freed [][32]byte, more bool, err error) {
	list, err := tx.attachmentsBelow(m)
	if err != nil {
		return nil, false, err
	}
	how := deletion
	if m.purges {
		how = purge
	}
	if m.converts() {
		err = tx.keepInTrash(m, list)
	} else {
		for _, a := range list {
			tx.ended(how, m.entry, a, m.of)
		}
		freed, err = tx.removeAttachments("attachments", list)
	}
	if err != nil {
		return nil, false, err
	}
	room := int64(removedAtOnce - len(list))
	if !m.converts() {
		purged, n, err := tx.purgeBelow(m, room)
		if err != nil {
			return nil, false, err
		}
		freed, room = append(freed, purged...), room-n
	}
	for _, sql := range m.below() {
		if room <= 0 {
			return freed, true, nil
		}
		n, err := tx.affected(sql, m.key(room)...)
		if err != nil {
			return nil, false, err
		}
		room -= n
	}
	return freed, room <= 0, nil
}

// attachmentsBelow lists the next attachments below what is being removed. Those of a parent
// that was deleted before its space have a mark of their own.
func (tx *change) attachmentsBelow(m mark) ([]store.Attachment, error) {
	from := ` from attachd.attachments a left join attachd.users u on u.id = a.uploader where a.kind = $1 and a.parent = $2 order by a.id limit $3`
	if m.space != "" {
		from = ` from attachd.attachments a join attachd.entities e on e.kind = a.kind and e.id = a.parent
			left join attachd.users u on u.id = a.uploader where a.space = $1 and e.space = $1 order by a.id limit $2`
	}
	found, err := tx.Query(tx.ctx, `select `+attachmentColumns+from, m.key(removedAtOnce)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, scanAttachment)
}

// key are the arguments of the statements about what is below: which parent or space, and
// how many rows at most.
func (m mark) key(limit int64) []any {
	if m.space != "" {
		return []any{m.space, limit}
	}
	return []any{int16(m.parent.Kind), m.parent.ID, limit}
}

// below are the statements that delete what is there besides attachments. They find the rows by
// their place: joined by their keys, they took minutes where the planner knew of no rows.
func (m mark) below() []string {
	switch {
	case m.space != "":
		return []string{
			`delete from attachd.comments where ctid = any(array(select c.ctid from attachd.entities e
				join attachd.comments c on c.ticket = e.id where e.space = $1 and e.kind = 2 limit $2 for update of c))`,
			`delete from attachd.entities where ctid = any(array(select ctid from attachd.entities where space = $1 limit $2 for update))`,
			`delete from attachd.trash_members where ctid = any(array(select ctid from attachd.trash_members where space = $1 limit $2 for update))`,
		}
	case m.parent.Kind == store.Ticket:
		return []string{`delete from attachd.comments where ctid = any(array(select ctid from attachd.comments where $1 = 2 and ticket = $2 limit $3 for update))`}
	}
	return nil
}

// lockContents has those that delete records of the same contents wait for each other. Whoever
// looks afterwards whether a record is left sees what the others have deleted, or the last of
// them sees what it has deleted. Uploads of the contents do not wait for it.
const lockContents = `select from attachd.contents where sha256 = any($1::bytea[]) order by sha256 for no key update`

// ending is how attachments end: as an action of the audit log, and an event.
type ending struct {
	action string
	event  store.EventType
}

var (
	deletion = ending{"attachment.delete", store.AttachmentDeleted}
	purge    = ending{"attachment.purge", store.AttachmentPurged}
)

// ended records the end of an attachment, with the fields of an entry unless that is nil.
func (tx *change) ended(how ending, entry *store.Entry, a store.Attachment, space string) {
	if entry != nil {
		tx.noteFor(*entry, how.action, "attachment", a.ID.String(), a.FileName, space)
	}
	tx.enqueue(how.event, a, space)
}

// removeAttachments deletes records from a table, and returns which of their contents are
// unreferenced now. Two that delete the last records of a content wait for each other, so that
// one of them sees that none is left.
func (tx *change) removeAttachments(table string, list []store.Attachment) (freed [][32]byte, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	var ids []uuid.UUID
	var contents [][]byte
	seen := map[[32]byte]bool{}
	for _, a := range list {
		ids = append(ids, a.ID)
		if !seen[a.SHA256] {
			seen[a.SHA256], contents = true, append(contents, a.SHA256[:])
		}
	}
	var batch pgx.Batch
	batch.Queue(lockContents, contents)
	batch.Queue(`delete from attachd.`+table+` where id = any($1::uuid[])`, ids)
	batch.Queue(`select sha256 from unnest($1::bytea[]) as removed (sha256)
		where not exists (select from attachd.attachments a where a.sha256 = removed.sha256)
			and not exists (select from attachd.trash t where t.sha256 = removed.sha256)`, contents).Query(func(rows pgx.Rows) error {
		freed, err = pgx.CollectRows(rows, scanContent)
		return err
	})
	return freed, tx.SendBatch(tx.ctx, &batch).Close()
}

func scanContent(row pgx.CollectableRow) (sha256 [32]byte, err error) {
	var is []byte
	err = row.Scan(&is)
	copy(sha256[:], is)
	return sha256, err
}
