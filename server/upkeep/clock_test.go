package upkeep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"attachd/server/upkeep"
	"attachd/store"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// notes is a store of notes in memory.
type notes map[string][]byte

func (n notes) Note(_ context.Context, name string) ([]byte, error) {
	if note, is := n[name]; is {
		return note, nil
	}
	return nil, store.ErrNotFound
}

func (n notes) SetNote(_ context.Context, name string, value []byte) error {
	n[name] = value
	return nil
}

// box is a computer, on which a server is started and stopped.
type box struct {
	t       *testing.T
	wall    time.Time     // time of its clock
	elapsed time.Duration // since it was made, by the monotonic clock
	notes   notes
	clock   *upkeep.Clock
}

func newBox(t *testing.T, begins time.Time) *box {
	b := &box{t: t, wall: begins, notes: notes{}}
	b.start()
	return b
}

// start starts a server, as after a crash: what was not saved is lost.
func (b *box) start() {
	b.clock = upkeep.NewClock(func() time.Time { return b.wall }, func() time.Duration { return b.elapsed }, b.notes, slog.New(slog.DiscardHandler))
	b.read()
}

func (b *box) read() upkeep.ClockReading {
	b.t.Helper()
	r, err := b.clock.Read(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// run has the server run for d.
func (b *box) run(d time.Duration) {
	for step := 10 * time.Minute; d > 0; d -= step {
		step = min(step, d)
		b.wall, b.elapsed = b.wall.Add(step), b.elapsed+step
		b.read()
	}
}

// off has the computer off for d.
func (b *box) off(d time.Duration) {
	b.stop()
	b.wall = b.wall.Add(d)
	b.start()
}

func (b *box) stop() {
	ended, end := context.WithCancel(context.Background())
	end()
	b.clock.Run(ended)
}

func (b *box) set(by time.Duration) { b.wall = b.wall.Add(by); b.read() }

// aged checks that the age has grown by want since before, give or take give.
func (b *box) aged(before time.Duration, want, give time.Duration) {
	b.t.Helper()
	if got := b.read().Age - before; (got - want).Abs() > give {
		b.t.Errorf("the age grew by %v, not by %v", got, want)
	}
}

var morning = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func TestAClockThatIsWrongForAWhileAgesNothing(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, 20 * day, 30 * day, 32 * day, 12 * year, 100 * year, -time.Hour, -20 * day, -56 * year} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprint(by, restarts), func(t *testing.T) {
				b := newBox(t, morning)
				b.run(10 * day)
				before := b.read().Age
				wrong := func() {
					if restarts {
						b.off(by)
					} else {
						b.set(by)
					}
				}
				wrong()
				b.run(time.Minute)
				b.aged(before, time.Minute, 24*time.Minute)
				if r := b.read(); r.Trusted.After(morning.Add(10*day + time.Hour)) {
					t.Errorf("%v is said to have passed", r.Trusted)
				}
				by = -by
				wrong()
				b.run(3 * day)
				b.aged(before, 3*day, time.Hour)
				if r := b.read(); !r.Settled || r.Trusted.Sub(b.wall).Abs() > time.Minute {
					t.Errorf("the clock has been right for three days: %+v", r)
				}
			})
		}
	}
}

// However and however often the clock is set, and whether or not the server is
// restarted.
func TestNoAgeGrowsFasterThanItMay(t *testing.T) {
	b := newBox(t, morning)
	begun := b.elapsed
	jumps := []time.Duration{year, -30 * day, 31 * day, 31 * day, -12 * year, 56 * year, 30 * day, -day, 40 * day, -40 * day}
	for i := range 200 {
		before, at := b.read().Age, b.elapsed
		if by := jumps[i%len(jumps)]; i%3 == 0 {
			b.off(by)
		} else {
			b.set(by)
		}
		b.run(time.Duration(i%30) * time.Hour)
		if ran, aged := b.elapsed-at, b.read().Age-before; aged < ran || aged > 24*ran {
			t.Errorf("after jump %d, in %v the age grew by %v", i, ran, aged)
		}
	}
	if r := b.read(); r.Jumps == 0 || r.Age < b.elapsed-begun {
		t.Errorf("in %v: %+v", b.elapsed-begun, r)
	}
}

// A computer that is off most of the time counts that time too.
func TestTimeForWhichTheServerWasOffIsCountedBitByBit(t *testing.T) {
	for _, c := range []struct{ off, runs time.Duration }{
		{23 * time.Hour, time.Hour}, {62 * time.Hour, 106 * time.Hour}, {30 * day, 2 * day}, {15 * time.Hour, 9 * time.Hour},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			b := newBox(t, morning)
			for range 20 {
				b.off(c.off)
				b.run(c.runs)
			}
			b.aged(0, 20*(c.off+c.runs), c.off/10+time.Hour)
			if r := b.read(); !r.Settled || r.Jumps != 0 {
				t.Errorf("it never jumped: %+v", r)
			}
		})
	}
}

// A computer whose clock stops while it is off starts in 1970 each time, until it gets
// the time from the network.
func TestBootsIn1970AreNoTime(t *testing.T) {
	b := newBox(t, time.Unix(0, 0))
	b.run(time.Minute)
	real := morning
	for boot := range 50 {
		b.wall = real
		before := b.read().Age
		b.run(40 * time.Hour)
		real = b.wall.Add(time.Minute)
		b.stop()
		b.wall = time.Unix(7, 0)
		b.start()
		b.run(time.Minute)
		if aged := b.read().Age - before; aged > 40*time.Hour+30*time.Minute {
			t.Errorf("boot %d aged all by %v", boot, aged)
		}
	}
	b.wall = real
	b.run(day)
	if r := b.read(); !r.Settled || r.Trusted.Sub(b.wall).Abs() > time.Minute {
		t.Errorf("the clock has been right for days: %+v", r)
	}
}

// A crash loses only what was not saved, and is no jump.
func TestACrashIsNoJump(t *testing.T) {
	b := newBox(t, morning)
	b.run(day)
	b.wall, b.elapsed = b.wall.Add(5*time.Minute), 0
	b.start()
	b.run(time.Hour)
	b.aged(0, day+time.Hour+5*time.Minute, time.Minute)
	if r := b.read(); r.Jumps != 0 || !r.Settled {
		t.Errorf("%+v", r)
	}
}

func TestWithoutItsNoteNobodyKnowsHowMuchTimeHasPassed(t *testing.T) {
	b := newBox(t, morning)
	b.notes["clock"] = []byte("{")
	b.clock = upkeep.NewClock(func() time.Time { return b.wall }, func() time.Duration { return b.elapsed }, b.notes, slog.New(slog.DiscardHandler))
	if r, err := b.clock.Read(t.Context()); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("%+v, %v", r, err)
	}
}
