package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/blobs/disk"
)

func TestMain(m *testing.M) {
	flag.Parse()
	blobstest.Short("TestContentIsAPlainFileOfItsName", "TestFoldersAndModes", "TestKeepOrder", "TestKeepRepairsWhatTheDiskLost")
	blobstest.TempInMemory()
	os.Exit(m.Run())
}

func TestDiskKeepsItsPromises(t *testing.T) {
	t.Parallel()
	blobstest.Run(t, func(t *testing.T) blobs.Store { return openDisk(t, t.TempDir()) })
}

func TestContentIsAPlainFileOfItsName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keep(t, openDisk(t, dir), []byte("abc"))
	const name = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	got, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", "ba", name))
	if err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
}

// ASVS 5.3.1
func TestFoldersAndModes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir)
	mark(t, d, keep(t, d, []byte("abc")))
	folders, plain := 0, 0
	walk(t, dir, func(name string, info fs.FileInfo) {
		want := fs.FileMode(0o600)
		if info.IsDir() {
			folders++
			want = fs.ModeDir | 0o700
		} else {
			plain++
		}
		if info.Mode() != want && runtime.GOOS != "windows" {
			t.Errorf("%s is %v, not %v", name, info.Mode(), want)
		}
	})
	if folders != 4+256 || plain != 2 {
		t.Errorf("%d folders and %d files", folders, plain)
	}
}

func TestOpenEmptiesTheTemporaryFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openDisk(t, dir).Close()
	outside, victim := victims(t)
	temp := filepath.Join(dir, "tmp")
	writeFile(t, filepath.Join(temp, "left behind"), "half an upload")
	writeFile(t, filepath.Join(temp, "folder", "deeper", "file"), "by somebody else")
	symlink(t, victim, filepath.Join(temp, "to a file"))
	symlink(t, outside, filepath.Join(temp, "to a folder"))
	symlink(t, outside, filepath.Join(temp, "folder", "to a folder"))
	symlink(t, filepath.Join("..", "blobs"), filepath.Join(temp, "to blobs"))

	d := openDisk(t, dir)
	if left := tempFiles(t, dir); len(left) != 1 || left[0] != "folder" { // it stays, since no upload creates a folder
		t.Errorf("left in tmp: %q", left)
	}
	wantFile(t, filepath.Join(temp, "folder", "deeper", "file"), "by somebody else")
	wantFile(t, victim, "precious")
	keep(t, d, []byte("works"))
}

func TestOfASharedTemporaryFolderOnlySpoolsGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir)
	if _, err := d.Create(t.Context()); err != nil { // and the process is killed
		t.Fatal(err)
	}
	others := []string{"AAAA", "THESIS", "scratch-card.txt", "thesis.txt", "thumbnail-a"}
	for _, name := range append(others, "scratch-123", "thumbnail-4567") {
		writeFile(t, filepath.Join(dir, "tmp", name), "precious")
	}
	d.Close()
	openDiskWith(t, dir, disk.Options{Shared: true})
	if left := tempFiles(t, dir); !slices.Equal(left, others) {
		t.Errorf("left in tmp: %q", left)
	}
}

func TestReadOnlyChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir)
	sound, damaged := keep(t, d, []byte("sound")), keep(t, d, []byte("damaged"))
	mark(t, d, damaged)
	d.Close()
	left := filepath.Join(dir, "tmp", "left behind")
	writeFile(t, left, "half an upload")
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", "00")); err != nil {
		t.Fatal(err)
	}

	d = openDiskWith(t, dir, disk.Options{ReadOnly: true})
	if got, err := read(d, sound, 5); err != nil || string(got) != "sound" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := d.Open(t.Context(), damaged, 7); !errors.Is(err, blobs.ErrDamaged) {
		t.Errorf("the damaged one: %v", err)
	}
	wantFile(t, left, "half an upload")
	if _, err := os.Stat(filepath.Join(dir, "blobs", "sha256", "00")); err == nil {
		t.Error("a folder was made")
	}
}

