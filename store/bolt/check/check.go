// Package check compares the buckets of a database with each other, every index in
// both directions, and stored counters with what they count.
package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/backend"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"
)

// Database returns the faults of a database, as sentences. The buckets are compared
// in one read transaction, which view runs, so that all are read as of one moment;
// changes go on meanwhile, and the file grows a little by pages that cannot be
// reused before the end. Damaged entries are found before that, and are not
// reported again as faults of the objects that they belong to. rest, when set, is
// called now and then with the time worked since the last call.
func Database(ctx context.Context, file *dbfile.File, view func(context.Context, func(*dbfile.Tx) error) error, rest func(took time.Duration)) ([]string, error) {
	c := &checker{ctx: ctx, rest: rest, began: time.Now(), used: make(map[string]store.Usage), trashed: make(map[string]store.Usage)}
	damaged, err := file.Verify(ctx, rest)
	if err == nil {
		for _, what := range damaged.Sentences() {
			c.faults.Add("%s", what)
		}
		c.faults.AddMore(damaged.More)
		err = view(ctx, c.compareBuckets)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, new(*dbfile.PanicError)):
		c.faults.Add("The database cannot be read to its end: its file is damaged.")
	case errors.As(err, new(*dbfile.DamageError)) && c.faults.Any(): // it is one of the faults
	case err != nil:
		return nil, fmt.Errorf("check the database: %w", err)
	}
	return c.faults.Sentences(), nil
}

// checker compares the buckets with each other, every index in both directions. For
// each entry it looks up the objects that the entry names, so it keeps nothing in
// memory but a sum for each space.
type checker struct {
	*dbfile.Tx
	ctx   context.Context
	rest  func(took time.Duration) // may be nil
	began time.Time                // start of the work since the last rest
	used  map[string]store.Usage   // summed up from the records of attachments
	// trashed is likewise of what is in the trash with its parent or space, by the key of that.
	trashed map[string]store.Usage
	trash   store.Usage // of all attachments in the trash
	moving  bool        // an import that is decided is under way
	faults  backend.Faults
}

func (c *checker) want(ok bool, format string, args ...any) {
	if !ok {
		c.faults.Add(format, args...)
	}
}

func (c *checker) compareBuckets(tx *dbfile.Tx) error {
	c.Tx = tx
	c.moving = tx.Bucket(schema.Import) != nil && tx.Has(schema.Import, schema.ImportMark)
	for _, part := range []func() error{
		c.attachments, c.attachmentIDs, c.contents, c.checksums, c.staged, c.usage,
		c.users, c.spaces, c.members, c.memberships,
		c.entities, c.spaceEntities, c.comments,
		c.keys, c.keyHashes, c.userKeys, c.touches,
		c.sessions, c.keySessions, c.sessionExpiry,
		c.audit, c.outbox, c.dead, c.imported, c.removals, c.trashedOnes, c.trashObjects, c.trashUntil, c.trashSpaces, c.trashSum, c.holds, c.held, c.catalog,
	} {
		err := dbfile.Caught(part)
		if err != nil && !errors.As(err, new(*dbfile.DamageError)) { // it is one of the faults
			return err
		}
	}
	return nil
}

// each visits every entry of a bucket whose key has at least that length. An entry
// that visit cannot read is a fault.
func (c *checker) each(bucket []byte, atLeast int, visit func(key, value []byte) error) error {
	visited := 0
	entries := c.Readable(bucket)
	for key, value := entries.First(); key != nil; key, value = entries.Next() {
		if visited++; visited%1000 == 0 {
			if c.pause(); c.ctx.Err() != nil {
				return c.ctx.Err()
			}
		}
		if entries.Bad != nil { // it is one of the faults
			continue
		}
		if soon := c.toCome(bucket, key); soon != nil {
			value = soon
		}
		err := schema.ErrKey
		if len(key) >= atLeast {
			err = dbfile.Caught(func() error { return visit(key, value) })
		}
		if err != nil && !errors.As(err, new(*dbfile.DamageError)) {
			c.faults.Add("In the bucket %q, the entry %x cannot be read: %v.", bucket, key, err)
		}
	}
	return nil
}

