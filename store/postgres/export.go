package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
	"attachd/store/backend"
	"attachd/store/portable"
)

var _ interface {
	portable.Source
	portable.Target
} = (*Store)(nil)

// errStopped ends an Export whose reader has stopped.
var errStopped = errors.New("the reader of the rows has stopped")

// unlimited lifts the limits that may be set for short statements.
const unlimited = `select set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)`

// Export implements portable.Source, in one transaction that sees the database as of one
// moment.
func (s *Store) Export(ctx context.Context) iter.Seq2[portable.Row, error] {
	return portable.Ended(func(yield func(portable.Row, error) bool) {
		// An entry of the audit log that is in ctx belongs to another change.
		outside := store.WithEntry(ctx, nil)
		if err := errors.Join(s.flushEntries(outside), s.flushTouched(outside)); err != nil && !errors.Is(err, store.ErrFrozen) {
			yield(nil, err)
			return
		}
		err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, unlimited); err != nil {
				return err
			}
			return (&exporter{Tx: tx, ctx: ctx, log: s.log, yield: yield}).all()
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("read the database: %w", explain(err)))
		}
	})
}

// exporter yields the rows of a database.
type exporter struct {
	pgx.Tx
	ctx   context.Context
	log   *slog.Logger
	yield func(portable.Row, error) bool
}

