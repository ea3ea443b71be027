package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/jobs"
	"attachd/server/upkeep"
	"attachd/store"
)

// upkeeping is when long-running work ends.
type upkeeping struct {
	running context.Context // until Drain
	end     context.CancelFunc
}

// Work of which one of each kind is done at a time, by its lease.
const (
	checking   = "checking"
	collecting = "collecting"
	compacting = "compacting"
	migrating  = "migrating"
)

// alone begins work that an operator has asked for, unless somebody does it already; busy is
// the answer then. release must be called at its end, once or more.
func (s *Service) alone(rq *api.Request, work, busy string) (held context.Context, release func(), err error) {
	held, release, err = s.Leases.Try(s.upkeep.running, work)
	if errors.Is(err, jobs.ErrBusy) {
		rq.Log().Debug("work was not begun", "work", work, "error", err)
		err = api.Conflict("%s", busy)
	}
	if err != nil {
		return nil, nil, err
	}
	return held, sync.OnceFunc(release), nil
}

// Check checks both stores for faults.
func (s *Service) Check(w *api.Response, rq *api.Request, sc api.Scope) error {
	var order struct {
		Deep bool `json:"deep"`
	}
	if err := rq.ReadOptionalJSON(&order); err != nil {
		return err
	}
	held, release, err := s.alone(rq, checking, "A check is under way already. Wait for it to end.")
	if err != nil {
		return err
	}
	defer release()
	return s.work(held, release, w, rq, func(ctx context.Context, progress upkeep.ProgressFunc) (any, error) {
		report, err := upkeep.Check(ctx, s.Store, s.Contents, upkeep.CheckOptions{Deep: order.Deep, Marker: s.marker(), Comparer: s.Comparer, Progress: progress})
		if len(report.Faults) > 0 {
			level := slog.LevelError
			if api.IsOperator(rq.Context()) {
				level = slog.LevelWarn // the command lists them
			}
			rq.Log().Log(ctx, level, "a check found faults", "faults", len(report.Faults), "first", report.Faults[0].String())
		}
		if err == nil {
			s.noteDone(ctx, upkeep.Checking)
			s.noteFound(ctx, report)
		}
		return report, err
	})
}

// Collect removes contents that nothing refers to.
func (s *Service) Collect(w *api.Response, rq *api.Request, sc api.Scope) error {
	var order struct {
		DryRun bool     `json:"dry_run"`
		MinAge *float64 `json:"min_age"`
	}
	if err := rq.ReadOptionalJSON(&order); err != nil {
		return err
	}
	clock, err := s.Clock.Read(rq.Context())
	options := upkeep.CollectOptions{DryRun: order.DryRun, MinAge: upkeep.MinAge, Now: s.Now(), Settled: err == nil && clock.Settled, Comparer: s.Comparer}
	if order.MinAge != nil {
		if *order.MinAge < 0 || *order.MinAge > maxMinAge.Seconds() {
			return api.InvalidRequest("min_age must be a number of seconds from 0 to %.0f.", maxMinAge.Seconds())
		}
		options.MinAge = time.Duration(*order.MinAge * float64(time.Second))
	}
	held, release, err := s.alone(rq, collecting, "Contents are being collected already. Wait for that to end.")
	if err != nil {
		return err
	}
	defer release()
	return s.work(held, release, w, rq, func(ctx context.Context, progress upkeep.ProgressFunc) (any, error) {
		options.Progress = progress
		collected, err := upkeep.Collect(ctx, s.Contents.Leased(s.Store), s.Contents, options)
		if !options.DryRun {
			s.collected(ctx, collected, err)
			if err == nil && s.Comparer != nil {
				s.noteDone(ctx, upkeep.Listing)
			}
			s.Contents.SweepThumbnails(ctx)
		}
		if errors.Is(err, upkeep.ErrDoubt) {
			err = api.Conflict("The metadata has faults, which a check lists. Nothing is removed until they are mended.")
		}
		if errors.Is(err, blobs.ErrManyLost) {
			err = api.Conflict("The object store has lost many contents, which a check lists. Nothing is removed until their objects are back, or their attachments are deleted.")
		}
		if errors.Is(err, upkeep.ErrNotCompared) {
			err = &api.Refusal{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 60, Cause: err,
				Detail: "The object store cannot be compared with the records, so nothing was removed. The server's log says why, and so may `attachd doctor`."}
		}
		return collected, err
	})
}