// pause calls rest, so that the caller can yield to other work.
func (c *checker) pause() {
	if c.rest == nil {
		return
	}
	c.rest(time.Since(c.began))
	c.began = time.Now()
}

// toCome returns the value that an import which is decided has yet to write there,
// or nil.
func (c *checker) toCome(bucket, key []byte) []byte {
	if !c.moving {
		return nil
	}
	return c.Get(schema.Import, schema.StagedKey(bucket, key))
}

func (c *checker) has(bucket, key []byte) bool {
	return c.Has(bucket, key) || c.toCome(bucket, key) != nil
}

// hadSpace is also true of a space in the trash, and of one whose removal is not complete.
func (c *checker) hadSpace(slug []byte) bool {
	return c.has(schema.Spaces, slug) || c.hides(schema.SpaceRemoval(string(slug)))
}

// hides says whether a parent or space is in the trash, or being removed.
func (c *checker) hides(removal []byte) bool {
	return records.IsTrashed(c.Tx, removal) || records.IsRemoving(c.Tx, removal)
}

func (c *checker) is(bucket, key, value []byte) bool {
	got := c.toCome(bucket, key)
	if got == nil {
		got = c.Get(bucket, key)
	}
	return got != nil && bytes.Equal(got, value)
}

func (c *checker) attachments() error {
	return c.each(schema.Attachments, 33, func(key, value []byte) error {
		p, err := schema.ParseParent(key[:17])
		if err != nil {
			return err
		}
		id, err := schema.ParseID(key[17:])
		if err != nil {
			return err
		}
		a, err := schema.DecodeAttachment(p, id, value)
		if err != nil {
			return err
		}
		c.want(c.is(schema.AttachmentIDs, id[:], schema.ParentKey(p)), "Attachment %s cannot be found by its id.", id)
		c.want(c.is(schema.Contents, schema.Join(a.SHA256[:], id[:]), schema.Nothing), "Attachment %s cannot be found by its content %x.", id, a.SHA256)
		c.want(c.Has(schema.Users, a.UploaderID[:]), "Attachment %s was uploaded by user %s, who is not there.", id, a.UploaderID)
		c.want(records.CheckComment(c.Tx, a) == nil, "Attachment %s belongs to comment %s, which is not there.", id, a.CommentID.UUID)
		e, err := records.Entity(c.Tx, p)
		for _, removal := range [][]byte{schema.ParentRemoval(p), schema.SpaceRemoval(e.Space)} {
			if c.hides(removal) {
				c.trashed[string(removal)] = c.trashed[string(removal)].Plus(a.Usage())
				return nil
			}
		}
		if errors.Is(err, store.ErrNotFound) {
			c.faults.Add("Attachment %s belongs to %s %s, which is not there.", id, p.Kind, p.ID)
			return nil
		}
		c.used[e.Space] = c.used[e.Space].Plus(a.Usage())
		return err
	})
}

func (c *checker) attachmentIDs() error {
	return c.each(schema.AttachmentIDs, 16, func(key, value []byte) error {
		id, err := schema.ParseID(key)
		if err != nil {
			return err
		}
		bucket := schema.Attachments
		if at, is := bytes.CutSuffix(value, schema.InTrash); is && len(value) == 18 {
			bucket, value = schema.Trash, at
		}
		c.want(c.Has(bucket, schema.Join(value, key)), "The index of ids has attachment %s, of which there is no record.", id)
		return nil
	})
}

