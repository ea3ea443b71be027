package disk

import (
	"sync"

	"attachd/blobs"
)

// holds are the locks by which Keep and Remove of one content wait for each
// other. Every name has its own, which exists while it is used: locks that
// several names share would let a caller that holds two contents wait for
// itself.
type holds struct {
	mu    sync.Mutex
	locks map[blobs.Ref]*lock
}

type lock struct {
	sync.RWMutex
	users int // that hold it or wait for it; guarded by holds.mu
}

// shared waits until nobody is alone with ref. Calling release again does
// nothing.
func (h *holds) shared(ref blobs.Ref) (release func()) {
	l := h.enter(ref)
	l.RLock()
	return sync.OnceFunc(func() {
		l.RUnlock()
		h.leave(ref, l)
	})
}

// alone waits until nobody else has ref, and lets nobody in meanwhile.
func (h *holds) alone(ref blobs.Ref) (release func()) {
	l := h.enter(ref)
	l.Lock()
	return sync.OnceFunc(func() {
		l.Unlock()
		h.leave(ref, l)
	})
}

func (h *holds) enter(ref blobs.Ref) *lock {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.locks[ref]
	if l == nil {
		if h.locks == nil {
			h.locks = make(map[blobs.Ref]*lock)
		}
		l = new(lock)
		h.locks[ref] = l
	}
	l.users++
	return l
}

func (h *holds) leave(ref blobs.Ref, l *lock) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l.users--
	if l.users == 0 {
		delete(h.locks, ref)
	}
}
