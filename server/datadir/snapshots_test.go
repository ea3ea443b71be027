package datadir

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// snapshotDir is a data directory with a database that was modified at the given time.
func snapshotDir(t *testing.T, changed time.Time) *Dir {
	t.Helper()
	dir, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir.Join("attachd.db"), []byte("database"), 0o600); err != nil {
		t.Fatal(err)
	}
	change(t, dir, changed)
	return dir
}

func change(t *testing.T, dir *Dir, at time.Time) {
	t.Helper()
	if err := os.Chtimes(dir.Join("attachd.db"), at, at); err != nil {
		t.Fatal(err)
	}
}

func good(string) error { return nil }

func copied(w io.Writer) error {
	_, err := io.WriteString(w, "database")
	return err
}

func wantSnapshots(t *testing.T, dir *Dir, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir.Join("snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, strings.TrimSuffix(strings.TrimPrefix(entry.Name(), "snapshot-"), ".db"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("there are %v, not %v", got, want)
	}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestASnapshotIsDueWhenTheDatabaseHasChanged(t *testing.T) {
	dir := snapshotDir(t, noon)
	for _, step := range []struct {
		changed, taken time.Duration // after noon; 0 if it did not happen
		due            bool
	}{
		{due: true},
		{taken: time.Hour, due: false},
		{changed: 2 * time.Hour, due: true},
		{taken: 3 * time.Hour, due: false},
		{changed: 3 * time.Hour, due: true}, // in the same second: perhaps after the snapshot
	} {
		if step.changed != 0 {
			change(t, dir, noon.Add(step.changed))
		}
		if step.taken != 0 {
			if err := dir.TakeSnapshot(noon.Add(step.taken), true, copied, good); err != nil {
				t.Fatal(err)
			}
		}
		due, size, err := dir.SnapshotDue()
		if due != step.due || size != int64(len("database")) || err != nil {
			t.Errorf("%+v: due is %v, %d bytes, %v", step, due, size, err)
		}
	}
}

func TestAFewSnapshotsAreKept(t *testing.T) {
	dir := snapshotDir(t, noon)
	for hour := range 24 * 5 {
		if err := dir.TakeSnapshot(noon.Add(time.Duration(hour)*time.Hour), true, copied, good); err != nil {
			t.Fatal(err)
		}
	}
	wantSnapshots(t, dir, "000084-2026-03-04T23-00-00Z", "000108-2026-03-05T23-00-00Z", "000119-2026-03-06T10-00-00Z", "000120-2026-03-06T11-00-00Z")
}

func TestASnapshotThatIsNoGoodIsNotKept(t *testing.T) {
	bad := errors.New("bad")
	dir := snapshotDir(t, noon)
	if err := dir.TakeSnapshot(noon, true, copied, good); err != nil {
		t.Fatal(err)
	}
	if err := dir.TakeSnapshot(noon.Add(time.Hour), true, copied, func(string) error { return bad }); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
	if err := dir.TakeSnapshot(noon.Add(time.Hour), true, func(io.Writer) error { return bad }, good); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
	wantSnapshots(t, dir, "000001-2026-03-01T12-00-00Z")
}

func TestWhatACrashLeftOfASnapshotIsRemoved(t *testing.T) {
	dir := snapshotDir(t, noon)
	if err := errors.Join(
		os.Mkdir(dir.Join("snapshots"), 0o700),
		os.WriteFile(dir.Join("snapshots/.2026-02-01T12-00-00Z.db"), []byte("half"), 0o600),
		dir.TakeSnapshot(noon, true, copied, good),
	); err != nil {
		t.Fatal(err)
	}
	wantSnapshots(t, dir, "000001-2026-03-01T12-00-00Z")
}

func TestTheRescueNamesTheNewestSnapshot(t *testing.T) {
	dir := snapshotDir(t, noon)
	if advice := dir.Rescue(); strings.Contains(advice, "snapshot") {
		t.Errorf("without one: %s", advice)
	}
	for hour := range 3 {
		if err := dir.TakeSnapshot(noon.Add(time.Duration(hour)*time.Hour), true, copied, good); err != nil {
			t.Fatal(err)
		}
	}
	if advice, want := dir.Rescue(), dir.Join("snapshots/snapshot-000003-2026-03-01T14-00-00Z.db"); !strings.Contains(advice, want) {
		t.Errorf("%s does not name %s", advice, want)
	}
}

// take takes a snapshot at a time.
func take(t *testing.T, dir *Dir, at time.Time, settled bool) {
	t.Helper()
	if err := dir.TakeSnapshot(at, settled, copied, good); err != nil {
		t.Fatal(err)
	}
}

// After some snapshots with a clock that was fast or slow, the next is due when the
// database has changed, is the newest, and removes none of the days before.
func TestSnapshotsAreInTheirOrderWhateverTheClockSays(t *testing.T) {
	for _, wrong := range []time.Duration{30 * 24 * time.Hour, 12 * 365 * 24 * time.Hour, -56 * 365 * 24 * time.Hour, -2 * time.Hour} {
		dir := snapshotDir(t, noon)
		take(t, dir, noon.Add(-24*time.Hour), true)
		take(t, dir, noon, true)
		for n := range 3 {
			change(t, dir, noon.Add(wrong+time.Duration(n)*time.Minute))
			take(t, dir, noon.Add(wrong+time.Duration(n)*25*time.Hour), false)
		}
		change(t, dir, noon.Add(30*time.Minute))
		if due, _, err := dir.SnapshotDue(); !due || err != nil {
			t.Errorf("after %v: due is %v, %v", wrong, due, err)
		}
		take(t, dir, noon.Add(time.Hour), false)
		if due, _, err := dir.SnapshotDue(); due || err != nil {
			t.Errorf("after another one: due is %v, %v", due, err)
		}
		newest, any, err := dir.NewestSnapshot()
		if !newest.Equal(noon.Add(time.Hour)) || !any || err != nil || !strings.Contains(dir.Rescue(), "snapshot-000006-2026-03-01T13-00-00Z.db") {
			t.Errorf("after %v, the newest is of %v, %v: %s", wrong, newest, err, dir.Rescue())
		}
		all, err := dir.snapshots()
		if err != nil || len(all) != 6 || all[5].number != 1 {
			t.Errorf("after %v there are %+v, %v", wrong, all, err)
		}
	}
}

// Snapshots of an earlier version, which have no number, are older than all others.
func TestSnapshotsWithoutNumberAreOlder(t *testing.T) {
	dir := snapshotDir(t, noon)
	take(t, dir, noon, true)
	old := "2027-01-01T00-00-00Z"
	if err := os.WriteFile(dir.Join("snapshots/"+old+".db"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if newest, _, err := dir.NewestSnapshot(); !newest.Equal(noon) || err != nil {
		t.Errorf("the newest is of %v, %v", newest, err)
	}
	take(t, dir, noon.Add(time.Hour), true)
	wantSnapshots(t, dir, old, "000001-2026-03-01T12-00-00Z", "000002-2026-03-01T13-00-00Z")
}
