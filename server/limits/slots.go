package limits

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Slots is the limiter of concurrent uploads. While slots are free, every request gets
// one. When all are in use, users share them: a user with at least two fewer than the
// heaviest user takes over that user's slowest slot, of those whose bodies are still
// being received. So no user can keep the others out, however slowly their uploads are.
type Slots struct {
	max     int
	mu      sync.Mutex
	grace   time.Duration // during which an upload cannot lose its slot
	running map[*Slot]bool
}

// Slot is the right of one upload to run.
type Slot struct {
	user     uuid.UUID
	began    time.Time
	bytes    atomic.Int64
	lost     atomic.Bool // taken over by another user
	received bool        // the whole body was received; guarded by Slots.mu
	cut      func()      // interrupts the read of the body that is in progress
}

// slotGrace is how long an upload cannot lose its slot: most uploads take less.
const slotGrace = 2 * time.Second

// NewSlots returns a limiter of max concurrent uploads.
func NewSlots(max int) *Slots {
	return &Slots{max: max, grace: slotGrace, running: map[*Slot]bool{}}
}

// Max is the number of slots.
func (s *Slots) Max() int { return s.max }

// SetGrace sets how long an upload cannot lose its slot.
func (s *Slots) SetGrace(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grace = d
}

// Take returns a slot, or nil when this user cannot have one. If the slot is taken over
// by another user, cut is called, which must interrupt the read that waits for more of
// the body.
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
		slowest.lost.Store(true) // before cut: the interrupted read must find the reason
		slowest.cut()
	}
	s.running[mine] = true
	return mine
}

// slowestOfHeaviest returns the slot that may be taken over, or nil.
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

// Received reports that the whole body was received: from now on the slot cannot be
// lost, because the work that remains is the server's and short. kept is false if the
// slot was lost just before; then the request's context may end at any moment.
func (s *Slots) Received(mine *Slot) (kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine.received = true
	return !mine.lost.Load()
}

// Release returns a slot, unless it was lost.
func (s *Slots) Release(mine *Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, mine)
}

// InUse is the number of uploads in progress.
func (s *Slots) InUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running)
}

// Bytes is the number of bytes that were received of the bodies of the uploads in
// progress.
func (s *Slots) Bytes() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for running := range s.running {
		n += running.bytes.Load()
	}
	return n
}

// Lost reports whether the slot was taken over by another user.
func (t *Slot) Lost() bool { return t.lost.Load() }

// Add counts received bytes.
func (t *Slot) Add(n int) { t.bytes.Add(int64(n)) }

// rate is the mean rate of the upload up to now, in bytes per second.
func (t *Slot) rate(now time.Time) float64 {
	return float64(t.bytes.Load()) / now.Sub(t.began).Seconds()
}
