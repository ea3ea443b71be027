package disk

import (
	"sync"

	"attachd/blobs"
)

// locks are the per-content locks by which Keep and Remove exclude each other.
// Every name has a separate lock, which exists while it is used: if names shared
// locks, a caller that locks two contents could wait for itself.
type locks struct {
	mu    sync.Mutex
	byRef map[blobs.Ref]*lock
}

type lock struct {
	sync.RWMutex
	users int // that hold it or wait for it; guarded by locks.mu
}

// shared waits until no caller holds ref exclusively, and locks it for reading.
// Calling release again does nothing.
func (l *locks) shared(ref blobs.Ref) (release func()) {
	of := l.enter(ref)
	of.RLock()
	return sync.OnceFunc(func() {
		of.RUnlock()
		l.leave(ref, of)
	})
}

// exclusive waits until no other caller holds ref, and locks it for writing until
// release.
func (l *locks) exclusive(ref blobs.Ref) (release func()) {
	of := l.enter(ref)
	of.Lock()
	return sync.OnceFunc(func() {
		of.Unlock()
		l.leave(ref, of)
	})
}

func (l *locks) enter(ref blobs.Ref) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.byRef[ref]
	if of == nil {
		if l.byRef == nil {
			l.byRef = make(map[blobs.Ref]*lock)
		}
		of = new(lock)
		l.byRef[ref] = of
	}
	of.users++
	return of
}

func (l *locks) leave(ref blobs.Ref, of *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of.users--
	if of.users == 0 {
		delete(l.byRef, ref)
	}
}
