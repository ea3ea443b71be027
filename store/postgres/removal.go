package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

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

// removing is the error of a change that would bring back an object that is being removed.
// Callers do not get it: see changeDirectory.
type removing struct{ of removal }

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
		if err := s.continueRemoval(ctx, busy.of); err != nil {
			return err
		}
	}
}

// DeleteEntity implements store.Directory. Its first statement waits for the uploads to the
// parent that are under way, which hold its row.
func (s *Store) DeleteEntity(ctx context.Context, p store.Parent, withAttachments bool) (freed [][32]byte, err error) {
	err = s.changeDirectory(ctx, func(tx *change) error {
		m := mark{removal: removal{parent: p}, entry: tx.entry, origin: tx.origin}
		err := tx.get(`delete from attachd.entities where kind = $1 and id = $2
			and exists (select from attachd.spaces where slug = space) returning space`, int16(p.Kind), p.ID).Scan(&m.of)
		if errors.Is(err, pgx.ErrNoRows) {
			return store.NoParent(p)
		}
		if err != nil {
			return err
		}
		var used store.Usage
		err = tx.get(`select coalesce(sum(size), 0)::bigint, count(*) from attachd.attachments where kind = $1 and parent = $2`,
			int16(p.Kind), p.ID).Scan(&used.Bytes, &used.Files)
		if err != nil {
			return err
		}
		if used.Files > 0 && !withAttachments {
			return store.HasAttachments(p)
		}
		if freed, err = tx.beginRemoval(m); err != nil || used.Files == 0 {
			return err
		}
		tx.use(m.of, store.Usage{Bytes: -used.Bytes, Files: -used.Files})
		return nil
	})
	return freed, err
}

// DeleteSpace implements store.Directory. Its first statement waits as that of DeleteEntity.
func (s *Store) DeleteSpace(ctx context.Context, slug string, withAttachments bool) (freed [][32]byte, err error) {
	if !store.ValidSlug(slug) {
		return nil, store.NoSpace(slug)
	}
	err = s.changeDirectory(ctx, func(tx *change) error {
		n, err := tx.affected(`delete from attachd.spaces where slug = $1`, slug) // and its members
		if err != nil {
			return err
		}
		if n == 0 {
			return store.NoSpace(slug)
		}
		if !withAttachments {
			var some bool
			err := tx.get(`select exists (select from attachd.entities e join attachd.attachments a on a.kind = e.kind and a.parent = e.id
				where e.space = $1)`, slug).Scan(&some)
			if err != nil {
				return err
			}
			if some {
				return store.SpaceHasAttachments(slug)
			}
		}
		var batch pgx.Batch
		batch.Queue(`delete from attachd.usage where space = $1`, slug)
		batch.Queue(`delete from attachd.usage_delta where space = $1`, slug)
		if err := tx.SendBatch(tx.ctx, &batch).Close(); err != nil {
			return err
		}
		freed, err = tx.beginRemoval(mark{removal: removal{space: slug}, of: slug, entry: tx.entry, origin: tx.origin})
		return err
	})
	return freed, err
}

// mark is a removal that is under way, a row of "removals".
type mark struct {
	removal
	of     string        // the space that it was in
	entry  *store.Entry  // of the deletion, or nil
	origin *store.Origin // of its events, or nil
}

// beginRemoval removes what is below a parent or space that was deleted, and leaves a mark
// when that is too much for one transaction.
func (tx *change) beginRemoval(m mark) (freed [][32]byte, err error) {
	freed, more, err := tx.removeSome(m)
	if err != nil || !more {
		return freed, err
	}
	var entry []byte
	if m.entry != nil {
		entry = m.entry.Encode()
	}
	origin, err := json.Marshal(m.origin)
	if err != nil {
		return nil, err
	}
	return freed, tx.exec(`insert into attachd.removals (space, kind, parent, entry, origin)
		values ($1, nullif($2::smallint, 0), nullif($3::uuid, '00000000-0000-0000-0000-000000000000'), $4, $5)`,
		m.of, int16(m.parent.Kind), m.parent.ID, entry, string(origin))
}

// selectMark selects the columns that scan takes.
const selectMark = `select id, space, kind, parent, entry, origin from attachd.removals `

