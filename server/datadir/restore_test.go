package datadir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"attachd/server/datadir"
)

func TestARestoreTakesAnEmptyDirectoryOrItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not", "there")
	for range 2 { // the second continues the first
		d, err := datadir.Restore(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(d.RestoringFile()); err != nil {
			t.Error(err)
		}
		if _, err := datadir.Open(path); err == nil || !strings.Contains(err.Error(), "is being restored from a backup, or that was cut off") {
			t.Errorf("it opens meanwhile: %v", err)
		}
		if err := os.WriteFile(d.Join("attachd.db"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := datadir.Restore(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Restored(); err != nil {
		t.Fatal(err)
	}
	if _, err := datadir.Open(path); err != nil {
		t.Errorf("restored, it does not open: %v", err)
	}
	if _, err := datadir.Restore(path); err == nil || !strings.Contains(err.Error(), "is not empty: there is attachd.db in it") {
		t.Errorf("restored over: %v", err)
	}
}

func TestScratchIsForTheMoment(t *testing.T) {
	d, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.Join("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	file, done, err := d.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	read := make([]byte, 5)
	if _, err := file.WriteString("notes"); err != nil {
		t.Error(err)
	}
	if _, err := file.ReadAt(read, 0); err != nil || string(read) != "notes" {
		t.Errorf("%q, %v", read, err)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(d.Join("tmp")); len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