// Compact rewrites the database without its free pages. What is staged gets its files
// first, so that its room in the log is free, too.
func (s *Service) Compact(w *api.Response, rq *api.Request, sc api.Scope) error {
	if s.Compacter == nil && s.Shared != nil {
		return api.Conflict("The records are in PostgreSQL, whose autovacuum frees the room of deleted ones: there is nothing to make anew here.")
	}
	if s.Compacter == nil {
		return notWithThisStorage("Compacting the database")
	}
	held, release, err := s.alone(rq, compacting, "The database is being made anew already. Wait for that to end.")
	if err != nil {
		return err
	}
	defer release()
	if err := s.roomToCompact(rq); err != nil {
		return err
	}
	return s.work(held, release, w, rq, func(ctx context.Context, _ upkeep.ProgressFunc) (any, error) {
		if err := s.Contents.Flush(ctx); err != nil {
			rq.Log().Warn("staged contents could not all be written out of the write-ahead log before the database was made anew", "error", err)
		}
		compacted, err := s.Compacter.Compact(ctx)
		if err == nil {
			rq.Log().Info("made the database anew", "bytes_before", compacted.Before, "bytes", compacted.After)
		}
		return compacted, err
	})
}

// roomToCompact refuses when the disk has no room for a second database. The reserve
// may be used: more than that is free in the end.
func (s *Service) roomToCompact(rq *api.Request) error {
	size, err := s.Compacter.Size(rq.Context())
	if err != nil {
		return err
	}
	room, err := s.Contents.Capacity(rq.Context())
	if err != nil {
		return err
	}
	if used := size.Bytes - size.Free; room.Free < used {
		refused := api.DiskFull(nil)
		refused.Detail = fmt.Sprintf("To make the database anew takes up to %d bytes on the disk, and %d are free. Make room, and try again.", used, room.Free)
		return refused
	}
	return nil
}

const maxMinAge = 100 * 365 * 24 * time.Hour

// work answers with lines of JSON: progress, repeatedly, and last the report or the
// error. An error before the first line is answered as by every other route. It ends with
// the lease that is held for it, and releases that before the end is answered: whoever has the
// answer may ask for the same again at once, of another replica.
func (s *Service) work(held context.Context, release func(), w *api.Response, rq *api.Request, do func(context.Context, upkeep.ProgressFunc) (any, error)) error {
	ctx, cancel := context.WithCancel(held)
	defer cancel()
	defer context.AfterFunc(rq.Context(), cancel)()
	last := time.Now()
	report, err := do(ctx, func(p upkeep.Progress) {
		if time.Since(last) < progressInterval {
			return
		}
		last = time.Now()
		if answerLine(w, progressLine{progressBody{p.Bytes, p.AllBytes}}) != nil {
			cancel() // the client is gone
		}
	})
	lost := held.Err() != nil
	release()
	switch {
	case !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrLeaseLost):
	case s.Corridor.Draining():
		err = api.ShuttingDown()
	case lost, errors.Is(err, store.ErrLeaseLost):
		err = &api.Refusal{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 15, Cause: err,
			Detail: "This replica could not reach the database for too long, so that another may do this work now. Try again."}
	}
	var end any = reportLine{report}
	if err != nil {
		if w.Status == 0 {
			return err
		}
		refusal, body := rq.ToAnswer(err)
		w.Code = refusal.Code
		end = errorLine{body}
	}
	if err := answerLine(w, end); err != nil {
		rq.Log().Debug("the answer did not reach the client", "error", err)
	}
	return nil
}

const progressInterval = 500 * time.Millisecond

type (
	progressLine struct {
		Progress progressBody `json:"progress"`
	}
	progressBody struct {
		Done  int64 `json:"done"`
		Total int64 `json:"total"`
	}
	reportLine struct {
		Report any `json:"report"`
	}
	errorLine struct {
		Error api.RefusalBody `json:"error"`
	}
)

