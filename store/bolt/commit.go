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
	"attachd/store/bolt/wal"
)

// Changes that come in together share a transaction. What lets them is a rule: a
// change checks first and writes after. One that is refused has written nothing,
// and its neighbours never notice. A change that cannot keep to this asks to be
// alone.

const (
	maxTogether   = 256         // changes in one transaction
	touchInterval = time.Minute // between writing down when keys were used
)

// errClosed is what changes get after Close.
var errClosed = fmt.Errorf("%w: the database is closed", store.ErrUnavailable)

// change is what somebody wants done, and waits for.
type change struct {
	apply      func(*writeTx) error
	instead    func() error           // of a transaction; nothing of the others is under way
	readOpen   func(*dbfile.Tx) error // changes nothing, and sees what is only in the log
	entry      *store.Entry           // of the audit log, or nil
	origin     *store.Origin          // of its events, or nil
	alone      bool
	logs       bool // it may be acknowledged when it is in the log
	commitsLog bool // it has what is in the log committed
	refusal    error
	done       chan error
}

// writeTx is a transaction in the committer. A write that fails (of a key too
// long, say) is remembered, and nothing of the transaction is committed.
type writeTx struct {
	*dbfile.Tx
	writes int
	err    error
	staged stagedDelta     // change of what is staged
	chain  *store.ChainPos // the end of the audit log; nil until there is something to add
	runs   []store.AuditRun

	change   *change // that is being applied
	imports  *importLock
	users    *dbfile.Cache[schema.UserRecord]
	ids      *store.IDs // of events
	outbox   outboxDelta
	queuedAt time.Time // when the last of them came in

	// Of the batch that may go into the log.
	logging   bool
	batch     wal.Batch
	created   []created
	direct    bool // it wrote what viewCommitted reads
	chained   bool // it has entries in the audit log
	hasEvents bool // it may have events, also of batches before
}

// Put hides that of dbfile.Tx, of which the write-ahead log would not know.
func (tx *writeTx) Put(bucket, key, value []byte) {
	tx.writes++
	if tx.logging {
		tx.batch = tx.batch.Put(bucket, key, value)
	}
	if err := tx.Tx.Put(bucket, key, value); err != nil && tx.err == nil {
		tx.err = err
	}
}

// Delete hides that of dbfile.Tx likewise.
func (tx *writeTx) Delete(bucket, key []byte) {
	tx.writes++
	if tx.logging {
		tx.batch = tx.batch.Delete(bucket, key)
	}
	if err := tx.Tx.Delete(bucket, key); err != nil && tx.err == nil {
		tx.err = err
	}
}

// update has the committer apply a change, together with others. When ctx
// ends before the committer has taken it, it is not made; after that, update
// waits for the outcome.
func (b *Store) update(ctx context.Context, apply func(*writeTx) error) error {
	return b.handIn(ctx, &change{apply: apply, done: make(chan error, 1)})
}

// updateSoon is update for a change that may be acknowledged when it is in the
// log.
func (b *Store) updateSoon(ctx context.Context, apply func(*writeTx) error) error {
	return b.handIn(ctx, &change{apply: apply, logs: true, done: make(chan error, 1)})
}

// commitLog has what is in the log only committed, if anything is.
func (b *Store) commitLog(ctx context.Context) error {
	if !b.unflushed.some.Load() {
		return nil
	}
	return b.handIn(ctx, newLogCommit())
}

func newLogCommit() *change {
	return &change{apply: func(*writeTx) error { return nil }, commitsLog: true, done: make(chan error, 1)}
}

// updateAlone is update for a change that may write and then be refused: its
// transaction has no other in it, and is rolled back.
func (b *Store) updateAlone(ctx context.Context, apply func(*writeTx) error) error {
	return b.handIn(ctx, &change{apply: apply, alone: true, done: make(chan error, 1)})
}

func (b *Store) handIn(ctx context.Context, c *change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.entry, c.origin = store.EntryOf(ctx), store.OriginOf(ctx)
	if err := b.send(ctx, c); err != nil {
		return err
	}
	return <-c.done
}

func (b *Store) send(ctx context.Context, c *change) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return errClosed
	}
	select {
	case b.changes <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// applyTo fails when what was written must not be committed.
func (c *change) applyTo(tx *writeTx) error {
	before := tx.writes
	c.refusal = dbfile.WithoutPanic(func() error { return c.apply(tx) })
	switch {
	case tx.err != nil:
		return tx.err
	case c.refusal == nil || tx.writes == before:
		return nil
	case c.alone:
		return c.refusal
	}
	return fmt.Errorf("a change was given up after it had written: %v", c.refusal)
}

// save writes a JSON record.
func (tx *writeTx) save(bucket, key []byte, record any) {
	data, err := json.Marshal(record)
	if err != nil {
		tx.err = errors.Join(tx.err, fmt.Errorf("encode for bucket %q: %w", bucket, err))
		return
	}
	tx.Put(bucket, key, data)
}

// ripe is schema.Ripe of the marks under a key of schema.Meta, which it updates.
func (tx *writeTx) ripe(key []byte, head uint64, age, keep time.Duration) (through uint64, err error) {
	updated, through, err := schema.Ripe(tx.Get(schema.Meta, key), head, age, keep)
	if err != nil {
		return 0, fmt.Errorf("the %s: %w", key, err)
	}
	if updated != nil {
		tx.Put(schema.Meta, key, updated)
	}
	return through, nil
}
