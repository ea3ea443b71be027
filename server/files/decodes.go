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

// decodes are the thumbnails that are being made, and what came of those that
// could not be.
type decodes struct {
	turns  *limits.Turns[api.Holder]
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
	return &decodes{turns: limits.NewTurns[api.Holder](places), active: map[blobs.Ref]*making{}, failed: map[blobs.Ref]failure{}}
}

// do makes the thumbnail of a content, unless somebody else is about to, or it
// failed before. What is made ends when nobody waits for it any more.
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
