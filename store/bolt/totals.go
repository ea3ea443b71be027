package bolt

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

// totalsBatch is how many entries Totals reads in one transaction. A long
// transaction would keep changes from reusing pages.
const totalsBatch = 4096

// Totals implements Attachments. It reads the records in the order of their keys,
// and then the keys of the contents, where records with the same content are
// adjacent: it looks up one record for each content that several have.
func (b *Store) Totals(ctx context.Context, rest func(took time.Duration)) (store.Totals, error) {
	totals := store.Totals{ByType: map[string]store.Usage{}}
	of := hiddenParent{store: b}
	err := b.inBatches(ctx, schema.Attachments, rest, func(tx *dbfile.Tx, key, value []byte) {
		p, err := schema.ParseParent(key[:min(17, len(key))])
		if err != nil || of.is(tx, p) {
			return
		}
		if a, err := schema.DecodeAttachment(p, uuid.Nil, value); err == nil {
			totals.Add(a)
		}
	})
	if err != nil {
		return store.Totals{}, err
	}
	var last sharedContent
	var spared store.Usage // by storing each content once
	err = b.inBatches(ctx, schema.Contents, rest, func(tx *dbfile.Tx, key, value []byte) {
		if len(key) != 48 || bytes.Equal(value, schema.InTrash) {
			return
		}
		if !bytes.Equal(last.sha256[:], key[:32]) {
			last = sharedContent{sha256: [32]byte(key), first: uuid.UUID(key[32:])}
			return
		}
		if last.first != uuid.Nil {
			last.add(tx, &of, last.first)
			last.first = uuid.Nil
		}
		if last.add(tx, &of, uuid.UUID(key[32:])) && last.files > 1 {
			spared = spared.Plus(store.Usage{Bytes: last.size, Files: 1})
		}
	})
	if err != nil {
		return store.Totals{}, err
	}
	// What was deleted in between counts with neither.
	totals.Contents = store.Usage{
		Files: max(0, totals.Attachments.Files-spared.Files),
		Bytes: max(0, totals.Attachments.Bytes-spared.Bytes),
	}
	return totals, nil
}

// hiddenParent says whether what belongs to a parent is hidden, and keeps the last answer.
type hiddenParent struct {
	store  *Store
	of     store.Parent
	hidden bool
}

// is is false where it cannot be read.
func (h *hiddenParent) is(tx *dbfile.Tx, p store.Parent) bool {
	if h.of != p {
		h.of, h.hidden = p, false
		_ = dbfile.Caught(func() (err error) {
			h.hidden, err = h.store.isHidden(tx, p)
			return err
		})
	}
	return h.hidden
}

// sharedContent counts the records with a content.
type sharedContent struct {
	sha256 [32]byte
	first  uuid.UUID // not counted yet; zero when it is
	size   int64     // when files is not 0
	files  int
}

// add counts a record, and says whether it could be read, and is not hidden. Where nothing
// is, one record of each content is read.
func (c *sharedContent) add(tx *dbfile.Tx, of *hiddenParent, id uuid.UUID) (counted bool) {
	if c.files > 0 && tx.HasNone(schema.TrashObjects) {
		c.files++
		return true
	}
	err := dbfile.Caught(func() error {
		a, err := records.Attachment(tx, id)
		if err == nil && !of.is(tx, a.Parent) {
			c.size = a.Size
			c.files++
			counted = true
		}
		return err
	})
	return err == nil && counted
}

// inBatches visits every entry of a bucket, some thousands in a transaction, and
// calls rest between two transactions with how long the last one took.
func (b *Store) inBatches(ctx context.Context, bucket []byte, rest func(took time.Duration), visit func(tx *dbfile.Tx, key, value []byte)) error {
	var last []byte
	for {
		began, visited := time.Now(), 0
		err := b.viewAll(ctx, func(tx *dbfile.Tx) error {
			entries := tx.Readable(bucket)
			key, value := entries.Seek(last)
			if last != nil && bytes.Equal(key, last) {
				key, value = entries.Next()
			}
			for ; key != nil; key, value = entries.Next() {
				if entries.Bad == nil {
					visit(tx, key, value)
				}
				if visited++; visited == totalsBatch {
					last = bytes.Clone(key)
					break
				}
			}
			return nil
		})
		if err != nil || visited < totalsBatch {
			return err
		}
		rest(time.Since(began))
	}
}
