package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"attachd/store"
)

// On a full disk a deletion is written to free pages of the file, so these have blocks.
func TestTheFileOfADatabaseHasNoHoles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	err := syscall.Fallocate(fileFor(t), 1, 0, 1) // FALLOC_FL_KEEP_SIZE
	if errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skip("the file system of temporary files sets no blocks apart")
	}
	b := OpenAt(t, path)
	for range 3 {
		if _, err := b.Put(t.Context(), store.User{ID: uuid.New()}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if taken := info.Sys().(*syscall.Stat_t).Blocks * 512; taken < info.Size() {
			t.Errorf("of %d bytes, %d are on the disk", info.Size(), taken)
		}
	}
}

func fileFor(t *testing.T) (fd int) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "probe"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return int(file.Fd())
}
