package upkeep

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"attachd/blobs"
	"attachd/store"
)

// ScrubOptions say how a Scrub goes about it. All are required.
type ScrubOptions struct {
	Rate   int64         // bytes a second that it reads at most
	Period time.Duration // within which everything is to be read once
	Now    func() time.Time
	Wait   func(ctx context.Context, d time.Duration) // so long, or until ctx ends
	Busy   func() bool                                // whether people are being served
	Log    *slog.Logger
}

// ScrubStatus is how far a Scrub is.
type ScrubStatus struct {
	Bytes    int64     // read since it was made
	Progress float64   // of the pass, from 0 to 1
	Damaged  int64     // contents that the pass met and that are damaged or cannot be read
	LastPass time.Time // end of the last whole pass; zero when there was none
}

// Scrub reads all stored contents in passes, one each period, and marks and
// logs those whose bytes are not what they should be: damage that nobody comes
// upon is found while there still is a backup without it.
//
// A pass goes through the contents in order of Ref. Refs are spread evenly, so
// the place of a content among all Refs is the fraction of the pass that is
// done with it, and its place in the period is when it is due. A content that
// is due is read at once; others are read while nobody is being served.
type Scrub struct {
	ScrubOptions
	records  store.Store
	contents blobs.Store
	limiter  *rate.Limiter

	// These belong to Run.
	pass   pass
	loaded bool
	moved  bool      // since it was saved
	saved  time.Time // when that was tried last

	mu     sync.Mutex
	status ScrubStatus
}

// pass is what is remembered across restarts.
type pass struct {
	Began    time.Time `json:"began"`
	Last     blobs.Ref `json:"last,omitzero"`      // done; the zero Ref, which no content has, at the beginning
	Done     bool      `json:"done,omitempty"`     // all of it
	Late     bool      `json:"late,omitempty"`     // and so the log says
	Contents int64     `json:"contents"`           // read
	Bytes    int64     `json:"bytes"`              // in them
	Damaged  int64     `json:"damaged"`            // known before, found, or not to be opened
	LastPass time.Time `json:"last_pass,omitzero"` // end of the last whole one
}

// The note in the store that has the pass.
const scrubNote = "scrub"

const (
	saveInterval  = time.Minute            // between saving the position
	troubleWait   = time.Minute            // before trying again what failed
	betweenPasses = time.Minute            // between looking whether the next pass is due: clocks are set and laptops sleep
	busyWait      = 250 * time.Millisecond // between looking whether people are still being served
)

// How many of the attachments that have a damaged content are logged.
const maxNamed = 10

// NewScrub makes a Scrub; Run has it go.
func NewScrub(records store.Store, contents blobs.Store, opts ScrubOptions) *Scrub {
	return &Scrub{ScrubOptions: opts, records: records, contents: contents, limiter: rate.NewLimiter(rate.Limit(opts.Rate), piece)}
}

// Status may be called at any time.
func (s *Scrub) Status() ScrubStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Run reads until ctx ends, and then saves where it is. What fails is logged
// and tried again. It may be called once.
func (s *Scrub) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.step(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("the scrub cannot go on, and will try again", "in", troubleWait.String(), "error", err)
			s.Wait(ctx, troubleWait)
		}
	}
	s.save(ctx)
}

// step does what comes next, as long as nothing fails.
func (s *Scrub) step(ctx context.Context) error {
	if !s.loaded {
		return s.load(ctx)
	}
	s.saveNowAndThen(ctx)
	if !s.pass.Done {
		return s.read(ctx)
	}
	if left := s.Period - s.elapsed(); left > 0 {
		s.Wait(ctx, min(left, betweenPasses))
		return nil
	}
	s.begin()
	return nil
}

// load goes on with the pass that was under way. A note that makes no sense
// is no reason not to read the contents.
func (s *Scrub) load(ctx context.Context) error {
	note, err := s.records.Note(ctx, scrubNote)
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.begin()
	case err != nil:
		return fmt.Errorf("reading where the scrub was: %w", err)
	default:
		s.resume(note)
	}
	s.loaded = true
	s.tell()
	return nil
}

func (s *Scrub) resume(note []byte) {
	var p pass
	err := json.Unmarshal(note, &p)
	if err == nil && p.Began.IsZero() {
		err = errors.New("it does not say when the pass began")
	}
	if err != nil {
		s.Log.Warn("where the scrub was cannot be read: it begins anew", "error", err)
		s.begin()
		return
	}
	if now := s.now(); p.Began.After(now) {
		p.Began = now // the clock was wrong then
	}
	s.pass = p
}

func (s *Scrub) begin() {
	s.pass = pass{Began: s.now(), LastPass: s.pass.LastPass}
	s.moved, s.saved = true, time.Time{}
	s.tell()
}

// read goes through what is left of the pass.
func (s *Scrub) read(ctx context.Context) error {
	for info, err := range s.contents.All(ctx, s.pass.Last) {
		if err != nil {
			return fmt.Errorf("listing contents: %w", err)
		}
		if info.Ref == s.pass.Last {
			continue
		}
		if err := s.look(ctx, info); err != nil {
			return err
		}
		s.pass.Last, s.moved = info.Ref, true
		s.warnIfLate()
		s.tell()
		s.saveNowAndThen(ctx)
	}
	s.finish(ctx)
	return nil
}

