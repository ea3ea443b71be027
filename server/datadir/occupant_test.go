package datadir_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"attachd/server/datadir"
)

// folder makes a folder with entries: those that end with a slash are folders, and
// those with an = are files with that content; a %20 is a space, %0A a new line.
func folder(t *testing.T, entries string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "folder")
	must(t, os.Mkdir(path, 0o750))
	for _, entry := range strings.Fields(entries) {
		name, content, _ := strings.Cut(strings.NewReplacer("%20", " ", "%0A", "\n").Replace(entry), "=")
		full := filepath.Join(path, filepath.FromSlash(name))
		must(t, os.MkdirAll(filepath.Dir(full), 0o750))
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(full, 0o750))
			continue
		}
		must(t, os.WriteFile(full, []byte(content), 0o640))
	}
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// state describes everything in a folder, with modes and times.
func state(t *testing.T, path string) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.WalkDir(path, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		all.WriteString(path + " " + info.Mode().String() + " " + info.ModTime().String() + "\n")
		return nil
	}))
	return all.String()
}

func TestAFolderOfOthersIsRefusedAndStaysAsItIs(t *testing.T) {
	t.Parallel()
	for _, entries := range []string{
		"tmp/thesis.txt main.c",
		"tmp/thesis.txt",
		"tmp/deep/photo.jpg",
		"blobs/photo.jpg",
		"blobs/sha256/00/x",
		"blobs/sha256/0f2c oci-layout index.json=[]", // a container image
		"snapshots/monday.tar thumbnails/",
		"FORMAT=raw",
		"FORMAT=3 notes.txt tmp/x",
		"FORMAT=",
		"FORMAT=attachd%20backup%201 points/ blobs/sha256/00/ blobs/sha256/ff/ tmp/ lock",
		"FORMAT/",
		"attachd.db main.go",
		"attachd.db/",
		"secret.key=django",
		"admin.key",
		"ballast",
		"RESTORING=since%20monday",
		"RESTORING=since%20monday attachd.db=x notes",
		"..data/ config.yaml",
		".git/HEAD",
		".gitignore .gitkeep Makefile",
		"lost+found/ photo.jpg",
		".bashrc tmp/",
		".FORMAT.new",
	} {
		t.Run(entries, func(t *testing.T) {
			t.Parallel()
			path := folder(t, entries)
			before := state(t, path)
			for name, open := range map[string]func(string) (*datadir.Dir, error){"Open": datadir.Open, "OpenExisting": datadir.OpenExisting} {
				_, err := open(path)
				wants(t, err, path+" is no data directory of attachd")
				if err != nil && !strings.Contains(err.Error(), "--data-dir") {
					t.Errorf("%s does not say what to do: %v", name, err)
				}
			}
			_, err := datadir.Restore(path)
			wants(t, err, path+" is not empty: there is ")
			if after := state(t, path); after != before {
				t.Errorf("there was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

func TestAFolderThatIsAsGoodAsEmptyIsTaken(t *testing.T) {
	t.Parallel()
	for _, entries := range []string{
		"",
		"lost+found/",
		".gitkeep",
		".gitignore",
		".DS_Store",
		".Trash-1000/files/x",
		".snapshot/",
		"System%20Volume%20Information/",
		"tmp/ blobs/ snapshots/ thumbnails/",
		"blobs/sha256/00/ tmp/deep/",
		"blobs/lost+found/", // a disk is to be mounted below it
		".FORMAT.123456",    // left by a first start that was killed
	} {
		t.Run(entries, func(t *testing.T) {
			t.Parallel()
			path := folder(t, entries)
			if _, err := datadir.OpenExisting(path); !errors.Is(err, datadir.ErrNoInstallation) {
				t.Errorf("it passes for an installation: %v", err)
			}
			if dir := open(t, path); !dir.Fresh() || dir.Shared() {
				t.Errorf("fresh %v, shared %v", dir.Fresh(), dir.Shared())
			}
			if dir := open(t, path); dir.Fresh() {
				t.Error("it is new a second time")
			}
			if _, err := datadir.OpenExisting(path); err != nil {
				t.Errorf("then it is no installation: %v", err)
			}
		})
	}
	if _, err := datadir.OpenExisting(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, datadir.ErrNoInstallation) {
		t.Errorf("a missing one: %v", err)
	}
}

func TestADataDirectoryIsKnownAgain(t *testing.T) {
	t.Parallel()
	const shards = " blobs/sha256/00/ blobs/sha256/ff/ "
	for _, c := range []struct {
		entries string
		shared  bool
		says    string
	}{
		{"FORMAT=3", false, ""},
		{"FORMAT=1", false, ""},
		{"FORMAT=3 .FORMAT.1 .secret.key.22", false, ""}, // the process was killed
		{"FORMAT=3 attachd.db", false, ""},
		{"FORMAT=3 attachd.db attachd.db.new77 attachd.wal ballast blobs/x", false, ""},
		{"FORMAT=5 attachd.db wal/0000000000000001 wal.aside-2026-11-29T17-00-00.000Z/0000000000000001", false, ""},
		{"FORMAT=3 attachd.db thesis.txt tmp/thesis.txt", true, ""},
		{"FORMAT=3 thesis.txt" + shards, true, ""}, // its database is lost
		{"attachd.db" + shards, false, ""},         // its FORMAT is lost
		{"attachd.db thesis.txt" + shards, true, ""},
		{"attachd.db", false, ""}, // restored from a snapshot
		{"FORMAT=one attachd.db" + shards, false, "does not hold a format number"},
		{"FORMAT=99 attachd.db thesis.txt", false, "has format 99, which a newer attachd wrote"},
		{"RESTORING=A%20backup%20is%20being%20restored%20here.%0A attachd.db", false, "is being restored from a backup, or that was cut off"},
	} {
		t.Run(c.entries, func(t *testing.T) {
			t.Parallel()
			path := folder(t, c.entries)
			dir, err := datadir.OpenExisting(path)
			wants(t, err, c.says)
			if err == nil && (dir.Shared() != c.shared || dir.Fresh()) {
				t.Errorf("shared %v, fresh %v", dir.Shared(), dir.Fresh())
			}
		})
	}
}

// The format of a data directory without its FORMAT is not written before the rest is
// known to be usable.
func TestAFormatThatIsLostIsWrittenBySettle(t *testing.T) {
	t.Parallel()
	dir := open(t, folder(t, "attachd.db blobs/sha256/00/ blobs/sha256/ff/"))
	if _, err := os.Stat(dir.Join("FORMAT")); err == nil {
		t.Error("it was written before")
	}
	must(t, dir.CleanUp())
	if format := read(t, dir.Join("FORMAT")); format != fmt.Sprintln(datadir.Format) {
		t.Errorf("FORMAT holds %q", format)
	}
}

func TestALinkToADataDirectoryIsFollowed(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("links take a right there")
	}
	mine, others := folder(t, ""), folder(t, "tmp/thesis.txt")
	for target, says := range map[string]string{mine: "", others: "is no data directory"} {
		link := filepath.Join(t.TempDir(), "link")
		must(t, os.Symlink(target, link))
		_, err := datadir.Open(link)
		wants(t, err, says)
	}
}
