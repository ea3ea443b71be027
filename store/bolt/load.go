package bolt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
	"attachd/store/portable"
)

const (
	// loadEntries and loadBytes are how many entries, and bytes of them, one transaction of
	// an Import writes at most. The more, the fewer pages are written again and again:
	// hashes are in no order.
	loadEntries = 200_000
	loadBytes   = 64 << 20
)

// errNotEmpty is the error of an Import into a database that is in use.
var errNotEmpty = errors.New("the database has records already")

// Import implements portable.Target, in several transactions: after an error, the database
// has a part of the rows.
func (b *Store) Import(ctx context.Context, rows iter.Seq2[portable.Row, error]) error {
	l := &loader{store: b, ctx: ctx}
	err := b.viewAll(ctx, func(tx *dbfile.Tx) error {
		l.catalog = !tx.HasNone(schema.Places) || !tx.HasNone(schema.Intents) || !tx.HasNone(schema.GarbageObject)
		for _, bucket := range schema.Records {
			if !tx.HasNone(bucket) {
				return errNotEmpty
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for row, err := range portable.Checked(rows) {
		if err == nil {
			err = l.add(row)
		}
		if err == nil && (len(l.entries) >= loadEntries || l.bytes >= loadBytes) {
			err = l.write()
		}
		if err != nil {
			return err
		}
	}
	if err := l.write(); err != nil {
		return err
	}
	return b.countOutbox()
}

// ClearRecords implements portable.Target.
func (b *Store) ClearRecords(context.Context) error {
	err := b.updateAlone(context.Background(), func(tx *writeTx) error {
		for _, bucket := range schema.Records {
			if err := tx.DeleteBucket(bucket); err != nil {
				return err
			}
			if _, err := tx.CreateBucket(bucket); err != nil {
				return err
			}
		}
		for _, key := range [][]byte{schema.AuditAnchor, schema.AuditHead, schema.AuditRuns, schema.AuditMarks, schema.DeadMarks, schema.TrashSum} {
			tx.Delete(schema.Meta, key)
		}
		return nil
	})
	b.outbox.events.Store(0)
	b.outbox.dead.Store(0)
	return err
}

// loader collects the entries of rows, and writes them in the order of their keys: see
// import.go.
type loader struct {
	store   *Store
	ctx     context.Context
	catalog bool // the database has a catalog already
	trash   store.Usage
	entries []loaded
	bytes   int
	last    []portable.Last
}

type loaded struct{ bucket, key, value []byte }

// put keeps no reference to its arguments.
func (l *loader) put(bucket, key, value []byte) {
	both := append(append(make([]byte, 0, len(key)+len(value)), key...), value...)
	l.entries = append(l.entries, loaded{bucket, both[:len(key):len(key)], both[len(key):]})
	l.bytes += len(both)
}

func (l *loader) save(bucket, key []byte, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode for bucket %q: %w", bucket, err)
	}
	l.put(bucket, key, data)
	return nil
}

func (l *loader) write() error {
	slices.SortFunc(l.entries, func(a, b loaded) int {
		if by := bytes.Compare(a.bucket, b.bucket); by != 0 {
			return by
		}
		return bytes.Compare(a.key, b.key)
	})
	if err := l.ctx.Err(); err != nil {
		return err
	}
	// An entry of the audit log that is in the context is not of these rows.
	err := l.store.updateAlone(context.Background(), func(tx *writeTx) error {
		for _, e := range l.entries {
			tx.Put(e.bucket, e.key, e.value)
		}
		if l.trash != (store.Usage{}) {
			tx.Put(schema.Meta, schema.TrashSum, schema.EncodeUsage(l.trash))
		}
		for _, last := range l.last {
			for _, kind := range numbered {
				if kind.of == last.Of {
					tx.err = errors.Join(tx.err, tx.SetSequence(kind.bucket, last.Seq))
				}
			}
		}
		return nil
	})
	l.entries, l.last, l.bytes = l.entries[:0], nil, 0
	return err
}

// add collects the entries of a row.
func (l *loader) add(row portable.Row) error {
	switch row := row.(type) {
	case portable.User:
		return l.save(schema.Users, row.ID[:], schema.NewUserRecord(row.User, row.Deleted))
	case portable.Space:
		return l.save(schema.Spaces, []byte(row.Slug), schema.SpaceRecord{Name: row.Name, QuotaBytes: row.QuotaBytes, QuotaFiles: row.QuotaFiles, Auto: row.Auto})
	case portable.Usage:
		l.put(schema.Usage, []byte(row.Space), schema.EncodeUsage(row.Usage))
	case portable.Member:
		l.put(schema.Members, schema.Join(schema.Slug0(row.Space), row.UserID[:]), []byte{byte(row.Role)})
		l.put(schema.Memberships, schema.Join(row.UserID[:], []byte(row.Space)), []byte{byte(row.Role)})
	case portable.Entity:
		l.put(schema.SpaceEntities, schema.Join(schema.Slug0(row.Space), schema.ParentKey(row.Parent)), nil)
		return l.save(schema.Entities, schema.ParentKey(row.Parent), schema.EntityRecord{Space: row.Space, Name: row.Name, OwnerID: row.OwnerID, Comments: row.Comments})
	case portable.Comment:
		return l.save(schema.Comments, schema.Join(row.TicketID[:], row.ID[:]), schema.CommentRecord{Number: row.Number, CreatedAt: row.CreatedAt})
	case portable.Removal, portable.Telling, portable.TrashedSpace, portable.TrashedEntity, portable.TrashedAttachment:
		return l.addRemoved(row)
	case portable.Place, portable.Intent, portable.Garbage:
		return l.addObject(row)
	case portable.Attachment:
		l.put(schema.Attachments, schema.AttachmentKey(row.Attachment), schema.EncodeAttachment(row.Attachment))
		l.put(schema.AttachmentIDs, row.ID[:], schema.ParentKey(row.Parent))
		l.put(schema.Contents, schema.Join(row.SHA256[:], row.ID[:]), nil)
	case portable.Hold:
		l.put(schema.Held, row.Place(), nil)
		return l.save(schema.Holds, row.ID[:], schema.NewHoldRecord(row.Hold))
	case portable.Checksums:
		l.put(schema.Checksums, row.SHA256[:], row.Sums)
	case portable.Key:
		return l.addKey(row.Key)
	case portable.Session:
		l.put(schema.KeySessions, schema.Join(row.KeyID[:], row.Hash[:]), nil)
		l.put(schema.SessionExpiry, schema.Join(schema.TimeKey(row.ExpiresAt), row.Hash[:]), nil)
		return l.save(schema.Sessions, row.Hash[:], schema.SessionRecord{KeyID: row.KeyID, ExpiresAt: row.ExpiresAt})
	default:
		return l.addNumbered(row)
	}
	return nil
}

// addRemoved collects what is in the trash, or being removed.
func (l *loader) addRemoved(row portable.Row) error {
	switch row := row.(type) {
	case portable.Removal:
		l.trash = l.trash.Plus(row.Files)
		return l.save(schema.Removals, removalOf(row.Parent, row.Space),
			schema.RemovalRecord{Space: row.Space, Entry: row.Entry, Origin: row.Origin, Purges: row.Purges, Stays: row.Stays, Files: row.Files})
	case portable.Telling:
		r := schema.RemovalRecord{Space: row.Space, Origin: row.Origin, Event: row.Event, Last: row.Last}
		if row.After != uuid.Nil {
			r.After = schema.Join(schema.ParentKey(row.AfterParent), row.After[:])
		}
		return l.save(schema.Removals, schema.Telling(removalOf(row.Parent, row.Space)), r)
	case portable.TrashedSpace:
		return l.addTrashed(schema.SpaceRemoval(row.Slug), row.InTrash, schema.TrashedObject{Space: row.Slug,
			Record: &schema.SpaceRecord{Name: row.Name, QuotaBytes: row.QuotaBytes, QuotaFiles: row.QuotaFiles, Auto: row.Auto}})
	case portable.TrashedEntity:
		return l.addTrashed(schema.ParentRemoval(row.Parent), row.InTrash, schema.TrashedObject{Space: row.Space,
			Entity: &schema.EntityRecord{Space: row.Space, Name: row.Name, OwnerID: row.OwnerID, Comments: row.Comments}})
	case portable.TrashedAttachment:
		key := schema.TrashKey(row.Attachment)
		l.trash = l.trash.Plus(row.Usage())
		l.put(schema.Trash, schema.AttachmentKey(row.Attachment), schema.EncodeTrash(schema.TrashRecord{Deletion: row.Deletion, Space: row.Space}, row.Attachment))
		l.put(schema.AttachmentIDs, row.ID[:], schema.Join(schema.ParentKey(row.Parent), schema.InTrash))
		l.put(schema.Contents, schema.Join(row.SHA256[:], row.ID[:]), schema.InTrash)
		l.putIndexes(key, row.Deletion, schema.Slug0(row.Space))
	}
	return nil
}

// removalOf is the key of the removal of a parent, or of a space where that is zero.
func removalOf(p store.Parent, space string) []byte {
	if p != (store.Parent{}) {
		return schema.ParentRemoval(p)
	}
	return schema.SpaceRemoval(space)
}

// addTrashed collects a parent or space in the trash.
func (l *loader) addTrashed(key []byte, in portable.InTrash, t schema.TrashedObject) error {
	l.trash = l.trash.Plus(in.Files)
	t.At, t.Until, t.ByID = in.At.Unix(), in.Until.Unix(), in.ByID
	t.Files, t.Entry, t.Origin = in.Files, in.Entry, in.Origin
	l.putIndexes(key, in.Deletion, t.ListedIn())
	return l.save(schema.TrashObjects, key, t)
}

// putIndexes collects the entries by which something in the trash is found.
func (l *loader) putIndexes(key []byte, d store.Deletion, space []byte) {
	l.put(schema.TrashUntil, schema.UntilKey(d.Until, key), nil)
	l.put(schema.TrashSpaces, schema.Join(space, schema.TrashPlace(d.At, key)), nil)
}

// addObject collects what is to be known of an object.
func (l *loader) addObject(row portable.Row) error {
	if l.catalog {
		return errNotEmpty
	}
	switch row := row.(type) {
	case portable.Place:
		l.put(schema.Places, row.Ref[:], schema.EncodePlace(row.Place))
		if row.Damaged {
			l.put(schema.Marks, row.Ref[:], row.Key[:])
		}
	case portable.Intent:
		l.put(schema.Intents, schema.ObjectKey(row.Object), schema.EncodeSeconds(row.Begun.Unix()))
	case portable.Garbage:
		since, object := schema.EncodeSeconds(row.Since.Unix()), schema.ObjectKey(row.Object)
		l.put(schema.Garbage, schema.GarbageKey(since, object), nil)
		l.put(schema.GarbageObject, object, since)
	}
	return nil
}

func (l *loader) addKey(k store.Key) error {
	l.put(schema.KeyHashes, k.Hash[:], k.ID[:])
	l.put(schema.UserKeys, schema.Join(k.UserID[:], k.ID[:]), nil)
	if !k.LastUsedAt.IsZero() {
		l.put(schema.Touched, k.ID[:], schema.EncodeSeconds(k.LastUsedAt.Unix()))
	}
	return l.save(schema.Keys, k.ID[:], schema.KeyRecord{UserID: k.UserID, Name: k.Name, Prefix: k.Prefix, Hash: k.Hash[:], CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt})
}

// addNumbered collects the entries of the logs and queues, and of notes.
func (l *loader) addNumbered(row portable.Row) error {
	switch row := row.(type) {
	case portable.Note:
		l.put(schema.Meta, schema.NoteKey(row.Name), row.Value)
	case portable.Entry:
		l.put(schema.Audit, schema.Number(row.Seq), schema.Join(row.Hash[:], row.Encoded))
	case portable.Event:
		return l.save(schema.Outbox, schema.Number(row.Seq), schema.NewEventRecord(row.Event))
	case portable.DeadLetter:
		return l.save(schema.Dead, schema.Number(row.Seq), schema.DeadRecord{Event: schema.NewEventRecord(row.Event), Time: row.Time, Reason: row.Reason})
	case portable.Ages:
		l.put(schema.Meta, marksKeys[row.Of], row.Marks)
	case portable.Last:
		l.last = append(l.last, row)
	case portable.Chain:
		if row.Anchor != (store.ChainPos{}) {
			l.put(schema.Meta, schema.AuditAnchor, schema.EncodeLink(row.Anchor))
		}
		l.put(schema.Meta, schema.AuditHead, schema.EncodeLink(row.Head))
		if len(row.Runs) > 0 {
			l.put(schema.Meta, schema.AuditRuns, row.Runs)
		}
	case portable.End:
	default:
		return fmt.Errorf("a row of an unknown kind: %T", row)
	}
	return nil
}
