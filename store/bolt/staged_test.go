package bolt

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/store"
	"attachd/store/bolt/pages"
	"attachd/store/bolt/schema"
)

// housed returns a database with a product to upload to.
func housed(t testing.TB, path string) (b *Store, file func(content []byte) store.Attachment) {
	t.Helper()
	b = OpenAt(t, path)
	return b, house(t, b)
}

// house creates the product.
func house(t testing.TB, b *Store) (file func(content []byte) store.Attachment) {
	t.Helper()
	ada := store.User{ID: uuid.New()}
	product := store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a"}
	if _, err := b.Put(t.Context(), ada, store.Space{Slug: "a"}, product); err != nil {
		t.Fatal(err)
	}
	return func(content []byte) store.Attachment {
		return store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: product.Parent, FileName: "a.txt", Type: "text/plain",
			Size: int64(len(content)), SHA256: sha256.Sum256(content), UploaderID: ada.ID}
	}
}

func TestWhatWaitsIsCountedAgainAfterARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, file := housed(t, path)
	for n := range 3 {
		content := fmt.Append(nil, "content ", n)
		if err := b.CreateStaged(t.Context(), file(content), content, nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again := OpenAt(t, path)
	if got := again.Staged().Bytes; got != 27 {
		t.Errorf("%d bytes wait, not 27", got)
	}
	if got, err := again.StagedContent(t.Context(), sha256.Sum256([]byte("content 1"))); err != nil || string(got) != "content 1" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestADatabaseWithoutABucketForWhatWaitsGetsOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, file := housed(t, path)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(schema.Staged) }), db.Close()); err != nil {
		t.Fatal(err)
	}
	copied, err := Open(path, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	_, none := copied.StagedContent(t.Context(), [32]byte{1})
	sizes, err := copied.StagedSizes(t.Context())
	faults, unchecked := copied.Check(t.Context(), nil)
	if !errors.Is(none, store.ErrNotFound) || len(sizes) > 0 || len(faults) > 0 {
		t.Errorf("in a copy: %v, %v, %v", none, sizes, faults)
	}
	if err := errors.Join(err, unchecked, copied.Close()); err != nil {
		t.Error(err)
	}
	again := OpenAt(t, path)
	if err := again.CreateStaged(t.Context(), file([]byte("a")), []byte("a"), nil, ""); err != nil {
		t.Error(err)
	}
}

// older makes a database one of before the log held contents: they are in the bucket
// "pending", and one of them is damaged.
func older(t *testing.T, path string, contents map[uuid.UUID][]byte, rotten uuid.UUID) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		pending, err := tx.CreateBucket(schema.Pending)
		for id, content := range contents {
			sealed := pages.Seal(schema.Pending, id[:], content)
			if id == rotten {
				sealed[0] ^= 1
			}
			err = errors.Join(err, pending.Put(id[:], sealed))
		}
		return errors.Join(err, tx.DeleteBucket(schema.Staged), tx.Bucket(schema.Meta).Delete(walKey))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// However often the move fails, nothing is lost, and the next start goes on.
