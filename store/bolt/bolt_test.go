package bolt_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs/blobstest"
	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/storetest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	blobstest.Short("TestReopenKeepsEverything", "TestOpenDatabaseIsLocked", "TestWhatOnlyTheLogHasIsThereAfterACrash", "TestCheckFindsWhatDoesNotFit", "TestAStopLeavesNoLog")
	os.Exit(m.Run())
}

// CVE-2026-54097, CVE-2026-35605
func TestBoltKeepsThePromises(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return bolt.OpenTemp(t) })
}

var (
	ada     = store.User{ID: uuid.New(), FullName: "Ada"}
	space   = store.Space{Slug: "a"}
	product = store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a"}
)

func fill(t testing.TB, b *bolt.Store) {
	t.Helper()
	if _, err := b.Put(context.Background(), ada, space, product); err != nil {
		t.Fatal(err)
	}
}

// file returns a new attachment with a unique content.
func file() store.Attachment {
	id := uuid.Must(uuid.NewV7())
	a := store.Attachment{
		ID: id, Parent: product.Parent, FileName: "data_dictionary.pdf", Size: 245760,
		Type: "application/pdf", UploaderID: ada.ID, Uploader: ada.FullName,
	}
	copy(a.SHA256[:], id[:])
	return a
}

func TestReopenKeepsEverything(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "attachd.db")
	a := file()
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	key := store.Key{ID: uuid.New(), UserID: ada.ID, Name: "laptop", Hash: [32]byte{1}, CreatedAt: now}
	session := store.Session{Hash: [32]byte{2}, KeyID: key.ID, ExpiresAt: now.Add(time.Hour)}

	b, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, b)
	b.TouchKey(key.ID, now)
	err = errors.Join(
		b.CreateAttachment(ctx, a, nil, ""),
		b.CreateKey(ctx, key),
		b.CreateSession(ctx, session, now),
		b.Close(),
		b.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}

	b = bolt.OpenAt(t, path)
	if got, err := b.Attachment(ctx, a.ID); err != nil || got != a {
		t.Errorf("attachment: %+v, %v", got, err)
	}
	if _, usage, err := b.Space(ctx, "a"); err != nil || usage != (store.Usage{Bytes: a.Size, Files: 1}) {
		t.Errorf("usage: %+v, %v", usage, err)
	}
	key.LastUsedAt = now // noted in memory, and stored by Close
	if got, user, err := b.KeyByHash(ctx, key.Hash); err != nil || got != key || user != ada {
		t.Errorf("key: %+v of %+v, %v", got, user, err)
	}
	if got, err := b.Session(ctx, session.Hash); err != nil || got != session {
		t.Errorf("session: %+v, %v", got, err)
	}
}

func TestOpenDatabaseIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	bolt.OpenAt(t, path)
	_, err := bolt.Open(path, bolt.Options{LockTimeout: time.Millisecond})
	if !errors.Is(err, bolt.ErrLocked) || !strings.Contains(err.Error(), "another process") || !strings.Contains(err.Error(), path) {
		t.Fatalf("second open: %v", err)
	}
}

func TestFirstOpenClearsLeftovers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"attachd.db.new", "attachd.db.new123"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "attachd.db")
	bolt.OpenAt(t, path)
	if names := list(t, dir); len(names) != 1 || names[0] != "attachd.db" {
		t.Fatalf("in the directory: %v", names)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Fatalf("mode %v", info.Mode())
	}
}

func TestNewFileIsHandedOverOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	var handed []os.FileInfo
	own := func(f *os.File) error {
		info, err := f.Stat()
		handed = append(handed, info)
		return err
	}
	for range 2 {
		b, err := bolt.Open(path, bolt.Options{Own: own})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(handed) != 1 || !os.SameFile(handed[0], info) {
		t.Fatalf("handed over %d files, the database not among them or not only", len(handed))
	}
}

func TestFailedFirstOpenLeavesNothing(t *testing.T) {
	dir, refusal := t.TempDir(), errors.New("no such owner")
	_, err := bolt.Open(filepath.Join(dir, "attachd.db"), bolt.Options{
		Own: func(*os.File) error { return refusal },
	})
	if !errors.Is(err, refusal) {
		t.Fatalf("open: %v", err)
	}
	if names := list(t, dir); len(names) != 0 {
		t.Fatalf("in the directory: %v", names)
	}
}

