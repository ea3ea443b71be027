package bolt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/backend"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"
)

// Changes that arrive together share a transaction. A rule makes this possible: a
// change checks first and writes after. A change that is refused has written
// nothing, and does not affect the others. A change that cannot follow this rule
// runs in a separate transaction (alone).

const (
	maxTogether      = 256         // changes in one transaction
	maxTogetherBytes = 1 << 20     // of their contents, after which no more are added
	touchInterval    = time.Minute // between writes of the times when keys were last used
)

// errClosed is the error of changes after Close.
var errClosed = fmt.Errorf("%w: the database is closed", store.ErrUnavailable)

// change is a change to be made by the committer, for which the caller waits.
type change struct {
	apply      func(*writeTx) error
	instead    func() error           // runs in place of a transaction, while no transaction is open
	readOpen   func(*dbfile.Tx) error // only reads, and sees changes that are in the log only
	entry      *store.Entry           // of the audit log, or nil
	origin     *store.Origin          // of its events, or nil
	alone      bool
	logs       bool   // it may be acknowledged when it is in the log
	content    []byte // that it stages, or nil
	commitsLog bool   // it makes the committer commit the log
	always     bool   // it is made while the database is frozen, too
	refusal    error
	done       chan error
}

func (c *change) stages() bool { return c.content != nil }

// writeTx is a transaction of the committer. The error of a failed write (of a key
// that is too long, say) is kept in err, and then nothing of the transaction is
// committed.
type writeTx struct {
	*dbfile.Tx
	writes int
	err    error
	staged stagedDelta     // change of what is staged
	chain  *store.ChainPos // the end of the audit log; nil until there is something to add
	runs   []store.AuditRun

	change   *change // the one that is being applied
	imports  *importLock
	users    *dbfile.Cache[schema.UserRecord]
	ids      *store.IDs // of events
	outbox   outboxDelta
	queuedAt time.Time // when its newest event was queued

	// State of the batch that may be written to the log.
	logging   bool
	batch     wal.Batch
	contents  []wal.Content // to be staged; their entries follow when their places are known
	created   []created
	settled   []blobs.Place // new places of contents in an object store
	direct    bool          // it wrote what viewCommitted reads
	chained   bool          // it has entries in the audit log
	hasEvents bool          // it may have events, including those of earlier batches
}

// Put hides that of dbfile.Tx, which the write-ahead log would not record.
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

// update makes the committer apply a change, together with others. When ctx ends
// before the committer has taken it, it is not applied; after that, update waits
// for the outcome.
func (b *Store) update(ctx context.Context, apply func(*writeTx) error) error {
	return b.handIn(ctx, &change{apply: apply, done: make(chan error, 1)})
}

// updateSoon is update for a change that may be acknowledged when it is in the log, with
// the content that it stages, or nil.
func (b *Store) updateSoon(ctx context.Context, content []byte, apply func(*writeTx) error) error {
	return b.handIn(ctx, &change{apply: apply, logs: true, content: content, done: make(chan error, 1)})
}

// updateAlways is update for a change that is made while the database is frozen, too.
func (b *Store) updateAlways(ctx context.Context, apply func(*writeTx) error) error {
	return b.handIn(ctx, &change{apply: apply, always: true, done: make(chan error, 1)})
}

// allChanges is the weight of Freeze in Store.changing, in which each change weighs 1.
const allChanges = math.MaxInt64

// Freeze implements store.Freezer.
func (b *Store) Freeze(ctx context.Context) (thaw func(context.Context) error, err error) {
	if !b.frozen.CompareAndSwap(false, true) {
		return func(context.Context) error { return nil }, nil
	}
	if err := b.changing.Acquire(ctx, allChanges); err != nil {
		b.frozen.Store(false)
		return nil, err
	}
	return func(context.Context) error {
		b.frozen.Store(false)
		b.changing.Release(allChanges)
		return nil
	}, nil
}

// Thaw implements store.Freezer: a frozen database is one in this process only.
func (b *Store) Thaw(context.Context) error { return nil }

// commitLog commits the changes that are in the log only, if there are any.
func (b *Store) commitLog(ctx context.Context) error {
	if !b.unflushed.some.Load() {
		return nil
	}
	return b.handIn(ctx, newLogCommit())
}

func newLogCommit() *change {
	return &change{apply: func(*writeTx) error { return nil }, commitsLog: true, done: make(chan error, 1)}
}

// updateAlone is update for a change that may write and then be refused: it is
// alone in its transaction, which is rolled back then.
func (b *Store) updateAlone(ctx context.Context, apply func(*writeTx) error) error {
	return b.handIn(ctx, &change{apply: apply, alone: true, done: make(chan error, 1)})
}

func (b *Store) handIn(ctx context.Context, c *change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !c.always && !c.commitsLog && c.readOpen == nil {
		if !b.changing.TryAcquire(1) { // which fails while Freeze waits, too
			return store.ErrFrozen
		}
		defer b.changing.Release(1)
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

// applyTo returns an error when what was written must not be committed.
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

// ripe calls backend.Ripe with the marks under a key of schema.Meta, and updates
// them.
func (tx *writeTx) ripe(key []byte, head uint64, age, keep time.Duration) (through uint64, err error) {
	updated, through, err := backend.Ripe(tx.Get(schema.Meta, key), head, age, keep)
	if err != nil {
		return 0, fmt.Errorf("the %s: %w", key, err)
	}
	if updated != nil {
		tx.Put(schema.Meta, key, updated)
	}
	return through, nil
}
