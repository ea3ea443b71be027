package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"attachd/blobs"
	"attachd/server/preview"
)

// turns is a semaphore that is fair between callers: waiting callers are served in
// rotation, however many requests each of them has waiting.
type turns struct {
	places func() int
	wait   time.Duration

	mu      sync.Mutex
	taken   int
	waiting []*waiter // the longest first
	served  []holder
}

type waiter struct {
	who   holder
	begun chan struct{}
}

// turnPatience is how long a request waits for its turn: longer than the
// longest decoding of another.
const turnPatience = 20 * time.Second

func newTurns(places func() int) *turns { return &turns{places: places, wait: turnPatience} }

// take gives a turn until leave.
func (t *turns) take(ctx context.Context, who holder) (leave func(), err error) {
	t.mu.Lock()
	mine := &waiter{who, make(chan struct{})}
	t.waiting = append(t.waiting, mine)
	t.next()
	t.mu.Unlock()
	enough := time.NewTimer(t.wait)
	defer enough.Stop()
	select {
	case <-mine.begun:
		return t.leave, nil
	case <-enough.C:
		err = busy("Too many previews are being made. Try again in a moment.")
	case <-ctx.Done():
		err = ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, mine); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
		return nil, err
	}
	return t.leave, nil // it came this moment
}

func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken--
	t.next()
}

// next begins the turns that there are places for, and is called with mu
// locked. First comes who was not served for longest.
func (t *turns) next() {
	for t.taken < t.places() && len(t.waiting) > 0 {
		first, rank := 0, len(t.served)
		for i, w := range t.waiting {
			// -1 is before all who were served lately.
			if r := slices.Index(t.served, w.who); r < rank {
				first, rank = i, r
			}
		}
		chosen := t.waiting[first]
		t.waiting = slices.Delete(t.waiting, first, first+1)
		t.served = slices.DeleteFunc(t.served, func(h holder) bool { return h == chosen.who })
		t.served = append(t.served, chosen.who)
		if len(t.served) > maxServed {
			t.served = t.served[1:]
		}
		t.taken++
		close(chosen.begun)
	}
}

// maxServed is how many callers are remembered as served lately.
const maxServed = 64

// decodes are the thumbnails that are being made, and what came of those that
// could not be.
type decodes struct {
	turns  *turns
	mu     sync.Mutex
	active map[blobs.Ref]*making
	failed map[blobs.Ref]failure
}

// making is a thumbnail that is being made for all who asked for it meanwhile.
type making struct {
	waiters int // guarded by decodes.mu
	stop    context.CancelFunc
	done    chan struct{}
	picture []byte
	err     error
}

// failure is why a content has no thumbnail, as long as that is believed.
type failure struct {
	err   error
	until time.Time
}

const (
	// maxFailed is how many contents are remembered that have no thumbnail.
	maxFailed = 10_000
	// failedFor is how long that is believed. A content does not change, but
	// this machine may have been short of time.
	failedFor, killedFor = 24 * time.Hour, time.Hour
)

func newDecodes(places func() int) *decodes {
	return &decodes{turns: newTurns(places), active: map[blobs.Ref]*making{}, failed: map[blobs.Ref]failure{}}
}

// do makes the thumbnail of a content, unless somebody else is about to, or it
// failed before. What is made ends when nobody waits for it any more.
func (d *decodes) do(ctx context.Context, ref blobs.Ref, who holder, now time.Time, run func(context.Context) ([]byte, error)) ([]byte, error) {
	d.mu.Lock()
	if f, ok := d.failed[ref]; ok && now.Before(f.until) && f.until.Sub(now) <= failedFor {
		d.mu.Unlock()
		return nil, f.err
	}
	m := d.active[ref]
	if m == nil {
		m = &making{done: make(chan struct{})}
		var making context.Context
		making, m.stop = context.WithCancel(context.WithoutCancel(ctx))
		d.active[ref] = m
		go d.make(making, m, ref, who, now, run)
	}
	m.waiters++
	d.mu.Unlock()
	select {
	case <-m.done:
		d.leave(ref, m)
		return m.picture, m.err
	case <-ctx.Done():
		d.leave(ref, m)
		return nil, ctx.Err()
	}
}

// leave ends what nobody waits for.
func (d *decodes) leave(ref blobs.Ref, m *making) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.waiters--; m.waiters > 0 {
		return
	}
	m.stop()
	if d.active[ref] == m {
		delete(d.active, ref)
	}
}

func (d *decodes) make(ctx context.Context, m *making, ref blobs.Ref, who holder, now time.Time, run func(context.Context) ([]byte, error)) {
	defer close(m.done)
	defer m.stop()
	leave, err := d.turns.take(ctx, who)
	if err == nil {
		m.picture, m.err = withoutPanic(ctx, run)
		leave()
	} else {
		m.err = err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.active[ref] == m {
		delete(d.active, ref)
	}
	if !errors.Is(m.err, preview.ErrNone) {
		return
	}
	lasts := failedFor
	if errors.Is(m.err, preview.ErrKilled) {
		lasts = killedFor
	}
	for other := range d.failed {
		if len(d.failed) < maxFailed {
			break
		}
		delete(d.failed, other)
	}
	d.failed[ref] = failure{m.err, now.Add(lasts)}
}

// withoutPanic makes an error of a panic, which would end the process.
func withoutPanic(ctx context.Context, run func(context.Context) ([]byte, error)) (picture []byte, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
	}()
	return run(ctx)
}

// What came of decodings, as it is counted.
const (
	decodedOK     = "ok"
	decodedFailed = "failed"
	decodedKilled = "killed"
)

// decoded says which of them an error is.
func decoded(err error) string {
	switch {
	case err == nil:
		return decodedOK
	case errors.Is(err, preview.ErrKilled), errors.Is(err, context.Canceled):
		return decodedKilled
	}
	return decodedFailed
}
