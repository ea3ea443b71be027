package server

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// slots are the places of uploads under way. While there are some, anybody
// has them. When all are taken, users share them: one who has at least two
// fewer than the greediest gets the place of that one's slowest upload, of those
// whose bodies are still coming. So nobody can keep the others out, however
// slowly they upload.
type slots struct {
	max     int
	grace   time.Duration // for which an upload keeps its place in any case
	mu      sync.Mutex
	running map[*slot]bool
}

// slot is the place of one upload.
type slot struct {
	user     uuid.UUID
	began    time.Time
	bytes    atomic.Int64
	lost     atomic.Bool // to another user
	received bool        // the whole body has come; guarded by slots.mu
	control  *http.ResponseController
}

func newSlots(max int) *slots {
	return &slots{max: max, grace: slotGrace, running: map[*slot]bool{}}
}

// Most uploads are over in less.
const slotGrace = 2 * time.Second

// take gives a place, or nil when this user cannot have one.
func (s *slots) take(rq *request) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := &slot{user: rq.caller.user.ID, began: time.Now(), control: http.NewResponseController(rq.writer)}
	if len(s.running) >= s.max {
		slowest := s.slowestOfGreediest(mine)
		if slowest == nil {
			return nil
		}
		delete(s.running, slowest)
		slowest.lost.Store(true) // before the deadline: see pacedBody.Read
		_ = slowest.control.SetReadDeadline(time.Unix(1, 0))
	}
	s.running[mine] = true
	return mine
}

// slowestOfGreediest finds whom to take a place from, or nobody.
func (s *slots) slowestOfGreediest(mine *slot) (slowest *slot) {
	held := map[uuid.UUID]int{}
	for other := range s.running {
		held[other.user]++
	}
	greediest := mine.user
	for user, n := range held {
		if n > held[greediest] {
			greediest = user
		}
	}
	if held[greediest] < held[mine.user]+2 {
		return nil
	}
	now := mine.began
	for other := range s.running {
		if other.user != greediest || other.received || now.Sub(other.began) < s.grace {
			continue
		}
		if slowest == nil || other.rate(now) < slowest.rate(now) {
			slowest = other
		}
	}
	return slowest
}

// received says that the whole body has come: from now on the place cannot be
// lost, because what is left to do is ours and soon over. It may have been lost
// just before; then the request's context may end at any moment.
func (s *slots) received(mine *slot) (kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine.received = true
	return !mine.lost.Load()
}

// release gives a place back, if it was not lost.
func (s *slots) release(mine *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, mine)
}

// taken is how many uploads run.
func (s *slots) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running)
}

// rate is in bytes a second, up to now.
func (t *slot) rate(now time.Time) float64 {
	return float64(t.bytes.Load()) / now.Sub(t.began).Seconds()
}

func busy(detail string) error {
	return &refusal{status: http.StatusServiceUnavailable, code: "busy", retryAfter: 1, detail: detail}
}

func slotLost() error {
	return busy("All upload slots are taken, and another user, who has fewer, got the one of this upload. Try again in a moment.")
}