func TestOfTwoFirstOpensOneWins(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "attachd.db")
		var opened [2]*bolt.Store
		var both sync.WaitGroup
		for i := range opened {
			both.Go(func() {
				opened[i], _ = bolt.Open(path, bolt.Options{LockTimeout: time.Millisecond})
			})
		}
		both.Wait()
		if (opened[0] == nil) == (opened[1] == nil) {
			t.Fatalf("opened: %v", opened)
		}
		winner := opened[0]
		if winner == nil {
			winner = opened[1]
		}
		fill(t, winner)
		if err := winner.Close(); err != nil {
			t.Fatal(err)
		}
		again := bolt.OpenAt(t, path)
		if _, err := again.User(t.Context(), ada.ID); err != nil {
			t.Fatalf("what the winner wrote: %v", err)
		}
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "",
		"text":  strings.Repeat("This is no database. ", 1000),
		"short": "x",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "attachd.db")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				b, err := bolt.Open(path, bolt.Options{})
				if err == nil {
					b.Close()
				}
				if !errors.Is(err, store.ErrDamaged) {
					t.Fatalf("got %v", err)
				}
			}
		})
	}
}

func TestClosedStoreTakesNoChanges(t *testing.T) {
	b := bolt.OpenTemp(t)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Probe(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("change after close: %v", err)
	}
	if _, err := b.User(t.Context(), ada.ID); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Fatalf("read after close: %v", err)
	}
}

func TestCloseFinishesWhatWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, b)

	files, outcomes := make([]store.Attachment, 32), make([]error, 32)
	var all sync.WaitGroup
	for i := range files {
		files[i] = file()
		all.Go(func() {
			outcomes[i] = b.CreateAttachment(context.Background(), files[i], nil, "")
			if i == 0 {
				outcomes[i] = errors.Join(outcomes[i], b.Close())
			}
		})
	}
	all.Wait()

	again := bolt.OpenAt(t, path)
	for i, a := range files {
		_, err := again.Attachment(t.Context(), a.ID)
		switch {
		case outcomes[i] == nil && err != nil:
			t.Errorf("acknowledged and lost: %v", err)
		case outcomes[i] != nil && !errors.Is(outcomes[i], store.ErrUnavailable):
			t.Errorf("refused with %v", outcomes[i])
		case outcomes[i] != nil && !errors.Is(err, store.ErrNotFound):
			t.Errorf("refused, and then: %v", err)
		}
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// The store that tests fill passes a check, like every database of a test when it
// is closed.
func TestAFilledStoreHoldsWhatWasAskedFor(t *testing.T) {
	const n = 2*storetest.FilesPerProduct + 1
	b := bolt.OpenTemp(t)
	products := storetest.Fill(t, b, n)
	all, err := b.AllAttachments(t.Context(), uuid.Nil, n+1)
	if err != nil || len(all) != n || len(products) != 3 {
		t.Errorf("%d attachments in %d products, %v", len(all), len(products), err)
	}
	for i, product := range products {
		files, err := b.AttachmentsOf(t.Context(), product.Parent, uuid.Nil, n)
		if want := min(storetest.FilesPerProduct, n-i*storetest.FilesPerProduct); err != nil || len(files) != want {
			t.Errorf("product %d has %d attachments, want %d, %v", i, len(files), want, err)
		}
	}
	for i := range n {
		wanted, err := b.Referenced(t.Context(), sha256.Sum256(storetest.FilledContent(i)))
		if err != nil || !wanted {
			t.Errorf("nobody has the content of attachment %d: %v", i, err)
		}
	}
}

func TestACheckRestsAndEndsWhileItRests(t *testing.T) {
	t.Parallel()
	b := bolt.OpenTemp(t)
	storetest.Fill(t, b, 5000)
	rests := 0
	rest := func(took time.Duration) {
		if rests++; took <= 0 || took > time.Minute {
			t.Errorf("it says that it worked for %s", took)
		}
	}
	if faults, err := b.Check(t.Context(), rest); err != nil || len(faults) > 0 || rests < 10 {
		t.Errorf("%d rests, faults %v, %v", rests, faults, err)
	}
	rests = 0
	ctx, cancel := context.WithCancel(t.Context())
	_, err := b.Check(ctx, func(took time.Duration) { rest(took); cancel() })
	if !errors.Is(err, context.Canceled) || rests != 1 {
		t.Errorf("after %d rests: %v", rests, err)
	}
}

func BenchmarkCreateAttachment(b *testing.B) {
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := bolt.OpenTemp(b)
			fill(b, s)
			var all sync.WaitGroup
			left := make(chan struct{})
			b.ResetTimer()
			for range clients {
				all.Go(func() {
					for range left {
						if err := s.CreateAttachment(context.Background(), file(), nil, ""); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for range b.N {
				left <- struct{}{}
			}
			close(left)
			all.Wait()
		})
	}
}

func BenchmarkAttachmentsOf100(b *testing.B) {
	s := bolt.OpenTemp(b)
	full := storetest.Fill(b, s, 100*storetest.FilesPerProduct)[50]
	b.ReportAllocs()
	for b.Loop() {
		list, err := s.AttachmentsOf(context.Background(), full.Parent, uuid.Nil, 1000)
		if err != nil || len(list) != 100 {
			b.Fatal(len(list), err)
		}
	}
}

func BenchmarkCheckOf10000(b *testing.B) {
	s := bolt.OpenTemp(b)
	storetest.Fill(b, s, 10000)
	for b.Loop() {
		faults, err := s.Check(context.Background(), nil)
		if err != nil || len(faults) > 0 {
			b.Fatal(faults, err)
		}
	}
}

func BenchmarkKeyByHash(b *testing.B) {
	s := bolt.OpenTemp(b)
	fill(b, s)
	key := store.Key{ID: uuid.New(), UserID: ada.ID, Name: "laptop", Hash: [32]byte{1}, CreatedAt: time.Now()}
	if err := s.CreateKey(context.Background(), key); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := s.KeyByHash(context.Background(), key.Hash); err != nil {
				b.Fatal(err)
			}
			s.TouchKey(key.ID, time.Now())
		}
	})
}

