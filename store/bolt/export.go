package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
	"attachd/store/portable"
)

var _ interface {
	portable.Source
	portable.Target
} = (*Store)(nil)

// Export implements portable.Source, in one read transaction: the file grows by what is
// changed until it ends. What is staged is not among the rows.
func (b *Store) Export(ctx context.Context) iter.Seq2[portable.Row, error] {
	return portable.Ended(func(yield func(portable.Row, error) bool) {
		b.replacing.RLock()
		defer b.replacing.RUnlock()
		err := b.flushForExport(ctx)
		if err == nil {
			err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
				return (&exporter{Tx: tx, store: b, ctx: ctx, yield: yield}).all()
			})
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, fmt.Errorf("read the database: %w", err))
		}
	})
}

// flushForExport commits what waits for a commit, entries of the audit log among it.
func (b *Store) flushForExport(ctx context.Context) error {
	if b.file.ReadOnly() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// An entry of the audit log that is in ctx belongs to another change.
	if err := b.updateAlways(context.Background(), func(*writeTx) error { return nil }); err != nil {
		return err
	}
	return b.commitLog(ctx)
}

var (
	errStopped = errors.New("the reader of the rows has stopped")
	errMoving  = errors.New("an import of objects is under way: it has to end first")
)

// exporter yields the rows of a database.
type exporter struct {
	*dbfile.Tx
	store *Store
	ctx   context.Context
	yield func(portable.Row, error) bool
	rows  int
}

