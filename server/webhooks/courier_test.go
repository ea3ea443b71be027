package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// post is an outbox in memory, a receiver, and a courier between them whose clock
// advances by itself when the courier waits.
type post struct {
	*testing.T
	courier *Courier
	end     context.CancelFunc
	ended   chan struct{}

	mu       sync.Mutex
	now      time.Time
	events   []store.Event
	dead     []store.DeadLetter
	news     chan struct{}
	settling error
	jumped   bool // the clock is not trusted
	answer   func(id string, attempt int) (status int, retryAfter string)
	got      []string // what the receiver received, and when
	attempts map[string]int
	before   func() // called before the clock advances
}

func newPost(t *testing.T, answer func(id string, attempt int) (int, string)) *post {
	t.Helper()
	p := &post{T: t, now: noon, news: make(chan struct{}, 1), answer: answer, attempts: map[string]int{}, ended: make(chan struct{})}
	there := receive(t, func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		id := r.Header.Get("webhook-id")
		p.attempts[id]++
		p.got = append(p.got, fmt.Sprintf("%s at %v", id, p.now.Sub(noon)))
		status, after := p.answer(id, p.attempts[id])
		w.Header().Set("Retry-After", after)
		w.WriteHeader(status)
	})
	p.courier = NewCourier(Options{
		Outbox: p, Sender: to(t, there.URL), RetryFor: 72 * time.Hour,
		Render: func(e store.Event) (Message, error) { return Message{ID: name(e.ID)}, nil },
		Now:    p.clock, Clock: func(context.Context) (time.Time, bool, time.Duration, error) { return p.clock(), !p.jumped, 0, nil }, Log: slog.New(slog.DiscardHandler), After: p.after,
		Jitter: func(d time.Duration) time.Duration { return d },
	})
	return p
}

// name is the letter that an id was made from.
func name(id uuid.UUID) string { return string(rune(id[15])) }

func letter(r byte) (id uuid.UUID) {
	id[15] = r
	return id
}

// run runs the courier until the outbox is empty.
func (p *post) run() {
	p.Helper()
	ctx, cancel := context.WithCancel(p.Context())
	p.end = cancel
	p.courier.Run(ctx)
}

func (p *post) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *post) after(d time.Duration) <-chan time.Time {
	if p.before != nil {
		p.before()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.events) == 0 {
		p.end()
		return nil
	}
	p.now = p.now.Add(d)
	fired := make(chan time.Time, 1)
	fired <- p.now
	return fired
}

// add adds an event about an attachment to the outbox.
func (p *post) add(id, about byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, store.Event{Seq: uint64(len(p.events) + 1), ID: letter(id), Queued: p.now, Attachment: store.Attachment{ID: letter(about)}})
}

func (p *post) wantGot(want ...string) {
	p.Helper()
	if !slices.Equal(p.got, want) {
		p.Errorf("the receiver got\n%q, want\n%q", p.got, want)
	}
}

func (p *post) Events(_ context.Context, after uint64, limit int) (list []store.Event, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Seq > after && len(list) < limit {
			list = append(list, e)
		}
	}
	return list, nil
}

func (p *post) AckEvents(_ context.Context, delivered []uint64, dead ...store.DeadLetter) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settling != nil {
		return p.settling
	}
	for _, letter := range dead {
		delivered = append(delivered, letter.Event.Seq)
	}
	p.dead = append(p.dead, dead...)
	p.events = slices.DeleteFunc(p.events, func(e store.Event) bool { return slices.Contains(delivered, e.Seq) })
	return nil
}

func (p *post) NewEvents() <-chan struct{} { return p.news }

func (p *post) PruneDeadLetters(context.Context, time.Duration, time.Duration, int) (int, error) {
	return 0, nil
}

func (p *post) DeadLetters(context.Context, uint64, int) ([]store.DeadLetter, error) {
	panic("not a courier's affair")
}

func (p *post) Redeliver(context.Context, time.Time, int) (int, error) {
	panic("not a courier's affair")
}

