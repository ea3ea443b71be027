package bolt

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/pages"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"
)

// committer is the goroutine that makes all changes. Only that goroutine uses its
// fields; what it shares with readers and callers is in the Store.
//
// A commit costs two fsyncs however many changes it has, so the changes that arrive
// during one commit share the next. Small uploads that arrive together share a sync
// of the write-ahead log instead, and are committed later.
type committer struct {
	store   *Store
	opts    Options
	stopped chan struct{} // closed when it has ended

	open    *writeTx // its changes are in the write-ahead log; nil when there is none
	wal     *wal.Log
	walDue  *time.Timer // when the changes in the log are to be committed
	broken  error       // set when a commit failed and its outcome is unknown
	lastErr error       // the result of its last work when it was stopped
}

func (cm *committer) run() {
	defer close(cm.stopped)
	touched := time.NewTicker(touchInterval)
	defer touched.Stop()
	recorded := time.NewTicker(auditInterval)
	defer recorded.Stop()
	for {
		// What cannot be flushed stays in memory until the next flush.
		select {
		case c, ok := <-cm.store.changes:
			if !ok {
				cm.lastErr = errors.Join(cm.flushTouched(), cm.flushAudit(), cm.flushLog(), cm.abandon(), cm.wal.Close())
				return
			}
			cm.process(cm.drain(c))
		case <-cm.walDue.C:
			_ = cm.flushLog()
		case <-touched.C:
			_ = cm.flushTouched()
		case <-recorded.C:
			_ = cm.flushAudit()
		case <-cm.store.auditQueue.long:
			_ = cm.flushAudit()
		}
	}
}

