//go:build linux

package durability

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// smallDisk mounts a disk of the given size for the test.
func smallDisk(t *testing.T, size string) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount a small disk; the tests of the server make a full one up")
	}
	dir = t.TempDir()
	if err := syscall.Mount("attachd", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no small disk can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill uses up all free room of a disk.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(t, err)
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			block = block[:len(block)/2]
		}
	}
}

// smallServer is a server on a small disk, with some files, and otherwise only the
// room that a test leaves.
type smallServer struct {
	*process
	filler, ballast string
	saved           []string // ids; the n-th has the content without its first n bytes
	content         []byte
}

const smallReserve = "ATTACHD_LIMITS_DISK_RESERVE=8MB"

func newSmallServer(t *testing.T) *smallServer {
	t.Helper()
	disk := smallDisk(t, "128m")
	s := &smallServer{
		process: serve(t, filepath.Join(disk, "data"), smallReserve),
		filler:  filepath.Join(disk, "filler"),
		ballast: filepath.Join(disk, "data", "ballast"),
		content: bytes.Repeat([]byte("a file\n"), 100_000),
	}
	s.wantBallast(t)
	for n := range 30 {
		a, err := s.upload(product, "a.txt", s.content[n:])
		if err != nil || a.status != 201 {
			t.Fatalf("an upload: %d %s, %v", a.status, a.body, err)
		}
		s.saved = append(s.saved, a.id())
	}
	return s
}

func (s *smallServer) wantBallast(t *testing.T) {
	t.Helper()
	eventually(t, "the ballast to be set apart", func() bool { return sizeOf(s.ballast) == 128<<20/100 })
}

func TestADirectoryOnADiskThatCannotBeWrittenIsRefusedWithASentence(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "128m")
	dir := filepath.Join(disk, "data")
	serve(t, dir).stop(t)
	if err := syscall.Mount("attachd", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("no disk can be mounted read-only here: %v", err)
	}
	out, code := run(t, dir, "check")
	if code != 1 || !strings.Contains(out, dir+" is on a disk that is mounted read-only: attachd has to write there, also for a check.") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// again restarts the server.
func (s *smallServer) again(t *testing.T) {
	t.Helper()
	s.process = serve(t, s.dir, smallReserve)
}

func (s *smallServer) delete(t *testing.T, id string) {
	t.Helper()
	if a, err := s.remove(id); err != nil || a.status != 200 {
		t.Fatalf("a deletion on a full disk: %d %s, %v", a.status, a.body, err)
	}
}

// recovers checks that everything works as before once there is room, without a
// restart.
func (s *smallServer) recovers(t *testing.T) {
	t.Helper()
	must(t, os.Remove(s.filler))
	freed := time.Now()
	eventually(t, "uploads to be taken again", func() bool {
		a, err := s.upload(product, "again.txt", s.content)
		return err == nil && a.status == 201
	})
	s.wantBallast(t)
	t.Logf("uploads were taken and the ballast was there again %v after there was room", time.Since(freed).Round(time.Millisecond))
	s.stop(t)
	wantSound(t, s.dir)
}

func TestAFullDiskRefusesUploadsAndTakesDeletions(t *testing.T) {
	t.Parallel()
	s := newSmallServer(t)
	fill(t, s.filler)
	if a, err := s.upload(product, "late.txt", s.content); err != nil || a.status != 507 {
		t.Fatalf("an upload to a full disk: %d %s, %v", a.status, a.body, err)
	}
	if a, err := s.call("GET", "/health/ready", nil); err != nil || a.status != 503 {
		t.Errorf("ready, with a full disk: %d %s, %v", a.status, a.body, err)
	}
	for _, id := range s.saved[:15] {
		s.delete(t, id)
		fill(t, s.filler)
	}
	for _, id := range s.saved[:15] {
		if a, err := s.download(id); err != nil || a.status != 404 {
			t.Errorf("what was deleted: %d, %v", a.status, err)
		}
	}
	for n, id := range s.saved[15:] {
		if a, err := s.download(id); err != nil || a.status != 200 || !bytes.Equal(a.body, s.content[15+n:]) {
			t.Errorf("what was there: %d, %v", a.status, err)
		}
	}
	s.recovers(t)
}

// What is deleted stays in the trash, and yet deleting makes room: the oldest there goes
// first, and no more than is needed.
func TestOnAFullDiskTheTrashMakesRoom(t *testing.T) {
	t.Parallel()
	s := newSmallServer(t)
	trashed := s.saved[:15]
	for _, id := range trashed {
		s.delete(t, id)
	}
	fill(t, s.filler)
	must(t, os.Truncate(s.filler, sizeOf(s.filler)-6<<20)) // less than the reserve is free
	eventually(t, "an upload to be taken", func() bool {
		a, err := s.upload(product, "late.txt", s.content)
		return err == nil && a.status == 201
	})
	restore := func(id string) int {
		t.Helper()
		a, err := s.call("POST", "/catalog/attachments/"+id+"/restore", nil)
		must(t, err)
		return a.status
	}
	if status := restore(trashed[0]); status != 404 {
		t.Errorf("the oldest in the trash: %d", status)
	}
	if status := restore(trashed[14]); status != 200 {
		t.Errorf("the latest in the trash: %d", status)
	}
	for n, id := range append(s.saved[15:], trashed[14]) {
		if a, err := s.download(id); err != nil || a.status != 200 || n < 15 && !bytes.Equal(a.body, s.content[15+n:]) {
			t.Errorf("what was there: %d, %v", a.status, err)
		}
	}
	s.recovers(t)
}

