package limits

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Slots limits concurrent uploads. While slots are free, anybody gets one. When
// all are in use, users share them: a user with at least two fewer than the
// heaviest user takes over that user's slowest slot, of those whose bodies are
// still coming. So nobody can keep the others out, however slowly they upload.
type Slots struct {
	max     int
	mu      sync.Mutex
	grace   time.Duration // for which an upload keeps its slot in any case
	running map[*Slot]bool
}

// Slot is the right of one upload to run.
type Slot struct {
	user     uuid.UUID
	began    time.Time
	bytes    atomic.Int64
	lost     atomic.Bool // to another user
	received bool        // the whole body has come; guarded by Slots.mu
	cut      func()      // ends the read of the body that is under way
}

// slotGrace is for how long no upload loses its slot: most are over in less.
const slotGrace = 2 * time.Second

// NewSlots makes max of them.
func NewSlots(max int) *Slots {
	return &Slots{max: max, grace: slotGrace, running: map[*Slot]bool{}}
}

// Max is how many there are.
func (s *Slots) Max() int { return s.max }

// SetGrace sets for how long no upload loses its slot.
func (s *Slots) SetGrace(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grace = d
}

// Take gives a slot, or nil when this user cannot have one. Should the slot be
// lost to another user, cut is called, which must end the read that waits for more
// of the body.
func (s *Slots) Take(user uuid.UUID, cut func()) *Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := &Slot{user: user, began: time.Now(), cut: cut}
	if len(s.running) >= s.max {
		slowest := s.slowestOfHeaviest(mine)
		if slowest == nil {
			return nil
		}
		delete(s.running, slowest)
		slowest.lost.Store(true) // first: the read that is cut must find why
		slowest.cut()
	}
	s.running[mine] = true
	return mine
}

// slowestOfHeaviest finds the slot that may be taken over, or none.
func (s *Slots) slowestOfHeaviest(mine *Slot) (slowest *Slot) {
	held := map[uuid.UUID]int{}
	for other := range s.running {
		held[other.user]++
	}
	heaviest := mine.user
	for user, n := range held {
		if n > held[heaviest] {
			heaviest = user
		}
	}
	if held[heaviest] < held[mine.user]+2 {
		return nil
	}
	now := mine.began
	for other := range s.running {
		if other.user != heaviest || other.received || now.Sub(other.began) < s.grace {
			continue
		}
		if slowest == nil || other.rate(now) < slowest.rate(now) {
			slowest = other
		}
	}
	return slowest
}

// Received says that the whole body has come: from now on the slot cannot be
// lost, because what is left to do is the server's and soon over. It may have been
// lost just before; then the request's context may end at any moment.
func (s *Slots) Received(mine *Slot) (kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine.received = true
	return !mine.lost.Load()
}

// Release gives a slot back, if it was not lost.
func (s *Slots) Release(mine *Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, mine)
}

// InUse is how many uploads run.
func (s *Slots) InUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running)
}

// Bytes is how many have come of the bodies of the uploads that run.
func (s *Slots) Bytes() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for running := range s.running {
		n += running.bytes.Load()
	}
	return n
}

// Lost says whether another user has the slot now.
func (t *Slot) Lost() bool { return t.lost.Load() }

// Add counts bytes that came.
func (t *Slot) Add(n int) { t.bytes.Add(int64(n)) }

// rate is in bytes a second, up to now.
func (t *Slot) rate(now time.Time) float64 {
	return float64(t.bytes.Load()) / now.Sub(t.began).Seconds()
}
