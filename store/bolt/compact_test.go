package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"attachd/store/bolt"
	"attachd/store/storetest"
)

// compacting returns a database that calls step before each step of a Compact.
func compacting(t *testing.T, step func(string) error) (b *bolt.Store, path string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be replaced")
	}
	path = filepath.Join(t.TempDir(), "attachd.db")
	b, err := bolt.Open(path, bolt.Options{Compacting: step})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	fill(t, b)
	return b, path
}

// Another process may wait for the lock of the old file, and must not take that
// file for the database when the lock is released.
func TestWhoWaitsForTheLockDoesNotGetTheFileThatWasReplaced(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc to see that it waits")
	}
	var path string
	var b *bolt.Store
	refused := make(chan error, 1)
	b, path = compacting(t, func(step string) error {
		if step != "rename" {
			return nil
		}
		before := timesOpen(t, path)
		go func() {
			_, err := bolt.Open(path, bolt.Options{LockTimeout: time.Second})
			refused <- err
		}()
		for deadline := time.Now().Add(time.Minute); timesOpen(t, path) == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return errors.New("the other one does not open the database")
			}
		}
		return nil
	})
	if _, err := b.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-refused; !errors.Is(err, bolt.ErrLocked) {
		t.Errorf("the other one: %v", err)
	}
	if err := b.Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

// timesOpen is how often this process has a file open.
func timesOpen(t *testing.T, path string) (n int) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	for _, fd := range open {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && to == path {
			n++ // the link of a descriptor that was closed meanwhile is dangling
		}
	}
	return n
}

// A snapshot that is being written delays a Compact, but not changes.
func TestCompactWaitsForASnapshot(t *testing.T) {
	began := make(chan struct{})
	b, _ := compacting(t, func(step string) error {
		if step == "create" {
			close(began)
		}
		return nil
	})
	reading, goOn := make(chan struct{}), make(chan struct{})
	var both sync.WaitGroup
	var once sync.Once
	both.Go(func() {
		err := b.Snapshot(t.Context(), writing(func(p []byte) (int, error) {
			once.Do(func() { close(reading) })
			<-goOn
			return len(p), nil
		}))
		if err != nil {
			t.Error(err)
		}
	})
	<-reading
	both.Go(func() {
		if _, err := b.Compact(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for range 20 {
		a := file()
		if err := errors.Join(b.CreateAttachment(t.Context(), a, nil, ""), b.Probe(t.Context())); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-began:
		t.Error("it has begun while a snapshot was written")
	default:
	}
	close(goOn)
	both.Wait()
	<-began
}

type writing func([]byte) (int, error)

func (f writing) Write(p []byte) (int, error) { return f(p) }

// A transaction that reads while the file is replaced sees the old one to its end,
// and nothing is changed before.
func TestReadersGoOnWhileTheDatabaseIsCompacted(t *testing.T) {
	var b *bolt.Store
	first := file()
	b, _ = compacting(t, func(step string) error {
		if got, err := b.Attachment(t.Context(), first.ID); err != nil || got != first {
			t.Errorf("before step %q: %+v, %v", step, got, err)
		}
		return nil
	})
	if err := b.CreateAttachment(t.Context(), first, nil, ""); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if list, err := b.AttachmentsOf(t.Context(), product.Parent, [16]byte{}, 10); err != nil || len(list) == 0 || list[0] != first {
					t.Errorf("%+v, %v", list, err)
					return
				}
			}
		})
	}
	for range 10 {
		if _, err := b.Compact(t.Context()); err != nil {
			t.Error(err)
		}
		a := file()
		if err := b.CreateAttachment(t.Context(), a, nil, ""); err != nil {
			t.Error(err)
		}
		if _, err := b.Attachment(t.Context(), a.ID); err != nil {
			t.Errorf("acknowledged and not there: %v", err)
		}
	}
	close(done)
	readers.Wait()
}

func TestCompactGivesUpWhenItsContextEnds(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	b, path := compacting(t, func(step string) error {
		if step == "compare" {
			end()
		}
		return nil
	})
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Compact(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced, or %v", err)
	}
	if names := list(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("in the directory: %v", names)
	}
	if err := b.Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

// A damaged database is not replaced with what can be read of it.
func TestADamagedDatabaseIsNotReplaced(t *testing.T) {
	b, path := compacting(t, nil)
	storetest.Fill(t, b, 1000)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := os.Getpagesize()
	for page := 0; page < len(raw); page += size { // some of the pages are free
		if bytes.Contains(raw[page:page+size], []byte("quarterly report")) {
			copy(raw[page:], bytes.Repeat([]byte{0xff}, 16)) // its header
		}
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err = bolt.Open(path, bolt.Options{}); err != nil {
		t.Fatal(err)
	}
	_, err = b.Compact(t.Context())
	if err == nil {
		t.Error("it was compacted")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, raw) {
		t.Errorf("the file is another, or %v", err)
	}
	if names := list(t, filepath.Dir(path)); len(names) != 1 {
		t.Errorf("in the directory: %v", names)
	}
}

func TestACopyIsNotCompacted(t *testing.T) {
	b := bolt.OpenTemp(t)
	var copied bytes.Buffer
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := errors.Join(b.Snapshot(t.Context(), &copied), os.WriteFile(path, copied.Bytes(), 0o400)); err != nil {
		t.Fatal(err)
	}
	c, err := bolt.Open(path, bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Compact(t.Context()); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("got %v", err)
	}
	if size, err := c.Size(t.Context()); err != nil || size.Bytes != int64(copied.Len()) || size.Free <= 0 || size.Free >= size.Bytes {
		t.Errorf("of %d bytes, the size is %+v, %v", copied.Len(), size, err)
	}
}

var compactAttachments = flag.Int("compact", 20_000, "attachments in the database that BenchmarkCompact compacts")

// BenchmarkCompact compacts a database of which half was deleted.
func BenchmarkCompact(b *testing.B) {
	path := filepath.Join(b.TempDir(), "attachd.db")
	db, err := bolt.Open(path, bolt.Options{Commit: func(tx *bbolt.Tx) error {
		tx.DB().NoSync = true // to fill it faster
		return tx.Commit()
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for i, p := range storetest.Fill(b, db, *compactAttachments) {
		if i%2 == 0 {
			if _, err := db.DeleteEntity(b.Context(), p.Parent, true); err != nil {
				b.Fatal(err)
			}
		}
	}
	full, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		again := filepath.Join(b.TempDir(), "again.db")
		if err := os.WriteFile(again, full, 0o600); err != nil {
			b.Fatal(err)
		}
		db, err := bolt.Open(again, bolt.Options{})
		if err != nil {
			b.Fatal(err)
		}
		size, err := db.Size(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		done, err := db.Compact(b.Context())
		b.StopTimer()
		if err := errors.Join(err, db.Close(), os.Remove(again)); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(done.Before)/1e6, "MB-before")
		b.ReportMetric(float64(size.Free)/1e6, "MB-free")
		b.ReportMetric(float64(done.After)/1e6, "MB-after")
		b.StartTimer()
	}
}