func (p *post) OutboxSize() (events, dead int64) { panic("not a courier's affair") }

func taken(string, int) (int, string) { return 204, "" }

func TestEventsAreSentInTheirOrder(t *testing.T) {
	t.Parallel()
	p := newPost(t, taken)
	var want []string
	for i := range byte(150) { // more than one batch
		p.add('a', i)
		want = append(want, fmt.Sprintf("%d at 0s", i+1))
	}
	p.courier.Render = func(e store.Event) (Message, error) { return Message{ID: fmt.Sprint(e.Seq)}, nil }
	p.run()
	p.wantGot(want...)
}

func TestAFailureIsTriedAgainLaterAndLater(t *testing.T) {
	t.Parallel()
	p := newPost(t, func(_ string, attempt int) (int, string) {
		if attempt < 5 {
			return 500, ""
		}
		return 200, ""
	})
	p.add('a', 1)
	p.run()
	p.wantGot("a at 0s", "a at 5s", "a at 15s", "a at 35s", "a at 1m15s")
	if status := p.courier.Status(); status.LastError != "the receiver answered 500 Internal Server Error" || !status.LastSuccess.Equal(p.now) || !status.LastFailure.Equal(noon.Add(35*time.Second)) {
		t.Errorf("the status is %+v", status)
	}
}

func TestTheReceiverIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	t.Parallel()
	p := newPost(t, func(id string, attempt int) (int, string) {
		switch {
		case id == "a" && attempt == 1:
			return 429, "600"
		case id == "a" && attempt == 2:
			return 503, "86400" // more than is respected
		}
		return 200, ""
	})
	p.add('a', 1)
	p.add('b', 2)
	p.run()
	p.wantGot("a at 0s", "b at 10m0s", "a at 10m0s", "a at 1h10m0s")
}

func TestAnEventThatFailsHoldsUpItsOwnAttachmentOnly(t *testing.T) {
	t.Parallel()
	p := newPost(t, func(id string, attempt int) (int, string) {
		if id == "a" && attempt < 3 {
			return 500, ""
		}
		return 200, ""
	})
	p.add('a', 1)
	p.add('b', 2)
	p.add('c', 1) // about the same attachment as a
	p.add('d', 3)
	p.run()
	p.wantGot("a at 0s", "b at 1s", "d at 1s", "a at 5s", "a at 15s", "c at 15s")
}

// After an outage of the receiver, no event waits for its own retry.
func TestAfterAnOutageEverythingIsSentAtOnce(t *testing.T) {
	t.Parallel()
	p := newPost(t, nil)
	p.answer = func(string, int) (int, string) {
		if p.now.Before(noon.Add(6 * time.Hour)) {
			return 502, ""
		}
		return 200, ""
	}
	for i := range byte(5) {
		p.add('a'+i, i)
	}
	p.run()
	tail := p.got[len(p.got)-5:]
	_, last, _ := cutAt(tail[4])
	for _, line := range tail {
		if _, at, _ := cutAt(line); at != last {
			t.Errorf("the last were sent as %q", tail)
		}
	}
	at, err := time.ParseDuration(last)
	if err != nil || at > 6*time.Hour+15*time.Minute {
		t.Errorf("the last was sent at %s", last)
	}
	if len(p.got) > 400 {
		t.Errorf("the receiver was troubled %d times in six hours", len(p.got))
	}
}

// However many events the receiver cannot process, the others arrive.
func TestManyEventsThatFailAreInNobodysWay(t *testing.T) {
	t.Parallel()
	p := newPost(t, nil)
	p.answer = func(id string, _ int) (int, string) {
		if id == "bad" && p.now.Before(noon.Add(12*time.Hour)) {
			return 500, ""
		}
		return 200, ""
	}
	p.courier.Render = func(e store.Event) (Message, error) {
		if e.ID == letter('b') {
			return Message{ID: "bad"}, nil
		}
		return Message{ID: "good"}, nil
	}
	for i := range byte(2 * window) {
		p.add('b', i)
	}
	p.add('g', 255)
	p.run()
	i := slices.IndexFunc(p.got, func(line string) bool { return line[:4] == "good" })
	if at, err := time.ParseDuration(p.got[i][len("good at "):]); err != nil || at > 6*time.Hour {
		t.Errorf("the good one came as %q", p.got[i])
	}
}

