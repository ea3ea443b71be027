package datadir_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"attachd/server/datadir"
)

func TestOpenMakesTheDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	dir := open(t, path)
	if dir.Path() != path || dir.Join("x") != filepath.Join(path, "x") {
		t.Errorf("the path is %s", dir.Path())
	}
	if format := read(t, dir.Join("FORMAT")); format != "8\n" {
		t.Errorf("FORMAT holds %q", format)
	}
	open(t, path)
}

func TestOpenKnowsFormats(t *testing.T) {
	for format, says := range map[string]string{
		"1":       "",
		" 2 \r\n": "",
		"9\n":     "has format 9, which a newer attachd wrote; this one knows formats up to 8",
		"999":     "has format 999, which a newer attachd wrote",
		"0":       "does not hold a format number",
		"-1":      "does not hold a format number",
	} {
		path := t.TempDir()
		write(t, filepath.Join(path, "FORMAT"), format)
		_, err := datadir.Open(path)
		wants(t, err, says)
		if read(t, filepath.Join(path, "FORMAT")) != format {
			t.Errorf("FORMAT %q was changed", format)
		}
	}
}

func TestOpenRefusesAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	_, err := datadir.Open(file)
	wants(t, err, "making the data directory")
}

func TestWriteFileReplacesAndLeavesNothingElse(t *testing.T) {
	dir := open(t, t.TempDir())
	for _, content := range []string{"first, and long", "second", ""} {
		if err := dir.WriteFile("note", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, dir.Join("note")); got != content {
			t.Errorf("the file holds %q, not %q", got, content)
		}
	}
	// A folder cannot be replaced by a file.
	if err := os.Mkdir(dir.Join("folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	wants(t, dir.WriteFile("folder", []byte("x")), "writing "+dir.Join("folder"))
	if left := names(t, dir.Path()); strings.Join(left, " ") != "FORMAT folder note" {
		t.Errorf("the directory holds %v", left)
	}
}

func TestCheckDatabase(t *testing.T) {
	const blob = "blobs/sha256/ab/abcdef"
	odd := "data [a-z]* of ?" // must not be used as a pattern
	if runtime.GOOS == "windows" {
		odd = "data [a-z]"
	}
	for _, c := range []struct {
		files string
		says  string
	}{
		{"", ""},
		{"attachd.db", ""},
		{"attachd.db " + blob, ""},
		{blob, "attachd.db is missing, but there are 1 stored files in"},
		{blob + " blobs/sha256/00/00ff", "but there are 2 stored files in"},
		{"wal/0000000000000001", "attachd.db is missing, but there are 1 stored files in"},
		{"attachd.db wal/0000000000000001", ""},
	} {
		for _, name := range []string{"data", odd} {
			dir := open(t, filepath.Join(t.TempDir(), name))
			for _, file := range strings.Fields(c.files) {
				if err := os.MkdirAll(filepath.Dir(dir.Join(file)), 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, dir.Join(file), "x")
			}
			wants(t, dir.CheckDatabase(), c.says)
		}
	}
}

func TestHolder(t *testing.T) {
	dir := open(t, t.TempDir())
	if who := dir.Holder(); who != "another process" {
		t.Errorf("without a note the holder is %q", who)
	}
	release, err := dir.Announce("attachd test")
	if err != nil {
		t.Fatal(err)
	}
	if who := dir.Holder(); !strings.HasPrefix(who, "attachd test (process ") {
		t.Errorf("the holder is %q", who)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if left := names(t, dir.Path()); strings.Join(left, " ") != "FORMAT" {
		t.Errorf("the directory holds %v", left)
	}
}

func open(t *testing.T, path string) *datadir.Dir {
	t.Helper()
	dir, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// wants requires an error that contains says, or none if says is empty.
func wants(t *testing.T, err error, says string) {
	t.Helper()
	if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("the error is %v, want %q", err, says)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, path string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

// The log contains contents, as the database does.
func TestTheLogIsClosedToTheGroup(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no mode opens a file on Windows")
	}
	dir := open(t, t.TempDir())
	segment := dir.Join("wal/0000000000000001")
	must(t, os.Mkdir(filepath.Dir(segment), 0o700))
	write(t, segment, "x")
	must(t, os.Chmod(segment, 0o660)) // as a platform does to a volume
	open(t, dir.Path())
	info, err := os.Stat(segment)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("it has mode %v", info.Mode())
	}
}