// drain takes the changes that have queued behind first.
func (cm *committer) drain(first *change) []*change {
	waiting := []*change{first}
	for len(waiting) < maxTogether {
		select {
		case c, ok := <-cm.store.changes:
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

func (cm *committer) process(waiting []*change) {
	var together []*change
	for _, c := range waiting {
		switch {
		case c.readOpen != nil:
			c.done <- cm.readOpen(c.readOpen)
		case c.instead != nil:
			if err := cm.flushLog(); err != nil {
				c.done <- err
				continue
			}
			c.done <- dbfile.WithoutPanic(c.instead)
		case c.alone:
			if err := cm.flushLog(); err != nil {
				c.done <- err
				continue
			}
			cm.perform(c)
		default:
			together = append(together, c)
		}
	}
	if len(together) > 0 {
		cm.perform(together...)
	}
}

// flushLog commits the changes in the log, if there are any.
func (cm *committer) flushLog() error {
	if !cm.wal.NeedsCommit() {
		return nil
	}
	c := newLogCommit()
	cm.perform(c)
	err := <-c.done
	if err != nil {
		cm.walDue.Reset(walRetry)
	}
	return err
}

// readOpen reads in the transaction that has the changes in the log, whether they
// can be committed or not.
func (cm *committer) readOpen(read func(*dbfile.Tx) error) error {
	if err := cm.store.file.HasLastCommit(); err != nil {
		return err
	}
	return dbfile.WithoutPanic(func() error {
		w, err := cm.begin()
		if err != nil {
			return err
		}
		if cm.wal.Unflushed() {
			cm.open = w
		} else {
			defer cm.store.file.Rollback(w.Tx) // nothing was written
		}
		return read(w.Tx)
	})
}

// abandon rolls back the transaction of the changes that are in the log only.
func (cm *committer) abandon() error {
	if cm.open == nil {
		return nil
	}
	err := cm.store.file.Rollback(cm.open.Tx)
	cm.open = nil
	return err
}

// perform makes the changes and reports the result of each.
func (cm *committer) perform(changes ...*change) {
	toLog := !slices.ContainsFunc(changes, func(c *change) bool { return !c.logs }) && !cm.store.commitBlocked.Load() && cm.wal.Ready()
	var recorded []store.Entry
	if !toLog {
		recorded = cm.store.auditQueue.drain()
	}
	err := cm.transact(changes, recorded, toLog)
	room := errors.Is(err, store.ErrFull) && cm.opts.MakeRoom != nil && cm.opts.MakeRoom()
	room = errors.Is(err, store.ErrFull) && cm.wal.Halve() || room
	if err != nil {
		cm.store.auditQueue.putBack(recorded)
	}
	if room || errors.Is(err, store.ErrFull) && len(recorded) > 0 {
		err = cm.transact(changes, nil, false) // the queued audit entries are left for a later change
	}
	// A page that was freed can be reused once no reader needs it any more.
	for tries := 0; tries < dbfile.FullTries && errors.Is(err, store.ErrFull); tries++ {
		time.Sleep(dbfile.FullPause)
		err = cm.transact(changes, nil, false)
	}
	if err != nil && cm.wal.Unflushed() {
		cm.store.commitBlocked.Store(true) // until a commit succeeds
		cm.walDue.Reset(walRetry)
	}
	if err == nil {
		err = cm.inPlaceFor(changes) // the file may have been replaced, and the next start would not find the changes
	}
	for _, c := range changes {
		if err != nil {
			c.done <- err
		} else {
			c.done <- c.refusal
		}
	}
}

// inPlaceFor calls InPlace for changes that are to be acknowledged. A commit of the
// write-ahead log has none: its changes were acknowledged already, and are in the
// file now, where a backup finds them.
func (cm *committer) inPlaceFor(changes []*change) error {
	if !slices.ContainsFunc(changes, func(c *change) bool { return !c.commitsLog }) {
		return nil
	}
	return cm.store.InPlace()
}

// begin returns the open transaction whose changes are in the log, or begins one in
// which they are replayed.
func (cm *committer) begin() (*writeTx, error) {
	if w := cm.open; w != nil {
		cm.open = nil
		return w, nil
	}
	tx, err := cm.store.file.Begin()
	if err != nil {
		return nil, fmt.Errorf("begin a change: %w", err)
	}
	w := &writeTx{Tx: tx, users: &cm.store.users, ids: &cm.store.ids, imports: &cm.store.imports}
	if err := dbfile.WithoutPanic(func() error { return cm.wal.Replay(w.Tx) }); err != nil {
		return nil, errors.Join(fmt.Errorf("repeat what is in the log: %w", err), cm.store.file.Rollback(w.Tx))
	}
	w.hasEvents = cm.wal.Unflushed() // it is unknown whether they had events
	return w, nil
}

// transact makes the changes in one transaction, with their entries in the audit
// log and the queued ones. When they are written to the write-ahead log, it stays
// open. An error applies to all changes; a refusal, which is stored in the change,
// to that one only.
func (cm *committer) transact(changes []*change, recorded []store.Entry, toLog bool) error {
	if cm.broken != nil {
		return cm.broken
	}
	if err := cm.store.file.Refused(pages.Free); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if err := cm.inPlaceFor(changes); err != nil {
		return err
	}
	w, err := cm.begin()
	if err != nil {
		return err
	}
	defer func() {
		if cm.open != w {
			_ = cm.store.file.Rollback(w.Tx) // after a commit, it reports that there is nothing to roll back
		}
	}()

	w.logging, w.batch, w.created, w.direct, w.chained = toLog, w.batch[:0], w.created[:0], false, false
	before := w.writes
	if err := cm.write(w, changes, recorded); err != nil {
		return err
	}
	commitsLog := slices.ContainsFunc(changes, func(c *change) bool { return c.commitsLog })
	if w.writes == before && !(commitsLog && cm.wal.NeedsCommit()) {
		if cm.wal.Unflushed() {
			cm.open = w
		}
		return nil
	}
	if toLog && !w.direct && cm.appendToLog(w) {
		cm.open = w
		return nil
	}
	return cm.commitTx(w)
}

// write applies the changes, and writes their audit entries and counters.
func (cm *committer) write(w *writeTx, changes []*change, recorded []store.Entry) error {
	var entries []store.Entry
	for _, c := range changes {
		written := w.writes
		w.change = c
		if err := c.applyTo(w); err != nil {
			return err
		}
		if c.entry != nil && w.writes > written {
			entries = append(entries, *c.entry)
		}
	}
	return dbfile.WithoutPanic(func() error {
		w.trimOutbox(&cm.store.outbox)
		w.record(append(entries, recorded...)...)
		w.saveHead()
		return w.err
	})
}

// commitTx commits w, including the changes that were in the log only.
func (cm *committer) commitTx(w *writeTx) error {
	if epoch := cm.wal.EpochToStore(); epoch != nil {
		w.Put(schema.Meta, walKey, epoch)
	}
	if w.err != nil {
		return w.err
	}
	id := w.ID()
	if err := cm.store.file.HasLastCommit(); err != nil {
		return err
	}
	began := time.Now()
	err := cm.store.file.Commit(w.Tx, cm.opts.Commit)
	cm.opts.Committed(time.Since(began))
	if err != nil {
		return cm.classify(err, id)
	}
	cm.wal.Committed()
	cm.store.unflushed.clear()
	cm.store.commitBlocked.Store(false)
	cm.publish(w)
	if w.hasEvents {
		cm.store.outbox.notify()
	}
	return nil
}

// appendToLog appends the last batch of w to the log, and says whether it could.
func (cm *committer) appendToLog(w *writeTx) bool {
	first := !cm.wal.Unflushed()
	began := time.Now()
	added := cm.wal.Add(w.ID()-1, w.batch)
	cm.opts.Committed(time.Since(began))
	if !added {
		cm.walDue.Reset(walRetry) // in case the commit fails, too
		return false
	}
	if first {
		cm.walDue.Reset(walTime)
	}
	cm.store.unflushed.add(w.created)
	cm.publish(w)
	return true
}

// publish adds the changes of w to the counters that readers see.
func (cm *committer) publish(w *writeTx) {
	w.hasEvents = w.hasEvents || w.outbox.added > 0
	cm.store.staged.add(w.staged)
	cm.store.outbox.add(w.outbox)
	w.staged, w.outbox = stagedDelta{}, outboxDelta{}
}

// classify returns the error of a commit that failed. After most failures it is
// unknown what is on the disk, and further writes would make it worse. A full disk
// is different: deletions must work again as soon as there is room. It is safe to
// go on then if readers still see the state before this transaction: all that was
// written is in pages that nothing refers to.
func (cm *committer) classify(cause error, id int) error {
	last, err := cm.store.file.LastCommit()
	if durable.IsFull(cause) && err == nil && last < id {
		return fmt.Errorf("%w: %w", store.ErrFull, cause)
	}
	cm.broken = fmt.Errorf("%w: %w", store.ErrUnavailable, cause)
	return cm.broken
}
