package bolt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/bolt/wal"
)

// logged is a database whose commits and log can be made to fail.
type logged struct {
	*Store
	t       *testing.T
	path    string
	file    func(content []byte) store.Attachment
	commits atomic.Int64
	records atomic.Int64
	fails   atomic.Pointer[error] // the error of every commit
	held    atomic.Pointer[held]  // where every commit waits
	logs    atomic.Pointer[error] // the error of every record
	late    atomic.Pointer[error] // the same, after it was written
	told    atomic.Int64          // how often the log failed
	made    []store.Attachment    // acknowledged
	filed   map[uuid.UUID]bool    // those that were not staged
}

// held holds commits, as a disk does that is slow.
type held struct {
	begun chan struct{} // has an element for each commit that waits
	end   chan struct{} // closed when they go on
}

// newLogged creates one whose log has been created and is used.
func newLogged(t *testing.T) *logged {
	t.Helper()
	l := &logged{t: t, path: filepath.Join(t.TempDir(), "attachd.db"), filed: map[uuid.UUID]bool{}}
	var err error
	l.Store, err = Open(l.path, Options{
		Log:         logOf(l.path),
		CommitAfter: time.Hour,
		Commit: func(tx *bbolt.Tx) error {
			l.commits.Add(1)
			if h := l.held.Load(); h != nil {
				h.begun <- struct{}{}
				<-h.end
			}
			if failure := l.fails.Load(); failure != nil {
				return *failure
			}
			return tx.Commit()
		},
		LogFailed: func(error) { l.told.Add(1) },
		Logged: func(write func() error) error {
			l.records.Add(1)
			if failure := l.logs.Load(); failure != nil {
				return *failure
			}
			err := write()
			if failure := l.late.Load(); failure != nil {
				return *failure
			}
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Store.Close() }) // most tests have made it fail
	l.file = house(t, l.Store)
	l.upload("the first")
	if err := l.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *logged) create(content string) error {
	buffer := []byte(content)
	a := l.file(buffer)
	ctx := store.WithEntry(l.t.Context(), &store.Entry{Time: time.Now(), Action: "attachment.create", ID: a.ID.String(), Outcome: "done"})
	err := l.CreateStaged(ctx, a, buffer, nil, "")
	clear(buffer) // the next upload reuses the buffer
	if errors.Is(err, store.ErrNotStaged) {
		l.filed[a.ID] = true
		err = l.CreateAttachment(ctx, a, nil, "")
	}
	if err == nil {
		l.made = append(l.made, a)
	}
	return err
}

func (l *logged) upload(contents ...string) {
	l.t.Helper()
	for _, content := range contents {
		if err := l.create(content); err != nil {
			l.t.Fatalf("upload %q: %v", content, err)
		}
	}
}

// failCommits makes all commits fail, as if the disk were gone.
func (l *logged) failCommits(err error) {
	if err == nil {
		l.fails.Store(nil)
		return
	}
	l.fails.Store(&err)
}

// crash leaves the files as a killed process would, and returns a copy.
func (l *logged) crash() (path string) {
	l.t.Helper()
	l.failCommits(syscall.EIO)
	path = filepath.Join(l.t.TempDir(), "attachd.db")
	copyDatabase(l.t, l.path, path)
	return path
}

// wantAll fails unless all acknowledged attachments are there, and the database
// passes a check.
func (l *logged) wantAll(b *Store) {
	l.t.Helper()
	l.want(b, l.made)
	faults, err := b.Check(l.t.Context(), nil)
	if err != nil || len(faults) > 0 {
		l.t.Errorf("check: %q, %v", faults, err)
	}
	_, head, err := b.AuditEnds(l.t.Context())
	if err != nil || head.Seq < uint64(len(l.made)) {
		l.t.Errorf("the audit log ends with %d: %v", head.Seq, err)
	}
}

func (l *logged) want(b *Store, all []store.Attachment) {
	l.t.Helper()
	list, err := b.AttachmentsOf(l.t.Context(), l.made[0].Parent, uuid.Nil, 10_000)
	if err != nil || len(list) != len(all) {
		l.t.Fatalf("%d of %d are listed: %v", len(list), len(all), err)
	}
	for _, a := range all {
		if _, err := b.Attachment(l.t.Context(), a.ID); err != nil {
			l.t.Errorf("an acknowledged upload: %v", err)
		}
		if l.filed[a.ID] {
			continue
		}
		content, err := b.StagedContent(l.t.Context(), a.SHA256)
		if err != nil || sha256.Sum256(content) != a.SHA256 {
			l.t.Errorf("the content of an acknowledged upload: %.20q, %v", content, err)
		}
	}
}

func TestWhatOnlyTheLogHasIsThereAfterACrash(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.failCommits(syscall.EIO)
	before := l.commits.Load()
	l.upload("one", "two", "three")
	if l.commits.Load() != before || l.records.Load() < 3 {
		t.Fatalf("%d commits and %d records", l.commits.Load()-before, l.records.Load())
	}
	l.wantAll(OpenAt(t, l.crash()))
}

func TestAPlaceThatOnlyTheLogHasIsThereAfterACrash(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	c, err := l.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const many = 50
	var place blobs.Place
	before := l.commits.Load()
	for n := range many {
		place = blobs.Place{Object: blobs.NewObject(blobs.RefOf([]byte(fmt.Sprint("large ", n)))), Size: 7, Stored: time.Unix(1_700_000_000, 0)}
		if err := errors.Join(c.Intend(t.Context(), []blobs.Object{place.Object}), c.Settle(t.Context(), []blobs.Place{place})); err != nil {
			t.Fatal(err)
		}
	}
	if commits := l.commits.Load() - before; commits >= many { // the log is emptied by one now and then
		t.Errorf("%d places took %d commits", many, commits)
	}
	b := OpenAt(t, l.crash())
	if c, err = b.Catalog(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Abandon(t.Context(), time.Now().Add(time.Hour)); err != nil { // as a start does
		t.Fatal(err)
	}
	if got, err := c.Place(t.Context(), place.Ref); err != nil || got != place {
		t.Errorf("%+v, %v", got, err)
	}
	if intended, garbage := c.Waiting(); intended != 0 || garbage != 0 {
		t.Errorf("%d are intended, and %d garbage", intended, garbage)
	}
}

func TestAPlaceThatOnlyTheLogHasIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	for name, see := range map[string]func(c *Catalog, want blobs.Place) (bool, error){
		"Place": func(c *Catalog, want blobs.Place) (bool, error) {
			got, err := c.Place(t.Context(), want.Ref)
			return got == want, err
		},
		"Places": func(c *Catalog, want blobs.Place) (bool, error) {
			for got, err := range c.Places(t.Context(), blobs.Ref{}) {
				return got == want, err
			}
			return false, nil
		},
		"HasObjects": func(c *Catalog, _ blobs.Place) (bool, error) { return c.HasObjects(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := newLogged(t).Catalog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			place := blobs.Place{Object: blobs.NewObject(blobs.RefOf([]byte("large"))), Size: 5, Stored: time.Unix(1_700_000_000, 0)}
			err = errors.Join(c.Intend(t.Context(), []blobs.Object{place.Object}), c.Settle(t.Context(), []blobs.Place{place}))
			if err != nil {
				t.Fatal(err)
			}
			if seen, err := see(c, place); err != nil || !seen {
				t.Errorf("it is not seen: %v", err)
			}
		})
	}
}

func TestWhatIsInTheLogIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	for what, seen := range map[string]func(l *logged, a store.Attachment) error{
		"its record": func(l *logged, a store.Attachment) error {
			_, err := l.Attachment(t.Context(), a.ID)
			return err
		},
		"a list": func(l *logged, a store.Attachment) error {
			list, err := l.AttachmentsOf(t.Context(), a.Parent, uuid.Nil, 100)
			if err == nil && len(list) != len(l.made) {
				err = fmt.Errorf("%d rows", len(list))
			}
			return err
		},
		"what its space holds": func(l *logged, a store.Attachment) error {
			_, used, err := l.Space(t.Context(), "a")
			if err == nil && used.Files != int64(len(l.made)) {
				err = fmt.Errorf("%d files", used.Files)
			}
			return err
		},
		"who refers to a content": func(l *logged, a store.Attachment) error {
			referenced, err := l.Referenced(t.Context(), a.SHA256)
			if err == nil && !referenced {
				err = errors.New("nobody")
			}
			return err
		},
		"what waits": func(l *logged, a store.Attachment) error {
			waiting, err := l.StagedSizes(t.Context())
			if err == nil && waiting[a.SHA256] != a.Size {
				err = errors.New("it does not")
			}
			return err
		},
		"the audit log": func(l *logged, a store.Attachment) error {
			_, head, err := l.AuditEnds(t.Context())
			if err == nil && head.Seq != uint64(len(l.made)) {
				err = fmt.Errorf("%d entries", head.Seq)
			}
			return err
		},
		"a snapshot": func(l *logged, a store.Attachment) error {
			path := filepath.Join(t.TempDir(), "attachd.db")
			var copied bytes.Buffer
			if err := errors.Join(l.Snapshot(t.Context(), &copied), os.WriteFile(path, copied.Bytes(), 0o600)); err != nil {
				return err
			}
			_, err := OpenAt(t, path).Attachment(t.Context(), a.ID)
			return err
		},
		"a compacted database": func(l *logged, a store.Attachment) error {
			if _, err := l.Compact(t.Context()); err != nil {
				return err
			}
			_, err := l.Attachment(t.Context(), a.ID)
			return err
		},
		"its deletion": func(l *logged, a store.Attachment) error {
			_, err := l.DeleteAttachment(t.Context(), a.ID)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l := newLogged(t)
			l.upload("one", "two")
			if err := seen(l, l.made[2]); err != nil {
				t.Error(err)
			}
		})
	}
}

