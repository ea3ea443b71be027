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

// Options says how a Courier works. All fields without a remark are required.
type Options struct {
	Outbox   store.Outbox
	Sender   *Sender
	Render   func(store.Event) (Message, error)
	RetryFor time.Duration // after which an event that fails is given up
	Now      func() time.Time
	Clock    Clock
	Log      *slog.Logger
	Count    func(outcome string)                 // optional: counts how each attempt ended
	After    func(time.Duration) <-chan time.Time // optional: in place of time.After, for tests
	Jitter   func(d time.Duration) time.Duration  // optional: in place of a wait from d/2 to d
}

// Clock gives a time that has passed whatever the clock was set to, whether it
// is also what the clock says, and the count of time that the outbox forgets
// dead letters by.
type Clock func(ctx context.Context) (now time.Time, settled bool, age time.Duration, err error)

// The outcomes of attempts.
const (
	Delivered = "delivered"
	Failed    = "failed" // it is tried again
	Dead      = "dead"   // it was the last one
)

// Outcomes are all of them.
var Outcomes = []string{Delivered, Failed, Dead}

const (
	window      = 100                 // events that are looked at together, and delivered before they are removed
	flushAfter  = time.Second         // for which delivered events stay in the outbox at most, while others are sent
	firstPause  = time.Second         // after a failure, before anything is sent; doubled by each
	longPause   = time.Minute         // at most
	firstRetry  = 5 * time.Second     // before the same event is sent again; doubled by each
	longRetry   = 15 * time.Minute    // at most
	longAfter   = time.Hour           // of a Retry-After, at most
	keepDead    = 30 * 24 * time.Hour // dead letters
	pruneEvery  = time.Hour
	pruneAtOnce = 5000 // so that changes need not wait for long
)

// Courier brings the events of an outbox to a receiver, one at a time, in
// their order. When one fails, nothing is sent for a while, and that event not
// for longer: others go on before it, those first that were not tried yet, so
// that what the receiver cannot bear is in nobody's way. Only what concerns
// the same attachment waits for it, so that of one attachment all is told in
// order.
//
// That the receiver could not be reached is not an event's fault: once it
// takes another, all that failed meanwhile are tried at once, unless one alone
// had failed.
type Courier struct {
	Options

	delays map[uint64]delay // of events that failed
	streak map[uint64]bool  // events that failed since the last success
	fails  int              // failures since then
	resume time.Time        // nothing is sent before
	done   []uint64         // delivered, and still in the outbox
	dead   []store.DeadLetter
	first  time.Time // when the first of those was
	pruned time.Time

	mu     sync.Mutex
	status Status
}

// delay is how an event that failed is put off.
type delay struct {
	attempts int
	first    time.Time // when it failed first
	until    time.Time
}

// Status is how a Courier has fared since it was made.
type Status struct {
	LastSuccess time.Time // zero: none
	LastFailure time.Time // zero: none
	LastError   string    // of that failure
}

// NewCourier makes a Courier. Run sets it to work.
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
	return &Courier{Options: o, delays: map[uint64]delay{}, streak: map[uint64]bool{}}
}

// Status says what was delivered and what failed last.
func (c *Courier) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Run delivers until ctx ends. What is being sent then may have arrived, and
// is sent again by the next Run.
func (c *Courier) Run(ctx context.Context) {
	defer c.Sender.Close()
	for {
		c.prune(ctx)
		wait := c.round(ctx)
		if ctx.Err() != nil {
			c.flush(context.WithoutCancel(ctx))
			return
		}
		news := c.Outbox.NewEvents()
		if c.resume.After(c.Now()) {
			news = nil // they wait too
		}
		select {
		case <-ctx.Done():
		case <-news:
		case <-c.After(wait):
		}
	}
}

// round sends what can be sent now, and says how long to wait then, unless
// something comes in.
func (c *Courier) round(ctx context.Context) time.Duration {
	for ctx.Err() == nil {
		if !c.flush(ctx) {
			return longPause
		}
		if wait := c.resume.Sub(c.Now()); wait > 0 {
			return wait
		}
		// After a failure, those that have not been tried come first: a few
		// that always fail must not use up all attempts.
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

// pass goes through the outbox until it has sent something, and says whether
// it has, or else when the next event is due. It may send only what was not
// tried before.
func (c *Courier) pass(ctx context.Context, untried bool) (sent bool, wait time.Duration, err error) {
	wait = pruneEvery
	held := map[uuid.UUID]bool{} // attachments of which something earlier waits
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

// sendFirst sends those of some events that can be sent now, up to a failure.
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

// forgetBefore forgets the delays of events that have left the outbox without
// us, because it was full.
func (c *Courier) forgetBefore(events []store.Event) {
	for seq := range c.delays {
		if len(events) == 0 || seq < events[0].Seq {
			delete(c.delays, seq)
			delete(c.streak, seq)
		}
	}
}

// deliver sends an event, and says whether to go on with the next.
func (c *Courier) deliver(ctx context.Context, e store.Event) bool {
	message, err := c.Render(e)
	if err == nil {
		err = c.Sender.Send(ctx, message)
	}
	if err != nil && ctx.Err() != nil {
		return false // nobody knows whether it arrived
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

// overdue says whether an event that has failed for so long, since the start,
// is to be given up. By how long it has waited, only a clock that is trusted
// says so: it may have been queued by one that was wrong.
func (c *Courier) overdue(ctx context.Context, e store.Event, failing time.Duration) bool {
	now, settled, _, err := c.Clock(ctx)
	return failing >= c.RetryFor || err == nil && settled && now.Sub(e.Queued) >= c.RetryFor
}

// brief bounds what is kept of an error.
func brief(err error) string {
	const most = 300
	text := err.Error()
	return text[:min(len(text), most)]
}

// flush removes from the outbox what was delivered or given up, and says
// whether that could be done.
func (c *Courier) flush(ctx context.Context) bool {
	if len(c.done)+len(c.dead) == 0 {
		return true
	}
	if err := c.Outbox.AckEvents(ctx, c.done, c.dead...); err != nil {
		// They stay in memory, and are not sent again before that is done.
		c.stumble(ctx, "delivered events cannot be removed from the outbox", err)
		return false
	}
	c.done, c.dead = nil, nil
	return true
}

// stumble is what becomes of a failure of the outbox itself.
func (c *Courier) stumble(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	c.Log.Error(what, "error", err)
	c.resume = c.Now().Add(longPause)
}

// prune forgets old dead letters, now and then.
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
