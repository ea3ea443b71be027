package webhooks

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/server/backoff"
	"attachd/store"
)

// Options are the settings of a Courier. Fields without a remark are required.
type Options struct {
	Outbox   store.Outbox
	Sender   *Sender
	Render   func(store.Event) (Message, error)
	RetryFor time.Duration // the age at which an event that fails is given up
	Now      func() time.Time
	Clock    Clock
	Log      *slog.Logger
	Count    func(outcome string)                 // optional: counts the outcome of each attempt
	After    func(time.Duration) <-chan time.Time // optional: replaces time.After, for tests
	Jitter   func(d time.Duration) time.Duration  // optional: replaces a random wait from d/2 to d
}

// Clock returns a time that has certainly passed whatever the clock was set to, whether
// that is also the clock's time, and the measure of time by which the outbox removes
// old dead letters.
type Clock func(ctx context.Context) (now time.Time, settled bool, age time.Duration, err error)

// Outcomes of attempts.
const (
	Delivered = "delivered"
	Failed    = "failed" // it will be retried
	Dead      = "dead"   // it was the last attempt
)

// Outcomes are all outcomes of attempts.
var Outcomes = []string{Delivered, Failed, Dead}

const (
	window      = 100                 // events that are read at once, and delivered before they are removed
	flushAfter  = time.Second         // longest time that delivered events stay in the outbox while others are sent
	firstPause  = time.Second         // wait after a failure before anything is sent; doubled by each
	longPause   = time.Minute         // longest such wait
	firstRetry  = 5 * time.Second     // wait before the same event is sent again; doubled by each failure
	longRetry   = 15 * time.Minute    // longest such wait
	longAfter   = time.Hour           // longest Retry-After that is respected
	keepDead    = 30 * 24 * time.Hour // age at which dead letters are removed
	pruneEvery  = time.Hour
	pruneAtOnce = 5000 // batch size, so that other changes need not wait for long
)

// Courier delivers the events of an outbox to a receiver, one at a time, in their
// order. When one fails, there is a pause before anything is sent, and a longer one
// before that event is retried: others overtake it, first those without an attempt, so
// that an event that the receiver cannot process does not block the others. Only events
// of the same attachment wait for it, so that the events of one attachment arrive in
// order.
//
// An unreachable receiver is not an event's fault: once the receiver accepts another
// event, all that failed meanwhile are retried at once, unless only one had failed.
type Courier struct {
	Options

	delays map[uint64]delay // of events that failed, by sequence number
	streak map[uint64]bool  // events that failed since the last success
	fails  int              // failures since the last success
	resume time.Time        // nothing is sent before this time
	done   []uint64         // delivered, and not yet removed from the outbox
	dead   []store.DeadLetter
	first  time.Time // when the first of done and dead was added
	pruned time.Time

	mu     sync.Mutex
	status Status
}

// delay is the backoff of an event that failed.
type delay struct {
	attempts int
	first    time.Time // when it failed for the first time
	until    time.Time
}

// Status holds the last results of a Courier since it was made.
type Status struct {
	LastSuccess time.Time // zero: none
	LastFailure time.Time // zero: none
	LastError   string    // the error of the last failure
}

// NewCourier returns a Courier. Run starts it.
func NewCourier(o Options) *Courier {
	if o.After == nil {
		o.After = time.After
	}
	if o.Jitter == nil {
		o.Jitter = func(d time.Duration) time.Duration { return backoff.Jitter(d/2, d) }
	}
	if o.Count == nil {
		o.Count = func(string) {}
	}
	return &Courier{Options: o}
}

// Status returns the last results.
func (c *Courier) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Run delivers events until ctx ends. An event that is being sent then may have
// arrived, and is sent again by the next Run. It may be called again: another process may
// have delivered what this one had tried, so each Run begins without what is known of that.
func (c *Courier) Run(ctx context.Context) {
	defer c.Sender.Close()
	c.delays, c.streak = map[uint64]delay{}, map[uint64]bool{}
	c.fails, c.resume, c.done, c.dead, c.pruned = 0, time.Time{}, nil, nil, time.Time{}
	for {
		c.prune(ctx)
		wait := c.round(ctx)
		if ctx.Err() != nil {
			c.flush(context.WithoutCancel(ctx))
			return
		}
		news := c.Outbox.NewEvents()
		if c.resume.After(c.Now()) {
			news = nil // new events wait for the end of the pause too
		}
		select {
		case <-ctx.Done():
		case <-news:
		case <-c.After(wait):
		}
	}
}

// round sends what can be sent now, and returns how long to wait afterwards if no event
// is added.
func (c *Courier) round(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		if !c.flush(ctx) {
			return longPause
		}
		if wait := c.resume.Sub(c.Now()); wait > 0 {
			return wait
		}
		// After a failure, events without an attempt come first: a few that always fail
		// must not use up all attempts.
		sent, wait, err := c.pass(ctx, c.fails > 0)
		if err == nil && !sent && c.fails > 0 {
			sent, wait, err = c.pass(ctx, false)
		}
		if err != nil {
			c.stumble(ctx, "the outbox cannot be read", err)
			return longPause
		}
		if !sent {
			return wait
		}
	}
	return 0
}

// pass reads through the outbox until it has sent something. It reports whether it has,
// and else when the next event is due. With untried, it sends only events without an
// attempt.
func (c *Courier) pass(ctx context.Context, untried bool) (sent bool, wait time.Duration, err error) {
	wait = pruneEvery
	held := map[uuid.UUID]bool{} // attachments for which an earlier event waits
	for after := uint64(0); ; {
		events, err := c.Outbox.Events(ctx, after, window)
		if err != nil {
			return false, 0, err
		}
		if after == 0 {
			c.forgetBefore(events)
		}
		sent, due := c.sendFirst(ctx, events, held, untried)
		wait = min(wait, due)
		if sent || len(events) < window {
			return sent, wait, nil
		}
		after = events[len(events)-1].Seq
	}
}