// scan reads a row of selectMark, and returns its id.
func (m *mark) scan(row pgx.Row) (id int64, err error) {
	var kind *int16
	var parent uuid.NullUUID
	var entry []byte
	if err := row.Scan(&id, &m.of, &kind, &parent, &entry, &m.origin); err != nil {
		return 0, err
	}
	if kind == nil {
		m.space = m.of
	} else {
		m.parent = store.Parent{Kind: store.Kind(*kind), ID: parent.UUID}
	}
	if len(entry) > 0 {
		e, err := store.DecodeEntry(entry)
		if err != nil {
			return id, fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		m.entry = &e
	}
	return id, nil
}

// Remove implements store.Directory. A removal that fails does not block others.
func (s *Store) Remove(ctx context.Context) (freed [][32]byte, more bool, err error) {
	after := int64(0)
	for range maxTriedRemovals {
		now, id, failed := s.removeNext(ctx, selectMark+`where id > $1 order by id limit 1 for update skip locked`, after)
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

// continueRemoval is Remove for a change that waits for a removal: in another process, too.
func (s *Store) continueRemoval(ctx context.Context, of removal) error {
	sql, args := selectMark+`where space = $1 and kind is null for update`, []any{of.space}
	if of.space == "" {
		sql, args = selectMark+`where kind = $1 and parent = $2 for update`, []any{int16(of.parent.Kind), of.parent.ID}
	}
	freed, _, err := s.removeNext(ctx, sql, args...)
	s.freed.add(freed)
	return err
}

// removeNext removes the next batch of a mark, which the query selects, and with the last
// batch the mark. The id is 0 where there is none.
func (s *Store) removeNext(ctx context.Context, query string, args ...any) (freed [][32]byte, id int64, err error) {
	err = s.change(ctx, func(tx *change) (err error) {
		var m mark
		freed = nil
		if id, err = m.scan(tx.get(query, args...)); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				err = nil
			}
			return err
		}
		tx.entry, tx.origin = nil, m.origin // not those of a change that waits
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
	for _, a := range list {
		if m.entry != nil {
			tx.noteFor(*m.entry, "attachment.delete", "attachment", a.ID.String(), a.FileName, m.of)
		}
	}
	if freed, err = tx.removeAttachments(list, m.of); err != nil {
		return nil, false, err
	}
	room := int64(removedAtOnce - len(list))
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

// below are the statements that delete what is there besides attachments.
func (m mark) below() []string {
	switch {
	case m.space != "":
		return []string{
			`delete from attachd.comments c using (select c.ticket, c.id from attachd.entities e join attachd.comments c on c.ticket = e.id
				where e.space = $1 and e.kind = 2 limit $2) doomed where c.ticket = doomed.ticket and c.id = doomed.id`,
			`delete from attachd.entities e using (select kind, id from attachd.entities where space = $1 limit $2) doomed
				where e.kind = doomed.kind and e.id = doomed.id`,
		}
	case m.parent.Kind == store.Ticket:
		return []string{`delete from attachd.comments c using (select ticket, id from attachd.comments where $1 = 2 and ticket = $2 limit $3) doomed
			where c.ticket = doomed.ticket and c.id = doomed.id`}
	}
	return nil
}

// lockContents has those that delete records of the same contents wait for each other. Whoever
// looks afterwards whether a record is left sees what the others have deleted, or the last of
// them sees what it has deleted. Uploads of the contents do not wait for it.
const lockContents = `select from attachd.contents where sha256 = any($1::bytea[]) order by sha256 for no key update`

// removeAttachments deletes records, with an event for each, and returns which of their
// contents are unreferenced now. Two that delete the last records of a content wait for each
// other, so that one of them sees that none is left.
func (tx *change) removeAttachments(list []store.Attachment, space string) (freed [][32]byte, err error) {
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
		tx.enqueue(store.AttachmentDeleted, a, space)
	}
	var batch pgx.Batch
	batch.Queue(lockContents, contents)
	batch.Queue(`delete from attachd.attachments where id = any($1::uuid[])`, ids)
	batch.Queue(`select sha256 from unnest($1::bytea[]) as removed (sha256)
		where not exists (select from attachd.attachments a where a.sha256 = removed.sha256)`, contents).Query(func(rows pgx.Rows) error {
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
