package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"attachd/store"
)

const (
	// clockSlack is by how much the clock may be moved at once without having
	// jumped: clocks are set right in steps.
	clockSlack = time.Minute
	// longestOff bounds how long a server may have been off, by the clock at its
	// start: a longer pause is taken for a jump of the clock.
	longestOff = 31 * 24 * time.Hour
	// catchUp is how many times as fast as time really passes the trusted time
	// goes on while it is behind the clock.
	catchUp = 24
	// holdFor is how long a server must have run after a jump before the clock is
	// trusted again.
	holdFor = 24 * time.Hour
	// clockSaveInterval is after how much running time the clock's note is
	// written anew.
	clockSaveInterval = 10 * time.Minute
	// shortRun is the running time below which a stop does not write the clock's
	// note, so that a short run leaves the database as it was.
	shortRun = time.Minute
	// clockInterval is how often the clock is looked at while nobody asks.
	clockInterval = 30 * time.Second
)

// clockNote is the name of the note that has a clockState.
const clockNote = "clock"

// Clock measures elapsed time for everything that is deleted by age. The system
// clock may be wrong for a while, in either direction.
//
// While the server runs, the monotonic clock gives the elapsed time. The time for
// which it was off is known from the system clock only, and there a clock that
// was set looks the same as a pause. Hence these rules for Age (elapsed time) and
// Trusted (time of day):
//
//   - The clock is ahead by up to longestOff: both catch up, at most catchUp times
//     as fast as time passes.
//   - It is ahead by more, or went back: both go on at the speed of time. Once the
//     server has run for holdFor by that clock, Trusted is set to it; Age never
//     counts the difference.
//
// So while a server runs for a time t, no age grows by more than catchUp * t.
type Clock struct {
	now     func() time.Time
	elapsed func() time.Duration // by the monotonic clock, since any moment
	notes   store.Notes
	log     *slog.Logger

	mu     sync.Mutex
	loaded bool
	state  clockState
	at     time.Duration // elapsed at the last reading
	saved  time.Duration // elapsed when the state was last written down
	jumps  int64
}

// clockState is what a Clock remembers across restarts.
type clockState struct {
	Age     time.Duration `json:"age"`
	Trusted time.Time     `json:"trusted"`
	Seen    time.Time     `json:"seen"`           // what the clock last said
	Held    time.Duration `json:"held,omitempty"` // for which the server has run by a clock that is not trusted
	Jump    ClockJump     `json:"jump,omitzero"`  // the last one
}

// ClockJump is that a clock said something else than it should have.
type ClockJump struct {
	From time.Time     `json:"from"` // what it should have said, or last said before a start
	To   time.Time     `json:"to"`   // what it said
	Age  time.Duration `json:"age"`  // when that was, in nanoseconds
}

// ClockReading is what a Clock says.
type ClockReading struct {
	// Age is how much time has passed since the installation was made, or less.
	Age time.Duration
	// Trusted is not later than the real time, unless the server has run for
	// holdFor by a clock that is ahead.
	Trusted time.Time
	// Settled is whether the system clock says the same as before, and no jump
	// is being waited out.
	Settled bool
	Jumps   int64 // since the server started
	Jump    ClockJump
}

// NewClock makes a Clock.
func NewClock(now func() time.Time, elapsed func() time.Duration, notes store.Notes, log *slog.Logger) *Clock {
	return &Clock{now: now, elapsed: elapsed, notes: notes, log: log}
}

// Run reads the clock every clockInterval, until ctx ends, so that a jump is noticed
// and what is remembered is not old.
func (c *Clock) Run(ctx context.Context) {
	for {
		if _, err := c.Read(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("how much time has passed is not known: nothing is deleted for its age", "error", err)
		}
		select {
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.loaded && c.elapsed()-c.saved >= shortRun {
				c.update()
				c.save(context.WithoutCancel(ctx))
			}
			return
		case <-time.After(clockInterval):
		}
	}
}

// Read reads the clock, and updates what is remembered of it.
func (c *Clock) Read(ctx context.Context) (ClockReading, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	jumps := c.jumps
	if err := c.load(ctx); err != nil {
		return ClockReading{}, err
	}
	c.update()
	if c.jumps > jumps || c.at-c.saved >= clockSaveInterval {
		c.save(ctx)
	}
	s := c.state
	trusted := s.Trusted
	if s.Seen.Before(trusted) {
		trusted = s.Seen
	}
	return ClockReading{Age: s.Age, Trusted: trusted, Settled: s.settled(), Jumps: c.jumps, Jump: s.Jump}, nil
}

func (s clockState) settled() bool { return s.Held == 0 && s.Seen.Sub(s.Trusted).Abs() <= clockSlack }

// load begins with what was remembered. The first look says whether the clock
// goes on from there.
func (c *Clock) load(ctx context.Context) error {
	if c.loaded {
		return nil
	}
	state, err := readClock(ctx, c.notes)
	if err != nil {
		return err
	}
	now := c.wall()
	isNew := state.Trusted.IsZero()
	if isNew {
		state.Trusted, state.Seen = now, now
	}
	c.state, c.loaded, c.at = state, true, c.elapsed()
	c.saved = c.at
	if isNew {
		c.saved -= clockSaveInterval // the next start must know of this one
	}
	if by := now.Sub(state.Seen); by < -clockSlack || by > longestOff {
		c.jumped(state.Seen, now)
	}
	c.state.Seen = now
	return nil
}

func readClock(ctx context.Context, notes store.Notes) (s clockState, err error) {
	note, err := notes.Note(ctx, clockNote)
	if errors.Is(err, store.ErrNotFound) {
		return clockState{}, nil
	}
	if err == nil {
		err = json.Unmarshal(note, &s)
	}
	if err != nil {
		return clockState{}, fmt.Errorf("the note of the clock: %w", err)
	}
	return s, nil
}

// wall is what the system clock says, as it will be when it is read from a note.
func (c *Clock) wall() time.Time { return c.now().UTC().Round(0) }

// update takes in what the clocks say.
func (c *Clock) update() {
	s, now, elapsed := &c.state, c.wall(), c.elapsed()
	passed := elapsed - c.at
	c.at = elapsed
	if should := s.Seen.Add(passed); now.Sub(should).Abs() > clockSlack {
		c.jumped(should, now)
	}
	s.Seen = now
	step := passed
	switch behind := now.Sub(s.Trusted); {
	case behind >= passed-clockSlack && behind <= longestOff:
		step, s.Held = max(passed, min(behind, catchUp*passed)), 0
	default:
		s.Held += passed
	}
	s.Age, s.Trusted = s.Age+step, s.Trusted.Add(step)
	if s.Held >= holdFor {
		s.Held, s.Trusted = 0, now
	}
}

func (c *Clock) jumped(from, to time.Time) {
	c.jumps++
	c.state.Held, c.state.Jump = 0, ClockJump{from, to, c.state.Age}
	c.log.Warn("the clock jumped: it was set, or the computer was off or asleep. Nothing is deleted for its age on the word of that",
		"should_say", from.Format(time.RFC3339), "says", to.Format(time.RFC3339), "by", to.Sub(from).Round(time.Second).String())
}

// save writes down what is to be remembered. Without it, less time has passed.
func (c *Clock) save(ctx context.Context) {
	c.saved = c.at
	note, err := json.Marshal(c.state)
	if err == nil {
		err = c.notes.SetNote(ctx, clockNote, note)
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn("how much time has passed could not be written down", "error", err)
	}
}
