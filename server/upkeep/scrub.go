package upkeep

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"attachd/blobs"
	"attachd/store"
)

// ScrubOptions configure a Scrub. All without a remark are required.
type ScrubOptions struct {
	Verifier store.Verifier // verifies the database too; optional
	Marker   blobs.Marker   // marks damaged contents; optional
	Rate     int64          // maximum, in bytes a second
	Period   time.Duration  // time in which everything is read once
	Now      func() time.Time
	Wait     func(ctx context.Context, d time.Duration) // waits for d, or until ctx ends
	Busy     func() bool                                // reports whether people are being served
	Log      *slog.Logger
}

// ScrubStatus is the progress of a Scrub.
type ScrubStatus struct {
	Bytes      int64     // read since the Scrub was created
	Progress   float64   // of the pass, from 0 to 1
	Damaged    int64     // damaged contents found by the pass
	Unreadable int64     // contents that could not be read, and are to be retried
	LastPass   time.Time // end of the last complete pass; zero when there was none
}

// Scrub is a background reader of all stored contents. It reads them in passes, one
// each period, and marks and logs those with the wrong hash: damage to contents that
// nobody reads is found while there still is a backup without it. It also keeps the
// checksums of contents that lack them.
//
// A content that cannot be read is not taken for damaged: a disk may fail and return.
// It is retried after a minute and then at growing intervals. Contents that are marked
// damaged are read again every few hours, since a mark may be wrong.
//
// A pass reads the contents in order of Ref. Refs are spread evenly, so a content's
// position among all Refs is the fraction of the pass before it, and the same fraction
// of the period is when it is due. A content that is due is read at once; others are
// read while nobody is being served.
type Scrub struct {
	ScrubOptions
	records  ScrubRecords
	contents blobs.Store
	limiter  *rate.Limiter

	// These belong to Run.
	pass   pass
	loaded bool
	moved  bool        // the position changed since it was saved
	saved  time.Time   // when saving was last tried
	marked time.Time   // when marked contents are to be read again
	next   []blobs.Ref // marked contents to be read again now
	sums   checksums

	mu     sync.Mutex
	status ScrubStatus
}

// pass is the state of a pass that is saved across restarts.
type pass struct {
	Began    time.Time `json:"began"`
	Last     blobs.Ref `json:"last,omitzero"`      // last content done; the zero Ref, which no content has, at the beginning
	Done     bool      `json:"done,omitempty"`     // the pass is complete
	Late     bool      `json:"late,omitempty"`     // the pass is late, which was logged
	Contents int64     `json:"contents"`           // contents read
	Bytes    int64     `json:"bytes"`              // bytes of contents read
	Damaged  int64     `json:"damaged"`            // damaged contents, known before or found
	Unread   []retry   `json:"unread,omitempty"`   // contents to be retried
	LastPass time.Time `json:"last_pass,omitzero"` // end of the last complete pass
}

// retry is a content that could not be read. After a restart it is retried at once.
type retry struct {
	Ref  blobs.Ref     `json:"blob"`
	due  time.Time     // when it is retried
	wait time.Duration // interval up to due; each failure doubles it
}

// scrubNote is the name of the note with the pass.
const scrubNote = "scrub"

const (
	saveInterval  = time.Minute            // between savings of the position
	troubleWait   = time.Minute            // before a retry of what failed
	betweenPasses = time.Minute            // between checks whether the next pass is due: clocks are set and laptops sleep
	maxRetryWait  = 6 * time.Hour          // maximum between retries of what could not be read, after a minute, two, four ...
	markedWait    = 6 * time.Hour          // between readings of all contents marked damaged
	verifyRest    = 4                      // ratio of rest to work while the database is verified
	busyWait      = 250 * time.Millisecond // between checks whether people are still being served
)

const (
	// maxNamed is how many attachments with a damaged content are logged.
	maxNamed = 10
	// maxRetries is how many contents that could not be read are retried before the
	// next pass reads them. While a disk is away, one a minute is added.
	maxRetries = 256
)

