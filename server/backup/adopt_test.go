package backup_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/server/backup"
	"attachd/store"
)

// into returns a home with the same folder for backups as another.
func into(t *testing.T, other *home) *home {
	h := newHome(t)
	h.to = other.to
	return h
}

// tryAdd makes a restore point and prunes, as the nightly command does.
func (h *home) tryAdd(opts backup.AddOptions, keep int) (err error) {
	h.Helper()
	opts.Keep = keep
	h.archive(func(a *backup.Archive) {
		if _, err = a.Add(h.Context(), h, opts); err == nil && keep > 0 {
			_, err = a.Prune(h.Context(), keep, openSnapshot)
		}
	})
	return err
}

// earlier are the options of a version without ids.
func (h *home) earlier(at time.Time) backup.AddOptions {
	opts := h.options(at)
	opts.Installation = uuid.Nil
	return opts
}

// everything returns the names and contents of all files in the backup.
func (h *home) everything() string {
	var all strings.Builder
	h.OK(filepath.WalkDir(h.to, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		all.WriteString(path + "\n" + string(raw) + "\n")
		return err
	}))
	return all.String()
}

func (h *home) points() string {
	h.Helper()
	a, err := backup.FindArchive(h.to)
	h.OK(err)
	names, err := a.PointNames()
	h.OK(errors.Join(err, a.Close()))
	return strings.Join(names, " ")
}

func TestABackupOfAnotherInstallationIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(h *home) error
	}{
		"whole":                 {func(*home) error { return nil }},
		"without its id":        {func(h *home) error { return os.Remove(filepath.Join(h.to, "INSTALLATION")) }},
		"with a damaged newest": {func(h *home) error { return truncate(h, "2026-11-23T13-00-00Z", "attachd.db") }},
		"with no point to be read": {func(h *home) error {
			return errors.Join(truncate(h, "2026-11-23T12-00-00Z", "point.json"), truncate(h, "2026-11-23T13-00-00Z", "point.json"))
		}},
		"with an id that is no such": {func(h *home) error { return os.WriteFile(filepath.Join(h.to, "INSTALLATION"), []byte("mine\n"), 0o600) }},
	} {
		t.Run(name, func(t *testing.T) {
			one := newHome(t)
			one.Keep("one's", true)
			one.add(noon)
			one.add(noon.Add(time.Hour))
			one.OK(c.spoil(one))
			before := one.everything()
			other := into(t, one)
			err := other.tryAdd(other.options(noon.Add(2*time.Hour)), 1)
			if err == nil || !errors.Is(err, backup.ErrForeign) && !strings.Contains(err.Error(), "does not hold the id") {
				t.Errorf("it is taken: %v", err)
			}
			if one.everything() != before {
				t.Error("it was changed")
			}
		})
	}
}

func truncate(h *home, point, name string) error {
	return os.Truncate(filepath.Join(h.to, "points", point, name), 9)
}

// A point of an earlier version has no id: its records show to which installation it
// belongs.
func TestABackupOfAnEarlierVersionBelongsToWhomItIsOf(t *testing.T) {
	for name, fill := range map[string]func(h *home){
		"by an attachment": func(h *home) { h.Keep("one's", true) },
		"by a key": func(h *home) {
			h.OK(h.Records.CreateKey(h.Context(), store.Key{ID: uuid.New(), UserID: h.Ada.ID, Hash: [32]byte{1}}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			one := newHome(t)
			fill(one)
			one.OK(one.tryAdd(one.earlier(noon), 0))
			other := into(t, one)
			fill(other)
			if err := other.tryAdd(other.options(noon.Add(time.Hour)), 1); !errors.Is(err, backup.ErrForeign) {
				t.Errorf("another takes it over: %v", err)
			}
			if err := other.tryAdd(other.earlier(noon.Add(time.Hour)), 1); !errors.Is(err, backup.ErrForeign) {
				t.Errorf("one of the earlier version, too: %v", err)
			}
			one.Keep("later", true)
			one.OK(one.tryAdd(one.options(noon.Add(2*time.Hour)), 2))
			id := one.options(noon).Installation
			for _, point := range strings.Fields(one.points()) {
				if p := one.find(point); p.Installation != id {
					t.Errorf("%s is of %v", point, p.Installation)
				}
			}
			one.wantSound(2)
			one.OK(one.tryAdd(one.options(noon.Add(3*time.Hour)), 1))
			if left := one.points(); left != "2026-11-23T15-00-00Z" {
				t.Errorf("left: %s", left)
			}
		})
	}
}

// Earlier versions let any installation add to any backup. The resulting points are
// kept.
func TestPointsOfAnotherInstallationAreNeitherCountedNorRemoved(t *testing.T) {
	one := newHome(t)
	one.Keep("one's", true)
	one.OK(one.tryAdd(one.earlier(noon), 0))
	other := newHome(t)
	other.Keep("other's", true)
	other.OK(other.tryAdd(other.earlier(noon.Add(time.Hour)), 0))
	other.OK(os.Remove(filepath.Join(other.to, "FORMAT")))
	one.OK(errors.Join(os.Remove(filepath.Join(other.to, "lock")), os.CopyFS(one.to, os.DirFS(other.to))))
	for hour := 2; hour < 5; hour++ {
		one.OK(one.tryAdd(one.options(noon.Add(time.Duration(hour)*time.Hour)), 2))
	}
	if left := one.points(); left != "2026-11-23T13-00-00Z 2026-11-23T15-00-00Z 2026-11-23T16-00-00Z" {
		t.Errorf("left: %s", left)
	}
	one.wantSound(3)
	to := t.TempDir()
	_, err := one.restore("2026-11-23T13-00-00Z", to)
	one.OK(err)
	one.wantRestored(to, "other's")
}
