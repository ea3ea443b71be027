//go:build unix

package backup_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"attachd/server/backup"
	"attachd/server/upkeep/upkeeptest"
)

// plantings put something else than a file in a place. The target of a link stays as it
// is.
var plantings = map[string]func(path, file, folder string) error{
	"a fifo":              func(path, _, _ string) error { return syscall.Mkfifo(path, 0o600) },
	"a folder":            func(path, _, _ string) error { return os.Mkdir(path, 0o700) },
	"a link to a file":    func(path, file, _ string) error { return os.Symlink(file, path) },
	"a link to nothing":   func(path, file, _ string) error { return os.Symlink(file+".not-there", path) },
	"a link to a folder":  func(path, _, folder string) error { return os.Symlink(folder, path) },
	"a link to /dev/zero": func(path, _, _ string) error { return os.Symlink("/dev/zero", path) },
}

// Whatever is planted in a backup: nothing waits for it, nothing is read, created,
// changed or given another owner through a link, and the file that it replaces counts
// as missing.
func TestNothingButFilesAndFoldersCountsInABackup(t *testing.T) {
	whole := newHome(t)
	saved := whole.saved(whole.Keep("one", true))
	whole.Keep("two", true)
	point := "points/" + whole.add(noon).Name
	blob, err := filepath.Rel(whole.to, saved)
	whole.OK(err)
	for name, kinds := range map[string][]string{
		"FORMAT":              {"a fifo", "a link to /dev/zero"},
		"INSTALLATION.new":    {"a link to a file"},
		"lock":                {"a fifo", "a link to a file", "a link to nothing"},
		"tmp":                 {"a link to a folder"},
		"points":              {"a fifo", "a link to a folder"},
		"blobs":               {"a link to a folder"},
		filepath.Dir(blob):    {"a link to a folder"},
		blob:                  {"a fifo", "a folder", "a link to a file"},
		point:                 {"a link to a folder"},
		point + "/point.json": {"a fifo", "a link to /dev/zero"},
		point + "/attachd.db": {"a fifo", "a folder", "a link to /dev/zero"},
	} {
		for _, what := range kinds {
			plant := plantings[what]
			t.Run(name+"/"+what, func(t *testing.T) {
				h := &home{House: &upkeeptest.House{T: t, Records: whole.Records, Blobs: whole.Blobs}, content: whole.content, to: filepath.Join(t.TempDir(), "backup")}
				h.OK(os.CopyFS(h.to, os.DirFS(whole.to)))
				victim := newVictim(t)
				h.OK(errors.Join(os.RemoveAll(filepath.Join(h.to, name)), plant(filepath.Join(h.to, name), victim.file, victim.folder)))
				missed := h.tryAll(t, victim)
				replaceable := strings.HasSuffix(name, ".new") || name == "lock" || what == "a folder"
				if !missed && !replaceable {
					t.Error("nobody has missed anything")
				}
				victim.wantUntouched(t)
			})
		}
	}
}

// tryAll does all operations on a backup.
func (h *home) tryAll(t *testing.T, v *victim) (missed bool) {
	note := func(faults int, err error) { missed = missed || faults > 0 || err != nil }
	if a, err := backup.FindArchive(h.to); err == nil {
		_, err := a.Find("")
		note(0, errors.Join(err, a.Close()))
	}
	if a, err := backup.OpenArchive(h.to); err != nil {
		note(0, err)
	} else {
		verified, err := a.Verify(t.Context(), backup.VerifyOptions{Open: openSnapshot})
		note(len(verified.Faults), err)
		p, err := a.Find("")
		note(0, err)
		if err != nil {
			h.OK(a.Close())
			return true
		}
		restored, err := a.Restore(t.Context(), backup.Target{Dir: t.TempDir(), Own: v.own}, backup.RestoreOptions{Point: p, Open: openSnapshot, DespiteDamage: true})
		note(len(restored.Faults), err)
		h.OK(a.Close())
	}
	if a, err := backup.MakeArchive(h.to, v.own); err != nil {
		note(0, err)
	} else {
		opts := h.options(noon.Add(time.Hour))
		opts.Keep = 1
		_, err := a.Add(t.Context(), h, opts)
		_, pruned := a.Prune(t.Context(), 1, openSnapshot)
		note(0, errors.Join(err, pruned, a.Close()))
	}
	return missed
}