func (c *checker) contents() error {
	return c.each(schema.Contents, 32, func(key, value []byte) error {
		id, err := schema.ParseID(key[32:])
		if err != nil {
			return err
		}
		a, trashed, err := records.Stored(c.Tx, id)
		c.want(err != nil || bytes.Equal(value, schema.InTrash) == (trashed != nil), "The index of contents and the trash do not agree on whether attachment %s is in the trash.", id)
		c.want(err == nil && bytes.Equal(a.SHA256[:], key[:32]), "The index of contents says that attachment %s has the content %x, which it has not.", id, key[:32])
		return nil
	})
}

func (c *checker) staged() error {
	if c.Bucket(schema.Staged) == nil {
		return nil
	}
	return c.each(schema.Staged, 16, func(key, value []byte) error {
		id, err := schema.ParseID(key)
		if err != nil {
			return err
		}
		p, err := wal.DecodePlace(value)
		if err != nil {
			return err
		}
		a, _, err := records.Stored(c.Tx, id)
		c.want(err == nil && a.Size == int64(p.Length), "A content of %d bytes waits with attachment %s, which is not there or has another. It stays in the log, and keeps no other content back.", p.Length, id)
		return nil
	})
}

func (c *checker) checksums() error {
	if c.Bucket(schema.Checksums) == nil { // a read-only copy of an older database
		return nil
	}
	return c.each(schema.Checksums, 32, func(key, _ []byte) error {
		if len(key) > 32 {
			return schema.ErrKey
		}
		c.want(c.HasUnder(schema.Contents, key), "Checksums are kept of the content %x, which no attachment has.", key)
		return nil
	})
}

func (c *checker) usage() error {
	err := c.each(schema.Usage, 1, func(slug, value []byte) error {
		counted, err := schema.DecodeUsage(value)
		if err != nil {
			return err
		}
		used := c.used[string(slug)]
		delete(c.used, string(slug))
		c.wantUsage(string(slug), counted, used)
		c.want(c.has(schema.Spaces, slug), "Usage is counted of space %q, which is not there.", slug)
		return nil
	})
	for slug, used := range c.used {
		c.wantUsage(slug, store.Usage{}, used)
	}
	return err
}

func (c *checker) wantUsage(slug string, counted, used store.Usage) {
	c.want(counted == used, "Space %q is counted as using %d bytes in %d files, but its files are %d bytes in %d.",
		slug, counted.Bytes, counted.Files, used.Bytes, used.Files)
}

func (c *checker) users() error {
	return c.each(schema.Users, 16, func(key, _ []byte) error {
		_, err := dbfile.Load[schema.UserRecord](c.Tx, schema.Users, key)
		return err
	})
}

func (c *checker) spaces() error {
	return c.each(schema.Spaces, 1, func(key, _ []byte) error {
		_, err := dbfile.Load[schema.SpaceRecord](c.Tx, schema.Spaces, key)
		return err
	})
}

func (c *checker) members() error {
	return c.each(schema.Members, 18, func(key, role []byte) error {
		slug, user, err := schema.SplitSlug0(key, 16)
		if err != nil {
			return err
		}
		if _, err := schema.DecodeRole(role); err != nil {
			return err
		}
		c.want(c.is(schema.Memberships, schema.Join(user, slug), role), "User %x is a member of space %q, which their own list does not say.", user, slug)
		c.want(c.hadSpace(slug), "User %x is a member of space %q, which is not there.", user, slug)
		return c.wantUser(user, "is a member of space %q", slug)
	})
}

func (c *checker) memberships() error {
	return c.each(schema.Memberships, 17, func(key, role []byte) error {
		user, slug := key[:16], key[16:]
		c.want(c.is(schema.Members, schema.Join(schema.Slug0(string(slug)), user), role), "The list of user %x has space %q, whose members do not say so.", user, slug)
		return nil
	})
}

// wantUser reports a fault unless the user exists and has not been deleted.
func (c *checker) wantUser(id []byte, who string, args ...any) error {
	user, err := records.User(c.Tx, uuid.UUID(id))
	c.want(user != nil || err != nil, "User %x, who is not there, "+who+".", append([]any{id}, args...)...)
	return err
}

