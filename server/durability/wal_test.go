//go:build unix

package durability

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// littleLog makes the write-ahead log so small that a moment's uploads fill it, and its
// segments are used again and again.
const littleLog = "ATTACHD_STORAGE_LOG_SIZE=16MB"

// Clients upload more than the write-ahead log has room for, and the process is killed
// while segments are begun, flushed, used again and removed, and while it starts.
func TestKillsWhileTheLogIsFullAndFlushedLoseNothing(t *testing.T) {
	n, seed := plannedKills(t, 4, 100)
	k := &killing{T: t, env: []string{littleLog}, dir: t.TempDir(), rand: rand.New(rand.NewPCG(seed, 4<<32)),
		workers: crew(t, killWorkers, seed, habits{uploads: 80, deletions: 15, shares: 5, size: 60 << 10, contents: someTexts(8, seed)})}
	most := 0
	k.meanwhile = func(stop <-chan struct{}) {
		<-stop
		most = max(most, len(k.segments()))
	}
	k.start()
	killed := 0
	for killed < n || most < 2 && killed < 10*n { // a slow machine takes few uploads between two kills
		k.cycle(killed)
		killed++
	}
	k.everythingHolds()
	k.tell(killed)
	t.Logf("the log had up to %d segments", most)
	if most < 2 {
		t.Error("the log never had a second segment, so this test shows nothing")
	}
}

// segments returns the paths of the files of the write-ahead log.
func (p *process) segments() (paths []string) {
	paths, _ = filepath.Glob(filepath.Join(p.dir, "wal", "*")) // the pattern is a good one
	return paths
}

// waiting is an attachment whose content is in the write-ahead log and cannot be flushed.
type waiting struct {
	id, name string
	content  []byte
	blob     string // the path of its file, where there is a folder until let
}

// wait uploads a content and keeps it from being flushed: a folder has the name of its
// file. Where the flush was quicker, it tries another content.
func (p *process) wait(t *testing.T, name string) waiting {
	t.Helper()
	for n := 0; ; n++ {
		w := waiting{name: name, content: bytes.Repeat(fmt.Appendf(nil, "%s waits %d. ", name, n), 400)}
		sum := sha256.Sum256(w.content)
		w.blob = filepath.Join(p.dir, "blobs", "sha256", fmt.Sprintf("%x", sum[:1]), fmt.Sprintf("%x", sum))
		a, err := p.upload(product, name, w.content)
		if err != nil || a.status != 201 {
			t.Fatalf("an upload: %d %s, %v", a.status, a.body, err)
		}
		w.id = a.id()
		if err := os.Mkdir(w.blob, 0o700); err == nil {
			return w
		} else if !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
	}
}

// let lets contents be flushed from now on.
func let(t *testing.T, all ...waiting) {
	t.Helper()
	for _, w := range all {
		must(t, os.Remove(w.blob))
	}
}

// holds downloads what must be there.
func (p *process) holds(t *testing.T, all ...waiting) {
	t.Helper()
	for _, w := range all {
		if a, err := p.download(w.id); err != nil || a.status != 200 || !bytes.Equal(a.body, w.content) {
			t.Errorf("%s: %d, %d bytes, %v", w.name, a.status, len(a.body), err)
		}
	}
}

