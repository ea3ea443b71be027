package files

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/limits"
	"attachd/server/preview"
)

// decodes is the queue of thumbnails that are being made, and a cache of failures.
type decodes struct {
	turns  *limits.Turns[api.Holder]
	mu     sync.Mutex
	active map[blobs.Ref]*making
	failed map[blobs.Ref]failure
}

// making is a thumbnail that is being made, shared by all requests for it.
type making struct {
	waiters int // guarded by decodes.mu
	stop    context.CancelFunc
	done    chan struct{}
	picture []byte
	err     error
}

// failure is why a content has no thumbnail, cached for a while.
type failure struct {
	err   error
	until time.Time
}

const (
	// maxFailed is how many contents without a thumbnail are remembered.
	maxFailed = 10_000
	// failedFor is how long a failure is cached, and killedFor how long one that was
	// killed is. A content does not change, but this machine may have been overloaded.
	failedFor, killedFor = 24 * time.Hour, time.Hour
)

func newDecodes(places func() int) *decodes {
	return &decodes{turns: limits.NewTurns[api.Holder](places), active: map[blobs.Ref]*making{}, failed: map[blobs.Ref]failure{}}
}

// do makes the thumbnail of a content, unless it is being made already, or making it
// failed recently. The work is cancelled when no request waits for it any more.
func (d *decodes) do(ctx context.Context, ref blobs.Ref, who api.Holder, now time.Time, run func(context.Context) ([]byte, error)) ([]byte, error) {
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

// leave cancels a thumbnail that no request waits for any more.
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

func (d *decodes) make(ctx context.Context, m *making, ref blobs.Ref, who api.Holder, now time.Time, run func(context.Context) ([]byte, error)) {
	defer close(m.done)
	defer m.stop()
	leave, err := d.turns.Take(ctx, who)
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

// withoutPanic converts a panic into an error, since it would end the process.
func withoutPanic(ctx context.Context, run func(context.Context) ([]byte, error)) (picture []byte, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
	}()
	return run(ctx)
}

// The outcomes of decodings, as labels of a metric.
const (
	decodedOK     = "ok"
	decodedFailed = "failed"
	decodedKilled = "killed"
)

// decoded returns the outcome for an error.
func decoded(err error) string {
	switch {
	case err == nil:
		return decodedOK
	case errors.Is(err, preview.ErrKilled), errors.Is(err, context.Canceled):
		return decodedKilled
	}
	return decodedFailed
}
