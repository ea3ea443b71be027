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
	err := b.inBatches(ctx, schema.Attachments, rest, func(_ *dbfile.Tx, key, value []byte) {
		p, err := schema.ParseParent(key[:min(17, len(key))])
		if err != nil {
			return
		}
		if a, err := schema.DecodeAttachment(p, uuid.Nil, value); err == nil {
			totals.Add(a)
		}
	})
	if err != nil {
		return store.Totals{}, err
	}
	var last [32]byte      // the content of the entry before
	var size int64         // of that content; -1 when not looked up yet
	var spared store.Usage // by storing each content once
	err = b.inBatches(ctx, schema.Contents, rest, func(tx *dbfile.Tx, key, _ []byte) {
		if len(key) != 48 {
			return
		}
		if !bytes.Equal(last[:], key[:32]) {
			last, size = [32]byte(key), -1
			return
		}
		if size < 0 {
			err := dbfile.Caught(func() error {
				a, err := records.Attachment(tx, uuid.UUID(key[32:]))
				size = a.Size
				return err
			})
			if err != nil {
				size = -1
				return
			}
		}
		spared.Files++
		spared.Bytes += size
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