func (x *exporter) all() error {
	for _, part := range []func() error{
		x.users, x.spaces, x.trashedSpaces, x.usage, x.members, x.entities, x.trashedEntities, x.comments, x.removals, x.tellings,
		x.places, x.intents, x.garbage, x.attachments, x.trashed, x.holds, x.checksums,
		x.keys, x.sessions, x.notes, x.audit,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) row(row portable.Row) error {
	if !x.yield(row, nil) {
		return errStopped
	}
	return nil
}

// each yields what make returns of each row of a query, unless that is nil.
func (x *exporter) each(sql string, into []any, make func() (portable.Row, error)) error {
	found, err := x.Query(x.ctx, sql)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(found, into, func() error {
		row, err := make()
		if err != nil || row == nil {
			return err
		}
		return x.row(row)
	})
	return err
}

func (x *exporter) users() error {
	var u portable.User
	return x.each(`select id, full_name, superadmin, records_manager, deleted from attachd.users order by id`,
		[]any{&u.ID, &u.FullName, &u.IsSuperadmin, &u.IsRecordsManager, &u.Deleted}, func() (portable.Row, error) { return u, nil })
}

func (x *exporter) spaces() error {
	var s portable.Space
	return x.each(`select slug, name, quota_bytes, quota_files, auto from attachd.spaces order by slug`,
		[]any{&s.Slug, &s.Name, &s.QuotaBytes, &s.QuotaFiles, &s.Auto}, func() (portable.Row, error) { return s, nil })
}

// restingColumns are what comes into an inTrash.
const restingColumns = `deleted_at, deleted_by, until, bytes, files, entry, origin`

func inTrash(in *portable.InTrash) []any {
	return []any{&in.At, &in.ByID, &in.Until, &in.Files.Bytes, &in.Files.Files, &in.Entry, &in.Origin}
}

// ofRow returns what was read, as a row has it.
func ofRow(in portable.InTrash) portable.InTrash {
	in.At, in.Until, in.Origin = portable.Seconds(in.At), portable.Seconds(in.Until), portable.OriginTimes(in.Origin)
	return in
}

func (x *exporter) trashedSpaces() error {
	var s portable.TrashedSpace
	return x.each(`select space, name, quota_bytes, quota_files, auto, `+restingColumns+` from attachd.removals where id < 0 and kind is null order by space`,
		append([]any{&s.Slug, &s.Name, &s.QuotaBytes, &s.QuotaFiles, &s.Auto}, inTrash(&s.InTrash)...), func() (portable.Row, error) {
			return portable.TrashedSpace{Space: s.Space, InTrash: ofRow(s.InTrash)}, nil
		})
}

func (x *exporter) trashedEntities() error {
	var e portable.TrashedEntity
	var kind int16
	var owner *uuid.UUID
	return x.each(`select kind, parent, space, name, owner, comments, `+restingColumns+` from attachd.removals where id < 0 and kind is not null order by kind, parent`,
		append([]any{&kind, &e.ID, &e.Space, &e.Name, &owner, &e.Comments}, inTrash(&e.InTrash)...), func() (portable.Row, error) {
			e.Kind, e.OwnerID = store.Kind(kind), orZero(owner)
			return portable.TrashedEntity{Entity: e.Entity, Comments: e.Comments, InTrash: ofRow(e.InTrash)}, nil
		})
}

func (x *exporter) usage() error {
	var u portable.Usage
	return x.each(`select space, sum(bytes)::bigint, sum(files)::bigint
		from (select space, bytes, files from attachd.usage union all select space, bytes, files from attachd.usage_delta) u
		group by space having sum(bytes) <> 0 or sum(files) <> 0 order by space`,
		[]any{&u.Space, &u.Bytes, &u.Files}, func() (portable.Row, error) { return u, nil })
}

func (x *exporter) members() error {
	var m portable.Member
	var role int16
	return x.each(`select space, user_id, role from attachd.members
			union all
		select space, user_id, role from attachd.trash_members m where exists (select from attachd.removals r where r.space = m.space and r.kind is null and r.id < 0)
		order by space, user_id`,
		[]any{&m.Space, &m.UserID, &role}, func() (portable.Row, error) {
			m.Role = store.Role(role)
			return m, nil
		})
}

func (x *exporter) entities() error {
	var e portable.Entity
	var kind int16
	var owner uuid.NullUUID
	return x.each(`select kind, id, space, name, owner, comments from attachd.entities order by kind, id`,
		[]any{&kind, &e.ID, &e.Space, &e.Name, &owner, &e.Comments}, func() (portable.Row, error) {
			e.Kind, e.OwnerID = store.Kind(kind), owner.UUID
			return e, nil
		})
}

func (x *exporter) comments() error {
	var c portable.Comment
	var created *time.Time
	return x.each(`select ticket, id, number, created_at from attachd.comments order by ticket, id`,
		[]any{&c.TicketID, &c.ID, &c.Number, &created}, func() (portable.Row, error) {
			c.CreatedAt = portable.Moment(timeOf(created))
			return c, nil
		})
}

func (x *exporter) removals() error {
	var kind *int16
	var parent uuid.NullUUID
	var r portable.Removal
	var at, until *time.Time
	var by *uuid.UUID
	return x.each(`select space, kind, parent, entry, origin, purges, deleted_at, deleted_by, until,
			case when until is null then 0 else bytes end, case when until is null then 0 else files end from attachd.removals where id > 0 order by id`,
		[]any{&r.Space, &kind, &parent, &r.Entry, &r.Origin, &r.Purges, &at, &by, &until, &r.Files.Bytes, &r.Files.Files}, func() (portable.Row, error) {
			r.Parent, r.Stays = removalOf(r.Space, kind, parent).parent, nil
			r.Origin = portable.OriginTimes(r.Origin)
			if until != nil {
				r.Stays = &store.Deletion{At: portable.Seconds(*at), Until: portable.Seconds(*until), ByID: orZero(by)}
			}
			return r, nil
		})
}

func (x *exporter) tellings() error {
	var kind *int16
	var parent uuid.NullUUID
	var afterKind int16
	var event string
	var t portable.Telling
	return x.each(`select space, kind, parent, event, origin, last, after_kind, after_parent, after from attachd.tellings order by id`,
		[]any{&t.Space, &kind, &parent, &event, &t.Origin, &t.Last, &afterKind, &t.AfterParent.ID, &t.After}, func() (portable.Row, error) {
			t.Parent, t.Event = removalOf(t.Space, kind, parent).parent, store.EventType(event)
			t.AfterParent.Kind, t.Origin = store.Kind(afterKind), portable.OriginTimes(t.Origin)
			return t, nil
		})
}

// places yields no places that Import has made up.
func (x *exporter) places() error {
	var ref, key []byte
	var stored time.Time
	var p portable.Place
	return x.each(`select sha256, key, size, stored, damaged from attachd.contents where key <> `+noKey+` order by sha256`,
		[]any{&ref, &key, &p.Size, &stored, &p.Damaged}, func() (portable.Row, error) {
			var err error
			p.Stored = portable.Seconds(stored)
			p.Object, err = objectOf(ref, key)
			return p, err
		})
}

func (x *exporter) intents() error {
	var ref, key []byte
	var begun time.Time
	return x.each(`select sha256, key, begun from attachd.uploads where not settled order by sha256, key`,
		[]any{&ref, &key, &begun}, func() (portable.Row, error) {
			o, err := objectOf(ref, key)
			return portable.Intent{Object: o, Begun: portable.Seconds(begun)}, err
		})
}

func (x *exporter) garbage() error {
	var ref, key []byte
	var since time.Time
	return x.each(`select sha256, key, since from attachd.garbage order by sha256, key`,
		[]any{&ref, &key, &since}, func() (portable.Row, error) {
			o, err := objectOf(ref, key)
			return portable.Garbage{Object: o, Since: portable.Seconds(since)}, err
		})
}

func (x *exporter) attachments() error {
	var a portable.Attachment
	var kind int16
	var sha256 []byte
	return x.each(`select id, kind, parent, space, sha256, comment, name, size, type, uploader from attachd.attachments order by kind, parent, id`,
		[]any{&a.ID, &kind, &a.Parent.ID, &a.Space, &sha256, &a.CommentID, &a.FileName, &a.Size, &a.Type, &a.UploaderID}, func() (portable.Row, error) {
			a.Parent.Kind = store.Kind(kind)
			var err error
			a.SHA256, err = digest(sha256)
			return a, err
		})
}

func (x *exporter) trashed() error {
	var a portable.TrashedAttachment
	var kind int16
	var sha256 []byte
	return x.each(`select `+trashColumns+` from attachd.trash order by kind, parent, id`, []any{&a.ID, &kind, &a.Parent.ID, &a.Space, &sha256, &a.CommentID,
		&a.FileName, &a.Size, &a.Type, &a.UploaderID, &a.At, &a.ByID, &a.Until}, func() (portable.Row, error) {
		a.Parent.Kind = store.Kind(kind)
		a.At, a.Until = portable.Seconds(a.At), portable.Seconds(a.Until)
		var err error
		a.SHA256, err = digest(sha256)
		return a, err
	})
}

func (x *exporter) holds() error {
	var h portable.Hold
	var kind int16
	return x.each(`select id, space, kind, parent, attachment, reason, set_by from attachd.holds order by id`,
		[]any{&h.ID, &h.On.Space, &kind, &h.On.Parent.ID, &h.On.Attachment, &h.Reason, &h.ByID}, func() (portable.Row, error) {
			h.On.Parent.Kind = store.Kind(kind)
			return h, nil
		})
}

// digest is a SHA-256 in a column.
func digest(column []byte) (d [32]byte, err error) {
	if len(column) != len(d) {
		return d, fmt.Errorf("%w: a digest has %d bytes", store.ErrDamaged, len(column))
	}
	return [32]byte(column), nil
}

// checksums leaves out those of contents that no attachment has any more, which stay here until
// the content goes: elsewhere, nothing would ever remove them.
func (x *exporter) checksums() error {
	var sha256 []byte
	var c portable.Checksums
	return x.each(`select sha256, sums from attachd.checksums c where exists (select from attachd.attachments where sha256 = c.sha256)
			or exists (select from attachd.trash where sha256 = c.sha256) order by sha256`, []any{&sha256, &c.Sums}, func() (portable.Row, error) {
		var err error
		c.SHA256, err = digest(sha256)
		return c, err
	})
}

func (x *exporter) keys() error {
	var k portable.Key
	var hash []byte
	var created, expires, used *time.Time
	var createdNanos, expiresNanos int16
	return x.each(`select id, user_id, name, prefix, hash, created_at, created_ns, expires_at, expires_ns, used_at from attachd.keys order by id`,
		[]any{&k.ID, &k.UserID, &k.Name, &k.Prefix, &hash, &created, &createdNanos, &expires, &expiresNanos, &used}, func() (row portable.Row, err error) {
			k.CreatedAt, k.ExpiresAt = portable.Moment(exactly(created, createdNanos)), portable.Moment(exactly(expires, expiresNanos))
			k.LastUsedAt = portable.Moment(exactly(used, 0))
			k.Hash, err = digest(hash)
			return k, err
		})
}

func (x *exporter) sessions() error {
	var s portable.Session
	var hash []byte
	var expires *time.Time
	var nanos int16
	return x.each(`select hash, key, expires_at, expires_ns from attachd.sessions order by hash`, []any{&hash, &s.KeyID, &expires, &nanos}, func() (row portable.Row, err error) {
		s.ExpiresAt = portable.Moment(exactly(expires, nanos))
		s.Hash, err = digest(hash)
		return s, err
	})
}

func (x *exporter) notes() error {
	var n portable.Note
	return x.each(`select name, value from attachd.notes order by name`,
		[]any{&n.Name, &n.Value}, func() (portable.Row, error) { return n, nil })
}

// audit yields the entries that have no place in the chain yet, too, with the places that
// they get when nothing else comes before them.
func (x *exporter) audit() error {
	ends, err := readEnds(x.ctx, x, false)
	if err != nil {
		return err
	}
	var raw []byte
	if err := x.QueryRow(x.ctx, `select runs from attachd.audit_ends`).Scan(&raw); err != nil {
		return err
	}
	var seq int64
	var entry, hash []byte
	err = x.each(`select seq, entry, hash from attachd.audit order by seq`, []any{&seq, &entry, &hash}, func() (portable.Row, error) {
		return numberedEntry(uint64(seq), entry, hash), nil
	})
	if err != nil {
		return err
	}
	err = x.each(`select entry from attachd.audit_waiting order by id`, []any{&entry}, func() (portable.Row, error) {
		var at time.Time
		ends.head.Seq++
		ends.head.Hash, at = link(ends.head.Hash, ends.head.Seq, entry)
		ends.runs = backend.AddToRuns(ends.runs, ends.head.Seq, at)
		raw = nil
		return numberedEntry(ends.head.Seq, entry, ends.head.Hash[:]), nil
	})
	if err != nil {
		return err
	}
	if raw == nil {
		raw = backend.EncodeRuns(ends.head.Seq, ends.runs, ends.anchor.Seq)
	}
	if err := x.queues(); err != nil {
		return err
	}
	return x.row(portable.Chain{Anchor: ends.anchor, Head: ends.head, Runs: raw})
}

// seqAt is where an encoded entry of the audit log has its number.
const seqAt = 1

// numberedEntry is an entry as a row; the table has it with the number 0.
func numberedEntry(seq uint64, entry, hash []byte) portable.Entry {
	row := portable.Entry{Seq: seq, Encoded: slices.Clone(entry)}
	copy(row.Hash[:], hash)
	if len(entry) >= seqAt+8 {
		binary.BigEndian.PutUint64(row.Encoded[seqAt:], seq)
	}
	return row
}

// queues yields the outbox, the dead letters, their last numbers, and ages. What cannot be decoded
// of them is left out: it must keep nobody from making a backup of the rest.
func (x *exporter) queues() error {
	leftOut := func(err error) (portable.Row, error) {
		x.log.Error("an event or dead letter that cannot be decoded is left out of a copy of the records", "error", err)
		return nil, nil
	}
	var seq int64
	var data []byte
	err := x.each(`select seq, event from attachd.outbox order by seq`, []any{&seq, &data}, func() (portable.Row, error) {
		e, err := decodeEvent(seq, data)
		if err != nil {
			return leftOut(err)
		}
		return portable.Event{Event: portable.EventTimes(e)}, nil
	})
	if err != nil {
		return err
	}
	err = x.each(`select seq, letter from attachd.dead_letters order by seq`, []any{&seq, &data}, func() (portable.Row, error) {
		l, err := decodeLetter(seq, data)
		if err != nil {
			return leftOut(err)
		}
		l.Event, l.Time = portable.EventTimes(l.Event), portable.Moment(l.Time)
		return portable.DeadLetter{DeadLetter: l}, nil
	})
	if err != nil {
		return err
	}
	var of string
	err = x.each(`select of, marks from attachd.ages where marks <> '' order by of`, []any{&of, &data}, func() (portable.Row, error) {
		return portable.Ages{Of: portable.Of(of), Marks: data}, nil
	})
	if err != nil {
		return err
	}
	return x.each(`select of, last from (
			select 'outbox' as of, last_value as last, is_called from attachd.outbox_seq_seq union all
			select 'dead_letters', last_value, is_called from attachd.dead_letters_seq_seq) s
		where is_called order by of`, []any{&of, &seq}, func() (portable.Row, error) {
		return portable.Last{Of: portable.Of(of), Seq: uint64(seq)}, nil
	})
}
