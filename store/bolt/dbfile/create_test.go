package dbfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestNewFileTakesNobodysPlace(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for _, path := range []string{from, to} {
		if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := moveNew(from, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != to {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestVanishedFileIsNotMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	if _, err := openHandle(path, time.Second, false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
}
