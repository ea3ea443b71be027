package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"attachd/store"
	"attachd/store/backend"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

// auditInterval is how long queued entries wait at most while no change commits them.
const auditInterval = time.Second

// Record implements Audit.
func (b *Store) Record(e store.Entry) { b.auditQueue.Add(e) }

// flushAudit commits the queue when no change does it.
func (cm *committer) flushAudit() error {
	if cm.store.auditQueue.Empty() {
		return nil
	}
	c := &change{apply: func(*writeTx) error { return nil }, done: make(chan error, 1)}
	cm.perform(c)
	return <-c.done
}

// record adds entries to the chain.
func (tx *writeTx) record(entries ...store.Entry) {
	if len(entries) == 0 || tx.err != nil {
		return
	}
	if tx.chain == nil {
		last, err := records.LastLink(tx.Tx)
		if err != nil {
			tx.err = err
			return
		}
		runs, err := records.Runs(tx.Tx, last.Seq)
		if err != nil {
			tx.err = err
			return
		}
		tx.chain, tx.runs = &last, runs
	}
	tx.Bucket(schema.Audit).FillPercent = 1 // keys only ever come at the end
	for _, e := range entries {
		e.Seq, e.Previous = tx.chain.Seq+1, tx.chain.Hash
		e.Time = e.Time.UTC().Truncate(time.Millisecond)
		e.Hash = e.Sum()
		tx.Put(schema.Audit, schema.Number(e.Seq), schema.Join(e.Hash[:], e.Encode()))
		*tx.chain = store.ChainPos{Seq: e.Seq, Hash: e.Hash}
		tx.runs = backend.AddToRuns(tx.runs, e.Seq, e.Time)
	}
	tx.chained = true
}

// note records a side effect of the change being applied. Fields that are not
// arguments are copied from the entry of the change.
func (tx *writeTx) note(action, resource, id, name, space string) {
	if tx.change.entry == nil {
		return
	}
	tx.noteFor(*tx.change.entry, action, resource, id, name, space)
}

// noteFor is note for a change with another entry.
func (tx *writeTx) noteFor(e store.Entry, action, resource, id, name, space string) {
	e.Action, e.Resource, e.ID, e.Name, e.Space = action, resource, id, name, space
	tx.record(e)
}

// saveHead stores the end of the chain apart from the entries, so that a truncation
// is detected.
func (tx *writeTx) saveHead() {
	if tx.chained {
		tx.Put(schema.Meta, schema.AuditHead, schema.EncodeLink(*tx.chain))
		tx.Put(schema.Meta, schema.AuditRuns, backend.EncodeRuns(tx.chain.Seq, tx.runs, tx.removed()))
	}
}

// removed is the Seq of the last entry that was removed.
func (tx *writeTx) removed() uint64 {
	anchor, _, err := records.Link(tx.Tx, schema.AuditAnchor)
	if err != nil && tx.err == nil {
		tx.err = err
	}
	return anchor.Seq
}

// AuditEnds implements Audit.
func (b *Store) AuditEnds(ctx context.Context) (anchor, head store.ChainPos, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		anchor, head, err = records.AuditEnds(tx)
		return err
	})
	return anchor, head, err
}

// Entries implements Audit.
func (b *Store) Entries(ctx context.Context, after uint64, limit int) (list []store.Entry, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		if tx.Bucket(schema.Audit) == nil || after+1 == 0 {
			return nil
		}
		list, err = records.Entries(tx, schema.Number(after+1), limit)
		return err
	})
	return list, err
}

// EntriesBefore implements Audit.
func (b *Store) EntriesBefore(ctx context.Context, before uint64, limit int) (list []store.Entry, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		if tx.Bucket(schema.Audit) == nil || limit <= 0 {
			return nil
		}
		cursor := tx.Readable(schema.Audit)
		key, _ := cursor.Last()
		if before > 0 {
			if at, _ := cursor.Seek(schema.Number(before)); at != nil {
				key, _ = cursor.Prev()
			} else {
				key, _ = cursor.Last()
			}
		}
		var first []byte
		n := 0
		for ; key != nil && n < limit; key, _ = cursor.Prev() {
			if len(key) == 8 {
				first = key
				n++
			}
		}
		if n == 0 {
			return nil
		}
		list, err = records.Entries(tx, first, n)
		slices.Reverse(list)
		return err
	})
	return list, err
}

// PruneAudit implements Audit.
func (b *Store) PruneAudit(ctx context.Context, age, keep time.Duration, limit int) (removed int, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		removed = 0
		_, head, err := records.AuditEnds(tx.Tx)
		if err != nil {
			return err
		}
		through, err := tx.ripe(schema.AuditMarks, head.Seq, age, keep)
		if err != nil {
			return err
		}
		var keys, damaged [][]byte
		var last store.ChainPos
		cursor := tx.Readable(schema.Audit)
		for key, value := cursor.First(); key != nil && len(keys)+len(damaged) < limit; key, value = cursor.Next() {
			if len(key) != 8 {
				continue
			}
			if binary.BigEndian.Uint64(key) > through {
				break
			}
			e := schema.ReadEntry(key, value)
			if e.Damage != "" { // it is removed when the entry after it is old
				damaged = append(damaged, bytes.Clone(key))
				continue
			}
			keys, damaged = append(append(keys, damaged...), bytes.Clone(key)), nil
			last = store.ChainPos{Seq: e.Seq, Hash: e.Hash}
		}
		if len(keys) == 0 {
			return nil
		}
		for _, key := range keys {
			tx.Delete(schema.Audit, key)
		}
		tx.Put(schema.Meta, schema.AuditAnchor, schema.EncodeLink(last))
		removed = len(keys)
		return nil
	})
	return removed, err
}

// AuditRuns implements Audit.
func (b *Store) AuditRuns(ctx context.Context) (runs []store.AuditRun, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		head, _, err := records.Link(tx, schema.AuditHead)
		if err == nil {
			runs, err = records.Runs(tx, head.Seq)
		}
		return err
	})
	return runs, err
}
