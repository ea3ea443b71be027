package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Snapshots are copies of the database beside it, for the day that it is lost
// or damaged and there is no backup. Their names are when they were begun.
const (
	snapshotsDir   = "snapshots"
	snapshotLayout = "2006-01-02T15-04-05Z"
	snapshotSuffix = ".db"
)

// Snapshots that are kept: the newest ones, and the last of each day before,
// as long as there are not too many.
const (
	newestKept = 2
	daysKept   = 2
)

// SnapshotDue says whether the database has changed since the newest snapshot,
// and how large it is in bytes.
func (d *Dir) SnapshotDue() (due bool, size int64, err error) {
	database, err := os.Stat(d.Join(databaseFile))
	if err != nil {
		return false, 0, err
	}
	names, err := d.snapshots()
	if err != nil || len(names) == 0 {
		return true, database.Size(), err
	}
	begun, err := time.Parse(snapshotLayout+snapshotSuffix, names[0])
	return !database.ModTime().Before(begun), database.Size(), err
}

// NewestSnapshot is when the newest snapshot was begun, if there is any.
func (d *Dir) NewestSnapshot() (begun time.Time, any bool, err error) {
	names, err := d.snapshots()
	if err != nil || len(names) == 0 {
		return time.Time{}, false, err
	}
	begun, err = time.Parse(snapshotLayout+snapshotSuffix, names[0])
	return begun, err == nil, err
}

// TakeSnapshot keeps what write writes, if verify has nothing against it, and
// removes snapshots that are no longer needed. now is a moment before the
// database is read.
func (d *Dir) TakeSnapshot(now time.Time, write func(io.Writer) error, verify func(path string) error) (err error) {
	if err := d.prepareSnapshots(); err != nil {
		return err
	}
	name := now.UTC().Format(snapshotLayout) + snapshotSuffix
	temp := d.snapshot("." + name)
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(temp))
		}
	}()
	if err := d.writeSnapshot(temp, write); err != nil {
		return err
	}
	if err := verify(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, d.snapshot(name)); err != nil {
		return err
	}
	return errors.Join(syncDir(d.Join(snapshotsDir)), d.thinSnapshots(now))
}

func (d *Dir) snapshot(name string) string { return filepath.Join(d.path, snapshotsDir, name) }

// prepareSnapshots makes the folder, and removes what a crash left in it.
func (d *Dir) prepareSnapshots() error {
	dir := d.Join(snapshotsDir)
	if err := os.Mkdir(dir, 0o700); err == nil {
		err = errors.Join(d.ownFolder(dir), syncDir(d.path))
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	left, err := filepath.Glob(filepath.Join(escapeGlob(dir), ".*"+snapshotSuffix))
	for _, path := range left {
		err = errors.Join(err, removeIfThere(path))
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

func (d *Dir) writeSnapshot(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := d.own(f); err != nil {
		return err
	}
	if err := write(&syncingNowAndThen{File: f}); err != nil {
		return err
	}
	return f.Sync()
}

// syncingNowAndThen lets little pile up that is not on the disk yet: on many a
// file system, an upload that syncs has to wait for all of it.
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

// snapshots are the names of all, the newest first.
func (d *Dir) snapshots() ([]string, error) {
	entries, err := os.ReadDir(d.Join(snapshotsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if _, err := time.Parse(snapshotLayout+snapshotSuffix, entry.Name()); err == nil {
			names = append(names, entry.Name())
		}
	}
	slices.Reverse(names)
	return names, nil
}

// thinSnapshots removes what is neither among the newest nor the last of one
// of the days before.
func (d *Dir) thinSnapshots(now time.Time) error {
	names, err := d.snapshots()
	if err != nil {
		return err
	}
	today, days := now.UTC().Format(time.DateOnly), map[string]bool{}
	for i, name := range names {
		day := name[:len(time.DateOnly)]
		last := day < today && !days[day] && len(days) < daysKept
		if last {
			days[day] = true
		}
		if i >= newestKept && !last {
			err = errors.Join(err, os.Remove(d.snapshot(name)))
		}
	}
	return err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Rescue says what to do about a database that is missing or damaged.
func (d *Dir) Rescue() string {
	advice := "Restore a backup with `attachd restore` into an empty data directory"
	names, err := d.snapshots()
	if err != nil || len(names) == 0 {
		return advice
	}
	return fmt.Sprintf("%s, or go back to the newest snapshot: copy %s to %s, then run `attachd check`. What was changed after %s is not in it; contents that came after that stay as files until `attachd gc` is run",
		advice, d.snapshot(names[0]), d.Join(databaseFile), strings.TrimSuffix(names[0], snapshotSuffix))
}
