package datadir

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"attachd/blobs/durable"
)

// Snapshots are copies of the database beside it, for the case that it is lost
// or damaged and there is no backup. Their names sort in the order in which they were
// taken, whatever the clock said: a number, and the time at which they were begun.
// Earlier versions gave them no number.
const (
	snapshotsDir   = "snapshots"
	snapshotPrefix = "snapshot-"
	snapshotLayout = "2006-01-02T15-04-05Z"
	snapshotSuffix = ".db"
)

const (
	// newestKept is how many of the newest snapshots are kept,
	newestKept = 2
	// daysKept is how many earlier days' last snapshots are kept, and
	daysKept = 2
	// oldestKept is how many of the oldest are kept instead of those while the date is
	// not known.
	oldestKept = 4
)

// snapshot is the parsed name of a snapshot.
type snapshot struct {
	name   string
	number int // 0 for one of an earlier version
	begun  time.Time
}

func parseSnapshot(name string) (s snapshot, ok bool) {
	s.name = name
	stamp, isNumbered := strings.CutPrefix(name, snapshotPrefix)
	if isNumbered {
		number, rest, _ := strings.Cut(stamp, "-")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			return s, false
		}
		s.number, stamp = n, rest
	}
	begun, err := time.Parse(snapshotLayout+snapshotSuffix, stamp)
	s.begun = begun
	return s, err == nil
}

// SnapshotDue reports whether the database has changed since the newest snapshot, and
// returns its size in bytes.
func (d *Dir) SnapshotDue() (due bool, size int64, err error) {
	database, err := os.Stat(d.Join(DatabaseFile))
	if err != nil {
		return false, 0, err
	}
	all, err := d.snapshots()
	if err != nil || len(all) == 0 {
		return true, database.Size(), err
	}
	newest, err := os.Stat(d.snapshot(all[0].name))
	return err != nil || !newest.ModTime().Equal(database.ModTime()), database.Size(), err
}

// NewestSnapshot returns when the newest snapshot was begun, if there is any.
func (d *Dir) NewestSnapshot() (begun time.Time, any bool, err error) {
	all, err := d.snapshots()
	if err != nil || len(all) == 0 {
		return time.Time{}, false, err
	}
	return all[0].begun, true, nil
}

// TakeSnapshot stores what write writes as a snapshot, if verify returns no error, and
// removes snapshots that are no longer needed. now is the time before the database is
// read, and settled reports whether the clock is known to be right.
func (d *Dir) TakeSnapshot(now time.Time, settled bool, write func(io.Writer) error, verify func(path string) error) (err error) {
	if err := d.prepareSnapshots(); err != nil {
		return err
	}
	all, err := d.snapshots()
	if err != nil {
		return err
	}
	number := 1
	if len(all) > 0 {
		number = all[0].number + 1
	}
	name := fmt.Sprintf("%s%06d-%s%s", snapshotPrefix, number, now.UTC().Format(snapshotLayout), snapshotSuffix)
	temp := d.snapshot("." + name)
	changed, err := d.databaseChanged(now)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, durable.Removed(os.Remove(temp)))
		}
	}()
	if err := d.writeSnapshot(temp, write); err != nil {
		return err
	}
	if err := verify(temp); err != nil {
		return err
	}
	// With the modification time of the database, the next check finds without a clock
	// whether it has changed. If that cannot be set, the next snapshot is due in any
	// case.
	_ = os.Chtimes(temp, changed, changed)
	if err := durable.Rename(temp, d.snapshot(name)); err != nil {
		return err
	}
	return d.thinSnapshots(settled)
}

// changeSteps is longer than the resolution of the times that file systems keep.
const changeSteps = 2 * time.Second

// databaseChanged returns the modification time to give the snapshot: that of the
// database. If that is less than changeSteps ago, a later change may get the same time;
// then it returns an earlier time that no change has, so that the next snapshot is due.
func (d *Dir) databaseChanged(now time.Time) (time.Time, error) {
	database, err := os.Stat(d.Join(DatabaseFile))
	if err != nil {
		return time.Time{}, err
	}
	changed := database.ModTime()
	if now.Sub(changed).Abs() < changeSteps {
		changed = changed.Add(-changeSteps)
	}
	return changed, nil
}

func (d *Dir) snapshot(name string) string { return filepath.Join(d.path, snapshotsDir, name) }

// prepareSnapshots makes the folder, and removes incomplete snapshots that a crash left
// in it.
func (d *Dir) prepareSnapshots() error {
	dir := d.Join(snapshotsDir)
	if err := os.Mkdir(dir, 0o700); err == nil {
		err = errors.Join(d.ownFolder(dir), durable.SyncDir(d.path))
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	left, err := filepath.Glob(filepath.Join(escapeGlob(dir), ".*"+snapshotSuffix))
	for _, path := range left {
		err = errors.Join(err, durable.Removed(os.Remove(path)))
	}
	return err
}

func (d *Dir) ownFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.own(f), f.Close())
}

func (d *Dir) writeSnapshot(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return durable.Fill(f, d.own, func(f *os.File) error { return write(&syncingNowAndThen{File: f}) })
}

// syncingNowAndThen is a writer that syncs every 4 MB, so that little is unwritten: on
// many file systems, the sync of an upload has to wait for all of it.
type syncingNowAndThen struct {
	*os.File
	unsynced int
}

func (s *syncingNowAndThen) Write(p []byte) (int, error) {
	n, err := s.File.Write(p)
	if s.unsynced += n; err != nil || s.unsynced < 4<<20 {
		return n, err
	}
	s.unsynced = 0
	return n, s.Sync()
}

// snapshots returns all snapshots, the newest first.
func (d *Dir) snapshots() (all []snapshot, err error) {
	entries, err := os.ReadDir(d.Join(snapshotsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		if s, ok := parseSnapshot(entry.Name()); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b snapshot) int {
		return cmp.Or(cmp.Compare(b.number, a.number), b.begun.Compare(a.begun))
	})
	return all, nil
}

// thinSnapshots removes the snapshots that are neither among the newest nor the last of
// one of the days before. When the date is not known, it keeps those of all other days.
func (d *Dir) thinSnapshots(settled bool) error {
	all, err := d.snapshots()
	if err != nil {
		return err
	}
	days := map[string]bool{}
	for i, s := range all {
		day := s.begun.Format(time.DateOnly)
		last := day != all[0].begun.Format(time.DateOnly) && !days[day] && len(days) < daysKept
		if last {
			days[day] = true
		}
		if !settled {
			last = i >= len(all)-oldestKept
		}
		if i >= newestKept && !last {
			err = errors.Join(err, os.Remove(d.snapshot(s.name)))
		}
	}
	return err
}

// Rescue returns a sentence about what to do when the database is missing or damaged.
func (d *Dir) Rescue() string {
	advice := "Restore a backup with `attachd restore` into an empty data directory"
	all, err := d.snapshots()
	if err != nil || len(all) == 0 {
		return advice
	}
	return fmt.Sprintf("%s, or go back to the newest snapshot: copy %s to %s, then run `attachd check`. Keep the file that is there now under another name, and leave the folder wal where it is: what the snapshot does not know of it is kept in a folder wal.aside-*, which belongs to the file that you kept. What was changed after %s is not in it; contents that came after that stay as files until `attachd gc` is run",
		advice, d.snapshot(all[0].name), d.Join(DatabaseFile), all[0].begun.Format(time.RFC3339))
}