// spoil changes the log where it has a text, at that many bytes behind its beginning.
func (p *process) spoil(t *testing.T, text []byte, behind int, change func(sector []byte)) (segment string) {
	t.Helper()
	for _, path := range p.segments() {
		raw, err := os.ReadFile(path)
		must(t, err)
		at := bytes.Index(raw, text)
		if at < 0 {
			continue
		}
		from := (at + behind) &^ 511
		change(raw[from:min(len(raw), from+512)])
		must(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	t.Fatal("the log does not have it")
	return ""
}

func flipBit(sector []byte) { sector[300] ^= 4 }

// A content rots in the write-ahead log after the database has its record: its attachment
// is reported as damaged, by check and by downloads, the rest is served, and the same
// upload repairs it.
func TestAContentThatRotsInTheLogIsReportedAndTheRestIsServed(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	all := []waiting{p.wait(t, "first.txt"), p.wait(t, "second.txt"), p.wait(t, "third.txt")}
	if out, code := run(t, p.dir, "check", "--deep"); code != 0 { // and so the database has what is in the log
		t.Fatalf("check ends with %d: %s", code, out)
	}
	rotten, sound := all[1], []waiting{all[0], all[2]}
	p.kill()
	p.spoil(t, rotten.content[:100], 1000, flipBit)
	p = serve(t, p.dir)
	p.holds(t, sound...)
	if a, err := p.download(rotten.id); err != nil || a.status != 500 || !bytes.Contains(a.body, []byte(`"damaged"`)) {
		t.Errorf("the rotten one: %d %s, %v", a.status, a.body, err)
	}
	for range 2 { // with the server, and without
		out, code := run(t, p.dir, "check", "--deep")
		if code != 3 || !strings.Contains(out, rotten.id) || !strings.Contains(out, rotten.name) || strings.Contains(out, all[0].id) || strings.Contains(out, all[2].id) {
			t.Errorf("check ends with %d: %s", code, out)
		}
		p.kill()
	}
	let(t, all...)
	p = serve(t, p.dir)
	if a, err := p.upload(product, "again.txt", rotten.content); err != nil || a.status != 201 {
		t.Errorf("the upload that repairs it: %d %s, %v", a.status, a.body, err)
	}
	p.holds(t, all...)
	for _, w := range all {
		eventually(t, "each to have its file", func() bool { return sizeOf(w.blob) == int64(len(w.content)) })
	}
	p.stop(t)
	wantSound(t, p.dir)
}

// The last record of the log rots before the database has it: a start is refused, and
// says what to do. What was cut short by the crash is passed over.
func TestTheTailOfTheLogIsRefusedWhenItRotsAndPassedOverWhenItWasCutShort(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(sector []byte)
		is     func(t *testing.T, p *process, early, last waiting, segment string) bool
	}{
		"rotten": {flipBit, func(t *testing.T, p *process, early, last waiting, segment string) bool {
			out, code := run(t, p.dir, "serve", "--listen", "127.0.0.1:0")
			if !strings.Contains(out, "the log of the database is damaged") {
				return false
			}
			if code != 1 || !strings.Contains(out, segment) || !strings.Contains(out, "Move that file away") || strings.Contains(out, "goroutine") {
				t.Errorf("a start ends with %d: %s", code, out)
			}
			away := filepath.Join(t.TempDir(), "segment")
			must(t, os.Rename(segment, away))
			again := serve(t, p.dir)
			if a, err := again.download(last.id); err != nil || a.status != 404 {
				t.Errorf("what was in that file only: %d, %v", a.status, err)
			}
			if a, err := again.download(early.id); err != nil || a.status != 500 || !strings.Contains(again.log.String(), "put these files back and restart attachd") {
				t.Errorf("what is in that file too: %d, %v", a.status, err)
			}
			again.kill()
			must(t, os.Rename(away, segment))
			again = serve(t, p.dir)
			again.holds(t, early)
			if a, err := again.download(last.id); err != nil || a.status != 404 {
				t.Errorf("what was lost: %d, %v", a.status, err)
			}
			again.kill()
			return true
		}},
		"cut short": {func(sector []byte) { clear(sector) }, func(t *testing.T, p *process, early, last waiting, _ string) bool {
			again := serve(t, p.dir)
			defer again.kill()
			a, err := again.download(last.id)
			if err != nil || a.status == 500 {
				return false
			}
			if a.status != 404 {
				t.Errorf("what was cut short: %d", a.status)
			}
			again.holds(t, early)
			return true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for try := 0; ; try++ {
				p := serve(t, t.TempDir())
				early := p.wait(t, "early.txt")
				run(t, p.dir, "check") // and so the database has it
				last := p.wait(t, "last.txt")
				p.kill()
				segment := p.spoil(t, last.content[:100], len(last.content)-600, c.change)
				if c.is(t, p, early, last, segment) {
					return
				}
				if try == 50 {
					t.Fatal("the database always had the last record already")
				}
			}
		})
	}
}

// A segment that is not written any more is removed under a running server: that is
// reported, what is in it can still be downloaded and gets its file, and everything else
// goes on. The next start says what is missing, and what to do.
func TestASegmentThatIsRemovedUnderAServerTakesNothingThatGetsItsFile(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir(), littleLog)
	saved, lost := p.wait(t, "saved.txt"), p.wait(t, "lost.txt")
	for n := range 80 { // more than fits into one segment
		a, err := p.upload(product, "another.txt", fmt.Append(bytes.Repeat([]byte("another "), 60<<10/8), n))
		if err != nil || a.status != 201 {
			t.Fatalf("an upload: %d %s, %v", a.status, a.body, err)
		}
	}
	segment := p.spoil(t, lost.content[:100], 0, func([]byte) {})
	if p.spoil(t, saved.content[:100], 0, func([]byte) {}) != segment || len(p.segments()) < 2 {
		t.Fatal("the two are not in a segment that is full, so this test shows nothing")
	}
	must(t, os.Remove(segment))
	eventually(t, "it to be reported", func() bool {
		return strings.Contains(p.log.String(), segment+": the file was removed or replaced while it was open. Small uploads are in it")
	})
	p.holds(t, saved, lost)
	if a, err := p.upload(product, "later.txt", []byte("later")); err != nil || a.status != 201 {
		t.Errorf("an upload then: %d %s, %v", a.status, a.body, err)
	}
	let(t, saved)
	eventually(t, "all but one to have their files", func() bool {
		a, err := p.call("GET", "/metrics", nil)
		return err == nil && bytes.Contains(a.body, fmt.Appendf(nil, "\nattachd_pending_bytes %d\n", len(lost.content)))
	})
	p.kill()
	let(t, lost)
	p = serve(t, p.dir, littleLog)
	if !strings.Contains(p.log.String(), "1 small uploads were in parts of the log that are gone from "+filepath.Dir(segment)+": put these files back and restart attachd") {
		t.Errorf("the start says nothing of it:\n%s", &p.log)
	}
	p.holds(t, saved)
	if a, err := p.download(lost.id); err != nil || a.status != 500 || !bytes.Contains(a.body, []byte(`"damaged"`)) {
		t.Errorf("what was lost: %d %s, %v", a.status, a.body, err)
	}
	if out, code := run(t, p.dir, "check", "--deep"); code != 3 || !strings.Contains(out, lost.id) || strings.Contains(out, saved.id) {
		t.Errorf("check ends with %d: %s", code, out)
	}
	if a, err := p.upload(product, "again.txt", lost.content); err != nil || a.status != 201 {
		t.Errorf("the upload that repairs it: %d %s, %v", a.status, a.body, err)
	}
	p.holds(t, saved, lost)
	p.stop(t)
	wantSound(t, p.dir)
}