func (c *checker) entities() error {
	return c.each(schema.Entities, 17, func(key, _ []byte) error {
		p, err := schema.ParseParent(key)
		if err != nil {
			return err
		}
		e, err := records.Entity(c.Tx, p)
		if err != nil {
			return err
		}
		c.want(c.hadSpace([]byte(e.Space)), "The %s %s is in space %q, which is not there.", p.Kind, p.ID, e.Space)
		c.want(c.has(schema.SpaceEntities, schema.Join(schema.Slug0(e.Space), key)), "The %s %s is not in the list of its space %q.", p.Kind, p.ID, e.Space)
		c.want(p.Kind != store.Ticket || c.Has(schema.Users, e.OwnerID[:]), "The ticket %s belongs to user %s, who is not there.", p.ID, e.OwnerID)
		return nil
	})
}

func (c *checker) spaceEntities() error {
	return c.each(schema.SpaceEntities, 19, func(key, _ []byte) error {
		slug, rest, err := schema.SplitSlug0(key, 17)
		if err != nil {
			return err
		}
		p, err := schema.ParseParent(rest)
		if err != nil {
			return err
		}
		e, err := records.Entity(c.Tx, p)
		c.want(err == nil && e.Space == string(slug), "The list of space %q has the %s %s, which is not in it.", slug, p.Kind, p.ID)
		return nil
	})
}

func (c *checker) comments() error {
	return c.each(schema.Comments, 32, func(key, value []byte) error {
		if _, err := schema.DecodeCommentRecord(value); err != nil {
			return err
		}
		ticket, id := uuid.UUID(key[:16]), key[16:]
		p := store.Parent{Kind: store.Ticket, ID: ticket}
		c.want(c.Has(schema.Entities, schema.ParentKey(p)) || c.hides(schema.ParentRemoval(p)), "Comment %x belongs to ticket %s, which is not there.", id, ticket)
		return nil
	})
}

func (c *checker) keys() error {
	return c.each(schema.Keys, 16, func(key, _ []byte) error {
		record, err := dbfile.Load[schema.KeyRecord](c.Tx, schema.Keys, key)
		if err != nil {
			return err
		}
		c.want(c.is(schema.KeyHashes, record.Hash, key), "API key %x cannot be found by its hash.", key)
		c.want(c.Has(schema.UserKeys, schema.Join(record.UserID[:], key)), "API key %x is not in the list of its user %s.", key, record.UserID)
		return c.wantUser(record.UserID[:], "has API key %x", key)
	})
}

func (c *checker) keyHashes() error {
	return c.each(schema.KeyHashes, 32, func(hash, key []byte) error {
		record, err := dbfile.Load[schema.KeyRecord](c.Tx, schema.Keys, key)
		c.want(err == nil && record != nil && bytes.Equal(record.Hash, hash), "The index of hashes has API key %x, which is not there.", key)
		return nil
	})
}

func (c *checker) userKeys() error {
	return c.each(schema.UserKeys, 17, func(entry, _ []byte) error {
		user, key := entry[:16], entry[16:]
		record, err := dbfile.Load[schema.KeyRecord](c.Tx, schema.Keys, key)
		c.want(err == nil && record != nil && bytes.Equal(record.UserID[:], user), "The list of user %x has API key %x, which is not theirs.", user, key)
		return nil
	})
}

func (c *checker) touches() error {
	return c.each(schema.Touched, 16, func(key, _ []byte) error {
		c.want(c.Has(schema.Keys, key), "It is noted when API key %x was used, which is not there.", key)
		return nil
	})
}