// Of a record that was being written when the power failed, some sectors may be
// old. The records before it were acknowledged.
func TestARecordThatIsNotWholeIsPassedOver(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.upload("of an earlier commit " + strings.Repeat("x", 3*logBlock))
	if err := l.Probe(t.Context()); err != nil { // the log is overwritten from its beginning
		t.Fatal(err)
	}
	before := readFile(t, segmentOf(t, l.path))
	l.failCommits(syscall.EIO)
	l.upload("one", strings.Repeat("two", 700))
	path := l.crash()
	log := readFile(t, segmentOf(t, path))
	all := lastRecords(log)
	if len(all) != 2 {
		t.Fatalf("the last records begin at %d", all)
	}
	last := all[1]
	for name, missing := range map[string][]int{
		"its first sectors":   {0},
		"its second sectors":  {1, 2},
		"its last sectors":    {3, 4, 5, 6, 7},
		"every other sectors": {0, 2, 4, 6},
		"all but its first":   {1, 2, 3, 4, 5, 6, 7},
	} {
		for there, was := range map[string][]byte{"zeros": make([]byte, len(log)), "an earlier record": before} {
			t.Run(name+" are "+there, func(t *testing.T) {
				torn := bytes.Clone(log)
				for _, i := range missing {
					at := last + i*logSector
					copy(torn[at:at+logSector], was[at:])
				}
				l.want(OpenAt(t, withLog(t, path, torn)), l.made[:len(l.made)-1])
			})
		}
	}
}