func TestContentsThatADatabaseHeldAreMovedToTheLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b := open(t, path)
	file := house(t, b)
	contents, all := map[uuid.UUID][]byte{uuid.Must(uuid.NewV7()): []byte("without a record")}, map[uuid.UUID]store.Attachment{}
	var rotten uuid.UUID
	for n := range 40 {
		content := fmt.Appendf(make([]byte, 100_000), "%d", n)
		a := file(content)
		if err := b.CreateAttachment(t.Context(), a, nil, ""); err != nil {
			t.Fatal(err)
		}
		contents[a.ID], all[a.ID], rotten = content, a, a.ID
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	older(t, path, contents, rotten)
	wantAll := func(b *Store) {
		t.Helper()
		for id, a := range all {
			content, err := b.StagedContent(t.Context(), a.SHA256)
			switch {
			case id == rotten && err == nil, id != rotten && (err != nil || sha256.Sum256(content) != a.SHA256):
				t.Errorf("%s: %.20q, %v", id, content, err)
			}
		}
	}
	for n := range 4 {
		written := 0
		_, err := Open(path, Options{Log: logOf(path), Logged: func(write func() error) error {
			if written++; written > n {
				return syscall.EIO
			}
			return write()
		}})
		if !errors.Is(err, store.ErrNotStaged) {
			t.Fatalf("when record %d cannot be written: %v", n, err)
		}
		copied, err := Open(path, Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		wantAll(copied)
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		b = open(t, path)
		wantAll(b)
		if got := b.Staged().Contents; got != int64(len(all)) {
			t.Errorf("%d contents are staged, and not %d", got, len(all))
		}
		if faults, err := b.Check(t.Context(), nil); err != nil || len(faults) != 1 { // of the damaged one
			t.Errorf("check: %q, %v", faults, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A segment that is gone is reported once, and what was in it is lost: the rest is not.
func TestASegmentThatIsGoneTakesItsContentsOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b := open(t, path)
	file := house(t, b)
	var all []store.Attachment
	for n := range 30 {
		content := fmt.Appendf(make([]byte, 200_000), "%d", n)
		all = append(all, file(content))
		if err := b.CreateStaged(t.Context(), all[n], content, nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := os.ReadDir(logOf(path))
	if err != nil || len(segments) < 2 {
		t.Fatalf("%v, %v", segments, err)
	}
	if err := os.Remove(filepath.Join(logOf(path), segments[0].Name())); err != nil {
		t.Fatal(err)
	}
	told := 0
	b, err = Open(path, Options{Log: logOf(path), LogFailed: func(error) { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	lost := 0
	for _, a := range all {
		content, err := b.StagedContent(t.Context(), a.SHA256)
		switch {
		case errors.Is(err, store.ErrRotten):
			lost++
		case err != nil || sha256.Sum256(content) != a.SHA256:
			t.Error(err)
		}
	}
	list, err := b.StagedAfter(t.Context(), uuid.Nil, 1000, 1<<30)
	if err != nil || len(list) != len(all) || list[0].Err == nil || list[29].Err != nil || list[0].Size != all[0].Size {
		t.Errorf("%d are listed, %v", len(list), err)
	}
	if told != 1 || lost == 0 || lost == len(all) {
		t.Errorf("%d of %d are lost, told %d times", lost, len(all), told)
	}
	content := []byte("new")
	a := file(content)
	if err := b.CreateStaged(t.Context(), a, content, nil, ""); err != nil {
		t.Error(err)
	}
	gone, err := b.Unstage(t.Context(), []uuid.UUID{all[0].ID, all[29].ID})
	if err != nil || len(gone) > 0 || b.Staged().Contents != 29 {
		t.Errorf("%v, %v; %d are staged", gone, err, b.Staged().Contents)
	}
}

// The pages of flushed contents are reused.
func TestTheDatabaseDoesNotGrowByWhatHasWaited(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, file := housed(t, path)
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	round := func(n int) {
		var ids []uuid.UUID
		for i := range 40 {
			content := fmt.Appendf(make([]byte, 10<<10), "%d %d", n, i)
			a := file(content)
			if err := b.CreateStaged(t.Context(), a, content, nil, ""); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, a.ID)
		}
		if _, err := b.Unstage(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		round(n)
	}
	before := size()
	for n := range 6 {
		round(3 + n)
	}
	if after := size(); after > before+1<<20 {
		t.Errorf("the file grew from %d bytes to %d", before, after)
	}
}

// BenchmarkCreatePending commits records with contents of 10 KB one after the
// other, and flushes them as a server does.
func BenchmarkCreatePending(b *testing.B) {
	records, file := housed(b, filepath.Join(b.TempDir(), "attachd.db"))
	content := make([]byte, 10<<10)
	var ids []uuid.UUID
	for n := 0; b.Loop(); n++ {
		copy(content, fmt.Append(nil, n, " "))
		a := file(content)
		if err := records.CreateStaged(b.Context(), a, content, nil, ""); err != nil {
			b.Fatal(err)
		}
		if ids = append(ids, a.ID); len(ids) == 400 {
			if _, err := records.Unstage(b.Context(), ids); err != nil {
				b.Fatal(err)
			}
			ids = ids[:0]
		}
	}
}

// spoil flips a bit of the entry of a staged content, as a disk may. A second time, the
// entry is right again.
func spoil(t *testing.T, path string, id uuid.UUID) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		entry := bytes.Clone(tx.Bucket(schema.Staged).Get(id[:]))
		entry[0] ^= 1
		return tx.Bucket(schema.Staged).Put(id[:], entry)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// The bytes of a content are intact although its entry is not, in a database of any size.
func TestADamagedEntryKeepsTheLog(t *testing.T) {
	t.Parallel()
	for _, large := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "attachd.db")
		b := open(t, path)
		file := house(t, b)
		content := []byte("acknowledged, and without a file")
		a := file(content)
		if err := b.CreateStaged(t.Context(), a, content, nil, ""); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if large {
			enlarge(t, path)
		}
		spoil(t, path, a.ID)
		var told []error
		b, err := Open(path, Options{Log: logOf(path), LogFailed: func(err error) { told = append(told, err) }})
		if err != nil {
			t.Fatal(err)
		}
		if b.file.Unverified() != large {
			t.Errorf("large is %v", !large)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if len(told) != 1 || !errors.Is(told[0], store.ErrDamaged) {
			t.Errorf("the log says %v", told)
		}
		spoil(t, path, a.ID)
		b = open(t, path)
		if got, err := b.StagedContent(t.Context(), a.SHA256); err != nil || !bytes.Equal(got, content) {
			t.Errorf("once the entry can be read: %q, %v", got, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// enlarge makes a database larger than a start verifies.
func enlarge(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		key := []byte("large")
		return tx.Bucket(schema.Meta).Put(key, pages.Seal(schema.Meta, key, make([]byte, 65<<20)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A content that is read while the database is being closed is not damaged.
func TestNothingIsDamagedForOneWhoReadsFromAClosedLog(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	if err := l.log.Release(); err != nil { // as the committer does before the file is closed
		t.Fatal(err)
	}
	if _, err := l.StagedContent(t.Context(), l.made[0].SHA256); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrRotten) {
		t.Errorf("a content: %v", err)
	}
	list, err := l.StagedAfter(t.Context(), uuid.Nil, 10, 1<<20)
	if err != nil || len(list) != 1 || !errors.Is(list[0].Err, store.ErrUnavailable) {
		t.Errorf("what is staged: %v, %v", list, err)
	}
}

// What the disk has in reserve is for the move, too. When that is not enough, the error
// says why.
func TestContentsAreMovedToTheLogOnAFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b := open(t, path)
	file := house(t, b)
	contents, all := map[uuid.UUID][]byte{}, []store.Attachment{}
	for n := range 30 { // more than one record
		content := fmt.Appendf(make([]byte, 200_000), "%d", n)
		a := file(content)
		if err := b.CreateAttachment(t.Context(), a, nil, ""); err != nil {
			t.Fatal(err)
		}
		contents[a.ID], all = content, append(all, a)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	older(t, path, contents, uuid.Nil)
	full := true
	opts := Options{Log: logOf(path), Logged: func(write func() error) error {
		if err := write(); err != nil || !full {
			return err
		}
		return syscall.ENOSPC
	}}
	if _, err := Open(path, opts); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without anything in reserve: %v", err)
	}
	given := 0
	opts.MakeRoom = func() bool {
		full = false
		given++
		return true
	}
	b, err := Open(path, opts)
	if err != nil || given != 1 {
		t.Fatalf("it was given room %d times: %v", given, err)
	}
	defer b.Close()
	for _, a := range all {
		if content, err := b.StagedContent(t.Context(), a.SHA256); err != nil || sha256.Sum256(content) != a.SHA256 {
			t.Error(err)
		}
	}
}

// Of two copies of a content, the newest is damaged, or its entry is.
func TestAnIntactCopyIsFoundBehindADamagedOne(t *testing.T) {
	t.Parallel()
	for _, damage := range []func(path string, newest uuid.UUID){
		func(path string, newest uuid.UUID) { spoil(t, path, newest) },
		func(path string, newest uuid.UUID) {
			segment := segmentOf(t, path)
			log := readFile(t, segment)
			log[bytes.LastIndex(log, []byte("twice"))] ^= 1
			if err := os.WriteFile(segment, log, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		l := newLogged(t)
		l.upload("twice")
		if err := l.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.upload("twice")
		if err := l.Store.Close(); err != nil {
			t.Fatal(err)
		}
		damage(l.path, l.made[2].ID)
		b := open(t, l.path)
		if content, err := b.StagedContent(t.Context(), l.made[2].SHA256); err != nil || string(content) != "twice" {
			t.Errorf("%q, %v", content, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What an earlier version staged, and cannot be read, blocks nothing else.
func TestADamagedBucketOfAnEarlierVersionBlocksNothing(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	l.upload("two")
	if err := l.Store.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(l.path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	var at int64
	err = db.Update(func(tx *bbolt.Tx) error {
		pending, err := tx.CreateBucket(schema.Pending)
		if err == nil {
			err = pending.Put([]byte("key"), make([]byte, 3000)) // more than fits beside the name
		}
		return err
	})
	err = errors.Join(err, db.View(func(tx *bbolt.Tx) error {
		at = int64(tx.Bucket(schema.Pending).RootPage()) * int64(tx.DB().Info().PageSize)
		return nil
	}), db.Close())
	raw := readFile(t, l.path)
	raw[at] ^= 1
	if err := errors.Join(err, os.WriteFile(l.path, raw, 0o600)); err != nil {
		t.Fatal(err)
	}
	b := open(t, l.path)
	defer b.Close()
	list, err := b.StagedAfter(t.Context(), uuid.Nil, 10, 1<<20)
	if !errors.Is(err, store.ErrUnreadable) || len(list) != 2 || list[0].Err != nil {
		t.Errorf("%v, %v", list, err)
	}
	if content, err := b.StagedContent(t.Context(), l.made[1].SHA256); err != nil || string(content) != "two" {
		t.Errorf("%q, %v", content, err)
	}
}

// An earlier version would open the database after the move, and miss what was moved.
func TestEarlierVersionsAreKeptOutBeforeTheMove(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b := open(t, path)
	a := house(t, b)([]byte("pending"))
	if err := errors.Join(b.CreateAttachment(t.Context(), a, nil, ""), b.Close()); err != nil {
		t.Fatal(err)
	}
	older(t, path, map[uuid.UUID][]byte{a.ID: []byte("pending")}, uuid.Nil)
	for n, fails := range []error{syscall.EIO, nil, nil} {
		taken := 0
		b, err := Open(path, Options{Log: logOf(path), TakeOver: func() error {
			taken++
			db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Millisecond})
			if err == nil {
				t.Error("it is called without the lock of the database")
				_ = db.Close()
			}
			return fails
		}})
		if !errors.Is(err, fails) || taken != min(1, 2-n) {
			t.Fatalf("start %d: %v, called %d times", n, err, taken)
		}
		if err != nil {
			continue
		}
		if content, err := b.StagedContent(t.Context(), a.SHA256); err != nil || string(content) != "pending" {
			t.Errorf("%q, %v", content, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}
