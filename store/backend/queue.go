// Package backend has what every backend of package store needs beside its database: the
// entries and times that wait in memory for a commit, and the encodings of what is known
// of the order and the age of numbered records.
package backend

import (
	"strconv"
	"sync"
	"time"

	"attachd/store"
)

const (
	maxQueued = 50_000        // entries in the queue, at most
	longQueue = maxQueued / 2 // entries at which Long is signalled
)

// skipAction is the Action of an entry that says how many entries are missing.
const skipAction = "audit.skip"

// EntryQueue is the queue of entries of the audit log until the next commit.
type EntryQueue struct {
	mu      sync.Mutex
	waiting []store.Entry
	skipped int // number of entries dropped because the queue was full
	last    time.Time
	long    chan struct{}
}

// NewEntryQueue returns an empty queue.
func NewEntryQueue() *EntryQueue { return &EntryQueue{long: make(chan struct{}, 1)} }

// Add adds an entry, or counts it when the queue is full.
func (q *EntryQueue) Add(e store.Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = e.Time
	if len(q.waiting) >= maxQueued {
		q.skipped++
		return
	}
	q.waiting = append(q.waiting, e)
	if len(q.waiting) == longQueue {
		select {
		case q.long <- struct{}{}:
		default: // a signal is pending already
		}
	}
}

// Long is signalled when the queue is so long that it should be committed at once.
func (q *EntryQueue) Long() <-chan struct{} { return q.long }

// Empty reports whether there is nothing to drain.
func (q *EntryQueue) Empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0 && q.skipped == 0
}

// Drain returns the queued entries, to be committed or put back.
func (q *EntryQueue) Drain() []store.Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.waiting
	q.waiting = nil
	if q.skipped > 0 {
		taken = append(taken, store.Entry{Time: q.last, Action: skipAction, Resource: "entries", Name: strconv.Itoa(q.skipped), Outcome: "done"})
		q.skipped = 0
	}
	return taken
}

// PutBack queues drained entries again, as far as there is room.
func (q *EntryQueue) PutBack(taken []store.Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if last := len(taken) - 1; last >= 0 && taken[last].Action == skipAction {
		if n, err := strconv.Atoi(taken[last].Name); err == nil {
			q.skipped += n
		}
		taken = taken[:last]
	}
	q.waiting = append(taken, q.waiting...)
	if over := len(q.waiting) - maxQueued; over > 0 {
		q.skipped += over
		q.waiting = q.waiting[:maxQueued]
	}
}
