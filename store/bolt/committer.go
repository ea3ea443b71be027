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
)

// committer is the goroutine that makes all changes. Only that goroutine uses its
// fields; what it shares with readers and callers is in the Store.
//
// A commit costs two fsyncs however many changes it has, so the changes that arrive
// during one commit share the next. Uploads that arrive together share a sync of the
// write-ahead log instead, and are committed later.
type committer struct {
	store   *Store
	opts    Options
	stopped chan struct{} // closed when it has ended

	open    *writeTx    // its changes are in the write-ahead log; nil when there is none
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
				cm.lastErr = errors.Join(cm.flushTouched(), cm.flushAudit(), cm.flushLog(), cm.abandon(), cm.closeLog())
				return
			}
			cm.process(cm.drain(c))
		case <-cm.walDue.C:
			_ = cm.flushLog()
		case <-touched.C:
			_ = cm.flushTouched()
		case <-recorded.C:
			_ = cm.flushAudit()
		case <-cm.store.auditQueue.Long():
			_ = cm.flushAudit()
		}
	}
}

// drain takes the changes that have queued behind first.
func (cm *committer) drain(first *change) []*change {
	waiting := []*change{first}
	for bytes := len(first.content); len(waiting) < maxTogether && bytes < maxTogetherBytes; {
		select {
		case c, ok := <-cm.store.changes:
			if !ok {
				return waiting
			}
			waiting = append(waiting, c)
			bytes += len(c.content)
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
	if !cm.store.log.NeedsCommit() {
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
		if cm.store.log.Unflushed() {
			cm.open = w
		} else {
			defer cm.store.file.Rollback(w.Tx) // nothing was written
		}
		return read(w.Tx)
	})
}

func (cm *committer) closeLog() error {
	last, err := cm.store.file.LastCommit()
	return errors.Join(err, cm.store.log.Close(last))
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
	staging := slices.ContainsFunc(changes, (*change).stages)
	toLog := !slices.ContainsFunc(changes, func(c *change) bool { return !c.logs })
	if (staging || toLog) && cm.broken == nil && !cm.readyToLog() {
		if changes = refuseToStage(changes); len(changes) == 0 {
			return
		}
		staging, toLog = false, false
	}
	var recorded []store.Entry
	if !toLog {
		recorded = cm.store.auditQueue.Drain()
	}
	err := cm.transact(changes, recorded, toLog)
	if staging && (errors.Is(err, store.ErrNotStaged) || errors.Is(err, store.ErrFull)) {
		cm.store.auditQueue.PutBack(recorded)
		_ = cm.flushLog() // what was refused must not come back; if it fails, it is retried
		if changes = refuseToStage(changes); len(changes) > 0 {
			cm.perform(changes...)
		}
		return
	}
	room := errors.Is(err, store.ErrFull) && cm.opts.MakeRoom != nil && cm.opts.MakeRoom()
	room = errors.Is(err, store.ErrFull) && cm.store.log.GiveBack() || room
	if err != nil {
		cm.store.auditQueue.PutBack(recorded)
	}
	if room || errors.Is(err, store.ErrFull) && len(recorded) > 0 {
		err = cm.transact(changes, nil, false) // the queued audit entries are left for a later change
	}
	// A page that was freed can be reused once no reader needs it any more.
	for tries := 0; tries < dbfile.FullTries && errors.Is(err, store.ErrFull); tries++ {
		time.Sleep(dbfile.FullPause)
		err = cm.transact(changes, nil, false)
	}
	if err != nil && cm.store.log.Unflushed() {
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

// readyToLog says whether the log can be written, and stores its epoch before the
// first record.
func (cm *committer) readyToLog() bool {
	log := cm.store.log
	return !cm.store.commitBlocked.Load() && log.Ready() && (log.Stored() || cm.flushLog() == nil)
}

// refuseToStage refuses the changes that stage a content, and returns the others.
func refuseToStage(changes []*change) (others []*change) {
	for _, c := range changes {
		if c.stages() {
			c.done <- store.ErrNotStaged
		} else {
			others = append(others, c)
		}
	}
	return others
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
	if err := dbfile.WithoutPanic(func() error { return cm.store.log.Replay(w.Tx) }); err != nil {
		return nil, errors.Join(fmt.Errorf("repeat what is in the log: %w", err), cm.store.file.Rollback(w.Tx))
	}
	w.hasEvents = cm.store.log.Unflushed() // it is unknown whether they had events
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

	w.logging, w.batch, w.contents, w.created, w.settled, w.direct, w.chained = toLog, w.batch[:0], w.contents[:0], w.created[:0], w.settled[:0], false, false
	before := w.writes
	if err := cm.write(w, changes, recorded); err != nil {
		return err
	}
	commitsLog := slices.ContainsFunc(changes, func(c *change) bool { return c.commitsLog })
	if w.writes == before && !(commitsLog && cm.store.log.NeedsCommit()) {
		if cm.store.log.Unflushed() {
			cm.open = w
		}
		return nil
	}
	toLog = toLog && !w.direct
	if toLog || len(w.contents) > 0 {
		err := cm.appendToLog(w, toLog)
		if err != nil && len(w.contents) > 0 {
			return err
		}
		toLog = toLog && err == nil
	}
	if !toLog {
		return cm.commitTx(w)
	}
	cm.store.unflushed.add(cm.store.file.VersionOf(w.ID()-1), w.created, w.settled)
	cm.publish(w)
	cm.open = w
	return nil
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
	if position := cm.store.log.Position(); position != nil {
		w.Put(schema.Meta, walKey, position)
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
	cm.store.log.Committed()
	cm.store.unflushed.clear()
	cm.store.commitBlocked.Store(false)
	cm.publish(w)
	if err := cm.store.log.Free(true); err != nil {
		cm.opts.LogFailed(fmt.Errorf("remove a segment of the log, which the next start does: %w", err))
	}
	cm.store.log.Watch()
	if w.hasEvents {
		cm.store.outbox.notify()
	}
	return nil
}

// appendToLog appends the last batch of w to the log, or only its contents when it is to
// be committed at once.
func (cm *committer) appendToLog(w *writeTx, whole bool) error {
	log, batch := cm.store.log, w.batch
	if !whole {
		batch = nil
	}
	places, fits := log.Fit(batch, w.contents, whole)
	if !fits {
		return store.ErrNotStaged
	}
	if err := dbfile.WithoutPanic(func() error { return w.stage(places) }); err != nil {
		return err
	}
	first := !log.Unflushed()
	began := time.Now()
	added := log.Add(w.ID() - 1)
	cm.opts.Committed(time.Since(began))
	if !added {
		return store.ErrNotStaged
	}
	if first {
		cm.walDue.Reset(cm.opts.CommitAfter)
	}
	return nil
}

// publish adds the changes of w to the counters that readers see.
func (cm *committer) publish(w *writeTx) {
	w.hasEvents = w.hasEvents || w.outbox.added > 0
	cm.store.publishStaged(w.staged)
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
