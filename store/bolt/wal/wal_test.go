package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// replayed is a Target that records what is replayed.
type replayed []string

func (r *replayed) HasBucket(name []byte) bool { return len(name) > 0 }

func (r *replayed) Put(bucket, key, value []byte) error {
	*r = append(*r, fmt.Sprintf("put %s %s %x", bucket, key, value))
	return nil
}

func (r *replayed) Delete(bucket, key []byte) error {
	*r = append(*r, fmt.Sprintf("delete %s %s", bucket, key))
	return nil
}

func (r *replayed) SetSequence(bucket []byte, seq uint64) error {
	*r = append(*r, fmt.Sprintf("sequence %s %d", bucket, seq))
	return nil
}

const (
	base     = 7        // of the first records
	smallest = 16 << 20 // bytes; the size of the logs here
)

// tested is a log with what a database would know of it.
type tested struct {
	*Log
	t      *testing.T
	base   int
	stored []byte
	writes []string // of the records that are not committed
	fails  error    // of the next record, after it was written
	told   int
}

// newLog makes a log whose epoch is stored.
func newLog(t *testing.T) *tested {
	t.Helper()
	l := &tested{t: t, base: base}
	var err error
	l.Log, err = Open(filepath.Join(t.TempDir(), "log"), nil, 0, Options{
		Size:   smallest,
		Failed: func(error) { l.told++ },
		Write: func(write func() error) error {
			err := l.fails
			l.fails = nil
			return errors.Join(write(), err)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Release() })
	if !l.Ready() || l.Stored() || !l.NeedsCommit() {
		t.Fatal("it does not ask for a commit that stores the epoch")
	}
	l.commit()
	return l
}

// commit is what a commit of the database does.
func (l *tested) commit() {
	l.t.Helper()
	l.stored = l.Position()
	l.base++
	l.Committed()
	l.writes = nil
	if err := l.Free(true); err != nil {
		l.t.Error(err)
	}
}

// add adds a record with contents, and returns their places.
func (l *tested) add(contents ...string) (places []Place, added bool) {
	var batch Batch
	batch = batch.Put([]byte("b"), []byte("k"), []byte("v")).Delete([]byte("b"), []byte("d")).SetSequence([]byte("b"), 5)
	var list []Content
	for i, c := range contents {
		list = append(list, Content{[]byte("staged"), fmt.Append(nil, i), []byte(c)})
	}
	places, fits := l.Fit(batch, list, true)
	if !fits || !l.Add(l.base) {
		return nil, false
	}
	places = slices.Clone(places)
	l.writes = append(l.writes, "put b k 76", "delete b d", "sequence b 5")
	for i, p := range places {
		l.writes = append(l.writes, fmt.Sprintf("put staged %d %x", i, p.Encode()))
		l.Hold(p)
	}
	return places, true
}

func (l *tested) mustAdd(contents ...string) []Place {
	l.t.Helper()
	places, added := l.add(contents...)
	if !added {
		l.t.Fatalf("%d contents were not added", len(contents))
	}
	return places
}

// recovered returns what a start replays that finds a copy of the folder, and the
// database as it was at the last commit.
func (l *tested) recovered(spoil ...func(dir string)) ([]string, error) {
	l.t.Helper()
	l.receive(true)
	if len(spoil) == 0 {
		return recoverFrom(l.t, l.dir, l.stored, l.base)
	}
	dir := filepath.Join(l.t.TempDir(), "log")
	if err := os.CopyFS(dir, os.DirFS(l.dir)); err != nil {
		l.t.Fatal(err)
	}
	for _, spoil := range spoil {
		spoil(dir)
	}
	return recoverFrom(l.t, dir, l.stored, l.base)
}

func recoverFrom(t *testing.T, dir string, stored []byte, base int) ([]string, error) {
	t.Helper()
	again, err := Open(dir, stored, 0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	err = again.Recover(base, stored)
	var writes replayed
	return writes, errors.Join(err, again.Replay(&writes))
}

func (l *tested) want(spoil ...func(dir string)) {
	l.t.Helper()
	if got, err := l.recovered(spoil...); err != nil || !slices.Equal(got, l.writes) {
		l.t.Errorf("%.300q, %v\nand not %.300q", got, err, l.writes)
	}
}

func (l *tested) wantContent(p Place, content string) {
	l.t.Helper()
	if got, err := l.Read(p); err != nil || string(got) != content {
		l.t.Errorf("%.40q, %v, and not %.40q", got, err, content)
	}
}

// long is a content of a length, with other bytes for each n.
func long(length, n int) string {
	return strings.Repeat(fmt.Sprintf("%07d ", n), length/8+1)[:length]
}

func TestWhatWasAddedIsReplayedForItsBaseOnly(t *testing.T) {
	l := newLog(t)
	for n, length := range []int{0, 1, 508, 10_000, 1 << 20} {
		p := l.mustAdd(long(length, n), "second")
		l.wantContent(p[0], long(length, n))
		l.wantContent(p[1], "second")
		l.want()
	}
	l.base++
	if got, err := l.recovered(); err != nil || len(got) > 0 {
		t.Errorf("for another base: %.80q, %v", got, err)
	}
	l.base--
	l.stored[0]++
	if got, err := l.recovered(); err != nil || len(got) > 0 {
		t.Errorf("for another epoch: %.80q, %v", got, err)
	}
}

// Records go on behind those of earlier states, from segment to segment, and a start
// reads only what the database lacks.
func TestRecordsGoOnFromSegmentToSegment(t *testing.T) {
	l := newLog(t)
	places := map[Place]string{}
	for n := range 60 {
		content := long(100_000, n)
		places[l.mustAdd(content)[0]] = content
		if n%7 == 3 {
			l.want()
			l.commit()
		}
	}
	l.want()
	for p, content := range places {
		l.wantContent(p, content)
	}
	if l.active.number < 2 {
		t.Error("all are in one segment")
	}
}

func TestASegmentIsUsedAgainWhenNothingInItIsNamed(t *testing.T) {
	l := newLog(t)
	var before []Place
	numbers := map[uint64]bool{}
	for n := range 300 {
		p := l.mustAdd(long(200_000, n))
		if numbers[p[0].Segment] = true; n%5 == 0 {
			l.commit()
			for _, gone := range before {
				l.Drop(gone)
			}
			before = nil
			l.commit()
		}
		if before = append(before, p...); n%10 == 7 {
			l.want()
		}
	}
	if l.allocated > smallest || len(numbers) < 10 {
		t.Errorf("60 MB went through %d segments, which take %d bytes", len(numbers), l.allocated)
	}
	if _, err := l.Read(Place{Segment: 1, Length: 10}); !errors.Is(err, ErrGone) {
		t.Errorf("a content of a segment that is gone: %v", err)
	}
}

// When there is no room, nothing is added until a segment is free, and something is left
// to give back.
func TestAFullLogTakesNothing(t *testing.T) {
	l := newLog(t)
	var all []Place
	for n := 0; ; n++ {
		p, added := l.add(long(300_000, n))
		if !added {
			break
		}
		all = append(all, p...)
	}
	if !l.Full() || l.Used() > smallest || len(all) < 30 {
		t.Errorf("with %d contents in %d bytes, full is %v", len(all), l.Used(), l.Full())
	}
	l.want()
	before := sizeOf(t, l.dir)
	if !l.GiveBack() || sizeOf(t, l.dir) > before-reserve {
		t.Errorf("of %d bytes are left %d", before, sizeOf(t, l.dir))
	}
	l.want()
	l.commit()
	for n, p := range all {
		l.wantContent(p, long(300_000, n))
		l.Drop(p)
	}
	l.commit()
	if l.notBefore.Store(0); !l.Ready() || l.Full() {
		t.Fatal("with everything gone, it takes nothing")
	}
	l.mustAdd("again")
	l.want()
}

func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

// A record that failed may be in the log. It is void after the next commit, and the log
// goes on in another segment.
func TestARecordThatFailedIsVoidAfterACommit(t *testing.T) {
	l := newLog(t)
	first := l.mustAdd("first")
	l.fails = syscall.EIO
	if _, added := l.add("failed"); added || l.told != 1 || l.Ready() || !l.NeedsCommit() {
		t.Fatalf("a record that failed: added %v, told %d times", added, l.told)
	}
	l.commit()
	l.want()
	if l.Ready() || !l.Full() {
		t.Error("it is written again at once")
	}
	l.notBefore.Store(0)
	if !l.Ready() {
		t.Fatal("it is not written again")
	}
	second := l.mustAdd("second")
	l.want()
	l.wantContent(first[0], "first")
	if l.wantContent(second[0], "second"); second[0].Segment == first[0].Segment {
		t.Error("a segment that failed was written again")
	}
}

// Single bits of records that the database lacks, in each segment that has some.
func TestADamagedRecordIsAnError(t *testing.T) {
	l := newLog(t)
	l.mustAdd("of an earlier state")
	l.commit()
	for n := range 30 {
		l.mustAdd(long(200_000, n))
	}
	l.mustAdd("last")
	used := map[string]bool{}
	for n := range 30 {
		var found bool
		_, err := l.recovered(func(dir string) {
			for _, s := range l.used {
				path := filepath.Join(dir, filepath.Base(s.place.Path))
				if n%len(l.used) != int(s.number)%len(l.used) {
					continue
				}
				raw, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				from, to := int64(blockSize), s.size-blockSize*60
				if s == l.active {
					to = l.end - blockSize + sectorSize
				}
				bit := 8*from + int64(n)*(to-from)*8/30
				if s == l.active && n > 25 {
					bit = 8 * (l.end - blockSize + 100)
				}
				raw[bit/8] ^= 1 << (bit % 8)
				used[path[len(path)-4:]], found = true, true
				if err := os.WriteFile(path, raw, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
		if found && !errors.Is(err, ErrDamaged) {
			t.Errorf("damage %d: %v", n, err)
		}
	}
	if len(used) < 2 {
		t.Errorf("damaged were %v", used)
	}
}

// Of the last record, sectors may be missing; of one before, none.
func TestATornLastRecordIsPassedOver(t *testing.T) {
	for _, recycled := range []bool{false, true} {
		l := newLog(t)
		for n := 0; recycled && l.newest < 4; n++ { // the segments have old records
			p := l.mustAdd(long(400_000, n))
			l.commit()
			l.Drop(p[0])
			l.commit()
		}
		l.mustAdd(long(5000, 1))
		before, err := os.ReadFile(l.active.place.Path)
		if err != nil {
			t.Fatal(err)
		}
		at := l.end
		whole := slices.Clone(l.writes)
		l.mustAdd(long(5000, 2))
		l.writes = whole
		for missing := range 10 {
			l.want(func(dir string) {
				path := filepath.Join(dir, filepath.Base(l.active.place.Path))
				raw, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				from := int(at) + missing*sectorSize
				copy(raw[from:from+sectorSize], before[from:])
				if err := os.WriteFile(path, raw, 0o600); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// A content that was damaged is not returned, and does not keep the log from being read.
func TestADamagedContentIsAnError(t *testing.T) {
	l := newLog(t)
	p := l.mustAdd(long(3000, 1), long(3000, 2))
	l.commit()
	raw, err := os.ReadFile(l.active.place.Path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(raw, []byte("0000001 "))
	raw[at] ^= 1
	if err := os.WriteFile(l.active.place.Path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(p[0]); !errors.Is(err, ErrRotten) {
		t.Errorf("a damaged content: %v", err)
	}
	l.wantContent(p[1], long(3000, 2))
	l.want()
	if err := os.Truncate(l.active.place.Path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(p[1]); !errors.Is(err, ErrRotten) {
		t.Errorf("a content that was cut off: %v", err)
	}
}

// An older copy of the database takes nothing from the log of a newer one.
func TestAnOlderDatabaseTakesNothing(t *testing.T) {
	l := newLog(t)
	stored, base := l.stored, l.base
	l.mustAdd("first")
	l.commit()
	l.mustAdd("second")
	if got, err := recoverFrom(t, l.dir, stored, base); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	l.want()
	l.commit()
	if err := l.Close(l.base); err != nil {
		t.Fatal(err)
	}
	if got, err := recoverFrom(t, l.dir, stored, base); err != nil || len(got) > 0 {
		t.Errorf("after a stop: %q, %v", got, err)
	}
	if got, err := recoverFrom(t, l.dir, l.stored, l.base); err != nil || len(got) > 0 {
		t.Errorf("the database itself: %q, %v", got, err)
	}
}

// After Forget, the states of the database are numbered anew.
func TestWhatWasForgottenIsNoRecordOfAStateWithItsNumber(t *testing.T) {
	l := newLog(t)
	first := l.base
	l.mustAdd("one")
	l.mustAdd("two")
	l.commit()
	if err := l.Forget(); err != nil {
		t.Fatal(err)
	}
	if got, err := recoverFrom(t, l.dir, l.stored, first); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	if !l.Ready() || l.Stored() {
		t.Fatal("the new epoch is not to be stored")
	}
	l.base = first
	l.commit()
	l.mustAdd("three")
	l.want()
}

func TestANumberIsNeverUsedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, nameOf(0x1f)), nil, 0o600), os.WriteFile(filepath.Join(dir, unfinished), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for above, want := range map[uint64]uint64{3: 0x20, 0x30: 0x31} {
		l, err := Open(dir, position{segment: 5}.encode(), above, Options{Size: smallest})
		if err != nil {
			t.Fatal(err)
		}
		if !l.Ready() || l.active.number != want {
			t.Errorf("above %d, the next segment is %d", above, l.active.number)
		}
		if err := errors.Join(os.Remove(l.active.place.Path), l.Release()); err != nil {
			t.Error(err)
		}
	}
}

func TestALinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "log")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Skip(err)
	}
	if _, err := Open(link, nil, 0, Options{}); err == nil {
		t.Error("a link was opened")
	}
	plain := filepath.Join(dir, "folder")
	if err := errors.Join(os.Mkdir(plain, 0o700), os.Symlink(link, filepath.Join(plain, nameOf(1)))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(plain, nil, 0, Options{}); err == nil {
		t.Error("a segment that is a link was opened")
	}
}

// A segment that is used again, and is empty when the server is killed, is nobody else's.
func TestASegmentThatIsUsedAgainPassesForNoOthers(t *testing.T) {
	l := newLog(t)
	var old []Place
	for n := 0; l.newest < 3; n++ {
		old = append(old, l.mustAdd(long(200_000, n))...)
	}
	l.commit()
	if err := l.Forget(); err != nil {
		t.Fatal(err)
	}
	if !l.Ready() {
		t.Fatal("there is no segment after Forget")
	}
	l.commit()
	for _, p := range old {
		l.Drop(p)
	}
	l.commit()
	if len(l.spares) != 1 {
		t.Fatalf("%d segments are to be used again", len(l.spares))
	}
	for n := 0; l.next == nil; n++ {
		l.mustAdd(long(200_000, n))
		l.receive(true)
	}
	again, err := Open(l.dir, l.stored, 0, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	if err := again.Recover(l.base, l.stored); err != nil || again.Others || len(again.used) < 2 {
		t.Errorf("of %d segments, some are others': %v, %v", len(again.used), again.Others, err)
	}
}

// The sector that could not be written may be unreadable after the commit that voids its
// record.
func TestWhatAFailedRecordLeftIsNotRead(t *testing.T) {
	l := newLog(t)
	l.mustAdd("first")
	l.fails = syscall.EIO
	if _, added := l.add("failed"); added {
		t.Fatal("a record that failed was added")
	}
	segment, at := l.active.place.Path, l.end
	l.commit()
	for _, goesOn := range []bool{false, true} {
		if goesOn {
			l.notBefore.Store(0)
			if !l.Ready() {
				t.Fatal("it is not written again")
			}
			l.mustAdd("second")
		}
		l.want(func(dir string) {
			raw, err := os.ReadFile(segment)
			if err != nil {
				t.Fatal(err)
			}
			copy(raw[at+100:], "garbage")
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(segment)), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A stop makes no segment.
func TestAStopMakesNoSegment(t *testing.T) {
	l := newLog(t)
	for n := 0; l.active.size-l.end >= reserve; n++ {
		l.mustAdd(long(300_000, n))
	}
	l.commit()
	if err := l.Close(l.base); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(l.dir); len(left) != 1 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

// The log waits after a failure, but not for a time that a wrong clock said.
func TestAClockThatIsSetBackKeepsTheLogFromNothing(t *testing.T) {
	l := newLog(t)
	l.fails = syscall.EIO
	l.add("failed")
	l.commit()
	if l.Ready() || !l.Full() {
		t.Error("it is written again at once")
	}
	l.notBefore.Add(int64(10 * 365 * 24 * time.Hour)) // the clock was ten years ahead when it failed
	if l.Full() || !l.Ready() {
		t.Error("it is not written again for ten years")
	}
	l.mustAdd("again")
	l.want()
}

// A segment that cannot be cleared is not left behind: a later start would take its old
// records for those of another database.
func TestASegmentThatCannotBeUsedAgainIsRemoved(t *testing.T) {
	l := newLog(t)
	var old []Place
	for n := 0; l.newest < 2; n++ {
		old = append(old, l.mustAdd(long(300_000, n))...)
	}
	for _, p := range old {
		l.Drop(p)
	}
	l.commit()
	if len(l.spares) != 1 {
		t.Fatalf("%d segments are to be used again", len(l.spares))
	}
	if err := l.spares[0].file.Close(); err != nil { // and so no write to it succeeds
		t.Fatal(err)
	}
	for n := 0; l.told == 0; n++ {
		l.add(long(300_000, n))
		l.receive(true)
	}
	left, err := os.ReadDir(l.dir)
	if err != nil || len(left) != len(l.used) || sizeOf(t, l.dir) != l.allocated {
		t.Errorf("%d files of %d bytes are left of a log of %d segments and %d bytes: %v", len(left), sizeOf(t, l.dir), len(l.used), l.allocated, err)
	}
	l.notBefore.Store(0)
	l.mustAdd("goes on")
	l.want()
}

// sealed returns a log with a segment that is full, and the places of the contents in it.
func sealed(t *testing.T) (l *tested, path string, places []Place) {
	t.Helper()
	l = newLog(t)
	for n := 0; l.newest < 2; n++ {
		places = append(places, l.mustAdd(long(300_000, n))...)
	}
	l.commit()
	places = places[:len(places)-1]
	return l, l.used[places[0].Segment].place.Path, places
}

// look is what a commit does after some seconds.
func (l *tested) look() {
	l.watched = time.Time{}
	l.commit()
	l.Watch()
}

// A segment that is not in its place is reported once, and its contents are read from the
// open file. Everything else goes on.
func TestASegmentThatIsNotInItsPlaceIsReportedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(path string) error
		reads bool
		told  int
	}{
		"removed": {os.Remove, true, 1},
		"replaced": {func(path string) error {
			raw, err := os.ReadFile(path)
			return errors.Join(err, os.Remove(path), os.WriteFile(path, raw, 0o600))
		}, true, 1},
		"cut short": {func(path string) error { return os.Truncate(path, 1000) }, false, 1},
		"the folder moved": {func(path string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Rename(dir, dir+".away"), os.Mkdir(dir, 0o700))
		}, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			l, path, places := sealed(t)
			if l.look(); l.Astray() || l.told > 0 {
				t.Fatal("a segment is missed that is there")
			}
			if err := c.do(path); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				l.look()
				for n, p := range places {
					if c.reads {
						l.wantContent(p, long(300_000, n))
					} else if _, err := l.Read(p); !errors.Is(err, ErrRotten) {
						t.Errorf("a content that was cut off: %v", err)
					}
				}
			}
			if l.told != c.told || !l.Astray() {
				t.Errorf("told %d times; astray is %v", l.told, l.Astray())
			}
			if c.told > 1 {
				return // the segment that is written is not in its place either
			}
			l.mustAdd("goes on")
			for _, p := range places {
				l.Drop(p)
			}
			if l.look(); l.Astray() {
				t.Error("with nothing in it that is needed, it is still missed")
			}
		})
	}
}

// Whoever reads finds it out too, when nothing is committed. A file that was put back is
// not missed any more.
func TestASegmentIsMissedUntilItIsPutBack(t *testing.T) {
	l, path, places := sealed(t)
	for n := 1; n <= 2; n++ {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if l.wantContent(places[1], long(300_000, 1)); !l.Astray() || l.told != n {
			t.Errorf("told %d times; astray is %v", l.told, l.Astray())
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		if l.look(); l.Astray() {
			t.Error("it is missed although it is there")
		}
	}
}

// What the log gives back is not missed.
func TestWhatIsGivenBackIsNotMissed(t *testing.T) {
	l := newLog(t)
	l.mustAdd("first")
	if !l.GiveBack() {
		t.Fatal("it gives nothing back")
	}
	if l.look(); l.Astray() || l.told > 0 {
		t.Error("a segment is missed that was given back in part")
	}
	l.notBefore.Store(0)
	if !l.Ready() {
		t.Fatal("it is not written again")
	}
	l.mustAdd("second")
	l.commit()
	if err := l.Forget(); err != nil {
		t.Fatal(err)
	}
	if l.look(); l.Astray() || l.told > 0 {
		t.Error("a segment is missed that was cut off by Forget")
	}
}

// One bit of each kind of segment: of a content that the database names, wherever it is,
// only that content is damaged; of a record that the database lacks, the start is refused,
// and goes on without the files that the error names, with all that is in the others.
func TestABitOfEachSegmentIsNoticed(t *testing.T) {
	l := newLog(t)
	l.Size = 40 << 20
	var named, lacked []Place
	for n := 0; l.newest < 5; n++ {
		p := l.mustAdd(long(400_000, n))
		if l.newest < 3 || l.newest == 3 && l.end < l.active.size/2 {
			l.commit()
			named = append(named, p...)
		} else {
			lacked = append(lacked, p...)
		}
	}
	l.mustAdd("the last")
	whole := slices.Clone(l.writes)
	for segment := uint64(1); segment <= 5; segment++ {
		path := func(dir string) string { return filepath.Join(dir, nameOf(segment)) }
		for what, places := range map[string][]Place{"a content": named, "a record": lacked} {
			at := slices.IndexFunc(places, func(p Place) bool { return p.Segment == segment })
			if at < 0 {
				continue
			}
			p := places[at]
			t.Run(fmt.Sprintf("%s in segment %d", what, segment), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "log")
				if err := os.CopyFS(dir, os.DirFS(l.dir)); err != nil {
					t.Fatal(err)
				}
				flip(t, path(dir), int64(p.Record)+int64(p.At)+100_000)
				got, err := recoverFrom(t, dir, l.stored, l.base)
				if what == "a content" {
					if err != nil || !slices.Equal(got, whole) {
						t.Errorf("%d writes are replayed of %d: %v", len(got), len(whole), err)
					}
					wantContents(t, dir, l.stored, named, func(q Place) bool { return q != p })
					return
				}
				moved := map[uint64]bool{}
				for tries := 0; errors.Is(err, ErrDamaged) && tries < 5; tries++ {
					if tries == 0 && !strings.Contains(err.Error(), path(dir)+",") {
						t.Errorf("it names another file: %v", err)
					}
					for number := range uint64(6) {
						if strings.Contains(err.Error(), nameOf(number)) {
							moved[number] = true
							if err := os.Rename(filepath.Join(dir, nameOf(number)), filepath.Join(t.TempDir(), "away")); err != nil {
								t.Fatal(err)
							}
						}
					}
					got, err = recoverFrom(t, dir, l.stored, l.base)
				}
				if err != nil || len(moved) == 0 || len(got) >= len(whole) || !slices.Equal(got, whole[:len(got)]) {
					t.Errorf("without %v, %d writes are replayed of %d: %v", moved, len(got), len(whole), err)
				}
				wantContents(t, dir, l.stored, named, func(q Place) bool { return !moved[q.Segment] })
			})
		}
	}
}

// flip flips a bit of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[at] ^= 4
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantContents reads contents of a folder, the n-th of which is long(400_000, n), or
// damaged or gone.
func wantContents(t *testing.T, dir string, stored []byte, all []Place, intact func(Place) bool) {
	t.Helper()
	again, err := Open(dir, stored, 0, Options{Failed: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	for n, p := range all {
		content, err := again.Read(p)
		switch {
		case intact(p) && (err != nil || string(content) != long(400_000, n)):
			t.Errorf("content %d: %v", n, err)
		case !intact(p) && !errors.Is(err, ErrRotten) && !errors.Is(err, ErrGone):
			t.Errorf("content %d, which is damaged: %v", n, err)
		}
	}
}

// A segment that was cut short since lacks records that were acknowledged, wherever the
// cut is.
func TestASegmentThatWasCutShortIsAnError(t *testing.T) {
	l := newLog(t)
	l.mustAdd(long(300_000, 1))
	l.commit()
	from := l.end
	l.mustAdd(long(300_000, 2))
	l.mustAdd(long(300_000, 3))
	for _, at := range []int64{0, 100, from - 1, from + sectorSize, from + 100_000, l.end - 300_000} {
		_, err := l.recovered(func(dir string) {
			if err := os.Truncate(filepath.Join(dir, filepath.Base(l.active.place.Path)), at); err != nil {
				t.Fatal(err)
			}
		})
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at byte %d, between %d and %d: %v", at, from, l.end, err)
		}
	}
	if !l.GiveBack() { // which cuts behind the last record
		t.Fatal("it gives nothing back")
	}
	l.want()
}

// What the disk must keep free is not taken by a segment.
func TestASegmentIsMadeOnlyWhereTheDiskHasRoom(t *testing.T) {
	l := newLog(t)
	room := int64(2*minSegment - 1)
	l.Room = func() int64 { return room }
	var all []Place
	for n := 0; ; n++ {
		p, added := l.add(long(300_000, n))
		if !added {
			break
		}
		all = append(all, p...)
	}
	if l.next != nil || l.allocated > minSegment || !l.Full() || len(all) < 3 || l.told > 0 {
		t.Errorf("with %d contents, the log takes %d bytes; full is %v, told %d times", len(all), l.allocated, l.Full(), l.told)
	}
	l.want()
	room++
	l.mustAdd(long(300_000, 99))
	if l.want(); l.allocated != 2*minSegment || l.Full() {
		t.Errorf("with room, the log takes %d bytes, and full is %v", l.allocated, l.Full())
	}
}