func (x *exporter) all() error {
	if x.Bucket(schema.Import) != nil && x.Has(schema.Import, schema.ImportMark) {
		return errMoving
	}
	for _, part := range []func() error{
		x.users, x.spaces, x.trashedSpaces, x.usage, x.members, x.entities, x.trashedEntities, x.comments, x.removals,
		x.places, x.intents, x.garbage, x.attachments, x.trashed, x.holds, x.checksums,
		x.keys, x.sessions, x.notes, x.audit, x.outbox, x.dead, x.ages, x.chain,
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) row(row portable.Row) error {
	if x.rows++; x.rows%1000 == 0 && x.ctx.Err() != nil {
		return x.ctx.Err()
	}
	if !x.yield(row, nil) {
		return errStopped
	}
	return nil
}

// each visits the entries of a bucket whose keys begin with prefix. A read-only copy of an
// older database may lack the bucket.
func (x *exporter) each(bucket, prefix []byte, visit func(rest, value []byte) error) error {
	if x.Bucket(bucket) == nil {
		return nil
	}
	for rest, value := range x.Under(bucket, prefix, nil) {
		if err := visit(rest, value); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) users() error {
	return x.each(schema.Users, nil, func(key, value []byte) error {
		id, err := schema.ParseID(key)
		if err != nil {
			return err
		}
		r, err := schema.Decode[schema.UserRecord](schema.Users, value)
		if err != nil {
			return err
		}
		return x.row(portable.User{User: r.User(id), Deleted: r.Deleted})
	})
}

func (x *exporter) spaces() error {
	return x.each(schema.Spaces, nil, func(key, value []byte) error {
		r, err := schema.Decode[schema.SpaceRecord](schema.Spaces, value)
		if err != nil {
			return err
		}
		return x.row(portable.Space{Space: r.Space(string(key))})
	})
}

func (x *exporter) trashedSpaces() error {
	return x.trashObjects(schema.RemovesSpace, func(key []byte, t *schema.TrashedObject, in portable.InTrash) error {
		return x.row(portable.TrashedSpace{Space: t.Record.Space(string(key)), InTrash: in})
	})
}

func (x *exporter) trashedEntities() error {
	return x.trashObjects(schema.RemovesParent, func(key []byte, t *schema.TrashedObject, in portable.InTrash) error {
		p, err := schema.ParseParent(key)
		if err != nil {
			return err
		}
		e, err := records.EntityOf(t.Entity, p)
		if err != nil {
			return err
		}
		return x.row(portable.TrashedEntity{Entity: e, Comments: t.Entity.Comments, InTrash: in})
	})
}

// trashObjects visits the parents or spaces in the trash.
func (x *exporter) trashObjects(kind byte, visit func(key []byte, t *schema.TrashedObject, in portable.InTrash) error) error {
	return x.each(schema.TrashObjects, []byte{kind}, func(key, value []byte) error {
		t, err := schema.Decode[schema.TrashedObject](schema.TrashObjects, value)
		if err != nil {
			return err
		}
		if (kind == schema.RemovesSpace) != (t.Record != nil) {
			return schema.ErrKey
		}
		return visit(key, t, portable.InTrash{Deletion: t.Deletion(), Files: t.Files, Entry: t.Entry, Origin: portable.OriginTimes(t.Origin)})
	})
}

func (x *exporter) usage() error {
	return x.each(schema.Usage, nil, func(key, value []byte) error {
		u, err := schema.DecodeUsage(value)
		if err != nil || u == (store.Usage{}) {
			return err
		}
		return x.row(portable.Usage{Space: string(key), Usage: u})
	})
}

// members yields no members of spaces that are being removed.
func (x *exporter) members() error {
	return x.each(schema.Members, nil, func(key, value []byte) error {
		slug, user, err := schema.SplitSlug0(key, len(uuid.UUID{}))
		if err != nil || !x.Has(schema.Spaces, slug) && !records.IsTrashed(x.Tx, schema.SpaceRemoval(string(slug))) {
			return err
		}
		role, err := schema.DecodeRole(value)
		if err != nil {
			return err
		}
		return x.row(portable.Member{Member: store.Member{Space: string(slug), UserID: uuid.UUID(user), Role: role}})
	})
}

func (x *exporter) entities() error {
	return x.each(schema.Entities, nil, func(key, value []byte) error {
		p, err := schema.ParseParent(key)
		if err != nil {
			return err
		}
		r, err := schema.Decode[schema.EntityRecord](schema.Entities, value)
		if err != nil {
			return err
		}
		return x.row(portable.Entity{Entity: store.Entity{Parent: p, Space: r.Space, Name: r.Name, OwnerID: r.OwnerID}, Comments: r.Comments})
	})
}

func (x *exporter) comments() error {
	return x.each(schema.Comments, nil, func(key, value []byte) error {
		if len(key) != 2*len(uuid.UUID{}) {
			return schema.ErrKey
		}
		c, err := schema.DecodeComment(uuid.UUID(key[:16]), uuid.UUID(key[16:]), value)
		if err != nil {
			return err
		}
		c.CreatedAt = portable.Moment(c.CreatedAt)
		return x.row(portable.Comment{Comment: c})
	})
}

func (x *exporter) removals() error {
	return x.each(schema.Removals, nil, func(key, value []byte) error {
		r, err := schema.Decode[schema.RemovalRecord](schema.Removals, value)
		if err != nil {
			return err
		}
		if len(key) > 1 && key[0] == schema.Tells {
			return x.telling(key[1:], r)
		}
		row := portable.Removal{Space: r.Space, Entry: r.Entry, Origin: portable.OriginTimes(r.Origin), Purges: r.Purges, Files: r.Files}
		if r.Stays != nil {
			row.Stays = &store.Deletion{At: portable.Seconds(r.Stays.At), Until: portable.Seconds(r.Stays.Until), ByID: r.Stays.ByID}
		}
		if row.Parent, err = removedParent(key); err != nil {
			return err
		}
		return x.row(row)
	})
}

// removedParent returns the parent in the key of a removal, or none for a space.
func removedParent(key []byte) (p store.Parent, err error) {
	if len(key) > 0 && key[0] == schema.RemovesParent {
		return schema.ParseParent(key[1:])
	}
	return p, nil
}

func (x *exporter) telling(key []byte, r *schema.RemovalRecord) (err error) {
	row := portable.Telling{Space: r.Space, Origin: portable.OriginTimes(r.Origin), Event: r.Event, Last: r.Last}
	if row.Parent, err = removedParent(key); err == nil && len(r.After) > 0 {
		row.AfterParent, row.After, err = schema.ParseAttachmentKey(r.After)
	}
	if err != nil {
		return err
	}
	return x.row(row)
}

func (x *exporter) places() error {
	return x.each(schema.Places, nil, func(key, value []byte) error {
		if len(key) != len(blobs.Ref{}) {
			return schema.ErrKey
		}
		p, err := schema.DecodePlace(blobs.Ref(key), value)
		if err != nil {
			return err
		}
		p.Stored, p.Damaged = portable.Seconds(p.Stored), x.Has(schema.Marks, key)
		return x.row(portable.Place{Place: p})
	})
}

func (x *exporter) intents() error {
	return x.each(schema.Intents, nil, func(key, value []byte) error {
		o, err := schema.ParseObject(key)
		if err != nil {
			return err
		}
		begun, err := schema.DecodeSeconds(value)
		if err != nil {
			return err
		}
		return x.row(portable.Intent{Object: o, Begun: portable.Seconds(begun)})
	})
}

func (x *exporter) garbage() error {
	return x.each(schema.GarbageObject, nil, func(key, value []byte) error {
		o, err := schema.ParseObject(key)
		if err != nil {
			return err
		}
		since, err := schema.DecodeSeconds(value)
		if err != nil {
			return err
		}
		return x.row(portable.Garbage{Object: o, Since: portable.Seconds(since)})
	})
}

func (x *exporter) attachments() error {
	var last store.Parent
	var space string
	return x.each(schema.Attachments, nil, func(key, value []byte) error {
		if len(key) != 17+len(uuid.UUID{}) {
			return schema.ErrKey
		}
		p, err := schema.ParseParent(key[:17])
		if err != nil {
			return err
		}
		if p != last {
			if space, err = x.spaceOf(p); err != nil {
				return err
			}
			last = p
		}
		a, err := records.DecodeAttachment(p, uuid.UUID(key[17:]), value)
		if err != nil {
			return err
		}
		return x.row(portable.Attachment{Attachment: a, Space: space})
	})
}

func (x *exporter) trashed() error {
	return x.each(schema.Trash, nil, func(key, value []byte) error {
		p, id, err := schema.ParseAttachmentKey(key)
		if err != nil {
			return err
		}
		t, a, err := records.Trashed(p, id, value)
		if err != nil {
			return err
		}
		return x.row(portable.TrashedAttachment{Attachment: a, Space: t.Space, Deletion: t.Deletion})
	})
}

// spaceOf returns the space of a parent, also of one that is in the trash or being removed.
func (x *exporter) spaceOf(p store.Parent) (string, error) {
	e, err := records.Entity(x.Tx, p)
	if !errors.Is(err, store.ErrNotFound) {
		return e.Space, err
	}
	key := schema.ParentRemoval(p)
	t, err := dbfile.Load[schema.TrashedObject](x.Tx, schema.TrashObjects, key)
	if err != nil {
		return "", err
	}
	if t != nil {
		return t.Space, nil
	}
	r, err := dbfile.Load[schema.RemovalRecord](x.Tx, schema.Removals, key)
	if err == nil && r == nil {
		err = fmt.Errorf("there are attachments of %s %s, which is not there", p.Kind, p.ID)
	}
	if err != nil {
		return "", err
	}
	return r.Space, nil
}

func (x *exporter) holds() error {
	return x.each(schema.Holds, nil, func(key, value []byte) error {
		id, err := schema.ParseID(key)
		if err != nil {
			return err
		}
		r, err := schema.Decode[schema.HoldRecord](schema.Holds, value)
		if err != nil {
			return err
		}
		return x.row(portable.Hold{Hold: r.Hold(id)})
	})
}

func (x *exporter) checksums() error {
	return x.each(schema.Checksums, nil, func(key, value []byte) error {
		if len(key) != len(blobs.Ref{}) {
			return schema.ErrKey
		}
		return x.row(portable.Checksums{SHA256: [32]byte(key), Sums: value})
	})
}

func (x *exporter) keys() error {
	return x.each(schema.Keys, nil, func(key, _ []byte) error {
		id, err := schema.ParseID(key)
		if err != nil {
			return err
		}
		k, err := x.store.loadKey(x.Tx, id)
		if err != nil {
			return err
		}
		k = x.store.touched.WithLastUse(k)
		k.CreatedAt, k.ExpiresAt, k.LastUsedAt = portable.Moment(k.CreatedAt), portable.Moment(k.ExpiresAt), portable.Moment(k.LastUsedAt)
		return x.row(portable.Key{Key: k})
	})
}

func (x *exporter) sessions() error {
	return x.each(schema.Sessions, nil, func(key, value []byte) error {
		if len(key) != 32 {
			return schema.ErrKey
		}
		r, err := schema.Decode[schema.SessionRecord](schema.Sessions, value)
		if err != nil {
			return err
		}
		return x.row(portable.Session{Session: store.Session{Hash: [32]byte(key), KeyID: r.KeyID, ExpiresAt: portable.Moment(r.ExpiresAt)}})
	})
}

func (x *exporter) notes() error {
	return x.each(schema.Meta, schema.NoteKey(""), func(name, value []byte) error {
		return x.row(portable.Note{Name: string(name), Value: value})
	})
}

func (x *exporter) audit() error {
	return x.each(schema.Audit, nil, func(key, value []byte) error {
		if len(key) != 8 {
			return nil // a check reports it
		}
		row := portable.Entry{Seq: binary.BigEndian.Uint64(key)}
		if len(value) >= len(row.Hash) {
			row.Hash, row.Encoded = [32]byte(value), value[len(row.Hash):]
		}
		return x.row(row)
	})
}

func (x *exporter) outbox() error {
	return x.each(schema.Outbox, nil, func(key, value []byte) error {
		if len(key) != 8 {
			return schema.ErrKey
		}
		e, err := schema.DecodeEvent(binary.BigEndian.Uint64(key), value)
		if err != nil {
			return err
		}
		return x.row(portable.Event{Event: portable.EventTimes(e)})
	})
}

func (x *exporter) dead() error {
	return x.each(schema.Dead, nil, func(key, value []byte) error {
		if len(key) != 8 {
			return schema.ErrKey
		}
		l, err := schema.DecodeDeadLetter(binary.BigEndian.Uint64(key), value)
		if err != nil {
			return err
		}
		l.Event, l.Time = portable.EventTimes(l.Event), portable.Moment(l.Time)
		return x.row(portable.DeadLetter{DeadLetter: l})
	})
}

// ages yields also the last numbers.
func (x *exporter) ages() error {
	for _, of := range []portable.Of{portable.AuditLog, portable.DeadLetters} {
		if marks := x.Get(schema.Meta, marksKeys[of]); len(marks) > 0 {
			if err := x.row(portable.Ages{Of: of, Marks: marks}); err != nil {
				return err
			}
		}
	}
	for _, kind := range numbered {
		if b := x.Bucket(kind.bucket); b != nil && b.Sequence() > 0 {
			if err := x.row(portable.Last{Of: kind.of, Seq: b.Sequence()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// marksKeys are the keys of ages in the bucket schema.Meta.
var marksKeys = map[portable.Of][]byte{portable.AuditLog: schema.AuditMarks, portable.DeadLetters: schema.DeadMarks}

// numbered are the buckets whose keys are given out.
var numbered = []struct {
	of     portable.Of
	bucket []byte
}{{portable.Outbox, schema.Outbox}, {portable.DeadLetters, schema.Dead}}

func (x *exporter) chain() error {
	anchor, head, err := records.AuditEnds(x.Tx)
	if err != nil {
		return err
	}
	return x.row(portable.Chain{Anchor: anchor, Head: head, Runs: x.Get(schema.Meta, schema.AuditRuns)})
}