func TestOpenRefusesLinkedFolders(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"tmp", "blobs", "blobs/sha256", "blobs/damaged", "blobs/sha256/7f"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			openDisk(t, dir).Close()
			outside, victim := victims(t)
			link := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.RemoveAll(link); err != nil {
				t.Fatal(err)
			}
			symlink(t, outside, link)
			if d, err := disk.Open(dir, disk.Options{}); err == nil {
				d.Close()
				t.Error("opened")
			}
			wantFile(t, victim, "precious")
		})
	}
}

// CVE-2026-55667
func TestALinkIsNoContent(t *testing.T) {
	t.Parallel()
	content := []byte("precious") // the content of the victim's file
	ref := blobs.Ref(sha256.Sum256(content))
	for _, where := range []string{"outside", "inside"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d := openDisk(t, dir)
			_, target := victims(t)
			if where == "inside" {
				target = filepath.Join("..", "..", "..", "secret.key")
				writeFile(t, filepath.Join(dir, "secret.key"), "precious")
			}
			path := blobPath(dir, ref)
			symlink(t, target, path)
			if _, err := d.Open(t.Context(), ref, int64(len(content))); !errors.Is(err, blobs.ErrDamaged) {
				t.Errorf("Open: %v", err)
			}
			if info, err := d.Stat(t.Context(), ref); err != nil || !info.Damaged {
				t.Errorf("Stat: %+v, %v", info, err)
			}
			keep(t, d, content)
			wantFile(t, path, "precious")
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
				t.Errorf("after Keep it is %v, %v", info.Mode(), err)
			}
		})
	}
}

// CVE-2026-55667
func TestRemoveRemovesALinkAndNotItsTarget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir)
	_, victim := victims(t)
	ref := blobs.Ref(sha256.Sum256([]byte("precious")))
	symlink(t, victim, blobPath(dir, ref))
	if gone, err := d.Remove(t.Context(), ref, unwanted); !gone || err != nil {
		t.Errorf("Remove: %v, %v", gone, err)
	}
	wantFile(t, victim, "precious")
}

// CVE-2026-55667
func TestAFailedUploadRemovesOnlyItsOwnFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir)
	_, victim := victims(t)
	spool, err := d.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "tmp", "another upload"), "goes on")
	for _, name := range tempFiles(t, dir) {
		if name != "another upload" {
			path := filepath.Join(dir, "tmp", name)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			symlink(t, victim, path)
		}
	}
	if err := spool.Close(); err != nil {
		t.Error(err)
	}
	wantFile(t, victim, "precious")
	if got := tempFiles(t, dir); len(got) != 1 || got[0] != "another upload" {
		t.Errorf("left in tmp: %q", got)
	}
}

func TestMarksSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir)
	rotten, mended := keep(t, d, []byte("rotten")), keep(t, d, []byte("mended"))
	mark(t, d, rotten)
	mark(t, d, mended)
	keep(t, d, []byte("mended"))
	d.Close()

	d = openDisk(t, dir)
	if _, err := d.Open(t.Context(), rotten, 6); !errors.Is(err, blobs.ErrDamaged) {
		t.Errorf("the damaged one: %v", err)
	}
	if got, err := read(d, mended, 6); err != nil || string(got) != "mended" {
		t.Errorf("the repaired one: %q, %v", got, err)
	}
}

// CVE-2026-25921
func TestKeepRepairsWhatTheDiskLost(t *testing.T) {
	t.Parallel()
	content := []byte("a content of some length")
	for _, loss := range []struct {
		what string
		do   func(path string) error
	}{
		{"short", func(path string) error { return os.Truncate(path, 5) }},
		{"empty", func(path string) error { return os.Truncate(path, 0) }},
		{"missing", os.Remove},
		{"too long", func(path string) error { return os.Truncate(path, 1000) }},
	} {
		t.Run(loss.what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d := openDisk(t, dir)
			ref := keep(t, d, content)
			if err := loss.do(blobPath(dir, ref)); err != nil {
				t.Fatal(err)
			}
			if _, err := read(d, ref, len(content)); err == nil {
				t.Error("the loss is not noticed")
			}
			keep(t, d, content)
			wantFile(t, blobPath(dir, ref), string(content))
		})
	}
}