// A snapshot that is taken while small contents are staged refers to files only: it is
// enough without the log, whenever the server is killed.
func TestASnapshotInABurstNeedsNoLog(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	all := p.burst(t, 300, 1000)
	p.kill()
	old, err := filepath.Glob(filepath.Join(p.dir, "snapshots", "snapshot-*.db"))
	must(t, err)
	for _, path := range old {
		must(t, os.Remove(path))
	}
	p = serve(t, p.dir)
	var taken []string
	eventually(t, "a snapshot", func() bool {
		taken, err = filepath.Glob(filepath.Join(p.dir, "snapshots", "snapshot-*.db"))
		return err == nil && len(taken) > 0
	})
	p.kill()
	must(t, os.RemoveAll(filepath.Join(p.dir, "wal")))
	snapshot, err := os.ReadFile(taken[len(taken)-1])
	must(t, err)
	must(t, os.WriteFile(filepath.Join(p.dir, "attachd.db"), snapshot, 0o600))
	wantSound(t, p.dir)
	p = serve(t, p.dir)
	p.holds(t, all...)
}

// Where a content cannot get its file, no snapshot is taken that would lack it, and
// readiness and the doctor say so.
func TestNoSnapshotLacksAContentThatCannotHaveItsFile(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	w := p.wait(t, "stuck.txt")
	eventually(t, "the server not to be ready", func() bool {
		a, err := p.call("GET", "/health/ready", nil)
		return err == nil && a.status == 503 && bytes.Contains(a.body, []byte("cannot be written to the folder blobs"))
	})
	if out, _ := run(t, p.dir, "doctor"); !strings.Contains(out, "(1 of them; the write-ahead log is") {
		t.Errorf("the doctor says nothing of it: %s", out)
	}
	p.stop(t)
	if !strings.Contains(p.log.String(), `"job":"take snapshots","failed":"flush staged contents"`) {
		t.Errorf("the log says nothing of the snapshot:\n%s", &p.log)
	}
	let(t, w)
	p = serve(t, p.dir)
	p.holds(t, w)
	eventually(t, "it to have its file", func() bool { return sizeOf(w.blob) > 0 })
	p.stop(t)
	wantSound(t, p.dir)
}

// burst uploads so many contents from several clients at once, in each of which its
// number is repeated.
func (p *process) burst(t *testing.T, n, repeated int) []waiting {
	t.Helper()
	all := make([]waiting, n)
	var next atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				w := waiting{name: fmt.Sprint(i, ".txt"), content: bytes.Repeat(fmt.Appendf(nil, "%d. ", i), repeated)}
				a, err := p.upload(product, w.name, w.content)
				if err != nil || a.status != 201 {
					t.Errorf("an upload: %d %s, %v", a.status, a.body, err)
					return
				}
				w.id = a.id()
				all[i] = w
			}
		})
	}
	clients.Wait()
	return all
}

// A start reads what the database lacks, not the whole log: it takes little time,
// however full that is.
func TestAStartOverAFullLogTakesLessThanASecond(t *testing.T) {
	t.Parallel()
	env, size := littleLog, 16
	if *long {
		env, size = "ATTACHD_STORAGE_LOG_SIZE=256MB", 256
	}
	p := serve(t, t.TempDir(), env)
	content := bytes.Repeat([]byte("0123456789abcdef"), 60<<10/16)
	var next atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := next.Add(1); i <= int64(size)*1024*1024*2/5/int64(len(content)); i = next.Add(1) {
				if a, err := p.upload(product, "a.txt", append(fmt.Append(nil, i), content...)); err != nil || a.status != 201 {
					t.Errorf("an upload: %d %s, %v", a.status, a.body, err)
				}
			}
		})
	}
	clients.Wait()
	p.kill()
	p = serve(t, p.dir, env)
	took := p.worktime(t)
	t.Logf("with %d uploads in a log of %d MB: ready in %v, with %v of processor time", next.Load()-8, size, p.ready.Round(time.Millisecond), took)
	if took > startBound {
		t.Errorf("it took %v of processor time", took)
	}
}
