package bolt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"attachd/store"
	"attachd/store/bolt/schema"
)

// load reads a JSON record; nil when there is none.
func load[Record any](tx *dbTx, bucket, key []byte) (*Record, error) {
	data := tx.get(bucket, key)
	if data == nil {
		return nil, nil
	}
	return schema.Decode[Record](bucket, data)
}

// decoded remembers what JSON records decode to, for those that nearly every
// request reads. It knows them by all their bytes, so a record that changes is
// another one, and nothing has to be forgotten but for room.
type decoded[Record any] struct {
	mu      sync.RWMutex
	records map[string]*Record
}

// rememberedRecords is how many are remembered of a kind; each is some
// hundred bytes.
const rememberedRecords = 4096

// load is load, for records that the caller leaves as they are.
func (d *decoded[Record]) load(tx *dbTx, bucket, key []byte) (*Record, error) {
	data := tx.get(bucket, key)
	if data == nil {
		return nil, nil
	}
	d.mu.RLock()
	record := d.records[string(data)]
	d.mu.RUnlock()
	if record != nil {
		return record, nil
	}
	record, err := schema.Decode[Record](bucket, data)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records == nil || len(d.records) >= rememberedRecords {
		d.records = make(map[string]*Record)
	}
	d.records[string(data)] = record
	return record, nil
}

// save writes a JSON record.
func (tx *writeTx) save(bucket, key []byte, record any) {
	data, err := json.Marshal(record)
	if err != nil {
		tx.err = errors.Join(tx.err, fmt.Errorf("encode for bucket %q: %w", bucket, err))
		return
	}
	tx.put(bucket, key, data)
}

// has says whether a key is there.
func has(tx *dbTx, bucket, key []byte) bool {
	return tx.get(bucket, key) != nil
}

// under runs through the pairs whose keys begin with prefix, from the first
// after prefix+after on, and yields what follows the prefix. They are gone
// when the transaction is. The bucket must not be changed meanwhile.
func under(tx *dbTx, bucket, prefix, after []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		start := schema.Join(prefix, after)
		cursor := tx.entries(bucket)
		key, value := cursor.Seek(start)
		if len(after) > 0 && bytes.Equal(key, start) {
			key, value = cursor.Next()
		}
		for key != nil && bytes.HasPrefix(key, prefix) {
			if cursor.must(); !yield(key[len(prefix):], value) {
				return
			}
			key, value = cursor.Next()
		}
		tx.mustKnowKeys(bucket) // the entry behind may have been one of these
	}
}

// hasUnder says whether any key begins with prefix.
func hasUnder(tx *dbTx, bucket, prefix []byte) bool {
	for range under(tx, bucket, prefix, nil) {
		return true
	}
	return false
}

// restsUnder copies what follows the prefix in all keys that begin with it,
// so that the bucket can be changed.
func restsUnder(tx *dbTx, bucket, prefix []byte) (rests [][]byte) {
	for rest := range under(tx, bucket, prefix, nil) {
		rests = append(rests, bytes.Clone(rest))
	}
	return rests
}

// AuditRuns implements Audit.
func (b *Store) AuditRuns(ctx context.Context) (runs []store.AuditRun, err error) {
	err = b.view(ctx, func(tx *dbTx) error {
		head, _, err := loadLink(tx, schema.AuditHead)
		if err == nil {
			runs, err = loadRuns(tx, head.Seq)
		}
		return err
	})
	return runs, err
}

func loadRuns(tx *dbTx, head uint64) ([]store.AuditRun, error) {
	return schema.DecodeRuns(tx.get(schema.Meta, schema.AuditRuns), head)
}

// ripe is ageMarks.ripe of what schema.Meta has under a key.
func (tx *writeTx) ripe(key []byte, head uint64, age, keep time.Duration) (through uint64, err error) {
	updated, through, err := schema.Ripe(tx.get(schema.Meta, key), head, age, keep)
	if err != nil {
		return 0, fmt.Errorf("the %s: %w", key, err)
	}
	if updated != nil {
		tx.put(schema.Meta, key, updated)
	}
	return through, nil
}
