package postgres

import (
	"context"
	"sync"
	"time"

	"attachd/store"
)

// outboxCount counts the outbox. The sum of the numbers of all events tells apart two states
// with equally many events.
type outboxCount struct {
	events, sum, dead int64
}

// outboxDelta is by how much a change changes the count.
type outboxDelta struct {
	outboxCount
	added int // number of events added
}

// outboxStats counts the outbox in memory, so that OutboxSize reads no database. The changes
// of this process are counted at once. The others' show in the next count of the tables.
type outboxStats struct {
	mu        sync.Mutex
	known     outboxCount
	changing  int // number of this process's changes that may be committed, and are not in known
	changed   int // number of those that were
	uncertain int // number of counts in a row that such a change made worthless
	resting   time.Time
	newEvents chan struct{} // signalled when events were added
	full      chan struct{} // signalled when there are more than max
	max       int64
}

func newOutboxStats() outboxStats {
	return outboxStats{newEvents: make(chan struct{}, 1), full: make(chan struct{}, 1), max: store.MaxEvents}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default: // a signal is pending already
	}
}

// begin announces a change that is about to be committed, and end says that it was.
func (o *outboxStats) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changing++
}

func (o *outboxStats) end(by outboxDelta, committed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changing--
	o.changed++
	if !committed { // if it was after all, the next count finds it
		return
	}
	o.known.events += by.events
	o.known.sum += by.sum
	o.known.dead += by.dead
	if by.added > 0 {
		signal(o.newEvents)
	}
	o.signalFull()
}

func (o *outboxStats) signalFull() {
	if o.known.events > o.max || o.known.dead > o.max {
		signal(o.full)
	}
}

const (
	// countRest is the least ratio of the time between two counts to the time that one takes:
	// an outbox that nobody empties is long.
	countRest = 50
	// maxUncertain is after how many counts that met a change of this process one is taken
	// nevertheless.
	maxUncertain = 10
)

// countOutbox counts the outbox, to find what others have changed.
func (s *Store) countOutbox(ctx context.Context) error {
	o := &s.outbox
	begun := time.Now()
	o.mu.Lock()
	changed, rests := o.changed, begun.Before(o.resting)
	o.mu.Unlock()
	if rests {
		return nil
	}
	var found outboxCount
	err := s.row(ctx, `select count(*), coalesce(sum(seq), 0)::bigint, (select count(*) from attachd.dead_letters) from attachd.outbox`).
		Scan(&found.events, &found.sum, &found.dead)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.resting = begun.Add(countRest * time.Since(begun))
	if (o.changing > 0 || o.changed != changed) && o.uncertain < maxUncertain {
		o.uncertain++
		return nil
	}
	if found.events > 0 && (found.events != o.known.events || found.sum != o.known.sum) {
		signal(o.newEvents)
	}
	o.known, o.uncertain = found, 0
	o.signalFull()
	return nil
}

const (
	// trimming identifies the lock that one process at most holds while it trims the outbox.
	// It is a lock of the transaction, which poolers do not break.
	trimming = 0x617474616370 // "attacp"
	// trimBatch is how many events or dead letters one transaction trims at most.
	trimBatch = 1000
)

// trimOutbox turns the oldest events into dead letters while there are too many, and deletes
// the oldest dead letters.
func (s *Store) trimOutbox(ctx context.Context) error {
	for {
		more := false
		err := s.change(ctx, func(tx *change) (err error) {
			more, err = tx.trimSome(s.outbox.max)
			return err
		})
		if err != nil || !more {
			return err
		}
	}
}

// trimSome trims a batch, and says whether there is more.
func (tx *change) trimSome(limit int64) (more bool, err error) {
	var mine bool
	if err := tx.get(`select pg_try_advisory_xact_lock($1)`, int64(trimming)).Scan(&mine); err != nil || !mine {
		return false, err
	}
	var events, dead int64
	if err := tx.get(`select (select count(*) from attachd.outbox), (select count(*) from attachd.dead_letters)`).Scan(&events, &dead); err != nil {
		return false, err
	}
	buried, err := tx.bury(store.ReasonOutboxFull, `with old as (
			delete from attachd.outbox where seq in (select seq from attachd.outbox order by seq limit $1 for update skip locked) returning seq, event)
		select seq, event from old order by seq`, min(max(events-limit, 0), trimBatch))
	if err != nil {
		return false, err
	}
	over := dead + int64(buried) - limit
	gone, err := tx.affected(`delete from attachd.dead_letters where seq in (
		select seq from attachd.dead_letters order by seq limit $1 for update skip locked)`, min(max(over, 0), trimBatch))
	tx.outbox.dead -= gone
	return buried == trimBatch || gone == trimBatch, err
}
