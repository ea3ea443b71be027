package disk_test

import (
	"crypto/sha256"
	"os"
	"testing"

	"attachd/blobs"
	"attachd/blobs/disk"
)

// keptAs keeps a content and returns what Kept says of it.
func keptAs(t *testing.T, d *disk.Store, content []byte) blobs.Version {
	t.Helper()
	spool, err := d.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	if _, err := spool.Write(content); err != nil {
		t.Fatal(err)
	}
	release, err := spool.Keep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	return d.Kept(spool)
}

func TestEveryChangeOfAFileIsToldFromTheOneThatKeepHasMade(t *testing.T) {
	t.Parallel()
	d := openDisk(t, t.TempDir())
	content := []byte("abc")
	ref := blobs.Ref(sha256.Sum256(content))
	kept := keptAs(t, d, content)
	if kept == (blobs.Version{}) {
		t.Skip("the system, or the file system of temporary files, does not tell each change from the one before")
	}
	file, err := d.Open(t.Context(), ref, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	path := file.(*os.File).Name()
	for n := range 1000 {
		now := d.Version(file)
		if (now == kept) != (n == 0) {
			t.Fatalf("after %d changes: %+v, kept as %+v", n, now, kept)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if d.Version(file) == now {
			t.Fatalf("change %d cannot be seen", n)
		}
	}
	if again := keptAs(t, d, content); again != (blobs.Version{}) {
		t.Errorf("a content that was stored before counts as hashed: %+v", again)
	}
	mark(t, d, ref)
	if repaired := keptAs(t, d, content); repaired == (blobs.Version{}) || repaired == kept {
		t.Errorf("a content that replaced a damaged one is %+v, which was %+v", repaired, kept)
	}
}
