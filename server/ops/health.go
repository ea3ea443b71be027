package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/contents"
	"attachd/store"
)

// Health answers that the process is alive.
func (s *Service) Health(w *api.Response, rq *api.Request, sc api.Scope) error {
	return rq.Answer(w, http.StatusOK, healthBody{Status: "ok"})
}

type healthBody struct {
	Status   string   `json:"status"`
	Reasons  []string `json:"reasons,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// readiness caches the result of the last probe: a probe writes to the disk, and
// anybody may ask. One probe runs at a time.
type readiness struct {
	patience time.Duration // how long a probe may last
	stuck    time.Duration // how long flushes of staged contents may fail

	mu      sync.Mutex
	probe   *probe // under way; nil when none is
	at      time.Time
	reasons []string

	acknowledged atomic.Int64 // uploads

	// The last ping of the scanner; only the probe under way uses these fields.
	pinged  time.Time
	scanner error // of that ping
}

// probe is one check of whether uploads would work.
type probe struct {
	tooLong      <-chan struct{} // closed when the probe has lasted too long
	over         chan struct{}   // closed when it has ended
	acknowledged int64           // uploads, when it began
}

// probePatience is how long a probe may last, of which most of the time may be the
// scanner's.
const probePatience = 5 * time.Second

// stuckFor is how long flushes of staged contents may fail before the server is
// not ready.
const stuckFor = 10 * time.Second

// readyFor is how long a probe's result answers /health/ready.
const readyFor = time.Second

// HealthReady answers whether uploads would work now, and if not, why.
func (s *Service) HealthReady(w *api.Response, rq *api.Request, sc api.Scope) error {
	if reasons := s.notReady(rq.Context(), rq.Log(), readyFor); len(reasons) > 0 {
		w.Header().Set("Retry-After", "5")
		return rq.Answer(w, http.StatusServiceUnavailable, healthBody{Status: "unavailable", Reasons: reasons})
	}
	return rq.Answer(w, http.StatusOK, healthBody{Status: "ready", Warnings: s.clockWarnings(rq.Context())})
}

// clockWarnings reports a jump of the clock that is being waited out. It does not
// affect uploads.
func (s *Service) clockWarnings(ctx context.Context) []string {
	clock, err := s.Clock.Read(ctx)
	if err != nil || clock.Settled || clock.Jump.To.IsZero() {
		return nil
	}
	return []string{fmt.Sprintf("The clock jumped from %s to %s. Nothing is deleted for its age on the word of that.", api.Timestamp(clock.Jump.From), api.Timestamp(clock.Jump.To))}
}

// notReady returns the reasons why uploads would not work, from a probe that is at
// most age old.
func (s *Service) notReady(ctx context.Context, log *slog.Logger, age time.Duration) (reasons []string) {
	reasons = s.probeOrWait(ctx, log, age)
	switch why := s.Contents.MayChange(); {
	case errors.Is(why, contents.ErrMoved):
		reasons = append([]string{"The files were moved to another storage: restart the server with its new configuration."}, reasons...)
	case errors.Is(why, contents.ErrPerhapsMoved):
		reasons = append([]string{"It is not known whether the files were moved. " + restartToKnow}, reasons...)
	}
	if s.Corridor.Draining() {
		return append([]string{"The server is shutting down."}, reasons...)
	}
	return reasons
}

// probeOrWait begins a probe, or waits for the one under way. A disk that hangs
// holds up that probe only.
func (s *Service) probeOrWait(ctx context.Context, log *slog.Logger, age time.Duration) (reasons []string) {
	r := &s.ready
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := s.Now(); r.probe == nil && now.Sub(r.at) >= age {
		r.probe = s.beginProbe(context.WithoutCancel(ctx), log, now) // other requests wait for its result too
	} else if now.Sub(r.at) < age {
		return r.reasons
	}
	under := r.probe
	r.mu.Unlock()
	select {
	case <-under.over:
	case <-under.tooLong:
	case <-ctx.Done():
	}
	r.mu.Lock()
	select {
	case <-under.over:
		return r.reasons
	default:
	}
	if r.acknowledged.Load() > under.acknowledged {
		return r.reasons // the disk is slow, but works
	}
	return []string{"The disk does not answer."}
}

// beginProbe starts a probe that goes on when the caller is gone.
func (s *Service) beginProbe(ctx context.Context, log *slog.Logger, now time.Time) *probe {
	lasting, cancel := context.WithTimeout(context.Background(), s.ready.patience)
	p := &probe{tooLong: lasting.Done(), over: make(chan struct{}), acknowledged: s.ready.acknowledged.Load()}
	go func() {
		reasons := s.runProbe(ctx, log)
		s.ready.mu.Lock()
		defer s.ready.mu.Unlock()
		s.ready.at, s.ready.reasons, s.ready.probe = now, reasons, nil
		close(p.over)
		cancel()
	}()
	return p
}

// AwaitReadinessProbe waits until the probe under way has ended, if there is one:
// it writes to the storage even when nobody waits for its answer any more. It
// fails when ctx ends first.
func (s *Service) AwaitReadinessProbe(ctx context.Context) error {
	s.ready.mu.Lock()
	under := s.ready.probe
	s.ready.mu.Unlock()
	if under == nil {
		return nil
	}
	select {
	case <-under.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the readiness probe: %w", ctx.Err())
	}
}

func (s *Service) runProbe(ctx context.Context, log *slog.Logger) (reasons []string) {
	failed := func(sentence string, err error) {
		log.Error("not ready", "reason", sentence, "error", err)
		reasons = append(reasons, sentence)
	}
	var ofStore, ofContents error
	var probes sync.WaitGroup // both sync, and may wait for other syncs
	probes.Go(func() { ofStore = s.Store.Probe(ctx) })
	probes.Go(func() { ofContents = s.Contents.Probe(ctx) })
	probes.Wait()
	if err := ofStore; errors.Is(err, store.ErrOverwritten) {
		failed("The database was cut short or overwritten while the server runs, or cannot be read.", err)
	} else if errors.Is(err, store.ErrReplaced) {
		failed("The database was removed or replaced while the server runs.", err)
	} else if errors.Is(err, store.ErrUnavailable) {
		failed("Metadata cannot be committed until a restart.", err)
	} else if errors.Is(err, store.ErrAway) {
		failed("The database cannot be reached, or takes no changes.", err)
	} else if err != nil {
		failed("Metadata cannot be committed.", err)
	}
	if damage := s.Damage(); len(damage) > 0 {
		failed(fmt.Sprintf("The database has faults, %d in all, which `attachd check` lists.", len(damage)), errors.New(damage[0]))
	}
	if err := ofContents; errors.Is(err, blobs.ErrReplaced) {
		failed("The folder with the files was removed or replaced while the server runs.", err)
	} else if errors.Is(err, blobs.ErrUnavailable) {
		failed("Files cannot be written into the object store.", err)
	} else if err != nil {
		failed("Files cannot be written.", err)
	}
	if since, err := s.Contents.Failing(); err != nil && time.Since(since) >= s.ready.stuck {
		where := "to the folder blobs"
		if errors.Is(err, blobs.ErrUnavailable) {
			where = "into the object store"
		}
		failed("Small files that were accepted earlier cannot be written "+where+".", err)
	}
	room, err := s.Contents.Capacity(ctx)
	if err != nil {
		failed("The free space on the disk is not known.", err)
	} else if reserve := s.Contents.ReserveOf(room); room.Free < reserve {
		failed("The disk is full: less than the reserve is free.", fmt.Errorf("%d bytes are free, the reserve is %d", room.Free, reserve))
	}
	if err == nil && room.Files > 0 && room.FreeFiles == 0 {
		failed("The disk can hold no more files: its inodes are used up.", fmt.Errorf("all of %d", room.Files))
	}
	if s.Scanner != nil && !s.AcceptUnscanned {
		if err := s.pingScanner(ctx); err != nil {
			failed("Files cannot be scanned for malware.", err)
		}
	}
	return reasons
}

// pingFor is how long the scanner's answer to a ping is cached.
const pingFor = 5 * time.Second

// pingScanner fails unless the scanner answers; only the probe under way calls it.
func (s *Service) pingScanner(ctx context.Context) error {
	if now := s.Now(); now.Sub(s.ready.pinged) >= pingFor {
		s.ready.scanner = s.Scanner.Ping(ctx)
		s.ready.pinged = now
	}
	return s.ready.scanner
}