// ScrubRecords is the methods of a store that a Scrub uses.
type ScrubRecords interface {
	store.Notes
	ChecksumRecords
	AttachmentsWith(ctx context.Context, sha256 [32]byte, limit int) ([]store.Attachment, error)
}

// NewScrub returns a Scrub; Run starts it.
func NewScrub(records ScrubRecords, contents blobs.Store, opts ScrubOptions) *Scrub {
	return &Scrub{ScrubOptions: opts, records: records, contents: contents, limiter: rate.NewLimiter(rate.Limit(opts.Rate), piece),
		sums: checksums{records: records, log: opts.Log}}
}

// Status returns the progress. It may be called at any time.
func (s *Scrub) Status() ScrubStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Run reads until ctx ends, and then saves its position. Errors are logged and the work
// is retried. It may be called again, and continues where the last one was, in whichever
// process.
func (s *Scrub) Run(ctx context.Context) {
	s.loaded, s.moved = false, false
	for ctx.Err() == nil {
		if err := s.step(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("the scrub cannot go on, and will try again", "in", troubleWait.String(), "error", err)
			s.Wait(ctx, troubleWait)
		}
	}
	s.save(ctx)
}

// step does the next piece of work, as long as nothing fails.
func (s *Scrub) step(ctx context.Context) error {
	if !s.loaded {
		return s.load(ctx)
	}
	s.saveNowAndThen(ctx)
	if again, err := s.rereadOne(ctx); again || err != nil {
		return err
	}
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

// load continues the pass that was under way. A damaged note is no reason not to read
// the contents.
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
	s.updateStatus()
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
	s.pass = p
}

func (s *Scrub) begin() {
	s.pass = pass{Began: s.now(), LastPass: s.pass.LastPass, Unread: s.pass.Unread}
	s.moved, s.saved = true, time.Time{}
	s.updateStatus()
}

// verifyRecords verifies the database, at the start of a pass.
func (s *Scrub) verifyRecords(ctx context.Context) error {
	if s.Verifier == nil {
		return nil
	}
	faults, err := s.Verifier.Verify(ctx, func(took time.Duration) { s.Wait(ctx, verifyRest*took) })
	if err != nil {
		return fmt.Errorf("verifying the database: %w", err)
	}
	for i, what := range faults {
		if i == maxNamed {
			s.Log.Error("the scrub found more faults in the database, which attachd check lists", "faults", len(faults)-i)
			break
		}
		s.Log.Error("the scrub found a fault in the database", "what", what)
	}
	return nil
}

// read reads the rest of the pass.
func (s *Scrub) read(ctx context.Context) error {
	if s.pass.Last == (blobs.Ref{}) {
		if err := s.verifyRecords(ctx); err != nil {
			return err
		}
	}
	for info, err := range s.contents.All(ctx, s.pass.Last) {
		if err != nil {
			return fmt.Errorf("listing contents: %w", err)
		}
		if info.Ref == s.pass.Last {
			continue
		}
		if err := s.readOne(ctx, info); err != nil {
			return err
		}
		s.pass.Last, s.moved = info.Ref, true
		s.warnIfLate()
		s.updateStatus()
		s.saveNowAndThen(ctx)
		if _, err := s.rereadOne(ctx); err != nil {
			return err
		}
	}
	s.finish(ctx)
	return nil
}

// readOne reads a content whose turn it is. The only error is that of ctx.
func (s *Scrub) readOne(ctx context.Context, info blobs.Info) error {
	if err := s.giveWay(ctx, info.Ref); err != nil {
		return err
	}
	lost, err := s.verify(ctx, info, func() error { return s.giveWay(ctx, info.Ref) })
	if err != nil {
		return err
	}
	if lost != nil && (info.Damaged || !lost.Unread) {
		s.pass.Damaged++
	}
	if lost != nil && lost.Unread {
		// A disk that is gone would fail for every content: the wait leaves time to
		// repair it.
		s.Wait(ctx, troubleWait)
		return nil
	}
	s.pass.Contents++
	s.pass.Bytes += info.Size
	return nil
}