// victim is the target of links: another user's file and folder.
type victim struct {
	file, folder string
	owned        []os.FileInfo // files whose owner was changed
}

func newVictim(t *testing.T) *victim {
	dir := t.TempDir()
	v := &victim{file: filepath.Join(dir, "file"), folder: filepath.Join(dir, "folder")}
	if err := errors.Join(os.WriteFile(v.file, []byte("root's own\n"), 0o600), os.MkdirAll(filepath.Join(v.folder, "2020-01-01T00-00-00Z"), 0o700)); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *victim) own(file *os.File) error {
	info, err := file.Stat()
	v.owned = append(v.owned, info)
	return err
}

func (v *victim) wantUntouched(t *testing.T) {
	t.Helper()
	if raw, err := os.ReadFile(v.file); string(raw) != "root's own\n" {
		t.Errorf("the file says %q, %v", raw, err)
	}
	if entries, err := os.ReadDir(v.folder); len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(v.file)); len(entries) != 2 {
		t.Errorf("beside them is %v, %v", entries, err)
	}
	for _, path := range []string{v.file, v.folder} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, owned := range v.owned {
			if os.SameFile(info, owned) {
				t.Errorf("%s was handed over", path)
			}
		}
	}
}

// A hard link looks like any file: the owner of an existing one is not changed.
func TestAHardLinkIsNotHandedOver(t *testing.T) {
	h := newHome(t)
	h.Keep("one", true)
	h.add(noon)
	victim := newVictim(t)
	lock := filepath.Join(h.to, "lock")
	h.OK(errors.Join(os.Remove(lock), os.Link(victim.file, lock)))
	h.tryAll(t, victim)
	victim.wantUntouched(t)
}

// A file longer than the point says is not read to its end, and a shorter one is not
// waited for.
func TestAFileOfAPointHasTheLengthItWasWrittenWith(t *testing.T) {
	for _, name := range []string{"attachd.db", "secret.key", "FORMAT", "point.json"} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.Keep("one", true)
			p := h.add(noon)
			h.OK(os.Truncate(filepath.Join(h.to, "points", p.Name, name), 1<<40)) // a terabyte of zeros
			if v := h.verify(""); len(v.Faults) != 1 || !strings.Contains(v.Faults[0].String(), name) {
				t.Errorf("verify: %v", v.Faults)
			}
		})
	}
}

func TestAMediumThatCannotSyncFoldersIsTakenWithAWarning(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EINVAL, syscall.ENOTSUP, syscall.EBADF, syscall.ENOSYS} {
		t.Run(errno.Error(), func(t *testing.T) {
			defer backup.SetSyncFolder(func(*os.File) error { return errno })()
			h := newHome(t)
			h.Keep("one", true)
			h.archive(func(a *backup.Archive) {
				if _, err := a.Add(t.Context(), h, h.options(noon)); err != nil || !errors.Is(a.Unsynced(), errno) {
					t.Errorf("%v; the warning: %v", err, a.Unsynced())
				}
			})
			h.wantSound(1)
		})
	}
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
		t.Run(errno.Error(), func(t *testing.T) {
			defer backup.SetSyncFolder(func(*os.File) error { return errno })()
			if _, err := backup.MakeArchive(filepath.Join(t.TempDir(), "backup"), anybodys); !errors.Is(err, errno) {
				t.Errorf("a sync that failed is passed over: %v", err)
			}
		})
	}
}
