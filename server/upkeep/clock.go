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
	// clockSlack is the largest step of the clock that does not count as a jump: clocks
	// are adjusted in steps.
	clockSlack = time.Minute
	// longestOff is the longest time for which a server may have been off, by the clock
	// at its start: a longer pause is taken for a jump of the clock.
	longestOff = 31 * 24 * time.Hour
	// catchUp is how many times faster than real time the trusted time runs while it is
	// behind the clock.
	catchUp = 24
	// holdFor is how long a server must have run after a jump before the clock is
	// trusted again.
	holdFor = 24 * time.Hour
	// clockSaveInterval is the running time after which the clock's note is saved
	// again.
	clockSaveInterval = 10 * time.Minute
	// shortRun is the running time below which a stop does not write the clock's
	// note, so that a short run leaves the database as it was.
	shortRun = time.Minute
	// clockInterval is how often the clock is read while nothing else reads it.
	clockInterval = 30 * time.Second
)

// clockNote is the name of the note that has a clockState.
const clockNote = "clock"

// Clock measures elapsed time for everything that is deleted by age. It allows for a
// system clock that is wrong for a while, in either direction.
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
	elapsed func() time.Duration // monotonic time since a fixed moment
	notes   store.Notes
	log     *slog.Logger

	mu     sync.Mutex
	loaded bool
	state  clockState
	at     time.Duration // elapsed at the last reading
	saved  time.Duration // elapsed when the state was last saved
	jumps  int64
}

// clockState is the state of a Clock that is saved across restarts.
type clockState struct {
	Age     time.Duration `json:"age"`
	Trusted time.Time     `json:"trusted"`
	Seen    time.Time     `json:"seen"`           // last reading of the system clock
	Held    time.Duration `json:"held,omitempty"` // how long the server has run by a clock that is not trusted
	Jump    ClockJump     `json:"jump,omitzero"`  // the last one
}

// ClockJump is a difference between the time that a clock showed and the one expected
// of it.
type ClockJump struct {
	From time.Time     `json:"from"` // expected time, or the last one before a start
	To   time.Time     `json:"to"`   // time that it showed
	Age  time.Duration `json:"age"`  // when it jumped, as ClockReading.Age, in nanoseconds
}

// ClockReading is a reading of a Clock.
type ClockReading struct {
	// Age is the time since the installation was made, or less.
	Age time.Duration
	// Trusted is not later than the real time, unless the server has run for
	// holdFor by a clock that is ahead.
	Trusted time.Time
	// Latest is the system clock's time, or Trusted where that went on while the system
	// clock went back.
	Latest time.Time
	// Settled is whether the system clock agrees with Trusted, and no jump is being
	// waited out.
	Settled bool
	Jumps   int64 // since the server started
	Jump    ClockJump
}

// NewClock returns a Clock.
func NewClock(now func() time.Time, elapsed func() time.Duration, notes store.Notes, log *slog.Logger) *Clock {
	return &Clock{now: now, elapsed: elapsed, notes: notes, log: log}
}

// Run reads the clock every clockInterval, until ctx ends, so that jumps are noticed
// and the saved state is recent.
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

// Read reads the clock, and updates its state.
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
	trusted, latest := s.Trusted, s.Seen
	if latest.Before(trusted) {
		trusted, latest = latest, trusted
	}
	return ClockReading{Age: s.Age, Trusted: trusted, Latest: latest, Settled: s.settled(), Jumps: c.jumps, Jump: s.Jump}, nil
}

func (s clockState) settled() bool { return s.Held == 0 && s.Seen.Sub(s.Trusted).Abs() <= clockSlack }

// load loads the saved state. The first reading determines whether the clock continues
// from there.
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
		c.saved -= clockSaveInterval // so that the next start knows of this one
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

// wall returns the system clock's time, in the form in which it is read back from a
// note.
func (c *Clock) wall() time.Time { return c.now().UTC().Round(0) }

// update updates the state by both clocks.
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

// save saves the state. If it fails, the next start counts less time as passed.
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
