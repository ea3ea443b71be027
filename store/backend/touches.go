package backend

import (
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// Touches are the times, in unix seconds, when keys were last used, until they are stored.
// The zero value is empty.
type Touches struct {
	mu    sync.RWMutex
	noted map[uuid.UUID]int64 // not stored yet
	// written are those that the last flush stored. A reader whose transaction
	// began before it still needs them.
	written map[uuid.UUID]int64
}

// Touch notes that a key was used. Every request calls it, so most calls only read.
func (t *Touches) Touch(id uuid.UUID, at time.Time) {
	seconds := at.Unix()
	if known, found := t.get(id); found && seconds <= known {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.noted == nil {
		t.noted = make(map[uuid.UUID]int64)
	}
	if known, found := t.noted[id]; !found || seconds > known {
		t.noted[id] = seconds
	}
}

// WithLastUse returns a key with the later of the stored and the noted time of use.
func (t *Touches) WithLastUse(k store.Key) store.Key {
	if noted, is := t.get(k.ID); is && (k.LastUsedAt.IsZero() || noted > k.LastUsedAt.Unix()) {
		k.LastUsedAt = time.Unix(noted, 0).UTC()
	}
	return k
}

func (t *Touches) get(id uuid.UUID) (seconds int64, found bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if seconds, found = t.noted[id]; !found {
		seconds, found = t.written[id]
	}
	return seconds, found
}

// Drop forgets the uses of a key that is being deleted.
func (t *Touches) Drop(id uuid.UUID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.noted, id)
	delete(t.written, id)
}

// ToWrite returns the times that are not stored yet. Call Flushed with them when they are.
func (t *Touches) ToWrite() map[uuid.UUID]int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.noted)
}

// Flushed drops the times that are stored now. Later ones stay.
func (t *Touches) Flushed(written map[uuid.UUID]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written = written
	for id, seconds := range written {
		if t.noted[id] == seconds {
			delete(t.noted, id)
		}
	}
}
