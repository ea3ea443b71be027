package limits

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Turns is a semaphore that is fair between callers: waiting callers are served in
// rotation, however many requests each of them has waiting.
type Turns[K comparable] struct {
	places func() int
	wait   time.Duration

	mu      sync.Mutex
	taken   int
	waiting []*waiter[K] // the longest first
	served  []K
}

type waiter[K comparable] struct {
	who   K
	begun chan struct{}
}

// turnPatience is how long a request waits for its turn: longer than the longest
// decoding of another request.
const turnPatience = 20 * time.Second

// ErrNoTurn means that a caller's turn did not come in time.
var ErrNoTurn = errors.New("no turn in time")

// NewTurns returns a semaphore whose capacity is what places returns at each moment.
func NewTurns[K comparable](places func() int) *Turns[K] {
	return &Turns[K]{places: places, wait: turnPatience}
}

// SetWait sets how long a request waits for its turn. It must be called before the
// first Take.
func (t *Turns[K]) SetWait(d time.Duration) { t.wait = d }

// Waiting is the number of requests that wait for their turn.
func (t *Turns[K]) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting)
}

// Take waits for a turn, which lasts until leave is called.
func (t *Turns[K]) Take(ctx context.Context, who K) (leave func(), err error) {
	t.mu.Lock()
	mine := &waiter[K]{who, make(chan struct{})}
	t.waiting = append(t.waiting, mine)
	t.next()
	t.mu.Unlock()
	enough := time.NewTimer(t.wait)
	defer enough.Stop()
	select {
	case <-mine.begun:
		return t.leave, nil
	case <-enough.C:
		err = ErrNoTurn
	case <-ctx.Done():
		err = ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, mine); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
		return nil, err
	}
	return t.leave, nil // it began at this moment
}

func (t *Turns[K]) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken--
	t.next()
}

// next begins turns up to the capacity, first those of the caller whose last turn is
// the longest ago. mu must be locked.
func (t *Turns[K]) next() {
	for t.taken < t.places() && len(t.waiting) > 0 {
		first, rank := 0, len(t.served)
		for i, w := range t.waiting {
			// -1 ranks before all callers that were served recently.
			if r := slices.Index(t.served, w.who); r < rank {
				first, rank = i, r
			}
		}
		chosen := t.waiting[first]
		t.waiting = slices.Delete(t.waiting, first, first+1)
		t.served = slices.DeleteFunc(t.served, func(k K) bool { return k == chosen.who })
		t.served = append(t.served, chosen.who)
		if len(t.served) > maxServed {
			t.served = t.served[1:]
		}
		t.taken++
		close(chosen.begun)
	}
}

// maxServed is how many recently served callers are remembered.
const maxServed = 64