// verify reads a content, as fast as Rate and giveWay allow, and marks and logs what it
// finds. The only error is that of ctx.
func (s *Scrub) verify(ctx context.Context, info blobs.Info, giveWay func() error) (*Loss, error) {
	sums, lost, err := VerifyContent(ctx, s.contents, s.Marker, info, func(content io.Reader) io.Reader {
		return &paced{content, s, ctx, giveWay}
	})
	if err != nil {
		return nil, err
	}
	s.sums.add(ctx, info.Ref, sums)
	switch {
	case lost != nil && lost.Unread:
		s.retryLater(ctx, info.Ref, *lost)
		return lost, nil
	case lost != nil && !info.Damaged && !lost.Many: // otherwise it was logged when it was found
		s.Log.Error("the scrub found a fault", "blob", info.Ref.String(), "what", lost.Why, "attachments", s.attachmentsWith(ctx, info.Ref))
	case lost == nil && info.Damaged:
		s.Log.Info("the scrub found a content whole that was marked damaged", "blob", info.Ref.String())
	}
	s.forget(ctx, info.Ref, lost == nil)
	return lost, nil
}

// retryLater schedules a retry of a content that could not be read.
func (s *Scrub) retryLater(ctx context.Context, ref blobs.Ref, lost Loss) {
	s.moved = true
	at := slices.IndexFunc(s.pass.Unread, func(r retry) bool { return r.Ref == ref })
	if at >= 0 {
		r := &s.pass.Unread[at]
		r.wait = min(max(2*r.wait, troubleWait), maxRetryWait)
		r.due = s.now().Add(r.wait)
		return
	}
	s.Log.Error("the scrub cannot read a content, and will try again", "blob", ref.String(), "what", lost.Why, "attachments", s.attachmentsWith(ctx, ref))
	if len(s.pass.Unread) < maxRetries {
		s.pass.Unread = append(s.pass.Unread, retry{ref, s.now().Add(troubleWait), troubleWait})
	}
	s.updateStatus()
}

// forget drops a content's retry, when it was read or was removed.
func (s *Scrub) forget(ctx context.Context, ref blobs.Ref, whole bool) {
	before := len(s.pass.Unread)
	s.pass.Unread = slices.DeleteFunc(s.pass.Unread, func(r retry) bool { return r.Ref == ref })
	if len(s.pass.Unread) == before {
		return
	}
	s.moved = true
	s.updateStatus()
	if whole && ctx.Err() == nil {
		s.Log.Info("the scrub has read a content that it could not read before", "blob", ref.String())
	}
}

// rereadOne reads one of the contents that are to be read again before the pass comes
// to them, if one is due. It does not give way to requests: such contents are few, and
// people may be waiting for them.
func (s *Scrub) rereadOne(ctx context.Context) (did bool, err error) {
	ref, err := s.nextToReread(ctx)
	if err != nil || ref == (blobs.Ref{}) {
		return false, err
	}
	info, err := s.contents.Stat(ctx, ref)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, blobs.ErrNotFound):
		s.forget(ctx, ref, false)
	case err != nil:
		s.retryLater(ctx, ref, *unread("The content cannot be looked at: %v.", err))
	default:
		_, err := s.verify(ctx, info, ctx.Err)
		return true, err
	}
	return true, nil
}

// nextToReread returns the content to be read again now, or the zero Ref.
func (s *Scrub) nextToReread(ctx context.Context) (ref blobs.Ref, err error) {
	now := s.now()
	for _, r := range s.pass.Unread {
		if !r.due.After(now) || r.due.Sub(now) > maxRetryWait { // or the clock was set back
			return r.Ref, nil
		}
	}
	if s.marked.Sub(now).Abs() > markedWait || !s.marked.After(now) {
		s.marked = now.Add(markedWait)
		if s.next, err = s.allMarked(ctx); err != nil {
			return ref, err
		}
	}
	if len(s.next) > 0 {
		ref, s.next = s.next[0], s.next[1:]
	}
	return ref, nil
}

