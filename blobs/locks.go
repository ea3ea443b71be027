package blobs

import (
	"bytes"
	"slices"
	"sync"
)

// Locks are the locks, one for each content, by which a backend keeps Keep and Remove
// apart within one process. A lock exists while it is used. Contents do not share locks:
// a caller that locks two could wait for itself. The zero value is ready.
type Locks struct {
	mu    sync.Mutex
	byRef map[Ref]*lock
}

type lock struct {
	sync.RWMutex
	users int // that hold it or wait for it; guarded by Locks.mu
}

// Shared waits until no caller has ref exclusively, and locks it for reading.
// Calling release again does nothing.
func (l *Locks) Shared(ref Ref) (release func()) {
	of := l.enter(ref)
	of.RLock()
	return sync.OnceFunc(func() {
		of.RUnlock()
		l.leave(ref, of)
	})
}

// SharedAll is Shared for several contents, of which some may be the same. It locks each
// once, in the same order for all callers: an Exclusive that waits for a content admits no
// new reader, so two callers that each want what the other has would wait for each other.
func (l *Locks) SharedAll(refs []Ref) (release func()) {
	refs = slices.Clone(refs)
	slices.SortFunc(refs, func(a, b Ref) int { return bytes.Compare(a[:], b[:]) })
	var held []func()
	for _, ref := range slices.Compact(refs) {
		held = append(held, l.Shared(ref))
	}
	return func() {
		for _, release := range held {
			release()
		}
	}
}

// Exclusive waits until no other caller has ref, and locks it for writing until release.
func (l *Locks) Exclusive(ref Ref) (release func()) {
	of := l.enter(ref)
	of.Lock()
	return sync.OnceFunc(func() {
		of.Unlock()
		l.leave(ref, of)
	})
}

func (l *Locks) enter(ref Ref) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.byRef[ref]
	if of == nil {
		if l.byRef == nil {
			l.byRef = make(map[Ref]*lock)
		}
		of = new(lock)
		l.byRef[ref] = of
	}
	of.users++
	return of
}

func (l *Locks) leave(ref Ref, of *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of.users--
	if of.users == 0 {
		delete(l.byRef, ref)
	}
}
