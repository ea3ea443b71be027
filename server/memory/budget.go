package memory

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrBusy means that the memory was not available within the time given.
var ErrBusy = errors.New("the memory for answers is in use")

// Budget is a limiter of the memory that requests hold at once. One caller has at most
// half of it, so that no caller keeps all others out.
type Budget[K comparable] struct {
	total    func() int64
	mu       sync.Mutex
	held     int64
	of       map[K]int64
	waiting  []*wait[K] // the longest first
	queued   map[K]int  // how many of waiting belong to each caller
	patience time.Duration
}

type wait[K comparable] struct {
	who     K
	n       int64
	granted chan struct{}
}

// maxWaiting is how many requests of one caller may wait; further ones are refused at
// once.
const maxWaiting = 128

// NewBudget returns a limiter to total bytes, which is called for each request. A
// request waits for at most patience.
func NewBudget[K comparable](total func() int64, patience time.Duration) *Budget[K] {
	return &Budget[K]{total: total, of: map[K]int64{}, queued: map[K]int{}, patience: patience}
}

// Most is how many bytes one caller may hold at once.
func (b *Budget[K]) Most() int64 { return b.total() / 2 }

// Held is how many bytes all callers hold.
func (b *Budget[K]) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// TryAcquire takes n bytes for a caller if they are available.
func (b *Budget[K]) TryAcquire(who K, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take(who, n)
}

// Acquire takes n bytes for a caller, and waits for them if needed; the error is
// ErrBusy when they did not become available.
func (b *Budget[K]) Acquire(ctx context.Context, who K, n int64) error {
	b.mu.Lock()
	if b.take(who, n) {
		b.mu.Unlock()
		return nil
	}
	if n > b.Most() || b.queued[who] >= maxWaiting {
		b.mu.Unlock()
		return ErrBusy
	}
	mine := &wait[K]{who, n, make(chan struct{})}
	b.waiting = append(b.waiting, mine)
	b.queued[who]++
	b.mu.Unlock()
	enough := time.NewTimer(b.patience)
	defer enough.Stop()
	err := ErrBusy
	select {
	case <-mine.granted:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-enough.C:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-mine.granted: // granted at this moment
		return nil
	default:
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(w *wait[K]) bool { return w == mine })
	b.leaveQueue(who)
	return err
}

// take takes n bytes for a caller if they are available. mu must be locked.
func (b *Budget[K]) take(who K, n int64) bool {
	total := b.total()
	if b.held+n > total || b.of[who]+n > total/2 {
		return false
	}
	b.held += n
	b.of[who] += n
	return true
}

func (b *Budget[K]) leaveQueue(who K) {
	if b.queued[who]--; b.queued[who] == 0 {
		delete(b.queued, who)
	}
}

// Release returns n bytes of a caller, and grants them to waiting requests.
func (b *Budget[K]) Release(who K, n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= n
	if b.of[who] -= n; b.of[who] == 0 {
		delete(b.of, who)
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(w *wait[K]) bool {
		if !b.take(w.who, w.n) {
			return false
		}
		b.leaveQueue(w.who)
		close(w.granted)
		return true
	})
}