// Contents that are staged when the disk becomes full can be read and deleted, and
// are flushed to files when there is room.
func TestContentsThatWaitOutliveAFullDisk(t *testing.T) {
	t.Parallel()
	s := newSmallServer(t)
	var ids []string
	for n := range 40 {
		a, err := s.upload(product, "small.txt", s.content[:40_000+n])
		if err != nil || a.status != 201 {
			t.Fatalf("an upload: %d %s, %v", a.status, a.body, err)
		}
		ids = append(ids, a.id())
	}
	s.kill() // before all are flushed to files
	fill(t, s.filler)
	s.again(t)
	read := func(from int) {
		t.Helper()
		for n, id := range ids[from:] {
			a, err := s.download(id)
			if err != nil || a.status != 200 || !bytes.Equal(a.body, s.content[:40_000+from+n]) {
				t.Errorf("what waited: %d, %d bytes, %v", a.status, len(a.body), err)
			}
		}
	}
	read(0)
	for _, id := range ids[:20] {
		s.delete(t, id)
		fill(t, s.filler)
	}
	read(20)
	must(t, os.Remove(s.filler))
	eventually(t, "those that are left to get files", func() bool {
		files, err := filepath.Glob(filepath.Join(s.dir, "blobs", "sha256", "??", "*"))
		return err == nil && len(files) == len(s.saved)+20
	})
	read(20)
	s.stop(t)
	wantSound(t, s.dir)
}

// The disk has no room for the next segment of the log, or for pages of the database, as
// on a file system that writes each to a new place; the other can be written.
func TestAFullDiskForWhicheverFileASyscallWritesLosesNothing(t *testing.T) {
	needStrace(t)
	for name, c := range map[string]struct {
		calls string
		files []string
		works bool // uploads and deletions go on
	}{
		"the log":      {"write,fallocate", []string{"wal/new"}, true},
		"the database": {"pwrite64,ftruncate,fallocate", []string{"attachd.db"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, filepath.Join(inMemory(t), dataDir), littleLog)
			all := p.burst(t, 20, 1000)
			trace := filepath.Join(t.TempDir(), "trace")
			for i := range c.files {
				c.files[i] = filepath.Join(p.dir, c.files[i])
			}
			tracer, err := p.failing(trace, c.calls, "error=ENOSPC", c.files...)
			must(t, err)
			refused := 0
			for n := 0; n < 100 || n < 10_000 && refused == 0 && !c.works; n++ { // more than the log has room for
				w := waiting{name: "meanwhile.txt", content: fmt.Append(bytes.Repeat([]byte("meanwhile "), 60<<10/10), n)}
				a, err := p.upload(product, w.name, w.content)
				switch w.id = a.id(); {
				case err == nil && a.status == 201:
					all = append(all, w)
				case err == nil && a.status == 507 && !c.works:
					refused++
				default:
					t.Fatalf("an upload: %d %s, %v", a.status, a.body, err)
				}
			}
			if c.works {
				s := &smallServer{process: p}
				s.delete(t, all[0].id)
				all = all[1:]
			} else if refused == 0 {
				t.Error("nothing was refused, so this test shows nothing")
			}
			p.holds(t, all...)
			must(t, detach(tracer))
			if f := (&fault{trace: trace}); len(f.failedCalls(t)) == 0 {
				t.Error("no call failed, so this test shows nothing")
			}
			eventually(t, "uploads to be taken again", func() bool {
				a, err := p.upload(product, "again.txt", []byte("again"))
				return err == nil && a.status == 201
			})
			p.kill()
			p = serve(t, p.dir, littleLog)
			p.holds(t, all...)
			p.stop(t)
			wantSound(t, p.dir)
		})
	}
}

func TestAServerStartsOverAFullDisk(t *testing.T) {
	t.Parallel()
	s := newSmallServer(t)
	s.kill()
	fill(t, s.filler)
	s.again(t)
	fill(t, s.filler)
	s.delete(t, s.saved[0])
	s.recovers(t)
}

// A database without a free page, as after many uploads and no deletion, can
// delete nothing without room: bbolt writes changed pages to new places.
func TestTheBallastLetsADatabaseWithoutAFreePageDelete(t *testing.T) {
	t.Parallel()
	s := newSmallServer(t)
	s.stop(t)
	compact(t, filepath.Join(s.dir, "attachd.db"))
	fill(t, s.filler)
	must(t, os.Truncate(s.filler, sizeOf(s.filler)-64<<10)) // what a start needs
	s.again(t)
	fill(t, s.filler)
	if sizeOf(s.ballast) == 0 {
		t.Fatal("the start took the ballast")
	}
	s.delete(t, s.saved[0])
	if sizeOf(s.ballast) > 0 {
		t.Error("the deletion did not need the ballast, so this test shows nothing")
	}
	s.recovers(t)
}

// compact rewrites a database without its free pages.
func compact(t *testing.T, path string) {
	t.Helper()
	from, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	must(t, err)
	to, err := bbolt.Open(path+".compact", 0o600, nil)
	must(t, err)
	must(t, bbolt.Compact(to, from, 0))
	must(t, errors.Join(from.Close(), to.Close(), os.Rename(path+".compact", path)))
}