func TestSnapshotIsOfOneMomentAndKeepsNobodyWaiting(t *testing.T) {
	b := bolt.OpenTemp(t)
	fill(t, b)
	if err := b.CreateAttachment(t.Context(), file(), nil, ""); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "snapshot.db")
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o400)
	if err != nil {
		t.Fatal(err)
	}
	// The snapshot blocks at its first byte until the database has grown.
	begun, grown, written := make(chan struct{}), make(chan struct{}), make(chan error)
	stopped := writerFunc(sync.OnceValue(func() io.Writer {
		close(begun)
		<-grown
		return to
	}))
	go func() { written <- b.Snapshot(context.Background(), stopped) }()
	<-begun
	changed := make(chan error)
	go func() {
		users := make([]store.Object, 20_000)
		for i := range users {
			users[i] = store.User{ID: uuid.New(), FullName: "One of many"}
		}
		_, err := b.Put(context.Background(), users...)
		changed <- err
	}()
	select {
	case err := <-changed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("a change waits for the snapshot")
	}
	close(grown)
	if err := errors.Join(<-written, to.Close()); err != nil {
		t.Fatal(err)
	}

	snapshot, err := bolt.Open(path, bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := snapshot.Close(); err != nil {
			t.Error(err)
		}
	}()
	users, err := snapshot.Users(t.Context(), uuid.Nil, 10)
	all, err2 := snapshot.AllAttachments(t.Context(), uuid.Nil, 10)
	faults, err3 := snapshot.Check(t.Context(), nil)
	if err := errors.Join(err, err2, err3); err != nil || len(users) != 1 || len(all) != 1 || len(faults) > 0 {
		t.Errorf("the snapshot has %d users, %d attachments and the faults %q, %v", len(users), len(all), faults, err)
	}
	if err := snapshot.Probe(t.Context()); err == nil {
		t.Error("a database opened only for reading was changed")
	}
}

// writerFunc is a writer that calls a function for its target at each write.
type writerFunc func() io.Writer

func (f writerFunc) Write(p []byte) (int, error) { return f().Write(p) }

func TestSnapshotEndsWithItsContext(t *testing.T) {
	b := bolt.OpenTemp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Snapshot(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOpenRefusesADatabaseThatWasCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, b)
	if err := errors.Join(b.Close(), os.Truncate(path, 5*4096)); err != nil {
		t.Fatal(err)
	}
	if b, err := bolt.Open(path, bolt.Options{}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("got %v", err)
		b.Close()
	}
}

// For a process, a page that the disk cannot read is like one that was cut off.
func TestAPageThatCannotBeReadEndsNoProcess(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file that is mapped cannot be cut short")
	}
	path := filepath.Join(t.TempDir(), "attachd.db")
	b, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() // in an unknown state
	fill(t, b)
	if err := os.Truncate(path, 2*4096); err != nil {
		t.Fatal(err)
	}
	if _, err := b.User(t.Context(), ada.ID); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("a read says %v", err)
	}
	if err := b.Probe(t.Context()); err == nil {
		t.Error("a change was taken")
	}
}