// answerLine writes a line of JSON and flushes it.
func answerLine(w *api.Response, body any) error {
	raw, err := api.Encode(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if _, err := w.Write(raw); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// watchFiles returns a check of whether the files of Store and Blobs were removed,
// replaced or overwritten. It logs that once.
func (s *Service) watchFiles() func(context.Context) error {
	told := false
	return func(context.Context) error {
		err := s.InPlace()
		switch {
		case err != nil && !told:
			s.Log.Error("changes are refused, since files of the data directory were removed, replaced or overwritten", "error", err)
		case err == nil && told:
			s.Log.Info("the files are back as they were: changes are taken again")
		}
		told = err != nil
		return nil
	}
}

// refillBallast restores the ballast where the disk has room for it.
func (s *Service) refillBallast(ctx context.Context) error {
	room, err := s.Contents.Capacity(ctx)
	if err != nil {
		return fmt.Errorf("the free space on the disk is not known: %w", err)
	}
	missing := s.Ballast.Missing(room.Total)
	if missing == 0 || room.Free < s.Contents.ReserveOf(room) {
		return nil
	}
	if err := s.Ballast.Refill(room.Total); err != nil {
		return fmt.Errorf("the disk's ballast could not be set apart: %w", err)
	}
	s.Log.Debug("set the disk's ballast apart", "bytes", missing)
	return nil
}

// CollectInBackground collects, unless an operator's collection is under way.
func (s *Service) CollectInBackground(ctx context.Context) error {
	ctx, release, err := s.Leases.Try(ctx, collecting)
	if errors.Is(err, jobs.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	clock, err := s.Clock.Read(ctx)
	collect := func(comparer blobs.Comparer) error {
		collected, err := upkeep.Collect(ctx, s.Contents.Leased(s.Store), s.Contents,
			upkeep.CollectOptions{Wary: true, MinAge: upkeep.MinAge, Now: clock.Trusted, Settled: clock.Settled, Comparer: comparer})
		s.collected(ctx, collected, err)
		return err
	}
	if err == nil {
		err = collect(nil)
	}
	if err == nil && s.mayList(ctx, clock.Trusted) {
		// Whatever comes of it, it is not tried again in an hour: a bucket with many objects
		// takes many requests.
		if err = collect(s.Comparer); ctx.Err() == nil {
			s.noteDone(ctx, upkeep.Listing)
		}
	}
	if err != nil {
		return fmt.Errorf("contents that nothing refers to could not be removed: %w", err)
	}
	return nil
}

// mayList says whether the bucket is to be listed again. A time that is yet to come was noted
// by a clock that was ahead.
func (s *Service) mayList(ctx context.Context, now time.Time) bool {
	if s.Comparer == nil {
		return false
	}
	last, err := upkeep.LastDone(ctx, s.Store, upkeep.Listing)
	if err != nil {
		s.Log.Warn("it is not known when the bucket was last listed, and it is listed now", "error", err)
	}
	return now.Sub(last).Abs() >= listInterval
}

// sweepBucket deletes what was removed long enough ago, by a clock that is not ahead.
func (s *Service) sweepBucket(ctx context.Context) error {
	clock, err := s.Clock.Read(ctx)
	if err != nil {
		return err
	}
	return s.Sweeper.Sweep(ctx, clock.Trusted)
}

// collected logs what was removed, and notes the time when all of it was.
func (s *Service) collected(ctx context.Context, collected upkeep.Collected, err error) {
	if collected.Contents > 0 {
		s.Log.Info("removed contents that nothing referred to", "contents", collected.Contents, "bytes", collected.Bytes)
	}
	if collected.Strays > 0 {
		s.Log.Info("deleted objects that had no content from the object store", "objects", collected.Strays, "bytes", collected.StrayBytes)
	}
	if err == nil {
		s.noteDone(ctx, upkeep.Collecting)
	}
}

// noteDone notes in the database that work was done now. Failing to note it does not
// undo the work.
func (s *Service) noteDone(ctx context.Context, work upkeep.Work) {
	if err := upkeep.NoteDone(ctx, s.Store, work, s.Now()); err != nil && ctx.Err() == nil {
		s.Log.Warn("it could not be noted when work was done", "work", string(work), "error", err)
	}
}

// notWithThisStorage refuses what needs a feature that the storage lacks.
func notWithThisStorage(what string) *api.Refusal {
	return api.Conflict("%s is not possible with the storage that this server uses.", what)
}