// allMarked lists the contents marked damaged. Usually there are none.
func (s *Scrub) allMarked(ctx context.Context) (marked []blobs.Ref, err error) {
	if s.Marker == nil || s.Marker.Damaged() == 0 {
		return nil, nil
	}
	for info, err := range s.contents.All(ctx, blobs.Ref{}) {
		if err != nil {
			return nil, fmt.Errorf("listing contents: %w", err)
		}
		if info.Damaged {
			marked = append(marked, info.Ref)
		}
	}
	return marked, nil
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
	s.updateStatus()
	if p.Contents > 0 || len(p.Unread) > 0 {
		s.Log.Info("the scrub has read all contents", "contents", p.Contents, "bytes", p.Bytes, "damaged", p.Damaged, "unreadable", len(p.Unread), "took", s.elapsed().String())
	}
	s.moved = true
	s.save(ctx)
}

// warnIfLate warns once in a pass. If the rate needed is not above the configured one,
// the server was not running, or the disk is slower.
func (s *Scrub) warnIfLate() {
	if s.pass.Late || s.elapsed() <= s.Period {
		return
	}
	s.pass.Late = true
	everything := float64(s.pass.Bytes) / s.progress()
	s.Log.Warn("the scrub is late: all contents were to be read within its period",
		"period", s.Period.String(), "progress", s.progress(), "rate", s.Rate, "rate_needed", int64(everything/s.Period.Seconds())+1)
}

// giveWay waits while people are being served and the content is not due. The only
// error is that of ctx.
func (s *Scrub) giveWay(ctx context.Context, ref blobs.Ref) error {
	for ctx.Err() == nil && s.Busy() && !s.due(ref) {
		s.Wait(ctx, busyWait)
	}
	return ctx.Err()
}

func (s *Scrub) due(ref blobs.Ref) bool {
	return s.elapsed().Seconds() >= place(ref)*s.Period.Seconds()
}

// paced is a reader of a content that is limited to Rate.
type paced struct {
	io.Reader
	scrub   *Scrub
	ctx     context.Context
	giveWay func() error
}

func (p *paced) Read(b []byte) (int, error) {
	if err := p.giveWay(); err != nil {
		return 0, err
	}
	n, err := p.Reader.Read(b)
	p.scrub.pace(p.ctx, n)
	return n, err
}

// pace counts n bytes, of one piece at most, and waits as long as Rate requires for
// them.
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

// now returns the time in the form in which it is read back from a note: without the
// monotonic clock, which stops while a computer sleeps.
func (s *Scrub) now() time.Time { return s.Now().UTC().Round(0) }

// elapsed returns how long the pass has taken so far. If it seems to have begun in the
// future, the clock was ahead then, and the pass counts from now on.
func (s *Scrub) elapsed() time.Duration {
	now := s.now()
	if s.pass.Began.After(now) {
		s.pass.Began, s.moved = now, true
	}
	return now.Sub(s.pass.Began)
}

func (s *Scrub) progress() float64 {
	if s.pass.Done {
		return 1
	}
	return place(s.pass.Last)
}

// place returns the position of a Ref among all Refs, from 0 to 1.
func place(ref blobs.Ref) float64 {
	return float64(binary.BigEndian.Uint64(ref[:8])) / (1 << 64)
}

// updateStatus updates the status.
func (s *Scrub) updateStatus() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Progress, s.status.Damaged, s.status.LastPass = s.progress(), s.pass.Damaged, s.pass.LastPass
	s.status.Unreadable = int64(len(s.pass.Unread))
}

func (s *Scrub) saveNowAndThen(ctx context.Context) {
	if s.now().Sub(s.saved).Abs() >= saveInterval {
		s.save(ctx)
	}
}

// save saves the position, if it has changed. If that fails, only what was read since
// the last save is read again. It works even when ctx has ended.
func (s *Scrub) save(ctx context.Context) {
	s.sums.keep(context.WithoutCancel(ctx))
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