// sendFirst sends those events that can be sent now, up to the first failure.
func (c *Courier) sendFirst(ctx context.Context, events []store.Event, held map[uuid.UUID]bool, untried bool) (sent bool, wait time.Duration) {
	wait = pruneEvery
	for _, e := range events {
		before := c.delays[e.Seq]
		left := before.until.Sub(c.Now())
		if held[e.Attachment.ID] || left > 0 || untried && before.attempts > 0 {
			if left > 0 {
				wait = min(wait, left)
			}
			held[e.Attachment.ID] = true
			continue
		}
		sent = true
		if ctx.Err() != nil || !c.deliver(ctx, e) || c.Now().Sub(c.first) >= flushAfter {
			break
		}
	}
	return sent, wait
}

// forgetBefore removes the delays of events that were dropped from the outbox because
// it was full.
func (c *Courier) forgetBefore(events []store.Event) {
	for seq := range c.delays {
		if len(events) == 0 || seq < events[0].Seq {
			delete(c.delays, seq)
			delete(c.streak, seq)
		}
	}
}

// deliver sends an event, and reports whether to continue with the next.
func (c *Courier) deliver(ctx context.Context, e store.Event) bool {
	message, err := c.Render(e)
	if err == nil {
		err = c.Sender.Send(ctx, message)
	}
	if err != nil && ctx.Err() != nil {
		return false // it is unknown whether it arrived
	}
	now := c.Now()
	if len(c.done)+len(c.dead) == 0 {
		c.first = now
	}
	if err == nil {
		c.succeed(e, now)
		return true
	}
	c.fail(ctx, e, now, err)
	return false
}

func (c *Courier) succeed(e store.Event, now time.Time) {
	c.Count(Delivered)
	c.done = append(c.done, e.Seq)
	if len(c.streak) > 1 {
		for seq := range c.streak {
			c.delays[seq] = delay{attempts: c.delays[seq].attempts, first: c.delays[seq].first, until: now}
		}
	}
	clear(c.streak)
	c.fails = 0
	delete(c.delays, e.Seq)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.LastSuccess = now
}

func (c *Courier) fail(ctx context.Context, e store.Event, now time.Time, err error) {
	var answer *Answer
	errors.As(err, &answer)
	before, known := c.delays[e.Seq]
	if !known {
		before.first = now
	}
	given := c.overdue(ctx, e, now.Sub(before.first)) || answer != nil && answer.Status == http.StatusGone
	attempts := before.attempts + 1
	c.fails++
	pause := c.Jitter(backoff.Doubled(firstPause, c.fails, longPause))
	if answer != nil {
		pause = max(pause, min(answer.RetryAfter, longAfter))
	}
	c.resume = now.Add(pause)
	if given {
		c.Count(Dead)
		c.dead = append(c.dead, store.DeadLetter{Event: e, Time: now, Reason: brief(err)})
		delete(c.delays, e.Seq)
		delete(c.streak, e.Seq)
	} else {
		c.Count(Failed)
		c.delays[e.Seq] = delay{attempts, before.first, now.Add(max(pause, c.Jitter(backoff.Doubled(firstRetry, attempts, longRetry))))}
		c.streak[e.Seq] = true
	}
	c.Log.Warn("an event was not delivered", "event", e.ID.String(), "type", string(e.Type), "attachment", e.Attachment.ID.String(),
		"attempts", attempts, "given_up", given, "error", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.LastFailure, c.status.LastError = now, brief(err)
}

// overdue reports whether an event that has failed for the given time since the start
// is to be given up. The time since it was queued counts only if the clock is trusted:
// the event may have been queued while the clock was wrong.
func (c *Courier) overdue(ctx context.Context, e store.Event, failing time.Duration) bool {
	now, settled, _, err := c.Clock(ctx)
	return failing >= c.RetryFor || err == nil && settled && now.Sub(e.Queued) >= c.RetryFor
}

// brief truncates the text of an error that is stored.
func brief(err error) string {
	const most = 300
	text := err.Error()
	return text[:min(len(text), most)]
}

// flush removes delivered and given up events from the outbox, and reports whether that
// succeeded.
func (c *Courier) flush(ctx context.Context) bool {
	if len(c.done)+len(c.dead) == 0 {
		return true
	}
	if err := c.Outbox.AckEvents(ctx, c.done, c.dead...); err != nil {
		// They stay in memory, and are not sent again before they are removed.
		c.stumble(ctx, "delivered events cannot be removed from the outbox", err)
		return false
	}
	c.done, c.dead = nil, nil
	return true
}

// stumble handles a failure of the outbox itself: it logs it and pauses.
func (c *Courier) stumble(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	c.Log.Error(what, "error", err)
	c.resume = c.Now().Add(longPause)
}

// prune removes old dead letters at intervals.
func (c *Courier) prune(ctx context.Context) {
	now := c.Now()
	if now.Sub(c.pruned) < pruneEvery {
		return
	}
	c.pruned = now
	for total := 0; ; {
		var removed int
		_, _, age, err := c.Clock(ctx)
		if err == nil {
			removed, err = c.Outbox.PruneDeadLetters(ctx, age, keepDead, pruneAtOnce)
		}
		if err != nil {
			c.stumble(ctx, "old dead letters cannot be removed", err)
			return
		}
		if total += removed; removed < pruneAtOnce {
			if total > 0 {
				c.Log.Warn("removed old dead letters", "events", total)
			}
			return
		}
	}
}