// look reads a content. The only error is that of ctx.
func (s *Scrub) look(ctx context.Context, info blobs.Info) error {
	if err := s.giveWay(ctx, info.Ref); err != nil {
		return err
	}
	look := verify
	if info.Damaged {
		look = verifyMarked
	}
	lost, err := look(ctx, s.contents, info, func(content io.Reader) io.Reader {
		return &paced{content, s, ctx, info.Ref}
	})
	if err != nil {
		return err
	}
	s.pass.Contents++
	s.pass.Bytes += info.Size
	switch {
	case lost != nil && info.Damaged:
		s.pass.Damaged++ // which was told when it was found
	case lost != nil:
		s.report(ctx, info.Ref, *lost)
	case info.Damaged:
		s.Log.Info("the scrub found a content whole that was marked damaged", "blob", info.Ref.String())
	}
	return nil
}

// report says what is wrong with a content. A disk that has gone away would
// fail for every content: the wait leaves time to do something about it.
func (s *Scrub) report(ctx context.Context, ref blobs.Ref, lost loss) {
	s.pass.Damaged++
	s.Log.Error("the scrub found a fault", "blob", ref.String(), "what", lost.why, "attachments", s.attachmentsWith(ctx, ref))
	if lost.failed {
		s.Wait(ctx, troubleWait)
	}
}

func (s *Scrub) attachmentsWith(ctx context.Context, ref blobs.Ref) []string {
	list, err := s.records.AttachmentsWith(ctx, ref, maxNamed)
	if err != nil {
		return []string{fmt.Sprintf("cannot be looked up: %v", err)}
	}
	names := []string{}
	for _, a := range list {
		names = append(names, fmt.Sprintf("%s (%q)", a.ID, a.FileName))
	}
	return names
}

func (s *Scrub) finish(ctx context.Context) {
	p := &s.pass
	p.Done, p.LastPass = true, s.now()
	s.warnIfLate()
	s.tell()
	if p.Contents+p.Damaged > 0 {
		s.Log.Info("the scrub has read all contents", "contents", p.Contents, "bytes", p.Bytes, "damaged", p.Damaged, "took", s.elapsed().String())
	}
	s.moved = true
	s.save(ctx)
}

// warnIfLate warns once in a pass. Where the rate needed is not above the one
// that there is, the server was not running, or the disk is slower.
func (s *Scrub) warnIfLate() {
	if s.pass.Late || s.elapsed() <= s.Period {
		return
	}
	s.pass.Late = true
	everything := float64(s.pass.Bytes) / s.progress()
	s.Log.Warn("the scrub is late: all contents were to be read within its period",
		"period", s.Period.String(), "progress", s.progress(), "rate", s.Rate, "rate_needed", int64(everything/s.Period.Seconds())+1)
}

// giveWay waits as long as people are being served and the content is not
// due. The only error is that of ctx.
func (s *Scrub) giveWay(ctx context.Context, ref blobs.Ref) error {
	for ctx.Err() == nil && s.Busy() && !s.due(ref) {
		s.Wait(ctx, busyWait)
	}
	return ctx.Err()
}

func (s *Scrub) due(ref blobs.Ref) bool {
	return s.elapsed().Seconds() >= place(ref)*s.Period.Seconds()
}

// paced is a content that is read no faster than allowed.
type paced struct {
	io.Reader
	scrub *Scrub
	ctx   context.Context
	ref   blobs.Ref
}

func (p *paced) Read(b []byte) (int, error) {
	if err := p.scrub.giveWay(p.ctx, p.ref); err != nil {
		return 0, err
	}
	n, err := p.Reader.Read(b)
	p.scrub.pace(p.ctx, n)
	return n, err
}

// pace counts n bytes, of one piece at most, and waits for as long as they
// may take.
func (s *Scrub) pace(ctx context.Context, n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	s.status.Bytes += int64(n)
	s.mu.Unlock()
	now := s.Now()
	if delay := s.limiter.ReserveN(now, n).DelayFrom(now); delay > 0 {
		s.Wait(ctx, delay)
	}
}

// now is the time as it will be when it is read from a note: without the
// clock that stands still while a computer sleeps.
func (s *Scrub) now() time.Time { return s.Now().UTC().Round(0) }

func (s *Scrub) elapsed() time.Duration { return s.now().Sub(s.pass.Began) }

func (s *Scrub) progress() float64 {
	if s.pass.Done {
		return 1
	}
	return place(s.pass.Last)
}

// place is where a Ref is among all Refs, from 0 to 1.
func place(ref blobs.Ref) float64 {
	return float64(binary.BigEndian.Uint64(ref[:8])) / (1 << 64)
}

// tell brings the status up to date.
func (s *Scrub) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Progress, s.status.Damaged, s.status.LastPass = s.progress(), s.pass.Damaged, s.pass.LastPass
}

func (s *Scrub) saveNowAndThen(ctx context.Context) {
	if s.now().Sub(s.saved).Abs() >= saveInterval {
		s.save(ctx)
	}
}

// save writes down where the scrub is, if that has changed. Without it, no
// more is lost than what was read since. It is done even when ctx has ended.
func (s *Scrub) save(ctx context.Context) {
	if !s.moved {
		return
	}
	s.saved = s.now()
	note, err := json.Marshal(s.pass)
	if err == nil {
		err = s.records.SetNote(context.WithoutCancel(ctx), scrubNote, note)
	}
	if err != nil {
		s.Log.Warn("where the scrub is could not be written down", "error", err)
		return
	}
	s.moved = false
}