func cutAt(line string) (id, at string, ok bool) { return line[:1], line[len("a at "):], true }

func TestWhatIsTooOldOrNotWantedIsGivenUp(t *testing.T) {
	t.Parallel()
	p := newPost(t, func(id string, _ int) (int, string) {
		return map[string]int{"a": 500, "b": 410, "c": 200}[id], ""
	})
	p.add('a', 1)
	p.add('b', 2)
	p.add('c', 1)
	p.run()
	if len(p.dead) != 2 || name(p.dead[0].Event.ID) != "b" || name(p.dead[1].Event.ID) != "a" ||
		p.dead[0].Reason != "the receiver answered 410 Gone" || p.dead[1].Reason != "the receiver answered 500 Internal Server Error" {
		t.Errorf("dead letters: %+v", p.dead)
	}
	if late := p.now.Sub(noon); late < 72*time.Hour || late > 73*time.Hour {
		t.Errorf("given up after %v", late)
	}
	if last := p.got[len(p.got)-1]; last[:1] != "c" {
		t.Errorf("the last was %q", last)
	}
}

// How long an event has waited is unknown when the clock has jumped since, or was wrong
// when the event was queued: it is given up when it has failed for that long.
func TestAnEventIsNotGivenUpByAClockThatJumped(t *testing.T) {
	t.Parallel()
	for name, queued := range map[string]time.Duration{"ahead": -12 * 365 * 24 * time.Hour, "back": 12 * 365 * 24 * time.Hour, "a little": -73 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPost(t, func(string, int) (int, string) { return 500, "" })
			p.jumped = true
			p.add('a', 1)
			p.events[0].Queued = noon.Add(queued)
			p.run()
			if late := p.now.Sub(noon); len(p.dead) != 1 || late < 72*time.Hour || late > 73*time.Hour {
				t.Errorf("%d were given up after %v", len(p.dead), late)
			}
		})
	}
}

// An event that cannot be removed from the outbox is not sent again.
func TestAnOutboxThatFailsDoesNotMakeTheReceiverHearTwice(t *testing.T) {
	t.Parallel()
	p := newPost(t, taken)
	p.add('a', 1)
	p.settling = errors.New("no room")
	turns := 0
	p.before = func() {
		if turns++; turns == 3 {
			p.mu.Lock()
			p.settling = nil
			p.mu.Unlock()
		}
	}
	p.run()
	p.wantGot("a at 0s")
}

// Whatever is in progress, Run ends promptly, and delivered events are removed.
func TestTheEndIsPrompt(t *testing.T) {
	t.Parallel()
	p := newPost(t, taken)
	hangs, end := make(chan struct{}), make(chan struct{})
	p.answer = func(id string, _ int) (int, string) {
		if id == "b" {
			p.mu.Unlock()
			close(hangs)
			<-end
			p.mu.Lock()
		}
		return 200, ""
	}
	p.add('a', 1)
	p.add('b', 2)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-hangs
		cancel()
	}()
	p.courier.Run(ctx)
	close(end)
	if len(p.events) != 1 || name(p.events[0].ID) != "b" {
		t.Errorf("the outbox has %+v", p.events)
	}
}

func TestJitterStaysWithinHalf(t *testing.T) {
	courier := NewCourier(Options{})
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 100 {
		d := courier.Jitter(time.Minute)
		if seen[d] = true; d < 30*time.Second || d > time.Minute {
			t.Errorf("a wait of %v", d)
		}
	}
	if len(seen) < 50 {
		t.Errorf("only %d waits differ", len(seen))
	}
}
