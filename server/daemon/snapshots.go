package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"attachd/server/backup"
	"attachd/server/upkeep"
)

const (
	// snapshotInterval is how often a snapshot is taken if something has changed,
	// unless taking it needs more than a thousandth of that time.
	snapshotInterval = time.Hour
	// quickSnapshot is the maximum size, in bytes, of a database that is copied at
	// start and at the end, when people wait.
	quickSnapshot = 64 << 20
	// checkRest is the ratio of sleep to work while a snapshot is checked beside a
	// running server.
	checkRest = 4
)

// snapshots takes copies of the database while a server runs.
type snapshots struct {
	Storage
	open    backup.Open
	reserve int64                      // bytes that must stay free on the disk
	settled func(context.Context) bool // reports whether the clock is trusted
	// flushed calls a function while all contents are in files; see
	// contents.Store.WhileFlushed.
	flushed func(ctx context.Context, do func(flushed error) error) error
	log     *slog.Logger
}

// keep takes snapshots periodically until ctx ends.
func (s *snapshots) keep(ctx context.Context) {
	var rested time.Duration
	rest := func(took time.Duration) {
		rested += checkRest * took
		select {
		case <-time.After(checkRest * took):
		case <-ctx.Done():
		}
	}
	s.takeOrLog(ctx, quickSnapshot, rest)
	for wait := time.Duration(0); ctx.Err() == nil; {
		select {
		case <-time.After(max(snapshotInterval, wait)):
			begun := time.Now()
			rested = 0
			s.takeOrLog(ctx, 0, rest)
			wait = 1000 * (time.Since(begun) - rested)
		case <-ctx.Done():
		}
	}
}

// takeLast takes a snapshot at the end of the process.
func (s *snapshots) takeLast(ctx context.Context) error {
	if err := s.takeIfDue(ctx, quickSnapshot, nil); err != nil {
		return fmt.Errorf("no snapshot of the database was taken: %w", err)
	}
	return nil
}

// takeOrLog is takeIfDue that logs its error.
func (s *snapshots) takeOrLog(ctx context.Context, largest int64, rest func(took time.Duration)) {
	if err := s.takeIfDue(ctx, largest, rest); err != nil && ctx.Err() == nil {
		s.log.Error("no snapshot of the database was taken", "error", err)
	}
}

// takeIfDue takes a snapshot if something has changed and the database has at most
// largest bytes; 0 is no limit. If rest is not nil, the check of the snapshot pauses
// with it.
func (s *snapshots) takeIfDue(ctx context.Context, largest int64, rest func(took time.Duration)) error {
	due, size, err := s.Dir.SnapshotDue()
	if err != nil || !due || largest > 0 && size > largest {
		return err
	}
	return s.take(ctx, size, rest)
}

func (s *snapshots) take(ctx context.Context, size int64, rest func(took time.Duration)) error {
	room, err := s.Blobs.Capacity(ctx)
	if err != nil {
		return err
	}
	if room.Free-size < s.reserve {
		return fmt.Errorf("it has %d bytes, %d are free on the disk, and %d must stay so", size, room.Free, s.reserve)
	}
	begun := time.Now()
	write := func(w io.Writer) error {
		return s.flushed(ctx, func(flushed error) error {
			if flushed != nil {
				return fmt.Errorf("some small contents have no files yet: %w", flushed)
			}
			return s.Snapshotter.Snapshot(ctx, w)
		})
	}
	return s.Dir.TakeSnapshot(begun, s.settled(ctx), write, func(path string) error { return s.verify(ctx, path, begun, rest) })
}

// verify marks a snapshot as one, and checks it, and thereby the database: a bad
// snapshot must not displace good ones.
func (s *snapshots) verify(ctx context.Context, path string, begun time.Time, rest func(took time.Duration)) (err error) {
	snapshot, err := s.open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	if err := upkeep.NoteCopy(ctx, snapshot, begun); err != nil {
		return err
	}
	faults, err := snapshot.Check(ctx, rest)
	if err == nil && len(faults) > 0 {
		err = fmt.Errorf("the database has faults, %d in all, which `attachd check` lists: %s", len(faults), faults[0])
	}
	return err
}
