package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strconv"
	"sync"
	"time"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

const (
	maxQueued     = 50_000        // entries in the queue, at most
	longQueue     = maxQueued / 2 // entries at which a flush is started at once
	auditInterval = time.Second   // between flushes while no change commits the queue
)

// skipAction is the Action of an entry that says how many entries are missing.
const skipAction = "audit.skip"

// auditQueue is the queue of entries until the next commit.
type auditQueue struct {
	mu      sync.Mutex
	waiting []store.Entry
	skipped int // number of entries dropped because the queue was full
	last    time.Time
	long    chan struct{} // signalled when the queue should be flushed at once
}

// Record implements Audit.
func (b *Store) Record(e store.Entry) {
	r := &b.auditQueue
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = e.Time
	if len(r.waiting) >= maxQueued {
		r.skipped++
		return
	}
	r.waiting = append(r.waiting, e)
	if len(r.waiting) == longQueue {
		select {
		case r.long <- struct{}{}:
		default: // the committer has been signalled
		}
	}
}

// drain returns the queued entries, to be committed or put back.
func (r *auditQueue) drain() []store.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.waiting
	r.waiting = nil
	if r.skipped > 0 {
		taken = append(taken, store.Entry{Time: r.last, Action: skipAction, Resource: "entries", Name: strconv.Itoa(r.skipped), Outcome: "done"})
		r.skipped = 0
	}
	return taken
}

// putBack queues drained entries again, as far as there is room.
func (r *auditQueue) putBack(taken []store.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := len(taken) - 1; last >= 0 && taken[last].Action == skipAction {
		if n, err := strconv.Atoi(taken[last].Name); err == nil {
			r.skipped += n
		}
		taken = taken[:last]
	}
	r.waiting = append(taken, r.waiting...)
	if over := len(r.waiting) - maxQueued; over > 0 {
		r.skipped += over
		r.waiting = r.waiting[:maxQueued]
	}
}

// flushAudit commits the queue when no change does it.
func (cm *committer) flushAudit() error {
	cm.store.auditQueue.mu.Lock()
	none := len(cm.store.auditQueue.waiting) == 0 && cm.store.auditQueue.skipped == 0
	cm.store.auditQueue.mu.Unlock()
	if none {
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
		tx.runs = schema.AddToRuns(tx.runs, e.Seq, e.Time)
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
		tx.Put(schema.Meta, schema.AuditRuns, schema.EncodeRuns(tx.chain.Seq, tx.runs, tx.removed()))
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
