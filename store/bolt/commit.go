package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"

	"go.etcd.io/bbolt"
)

// The committer is one goroutine that makes all changes. A commit costs two
// fsyncs however much is in it, so the changes that come in during one commit
// share the next. Small uploads that come in together share a sync of the log
// instead, and their commit comes later (wal.go).
//
// What lets them share is a rule: a change checks first and writes after. One
// that is refused has written nothing, and its neighbours never notice. A
// change that cannot keep to this asks to be alone.

const (
	maxTogether   = 256         // changes in one transaction
	touchInterval = time.Minute // between writing down when keys were used

	// What finds the disk full is tried again so often, after so long each time.
	fullTries = 5
	fullPause = 10 * time.Millisecond
)

// errClosed is what changes get after Close.
var errClosed = fmt.Errorf("%w: the database is closed", store.ErrUnavailable)

// change is what somebody wants done, and waits for.
type change struct {
	apply      func(*writeTx) error
	instead    func() error      // of a transaction; nothing of the others is under way
	peek       func(*dbTx) error // changes nothing, and sees what is only in the log
	entry      *store.Entry      // of the audit log, or nil
	origin     *store.Origin     // of the events that it is told with, or nil
	alone      bool
	logs       bool // it may be acknowledged when it is in the log
	commitsLog bool // it has what is in the log committed
	refusal    error
	done       chan error
}

// writeTx is a transaction in the committer. A write that fails (of a key too
// long, say) is remembered, and nothing of the transaction is committed.
type writeTx struct {
	*dbTx
	writes  int
	err     error
	pending waiting     // by how much what waits changes
	chain   *store.Link // the end of the audit log; nil until there is something to add
	runs    []store.AuditRun

	change   *change // that is being applied
	imports  *importLock
	users    *decoded[schema.UserRecord]
	ids      *store.IDs // of events
	posted   posted
	postedAt time.Time // when the last of them came in

	// Of the batch that may go into the log.
	logging bool
	batch   wal.Batch
	created []created
	direct  bool // it wrote what readers look for in the database only
	chained bool // it has entries in the audit log
	told    bool // it may have events, also of batches before
}

func (tx *writeTx) put(bucket, key, value []byte) {
	tx.writes++
	if tx.logging {
		tx.batch = tx.batch.Put(bucket, key, value)
	}
	// A copy: bbolt holds on to it, and whoever gave it may be gone by the commit.
	if tx.older {
		value = bytes.Clone(value)
	} else {
		value = Seal(bucket, key, value)
	}
	if err := tx.Bucket(bucket).Put(key, value); err != nil && tx.err == nil {
		tx.err = fmt.Errorf("write to bucket %q: %w", bucket, err)
	}
}

