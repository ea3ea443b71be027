package contents

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

const (
	// lookTime is how often it is decided whether to flush, and how long what is staged
	// after a pause waits for others to come.
	lookTime = 500 * time.Millisecond
	// burst is how many contents staged within lookTime are a burst: their files are
	// left for later, since nobody has asked for them, and those who upload are waiting.
	burst = 50
	// oldest is the age from which on contents get their files during a burst too.
	oldest = 10 * time.Minute
	// gentleFrom and hardFrom are how full staging is when a flush begins during a
	// burst, and when it makes no pauses any more.
	gentleFrom, hardFrom = 0.5, 0.9
	// gentlest is how many times as long as a batch took is the pause after it, when
	// staging is as full as gentleFrom or less; it falls to none at hardFrom.
	gentlest = 3.0
	// clearTime is how long a flush of all that is staged may take: what the disk
	// can write in this time fills staging, however much room there is.
	clearTime = time.Minute
	// minMeasured is how many contents a batch must have for its rate to be used.
	minMeasured = 128
	// retryTime is the pause after a failed flush.
	retryTime = 2 * time.Second
	// logTime is the minimum interval between log lines about failed flushes.
	logTime = time.Minute
)

// committed wakes RunFlush: a content was staged.
func (c *Store) committed() {
	c.stagings.Add(1)
	awake(c.wake)
	if s := c.Staged(); float64(s.Room) >= gentleFrom*float64(s.MaxRoom) {
		awake(c.much)
	}
}

func awake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// RunFlush flushes what is staged until ctx ends: at once when few uploads come, and
// during a burst only once staging is half full or contents are old. Failures are logged
// and retried. A batch that has begun then is finished.
func (c *Store) RunFlush(ctx context.Context) {
	p := pacer{contents: c, looked: time.Now(), count: c.stagings.Load()}
	for ctx.Err() == nil {
		wait := p.step(ctx)
		if p.idle {
			p.awaitStaging(ctx)
		}
		if wait == lookTime { // nothing failed or needs rest
			pause(ctx, wait, c.much)
		} else {
			pause(ctx, wait, nil)
		}
	}
}

// pacer decides when batches are flushed. A pass is the batches from the oldest staged
// content to the newest that was staged when it began.
type pacer struct {
	contents *Store

	looked   time.Time // when the rate of uploads was last determined
	count    int64     // contents that had ever been staged then
	bursting bool      // they came as a burst

	since  time.Time // nothing that is staged is older
	idle   bool      // nothing is staged
	after  uuid.UUID // where the pass is; zero between passes
	begun  time.Time // when it began
	before int64     // contents that had ever been staged then
	left   int64     // contents that were staged then, and were not listed since
	failed error     // of the pass
	rate   float64   // bytes flushed a second, when last measured; 0 before

	logged time.Time // when a failure was last logged
}

// step flushes a batch if it is time to, and returns how long to wait for the next step.
func (p *pacer) step(goOn context.Context) (wait time.Duration) {
	ctx := context.WithoutCancel(goOn)
	now := time.Now()
	p.look(now)
	rest, due := p.pace(now)
	if !due {
		return lookTime
	}
	if errors.Is(p.failed, store.ErrUnavailable) {
		if _, err := p.contents.Stager.Unstage(ctx, nil); err != nil { // no file would be of use
			p.report(err)
			return retryTime
		}
	}
	if p.after == uuid.Nil {
		p.begun, p.before, p.left, p.failed = now, p.contents.stagings.Load(), p.contents.Staged().Contents, nil
	}
	b, err := p.contents.flushSome(ctx, goOn, p.after)
	took := max(time.Since(now), time.Millisecond)
	if err == nil && b.count >= minMeasured {
		p.rate = float64(b.bytes) / took.Seconds()
	}
	if err != nil {
		p.failed = err
		p.report(err)
	}
	wait = time.Duration(rest * float64(took))
	if p.left -= int64(b.count); b.more && p.left > 0 && !stopsAll(err) {
		p.after = b.last
		return wait
	}
	return max(wait, p.endPass())
}

// endPass returns how long to wait at least.
func (p *pacer) endPass() time.Duration {
	p.after = uuid.Nil
	if p.failed != nil {
		return retryTime
	}
	p.report(nil)
	p.since = p.begun
	p.idle = p.contents.stagings.Load() == p.before
	return lookTime
}

// look determines the rate of uploads: as soon as they are a burst, and else each
// lookTime.
func (p *pacer) look(now time.Time) {
	count := p.contents.stagings.Load()
	came, took := count-p.count, max(now.Sub(p.looked), lookTime)
	if came < burst && now.Sub(p.looked) < lookTime {
		return
	}
	p.bursting = came*int64(lookTime) >= burst*int64(took)
	p.looked, p.count = now, count
}

// pace reports whether a batch is to be flushed now, and how many times as long as it
// takes is to be paused after it.
func (p *pacer) pace(now time.Time) (rest float64, due bool) {
	full := p.fullness()
	switch {
	case !p.bursting:
		return 0, true
	case full >= gentleFrom, now.Sub(p.since) >= oldest:
		return gentlest * min(1, max(0, hardFrom-full)/(hardFrom-gentleFrom)), true
	}
	return 0, false
}

// fullness returns how full staging is: of its room, or of what the disk can write
// within clearTime, whichever is less. What is in files that were removed has no room.
func (p *pacer) fullness() float64 {
	s := p.contents.Staged()
	if s.Astray {
		return 1
	}
	full := float64(s.Room) / float64(max(1, s.MaxRoom))
	if p.rate > 0 {
		full = max(full, float64(s.Bytes)/(p.rate*clearTime.Seconds()))
	}
	return full
}

// awaitStaging returns when something has been staged since the pass ended.
func (p *pacer) awaitStaging(ctx context.Context) {
	select {
	case <-p.contents.wake:
		p.idle, p.since = false, time.Now()
		p.looked, p.count = p.since, p.contents.stagings.Load()
	case <-ctx.Done():
	}
}

// report records and logs the outcome of a flush.
func (p *pacer) report(err error) {
	c := p.contents
	c.recordOutcome(err)
	if err != nil && time.Since(p.logged) >= logTime {
		p.logged = time.Now()
		c.Log.Error("staged contents could not all be written out of the write-ahead log", "error", err)
	}
}

// recordOutcome records whether the last flush failed, and since when they have.
func (c *Store) recordOutcome(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = err
	switch {
	case err == nil:
		c.failing = time.Time{}
	case c.failing.IsZero():
		c.failing = time.Now()
	}
}

// Failing returns since when flushes have failed, and the error of the last one; no
// error when it succeeded.
func (c *Store) Failing() (since time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failing, c.failure
}

func pause(ctx context.Context, d time.Duration, enough <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-enough:
	case <-ctx.Done():
	}
}