func (c *checker) sessions() error {
	return c.each(schema.Sessions, 32, func(hash, _ []byte) error {
		s, err := dbfile.Load[schema.SessionRecord](c.Tx, schema.Sessions, hash)
		if err != nil {
			return err
		}
		c.want(c.Has(schema.Keys, s.KeyID[:]), "Session %x is of API key %s, which is not there.", hash, s.KeyID)
		c.want(c.Has(schema.KeySessions, schema.Join(s.KeyID[:], hash)), "Session %x is not in the list of its API key %s.", hash, s.KeyID)
		c.want(c.Has(schema.SessionExpiry, schema.Join(schema.TimeKey(s.ExpiresAt), hash)), "Session %x cannot be found by the time when it ends.", hash)
		return nil
	})
}

func (c *checker) keySessions() error {
	return c.each(schema.KeySessions, 17, func(entry, _ []byte) error {
		key, hash := entry[:16], entry[16:]
		s, err := dbfile.Load[schema.SessionRecord](c.Tx, schema.Sessions, hash)
		c.want(err == nil && s != nil && bytes.Equal(s.KeyID[:], key), "The list of API key %x has session %x, which is not its own.", key, hash)
		return nil
	})
}

func (c *checker) sessionExpiry() error {
	return c.each(schema.SessionExpiry, 13, func(entry, _ []byte) error {
		ends, hash := entry[:12], entry[12:]
		s, err := dbfile.Load[schema.SessionRecord](c.Tx, schema.Sessions, hash)
		c.want(err == nil && s != nil && bytes.Equal(schema.TimeKey(s.ExpiresAt), ends), "The index of times has session %x, which does not end then.", hash)
		return nil
	})
}

// audit finds keys of the audit log's bucket that are not of entries. VerifyAudit
// checks the entries.
func (c *checker) audit() error {
	if c.Bucket(schema.Audit) == nil { // a read-only copy of an older database
		return nil
	}
	return c.each(schema.Audit, 8, func(key, _ []byte) error {
		if len(key) > 8 {
			return schema.ErrKey
		}
		return nil
	})
}

// imported finds keys of the bucket "import" that are not of entries of an import.
func (c *checker) imported() error {
	if c.Bucket(schema.Import) == nil { // a read-only copy of an older database
		return nil
	}
	return c.each(schema.Import, 1, func(key, _ []byte) error {
		if number := key[0]; number != schema.ImportNotes && int(number) > len(schema.ImportBuckets) {
			return schema.ErrKey
		}
		return nil
	})
}

func (c *checker) outbox() error {
	if c.Bucket(schema.Outbox) == nil { // a read-only copy of an older database
		return nil
	}
	return c.each(schema.Outbox, 8, func(key, value []byte) error {
		_, err := schema.DecodeEvent(binary.BigEndian.Uint64(key), value)
		return err
	})
}

func (c *checker) dead() error {
	if c.Bucket(schema.Dead) == nil {
		return nil
	}
	return c.each(schema.Dead, 8, func(key, value []byte) error {
		_, err := schema.DecodeDeadLetter(binary.BigEndian.Uint64(key), value)
		return err
	})
}

func (c *checker) removals() error {
	if c.Bucket(schema.Removals) == nil { // a read-only copy of an older database
		return nil
	}
	return c.each(schema.Removals, 2, func(key, value []byte) error {
		r, err := schema.Decode[schema.RemovalRecord](schema.Removals, value)
		if err != nil {
			return err
		}
		if r.Stays != nil {
			c.wantTrashed(key, r.Files)
		}
		switch key[0] {
		case schema.Tells:
			if len(key) < 3 || key[1] != schema.RemovesParent && key[1] != schema.RemovesSpace {
				return schema.ErrKey
			}
		case schema.RemovesParent:
			c.want(!c.Has(schema.Entities, key[1:]), "What belonged to %x is being removed, but it is there.", key[1:])
		case schema.RemovesSpace:
			c.want(!c.Has(schema.Spaces, key[1:]), "What was in space %q is being removed, but it is there.", key[1:])
		default:
			return schema.ErrKey
		}
		return nil
	})
}