func (tx *writeTx) delete(bucket, key []byte) {
	tx.writes++
	if tx.logging {
		tx.batch = tx.batch.Delete(bucket, key)
	}
	if err := tx.Bucket(bucket).Delete(key); err != nil && tx.err == nil {
		tx.err = fmt.Errorf("delete from bucket %q: %w", bucket, err)
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

func (b *Store) commitLoop() {
	defer close(b.stopped)
	touched := time.NewTicker(touchInterval)
	defer touched.Stop()
	recorded := time.NewTicker(recordInterval)
	defer recorded.Stop()
	for {
		// What cannot be flushed stays in memory for the next time.
		select {
		case c, ok := <-b.changes:
			if !ok {
				b.lastErr = errors.Join(b.flushTouched(), b.flushRecorded(), b.flushLog(), b.giveUp(), b.wal.Close())
				return
			}
			b.work(b.gather(c))
		case <-b.walDue.C:
			_ = b.flushLog()
		case <-touched.C:
			_ = b.flushTouched()
		case <-recorded.C:
			_ = b.flushRecorded()
		case <-b.recorded.many:
			_ = b.flushRecorded()
		}
	}
}

// gather takes what waits behind first.
func (b *Store) gather(first *change) []*change {
	waiting := []*change{first}
	for len(waiting) < maxTogether {
		select {
		case c, ok := <-b.changes:
			if !ok {
				return waiting
			}
			waiting = append(waiting, c)
		default:
			return waiting
		}
	}
	return waiting
}

func (b *Store) work(waiting []*change) {
	var together []*change
	for _, c := range waiting {
		switch {
		case c.peek != nil:
			c.done <- b.peek(c.peek)
		case c.instead != nil:
			if err := b.flushLog(); err != nil {
				c.done <- err
				continue
			}
			c.done <- withoutPanic(c.instead)
		case c.alone:
			if err := b.flushLog(); err != nil {
				c.done <- err
				continue
			}
			b.finish(c)
		default:
			together = append(together, c)
		}
	}
	if len(together) > 0 {
		b.finish(together...)
	}
}

// flushLog commits what is in the log, if anything is.
func (b *Store) flushLog() error {
	if !b.wal.NeedsCommit() {
		return nil
	}
	c := newLogCommit()
	b.finish(c)
	err := <-c.done
	if err != nil {
		b.walDue.Reset(walRetry)
	}
	return err
}

// peek reads in the transaction that what is in the log is made in, committed
// or not.
func (b *Store) peek(read func(*dbTx) error) error {
	if err := b.db.Load().holds(); err != nil {
		return err
	}
	return withoutPanic(func() error {
		w, err := b.begin()
		if err != nil {
			return err
		}
		if b.wal.Unflushed() {
			b.open = w
		} else {
			defer b.rollBack(w) // schema.Nothing was done
		}
		return read(w.dbTx)
	})
}

// giveUp ends the transaction of changes that are in the log only.
func (b *Store) giveUp() error {
	if b.open == nil {
		return nil
	}
	err := b.rollBack(b.open)
	b.open = nil
	return err
}

// finish makes the changes and says to each how it went.
func (b *Store) finish(changes ...*change) {
	toLog := !slices.ContainsFunc(changes, func(c *change) bool { return !c.logs }) && !b.commitBlocked.Load() && b.wal.Ready()
	var recorded []store.Entry
	if !toLog {
		recorded = b.recorded.take()
	}
	err := b.transact(changes, recorded, toLog)
	room := errors.Is(err, store.ErrFull) && b.makeRoom != nil && b.makeRoom()
	room = errors.Is(err, store.ErrFull) && b.wal.Halve() || room
	if err != nil {
		b.recorded.giveBack(recorded)
	}
	if room || errors.Is(err, store.ErrFull) && len(recorded) > 0 {
		err = b.transact(changes, nil, false) // what can wait goes with a later change
	}
	// A page that was freed can be written again once nobody reads it any more.
	for tries := 0; tries < fullTries && errors.Is(err, store.ErrFull); tries++ {
		time.Sleep(fullPause)
		err = b.transact(changes, nil, false)
	}
	if err != nil && b.wal.Unflushed() {
		b.commitBlocked.Store(true) // until it is committed
		b.walDue.Reset(walRetry)
	}
	if err == nil {
		err = b.inPlaceFor(changes) // or they are on stable storage where the next start does not look
	}
	for _, c := range changes {
		if err != nil {
			c.done <- err
		} else {
			c.done <- c.refusal
		}
	}
}

// begin goes on with the transaction whose changes are in the log, or begins
// one in which they are made anew.
func (b *Store) begin() (*writeTx, error) {
	if w := b.open; w != nil {
		b.open = nil
		return w, nil
	}
	var tx *bbolt.Tx
	err := b.locked(func() (err error) {
		tx, err = b.db.Load().Begin(true)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("begin a change: %w", err)
	}
	w := &writeTx{dbTx: b.wrap(tx), users: &b.users, ids: &b.ids, imports: &b.imports}
	if err := withoutPanic(func() error { return b.wal.Replay(replayTo{w}) }); err != nil {
		return nil, errors.Join(fmt.Errorf("repeat what is in the log: %w", err), b.rollBack(w))
	}
	w.told = b.wal.Unflushed() // nobody remembers whether they had events
	return w, nil
}

// transact makes the changes in one transaction, with their entries in the
// audit log and those that wait for it. When they go into the log, it stays
// open. An error is everybody's; a refusal, kept in the change, is that one's
// alone.
func (b *Store) transact(changes []*change, recorded []store.Entry, toLog bool) error {
	if b.broken != nil {
		return b.broken
	}
	if err := b.known.refuses(bucketFree); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if err := b.inPlaceFor(changes); err != nil {
		return err
	}
	w, err := b.begin()
	if err != nil {
		return err
	}
	defer func() {
		if b.open != w {
			_ = b.rollBack(w) // after a commit, it says that there is nothing to roll back
		}
	}()

	w.logging, w.batch, w.created, w.direct, w.chained = toLog, w.batch[:0], w.created[:0], false, false
	before := w.writes
	var entries []store.Entry
	commitsLog := false
	for _, c := range changes {
		written := w.writes
		w.change = c
		commitsLog = commitsLog || c.commitsLog
		if err := c.applyTo(w); err != nil {
			return err
		}
		if c.entry != nil && w.writes > written {
			entries = append(entries, *c.entry)
		}
	}
	err = withoutPanic(func() error {
		w.boundOutbox(&b.postbox)
		w.record(append(entries, recorded...)...)
		w.saveHead()
		return w.err
	})
	if err != nil {
		return err
	}
	if w.writes == before && !(commitsLog && b.wal.NeedsCommit()) {
		if b.wal.Unflushed() {
			b.open = w
		}
		return nil
	}
	if toLog && !w.direct && b.addToLog(w) {
		b.open = w
		return nil
	}
	if epoch := b.wal.EpochToStore(); epoch != nil {
		w.put(schema.Meta, walKey, epoch)
	}
	if w.err != nil {
		return w.err
	}
	if err := b.commitLogged(w); err != nil {
		return err
	}
	b.unflushed.clear()
	b.commitBlocked.Store(false)
	b.counted(w)
	if w.told {
		b.postbox.tell()
	}
	return nil
}

// commitLogged commits w, with what is in the log only.
func (b *Store) commitLogged(w *writeTx) error {
	db, id := b.db.Load(), w.ID()
	if err := db.holds(); err != nil {
		return err
	}
	began := time.Now()
	err := withoutPanic(func() error { return b.commit(w.Tx) })
	b.took(time.Since(began))
	if err != nil {
		return b.failed(err, id)
	}
	db.committed(id)
	b.wal.Committed()
	return nil
}

// addToLog says whether what w wrote last is in the log.
func (b *Store) addToLog(w *writeTx) bool {
	first := !b.wal.Unflushed()
	began := time.Now()
	added := b.wal.Add(w.ID()-1, w.batch)
	b.took(time.Since(began))
	if !added {
		b.walDue.Reset(walRetry) // should the commit fail, too
		return false
	}
	if first {
		b.walDue.Reset(walTime)
	}
	b.unflushed.add(w.created)
	b.counted(w)
	return true
}

// counted adds up what w has done.
func (b *Store) counted(w *writeTx) {
	w.told = w.told || w.posted.told > 0
	b.pending.add(w.pending)
	b.postbox.add(w.posted)
	w.pending, w.posted = waiting{}, posted{}
}

// applyTo fails when what was written must not be committed.
func (c *change) applyTo(tx *writeTx) error {
	before := tx.writes
	c.refusal = withoutPanic(func() error { return c.apply(tx) })
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

// failed judges a commit that failed. After most failures nobody knows what
// is on the disk, and writing on would make it worse. A full disk is
// different: deletions must work again as soon as there is room. It is safe
// to go on then if what readers see is still the state before this
// transaction: all that was written lies in pages that nothing refers to.
func (b *Store) failed(cause error, id int) error {
	if durable.IsFull(cause) && b.committed() < id {
		return fmt.Errorf("%w: %w", store.ErrFull, cause)
	}
	b.broken = fmt.Errorf("%w: %w", store.ErrUnavailable, cause)
	return b.broken
}

// committed is the number of the transaction that readers see.
func (b *Store) committed() (id int) {
	err := b.viewIn(b.db.Load(), func(tx *dbTx) error {
		id = tx.ID()
		return nil
	})
	if err != nil {
		return int(^uint(0) >> 1) // unknown: assume the worst
	}
	return id
}