func TestStrayFilesAreNoContents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir)
	ref := keep(t, d, []byte("abc"))
	mine := filepath.Dir(blobPath(dir, ref))
	for _, path := range []string{
		filepath.Join(mine, "README"),
		filepath.Join(mine, ref.String()+".bak"),
		filepath.Join(mine, "BA"+strings.Repeat("0", 62)),
		filepath.Join(mine, "00"+ref.String()[2:]), // it belongs in another shard
		filepath.Join(dir, "blobs", "sha256", "lost+found", ref.String()),
		filepath.Join(dir, "blobs", "damaged", "README"),
	} {
		writeFile(t, path, "stray")
	}
	d.Close()
	d = openDisk(t, dir)
	for info, err := range d.All(t.Context(), blobs.Ref{}) {
		if err != nil || info.Ref != ref || info.Size != 3 {
			t.Errorf("%+v, %v", info, err)
		}
	}
}

func TestOwnIsGivenEverythingThatIsMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made := map[string]bool{}
	d := openDiskWith(t, dir, disk.Options{Own: func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		made[filepath.Base(f.Name())] = info.IsDir()
		return nil
	}})
	ref := keep(t, d, []byte("abc"))
	mark(t, d, ref)
	folders, plain := 0, 0
	for _, isDir := range made {
		if isDir {
			folders++
		} else {
			plain++
		}
	}
	if folders != 4+256 || plain != 2 { // the files: a spool and a mark
		t.Errorf("Own was given %d folders and %d files", folders, plain)
	}
}

func TestWhatCannotBeOwnedIsNotMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openDisk(t, dir).Close()
	refusal := errors.New("not permitted")
	d := openDiskWith(t, dir, disk.Options{Own: func(*os.File) error { return refusal }})
	if _, err := d.Create(t.Context()); !errors.Is(err, refusal) {
		t.Errorf("Create: %v", err)
	}
	wantNoTemp(t, dir)
}

// When a disk is not mounted any more, all contents are unavailable; when it is
// back, they are as before.
func TestContentsOfAFolderThatIsAwayAreNotMissing(t *testing.T) {
	t.Parallel()
	for _, away := range []string{"blobs", filepath.Join("blobs", "sha256"), filepath.Join("blobs", "sha256", "ba")} {
		dir := t.TempDir()
		d := openDisk(t, dir)
		ref := keep(t, d, []byte("abc")) // in shard ba
		read, err := d.Open(t.Context(), ref, 3)
		if err != nil {
			t.Fatal(err)
		}
		defer read.Close()
		if err := os.Rename(filepath.Join(dir, away), filepath.Join(dir, "elsewhere")); err != nil {
			t.Fatal(err)
		}
		for what, do := range map[string]func() error{
			"open":         func() error { _, err := d.Open(t.Context(), ref, 3); return err },
			"open marked":  func() error { _, err := d.OpenMarked(t.Context(), ref); return err },
			"stat":         func() error { _, err := d.Stat(t.Context(), ref); return err },
			"mark damaged": func() error { return d.MarkDamaged(t.Context(), ref, read) },
			"mark":         func() error { return d.MarkDamaged(t.Context(), ref, nil) },
			"unmark":       func() error { return d.Unmark(t.Context(), ref, read) },
			"list": func() (failed error) {
				for _, err := range d.All(t.Context(), blobs.Ref{}) {
					failed = err
				}
				return failed
			},
		} {
			if err := do(); err == nil || errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged) {
				t.Errorf("without %s, %s: %v", away, what, err)
			}
		}
		if err := os.Rename(filepath.Join(dir, "elsewhere"), filepath.Join(dir, away)); err != nil {
			t.Fatal(err)
		}
		if info, err := d.Stat(t.Context(), ref); err != nil || info.Damaged || d.Damaged() != 0 {
			t.Errorf("when %s is back: %+v, %v", away, info, err)
		}
	}
}

