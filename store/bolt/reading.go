package bolt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

// save writes a JSON record.
func (tx *writeTx) save(bucket, key []byte, record any) {
	data, err := json.Marshal(record)
	if err != nil {
		tx.err = errors.Join(tx.err, fmt.Errorf("encode for bucket %q: %w", bucket, err))
		return
	}
	tx.put(bucket, key, data)
}

// AuditRuns implements Audit.
func (b *Store) AuditRuns(ctx context.Context) (runs []store.AuditRun, err error) {
	err = b.view(ctx, func(tx *dbfile.Tx) error {
		head, _, err := loadLink(tx, schema.AuditHead)
		if err == nil {
			runs, err = loadRuns(tx, head.Seq)
		}
		return err
	})
	return runs, err
}

func loadRuns(tx *dbfile.Tx, head uint64) ([]store.AuditRun, error) {
	return schema.DecodeRuns(tx.Get(schema.Meta, schema.AuditRuns), head)
}

// ripe is ageMarks.ripe of what schema.Meta has under a key.
func (tx *writeTx) ripe(key []byte, head uint64, age, keep time.Duration) (through uint64, err error) {
	updated, through, err := schema.Ripe(tx.Get(schema.Meta, key), head, age, keep)
	if err != nil {
		return 0, fmt.Errorf("the %s: %w", key, err)
	}
	if updated != nil {
		tx.put(schema.Meta, key, updated)
	}
	return through, nil
}