// Damage of a log after its records were acknowledged removes none of them
// silently.
func TestALogThatWasDamagedIsRefused(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.failCommits(syscall.EIO)
	l.upload("one", strings.Repeat("two", 700))
	path := l.crash()
	log := readFile(t, segmentOf(t, path))
	random, records := rand.New(rand.NewPCG(1, 2)), lastRecords(log)
	refused := 0
	for range 60 {
		bit := 8*records[0] + random.IntN(8*(records[1]-records[0]+5*logSector))
		damaged := bytes.Clone(log)
		damaged[bit/8] ^= 1 << (bit % 8)
		path := withLog(t, path, damaged)
		b, err := Open(path, Options{Log: logOf(path)})
		switch {
		case errors.Is(err, ErrLogDamaged):
			refused++
		case err != nil:
			t.Errorf("bit %d: %v", bit, err)
		default:
			l.want(b, l.made)
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if refused == 0 {
		t.Error("no bit was noticed")
	}
	// Without the log, the changes in the database are there.
	if err := os.RemoveAll(logOf(path)); err != nil {
		t.Fatal(err)
	}
	l.filed[l.made[0].ID] = true // it is lost
	l.want(OpenAt(t, path), l.made[:1])
}

// Without the file of the log that was damaged, a start has all but what is in it; once it
// is put back, all but the uploads that only the log had.
func TestADamagedLogLosesOnlyWhatOnlyItHad(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.upload("kept")
	if err := l.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := l.made
	l.failCommits(syscall.EIO)
	l.upload("one", "two")
	path := l.crash()
	segment := segmentOf(t, path)
	log := readFile(t, segment)
	log[lastRecords(log)[0]+100] ^= 1
	err := os.WriteFile(segment, log, 0o600)
	_, refused := Open(path, Options{Log: logOf(path)})
	if err != nil || !errors.Is(refused, ErrLogDamaged) || !strings.Contains(refused.Error(), "in "+segment+",") {
		t.Fatalf("it is not refused: %v, %v", refused, err)
	}
	if err := os.Rename(segment, path+".away"); err != nil {
		t.Fatal(err)
	}
	var told error
	b, err := Open(path, Options{Log: logOf(path), LogFailed: func(err error) { told = err }})
	if err != nil || told == nil || !strings.Contains(told.Error(), "2 small uploads were in parts of the log that are gone") {
		t.Fatalf("without it, the start says %v: %v", told, err)
	}
	for _, a := range kept {
		if _, err := b.StagedContent(t.Context(), a.SHA256); !errors.Is(err, store.ErrRotten) {
			t.Errorf("what was in it: %v", err)
		}
	}
	if err := errors.Join(b.Close(), os.MkdirAll(logOf(path), 0o700), os.Rename(path+".away", segment)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b, err = Open(path, Options{Log: logOf(path), LogFailed: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		l.want(b, kept)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that has no room for the log alone, or for the database alone.
func TestAFullDiskForOneOfTheFilesLosesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log, database bool
		upload        error // what becomes of uploads once the changes in the log were to be committed
		filed         bool  // whether they are written to files
	}{
		"the log":      {log: true, filed: true},
		"the database": {database: true, upload: store.ErrFull},
		"both":         {log: true, database: true, upload: store.ErrFull},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogged(t)
			l.upload("before", "just before")
			var full error = syscall.ENOSPC
			if c.log {
				l.logs.Store(&full)
			}
			if c.database {
				l.failCommits(full)
			}
			if err := l.Probe(t.Context()); !errors.Is(err, c.upload) {
				t.Errorf("a change: %v", err)
			}
			for n := range 3 {
				err := l.create(fmt.Sprint("meanwhile ", n))
				if !errors.Is(err, c.upload) {
					t.Errorf("an upload: %v", err)
				}
				if err == nil && l.filed[l.made[len(l.made)-1].ID] != c.filed {
					t.Errorf("it is written to a file: %v", !c.filed)
				}
			}
			l.want(l.Store, l.made)
			copied := filepath.Join(t.TempDir(), "attachd.db") // as a kill would leave it
			copyDatabase(t, l.path, copied)
			l.wantAll(OpenAt(t, copied))
			l.logs.Store(nil)
			l.failCommits(nil)
			l.upload("after")
			l.wantAll(OpenAt(t, l.crash()))
		})
	}
}

// The layout of the log, as the package wal describes it.
const (
	logBlock  = 4 << 10 // bytes; where records begin
	logSector = 512     // bytes, the last four of them a checksum
)

// lastRecords returns the offsets of the records of the last state in a segment.
func lastRecords(log []byte) (all []int) {
	last := uint64(0)
	for at := 0; at < len(log); at += logBlock {
		header := log[at:]
		base, number := binary.BigEndian.Uint64(header[24:]), binary.BigEndian.Uint64(header[32:])
		if !bytes.Equal(header[8:24], log[8:24]) || base < last {
			continue
		}
		if number == 1 {
			last, all = base, nil
		}
		all = append(all, at)
	}
	return all
}

// copyDatabase copies a database with its log.
func copyDatabase(t *testing.T, from, to string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(logOf(from), strings.Repeat("[0-9a-f]", 16))) // and none that is being made
	err = errors.Join(err, os.Mkdir(logOf(to), 0o700), os.WriteFile(to, readFile(t, from), 0o600))
	for _, segment := range segments {
		err = errors.Join(err, os.WriteFile(filepath.Join(logOf(to), filepath.Base(segment)), readFile(t, segment), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// segmentOf returns the path of the segment that was written last.
func segmentOf(t *testing.T, path string) (last string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(logOf(path), strings.Repeat("[0-9a-f]", 16)))
	if err != nil || len(all) == 0 {
		t.Fatalf("segments: %v, %v", all, err)
	}
	for _, segment := range all {
		if content := readFile(t, segment); !bytes.Equal(content[:logSector], make([]byte, logSector)) {
			last = segment
		}
	}
	return last
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// withLog returns a copy of a database with another segment.
func withLog(t *testing.T, path string, log []byte) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "attachd.db")
	copyDatabase(t, path, copied)
	if err := os.WriteFile(segmentOf(t, copied), log, 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

// A log fits only the state of the database that it was written for.
func TestAnotherStateOfTheDatabaseTakesNothingFromTheLog(t *testing.T) {
	t.Parallel()
	// put replaces a database with a copy, as a person may do.
	put := func(t *testing.T, copied []byte, path string) *Store {
		t.Helper()
		if err := os.WriteFile(path, copied, 0o600); err != nil {
			t.Fatal(err)
		}
		return OpenAt(t, path)
	}
	for name, happens := range map[string]func(t *testing.T, l *logged, copied []byte){
		"an older one after a crash": func(t *testing.T, l *logged, copied []byte) {
			before := l.made
			if _, err := l.DeleteAttachment(t.Context(), l.made[1].ID); err != nil {
				t.Fatal(err)
			}
			l.failCommits(syscall.EIO)
			l.upload("two", "three")
			l.want(put(t, copied, l.crash()), before)
		},
		"an older one after a stop": func(t *testing.T, l *logged, copied []byte) {
			before := l.made
			l.upload("two", "three", "four")
			if err := l.Store.Close(); err != nil {
				t.Fatal(err)
			}
			l.want(put(t, copied, l.path), before)
		},
		"one that was changed without it": func(t *testing.T, l *logged, copied []byte) {
			before := l.made
			l.failCommits(syscall.EIO)
			l.upload("two")
			path := l.crash()
			b, err := Open(path, Options{Log: path + ".another"})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(b.Probe(t.Context()), b.Close()); err != nil {
				t.Fatal(err)
			}
			l.want(OpenAt(t, path), before)
		},
		"a copy": func(t *testing.T, l *logged, copied []byte) {
			before := l.made
			l.failCommits(syscall.EIO)
			l.upload("two")
			path := l.crash()
			b, err := Open(path, Options{}) // without Log, it becomes a copy
			if err := errors.Join(err, b.Close()); err != nil {
				t.Fatal(err)
			}
			for _, a := range before {
				l.filed[a.ID] = true // a copy has no staged contents
			}
			l.want(OpenAt(t, path), before)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogged(t)
			l.upload("one")
			var copied bytes.Buffer
			if err := l.Snapshot(t.Context(), &copied); err != nil {
				t.Fatal(err)
			}
			happens(t, l, copied.Bytes())
		})
	}
}

// A stop leaves only what holds contents.
func TestAStopLeavesNoLog(t *testing.T) {
	t.Parallel()
	for staged := range 2 {
		l := newLogged(t)
		l.upload("one")
		for _, a := range l.made[staged:] {
			if _, err := l.Unstage(t.Context(), []uuid.UUID{a.ID}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Store.Close(); err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadDir(logOf(l.path))
		if len(left) != staged || (staged == 0) != errors.Is(err, os.ErrNotExist) {
			t.Errorf("with %d contents it leaves %v, %v", staged, left, err)
		}
	}
}

// An upload may be in the log although the write failed. When it is refused then,
// it must not come back.
func TestARefusedUploadDoesNotComeBack(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	var late error = syscall.ENOSPC
	l.late.Store(&late)
	l.failCommits(syscall.ENOSPC)
	if err := l.create("refused"); !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
	l.failCommits(nil)
	if err := l.Store.Close(); err != nil {
		t.Fatal(err)
	}
	l.wantAll(OpenAt(t, l.path))
}

func TestWhatIsRefusedIsNotWrittenDown(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.upload("one")
	a := l.file([]byte("one"))
	a.ID = l.made[1].ID // the id is taken
	records, commits := l.records.Load(), l.commits.Load()
	ctx := store.WithEntry(t.Context(), &store.Entry{Time: time.Now(), Action: "attachment.create", Outcome: "done"})
	if err := l.CreateStaged(ctx, a, []byte("one"), nil, ""); !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	if err := l.CreateAttachment(ctx, a, nil, ""); !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	if l.records.Load() != records || l.commits.Load() != commits {
		t.Errorf("%d records and %d commits for it", l.records.Load()-records, l.commits.Load()-commits)
	}
}

// When a file becomes short under a running server, calls fail, and none hangs.
func TestADatabaseThatCannotBeReadHangsNobody(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.upload("one")
	l.failCommits(syscall.EIO)
	if err := l.Probe(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Fatal(err)
	}
	if err := os.Truncate(l.path, 2*4096); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		answered := make(chan error, 1)
		go func() {
			_, err := l.Attachment(context.Background(), l.made[1].ID)
			answered <- err
		}()
		select {
		case err := <-answered:
			if err == nil {
				t.Error("it was read")
			}
		case <-time.After(time.Minute):
			t.Fatal("a read hangs")
		}
	}
}

func TestTheLogBeginsAgainWhenItIsFull(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	content := make([]byte, 200<<10)
	for n := range 3 * (4 << 20) / len(content) {
		content[n]++
		l.upload(string(content))
	}
	l.failCommits(syscall.EIO)
	l.upload("the last")
	l.wantAll(OpenAt(t, l.crash()))
}

// The record of a large content, whose file is there already, costs one sync of the log
// and no commit. Where the log cannot take it, it is committed at once.
func TestTheRecordOfALargeContentWaitsInTheLogToo(t *testing.T) {
	t.Parallel()
	for name, logFails := range map[string]bool{"in the log": false, "when the log fails": true} {
		l := newLogged(t)
		var failure error = syscall.EIO
		if logFails {
			l.logs.Store(&failure)
		} else {
			l.failCommits(failure)
		}
		records, commits := l.records.Load(), l.commits.Load()
		for n := range 3 {
			l.createLarge(fmt.Sprint("large ", n))
		}
		if got := l.records.Load() - records; !logFails && got < 3 {
			t.Errorf("%s: %d records of 3 are there", name, got)
		}
		if got := l.commits.Load() - commits; logFails && got < 3 {
			t.Errorf("%s: %d commits of 3 were made", name, got)
		}
		l.want(l.Store, l.made)
		l.wantAll(OpenAt(t, l.crash()))
	}
}

// createLarge creates an attachment whose content is not staged.
func (l *logged) createLarge(content string) {
	l.t.Helper()
	a := l.file([]byte(content))
	ctx := store.WithEntry(l.t.Context(), &store.Entry{Time: time.Now(), Action: "attachment.create", ID: a.ID.String(), Outcome: "done"})
	if err := l.CreateAttachment(ctx, a, bytes.Repeat([]byte{1}, 800), ""); err != nil {
		l.t.Fatal(err)
	}
	l.made, l.filed[a.ID] = append(l.made, a), true
}

// Whatever happens to the log, acknowledged uploads are there after a crash.
func TestWithoutALogUploadsAreCommitted(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.upload("with it")
	var failure error = syscall.EIO
	l.logs.Store(&failure)
	l.upload("when it fails", "after that", "and after that")
	before := l.records.Load()
	l.upload("the last")
	if l.records.Load() != before {
		t.Error("a log that failed was written to again")
	}
	if told := l.told.Load(); told != 1 {
		t.Errorf("of the one failure was told %d times", told)
	}
	l.wantAll(OpenAt(t, l.crash()))
}

// A commit that finds no room leaves the changes in the log for a later one. The
// change that it was made for is refused; acknowledged changes stay.
func TestWhatIsInTheLogOutlastsAFullDisk(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.upload("one")
	l.failCommits(syscall.ENOSPC)
	l.upload("two")
	if err := l.Probe(t.Context()); !errors.Is(err, store.ErrFull) {
		t.Fatalf("a change on a full disk: %v", err)
	}
	if err := l.create("three"); !errors.Is(err, store.ErrFull) {
		t.Errorf("an upload on a full disk: %v", err)
	}
	l.want(l.Store, l.made)
	l.failCommits(nil)
	l.wantAll(l.Store)
	l.upload("four")
	l.wantAll(OpenAt(t, l.crash()))
}

// When the outcome of a commit is unknown, nothing can be changed before the next
// start, but all acknowledged changes can be read.
func TestWhatIsOnlyInTheLogCanBeReadWhenACommitFailed(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.failCommits(syscall.EIO)
	l.upload("two")
	if err := l.Probe(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a change: %v", err)
	}
	if err := l.create("three"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("an upload: %v", err)
	}
	l.want(l.Store, l.made)
	var copied bytes.Buffer
	if err := l.Snapshot(t.Context(), &copied); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a snapshot that would lack what was acknowledged: %v", err)
	}
	l.wantAll(OpenAt(t, l.crash()))
}

func TestADeletionIsNotUndoneByTheLog(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.upload("one", "two")
	if _, err := l.DeleteAttachment(context.Background(), l.made[1].ID); err != nil {
		t.Fatal(err)
	}
	l.made = append(l.made[:1:1], l.made[2])
	l.upload("three")
	b := OpenAt(t, l.crash())
	l.want(b, l.made)
}

// Whoever goes back to a copy of a database, or begins anew, can put the database back
// with all that only its log has.
func TestTheLogOfAnotherDatabaseIsKept(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(t *testing.T, l *logged) (path string, other []byte){
		"a snapshot": func(t *testing.T, l *logged) (string, []byte) {
			copied := copyOf(t, l.Store)
			l.upload("two")
			if err := l.Store.Close(); err != nil {
				t.Fatal(err)
			}
			return l.path, copied
		},
		"a snapshot, after a crash": func(t *testing.T, l *logged) (string, []byte) {
			copied := copyOf(t, l.Store)
			if err := l.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.failCommits(syscall.EIO)
			l.upload("two")
			return l.crash(), copied
		},
		"a snapshot of before a start": func(t *testing.T, l *logged) (string, []byte) {
			copied := copyOf(t, l.Store)
			path := l.crash()
			l.failCommits(nil)
			if err := l.Store.Close(); err != nil {
				t.Fatal(err)
			}
			l.Store = open(t, path)
			l.upload("two")
			if err := l.Store.Close(); err != nil {
				t.Fatal(err)
			}
			return path, copied
		},
		"an empty one": func(t *testing.T, l *logged) (string, []byte) {
			if err := l.Store.Close(); err != nil {
				t.Fatal(err)
			}
			return l.path, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLogged(t)
			l.upload("one")
			path, other := happens(t, l)
			if err := os.Rename(path, path+".kept"); err != nil {
				t.Fatal(err)
			}
			if other != nil {
				if err := os.WriteFile(path, other, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for n := range 3 {
				told := 0
				b, err := Open(path, Options{Log: logOf(path), LogFailed: func(error) { told++ }})
				if err := errors.Join(err, b.Probe(t.Context()), b.Close()); err != nil {
					t.Fatal(err)
				}
				if want := max(0, 1-n); told != want {
					t.Errorf("start %d: the log says %d times that it is another's, and not %d", n, told, want)
				}
			}
			aside, err := filepath.Glob(logOf(path) + ".aside-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("%v, %v", aside, err)
			}
			segments, err := os.ReadDir(aside[0])
			err = errors.Join(err, os.Rename(path+".kept", path), os.MkdirAll(logOf(path), 0o700))
			for _, s := range segments {
				err = errors.Join(err, os.WriteFile(filepath.Join(logOf(path), s.Name()), readFile(t, filepath.Join(aside[0], s.Name())), 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			l.wantAll(OpenAt(t, path))
		})
	}
}

// A record that fitted nowhere has moved the end of the log to another segment.
func TestACompactedDatabaseKnowsTheEndOfTheLog(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	var end []byte
	err := l.handIn(t.Context(), &change{done: make(chan error, 1), instead: func() error {
		if _, fits := l.log.Fit(nil, []wal.Content{{Bytes: make([]byte, 4<<20)}}, true); fits {
			t.Error("it fits")
		}
		end = l.log.Position()
		return nil
	}})
	if _, stored, unread := l.logPosition(); unread != nil || bytes.Equal(stored, end) {
		t.Fatalf("it is in the same segment: %v", unread)
	}
	if _, failed := l.Compact(t.Context()); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	if _, stored, err := l.logPosition(); err != nil || !bytes.Equal(stored, end) {
		t.Errorf("the database has %x, and not %x: %v", stored, end, err)
	}
	l.upload("two")
	l.wantAll(OpenAt(t, l.crash()))
}

func copyOf(t *testing.T, b *Store) []byte {
	t.Helper()
	var copied bytes.Buffer
	if err := b.Snapshot(t.Context(), &copied); err != nil {
		t.Fatal(err)
	}
	return copied.Bytes()
}