func TestReleaseCountsOnce(t *testing.T) {
	t.Parallel()
	d := openDisk(t, t.TempDir())
	first, second := mustKeep(t, d, []byte("abc")), mustKeep(t, d, []byte("abc"))
	first()
	first()
	var released atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Remove(t.Context(), sha256.Sum256([]byte("abc")), func() (bool, error) {
			if !released.Load() {
				t.Error("Remove did not wait for the second hold")
			}
			return true, nil
		})
	}()
	for range 1000 {
		runtime.Gosched()
	}
	released.Store(true)
	second()
	<-done
}

func BenchmarkKeep(b *testing.B) {
	for _, size := range []int{10 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			d := openDisk(b, b.TempDir())
			content := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for n := uint64(0); b.Loop(); n++ {
				binary.LittleEndian.PutUint64(content, n)
				keep(b, d, content)
			}
		})
		b.Run(fmt.Sprintf("%dKB/32 at once", size>>10), func(b *testing.B) {
			d := openDisk(b, b.TempDir())
			var n atomic.Uint64
			b.SetBytes(int64(size))
			b.SetParallelism(32 / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				content := make([]byte, size)
				for pb.Next() {
					binary.LittleEndian.PutUint64(content, n.Add(1))
					release, err := tryKeep(b.Context(), d, content)
					if err != nil {
						b.Error(err)
						return
					}
					release()
				}
			})
		})
	}
}

func BenchmarkOpenRead(b *testing.B) {
	for _, size := range []int{10 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			d := openDisk(b, b.TempDir())
			ref := keep(b, d, make([]byte, size))
			buffer := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				content, err := d.Open(b.Context(), ref, int64(size))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(content, buffer); err != nil {
					b.Fatal(err)
				}
				content.Close()
			}
		})
	}
}

func unwanted() (bool, error) { return false, nil }

func openDisk(t testing.TB, dir string) *disk.Store {
	t.Helper()
	return openDiskWith(t, dir, disk.Options{})
}

func openDiskWith(t testing.TB, dir string, opts disk.Options) *disk.Store {
	t.Helper()
	d, err := disk.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func keep(t testing.TB, d *disk.Store, content []byte) blobs.Ref {
	t.Helper()
	mustKeep(t, d, content)()
	return sha256.Sum256(content)
}

func mustKeep(t testing.TB, d *disk.Store, content []byte) (release func()) {
	t.Helper()
	release, err := tryKeep(t.Context(), d, content)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

func tryKeep(ctx context.Context, d *disk.Store, content []byte) (release func(), err error) {
	spool, err := d.Create(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := spool.Write(content); err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	release, err = spool.Keep(ctx)
	return release, errors.Join(err, spool.Close())
}

func mark(t testing.TB, d *disk.Store, ref blobs.Ref) {
	t.Helper()
	if err := d.MarkDamaged(t.Context(), ref, nil); err != nil {
		t.Fatal(err)
	}
}

func read(d *disk.Store, ref blobs.Ref, size int) ([]byte, error) {
	content, err := d.Open(context.Background(), ref, int64(size))
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(content)
	return got, errors.Join(err, content.Close())
}

func blobPath(dir string, ref blobs.Ref) string {
	name := ref.String()
	return filepath.Join(dir, "blobs", "sha256", name[:2], name)
}

// victims creates a folder that does not belong to any store, and a file in it.
func victims(t *testing.T) (folder, file string) {
	t.Helper()
	folder = t.TempDir()
	file = filepath.Join(folder, "file")
	writeFile(t, file, "precious")
	return folder, file
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, path, text string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, []byte(text)) {
		t.Errorf("%s says %q, %v", filepath.Base(path), got, err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("symbolic links need a privilege here:", err)
		}
		t.Fatal(err)
	}
}

func wantNoTemp(t *testing.T, dir string) {
	t.Helper()
	if got := tempFiles(t, dir); len(got) != 0 {
		t.Errorf("left in tmp: %q", got)
	}
}

func tempFiles(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func walk(t *testing.T, dir string, visit func(name string, info fs.FileInfo)) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info fs.FileInfo, err error) error {
		if err == nil && path != dir {
			visit(path, info)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
