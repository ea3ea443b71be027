package contents_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/blobs/disk"
	"attachd/blobs/disk/disktest"
	"attachd/server/contents"
	"attachd/store"
	"attachd/store/bolt"
)

func TestMain(m *testing.M) {
	flag.Parse()
	blobstest.Short("TestContentsDoWithoutStagingBatchesVersionsAndMarks", "TestAContentIsReadAlikeBeforeAndAfterItIsFlushed", "TestADamagedContentIsRepairedByAnotherUploadAtOnce")
	blobstest.TempInMemory()
	os.Exit(m.Run())
}

// house is a Store of contents over a new database and folder.
type house struct {
	*testing.T
	*contents.Store
	records *bolt.Store
	files   *disk.Store
	user    store.User
	product store.Entity
	dir     string
	before  atomic.Pointer[func(call string) error] // called before each call to the files, and each commit
}

const below = 1000

// patience is how long a test waits for asynchronous work, on a busy machine too.
const patience = time.Minute

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{T: t, user: store.User{ID: uuid.New()}}
	h.product = store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a"}
	dir := t.TempDir()
	h.dir = dir
	ask := func(call string) error {
		if before := h.before.Load(); before != nil {
			return (*before)(call)
		}
		return nil
	}
	var err error
	h.records, err = bolt.Open(filepath.Join(dir, "attachd.db"), bolt.Options{Log: filepath.Join(dir, "wal"), Commit: func(tx *bbolt.Tx) error {
		if err := ask("commit"); err != nil {
			return err
		}
		return tx.Commit()
	}})
	h.must(err)
	h.files, err = disk.Open(dir, disk.Options{Wrap: disktest.Faults{Before: ask}.Wrap})
	h.must(err)
	t.Cleanup(func() {
		if err := errors.Join(h.records.Close(), h.files.Close()); err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Error(err)
		}
	})
	_, err = h.records.Put(t.Context(), h.user, store.Space{Slug: "a"}, h.product)
	h.must(err)
	h.Store = contents.New(h.records, h.files, contents.Options{Stager: h.records, Batcher: h.files, Marker: h.files, StageBelow: below, Log: slog.New(slog.DiscardHandler)})
	return h
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// forget removes a content that may have lost its last record.
func (h *house) forget(sum [32]byte) {
	h.Forget(context.Background(), h.log, sum)
}

// log is called when a content could not be removed.
func (h *house) log() *slog.Logger {
	h.Error("a content could not be removed")
	return slog.New(slog.DiscardHandler)
}

// upload does what the server does, and reports whether the content is staged, provided
// that nothing else is staged or flushed meanwhile.
func (h *house) upload(content string) (a store.Attachment, staged bool) {
	h.Helper()
	spool := h.Spool(h.Context())
	defer spool.Close()
	_, err := io.WriteString(spool, content)
	h.must(err)
	a = store.Attachment{Parent: h.product.Parent, FileName: "a.txt", Type: "text/plain",
		Size: spool.Size(), SHA256: spool.Ref(), UploaderID: h.user.ID}
	before := h.Staged().Bytes
	h.must(spool.Record(h.Context(), h.log, &a, "", func() uuid.UUID { return uuid.Must(uuid.NewV7()) }))
	return a, h.Staged().Bytes > before
}

// remove deletes an attachment as the server does.
func (h *house) remove(a store.Attachment) {
	h.Helper()
	_, err := h.records.DeleteAttachment(h.Context(), a.ID)
	h.must(err)
	h.forget(a.SHA256)
}

func (h *house) flush() {
	h.Helper()
	h.must(h.Flush(h.Context()))
}

func (h *house) read(content string) error {
	file, err := h.Open(h.Context(), sha256.Sum256([]byte(content)), int64(len(content)))
	if err != nil {
		return err
	}
	defer file.Close()
	got, err := io.ReadAll(file)
	if err == nil && string(got) != content {
		err = fmt.Errorf("read %q", got)
	}
	return err
}

// list returns the stored contents.
func (h *house) list(s blobs.Store, from blobs.Ref) (refs []blobs.Ref) {
	h.Helper()
	for info, err := range s.All(h.Context(), from) {
		h.must(err)
		refs = append(refs, info.Ref)
	}
	return refs
}

func TestContentsOfWhichNoneIsStagedAreABlobStore(t *testing.T) {
	t.Parallel()
	blobstest.Run(t, func(t *testing.T) blobs.Store { return newHouse(t).Store })
}

// A backend may lack all optional features.
func TestContentsDoWithoutStagingBatchesVersionsAndMarks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	// The wrappers hide all other methods.
	h.Store = contents.New(struct{ contents.Records }{h.records}, struct{ blobs.Store }{h.files},
		contents.Options{StageBelow: below, VerifyReads: true, Log: slog.New(slog.DiscardHandler)})
	for _, content := range []string{"small", strings.Repeat("large", below)} {
		a, staged := h.upload(content)
		if staged {
			t.Error("it is staged")
		}
		h.must(h.read(content))
		h.flush()
		reader, err := h.Reader(t.Context(), h.log, a, false)
		h.must(err)
		reader.TrustRecent(time.Now())
		if got, err := io.ReadAll(reader); err != nil || string(got) != content {
			t.Errorf("read %.10q, %v", got, err)
		}
		reader.Close()
		h.must(h.MarkDamaged(t.Context(), a.SHA256, nil))
		if h.Damaged() != 0 || h.Staged().Bytes != 0 {
			t.Errorf("%d are damaged, %d bytes are staged", h.Damaged(), h.Staged().Bytes)
		}
		h.remove(a)
	}
	if left := h.list(h.Store, blobs.Ref{}); len(left) > 0 {
		t.Errorf("%d contents are left", len(left))
	}
}

// counting counts the spools.
type counting struct {
	blobs.Store
	spools *int
}

func (c counting) Create(ctx context.Context) (blobs.Spool, error) {
	*c.spools++
	return c.Store.Create(ctx)
}

func TestASmallContentThatIsNeverStagedNeedsNoSpoolOfItsOwn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	spools := 0
	h.Store = contents.New(h.records, counting{h.files, &spools}, contents.Options{Batcher: h.files, StageBelow: below, VerifyReads: true, Log: slog.New(slog.DiscardHandler)})
	for content, want := range map[string]int{"small": 0, strings.Repeat("s", below-1): 0, strings.Repeat("l", below): 1} {
		spools = 0
		a, staged := h.upload(content)
		if staged || spools != want {
			t.Errorf("%d bytes took %d spools, staged: %t", len(content), spools, staged)
		}
		h.must(h.read(content))
		h.remove(a)
	}
	if left := h.list(h.Store, blobs.Ref{}); len(left) > 0 {
		t.Errorf("%d contents are left", len(left))
	}
}

// Staged contents of one machine may be opened with a backend without batches.
func TestWhatIsStagedGetsItsBlobWithoutBatchesToo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, content := range []string{"one", "two"} {
		if _, staged := h.upload(content); !staged {
			t.Error("it is not staged")
		}
	}
	h.Store = contents.New(h.records, struct{ blobs.Store }{h.files},
		contents.Options{Stager: h.records, StageBelow: below, VerifyReads: true, Log: slog.New(slog.DiscardHandler)})
	h.must(h.read("one"))
	if _, staged := h.upload("three"); staged {
		t.Error("more is staged")
	}
	h.flush()
	if n := h.Staged().Bytes; n != 0 {
		t.Errorf("%d bytes are staged still", n)
	}
	if blobs := h.list(h.files, blobs.Ref{}); len(blobs) != 3 {
		t.Errorf("%d of 3 have a blob", len(blobs))
	}
	h.must(h.read("two"))
}

// An upload whose record is refused leaves nothing, except a content that others refer
// to.
func TestARefusedRecordTakesItsContentAlong(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	has := strings.Repeat("has a record", below)
	h.upload(has)
	_, err := h.records.Put(t.Context(), store.Space{Slug: "a", QuotaFiles: 1})
	h.must(err)
	for _, content := range []string{has, strings.Repeat("has none", below), "is small"} {
		spool := h.Spool(t.Context())
		_, err := io.WriteString(spool, content)
		h.must(err)
		a := store.Attachment{Parent: h.product.Parent, Size: spool.Size(), SHA256: spool.Ref(), UploaderID: h.user.ID}
		if err := spool.Record(t.Context(), h.log, &a, "", uuid.New); !errors.Is(err, store.ErrQuota) {
			t.Errorf("recorded with %v", err)
		}
		h.must(spool.Close())
	}
	h.flush()
	if left := h.list(h.Store, blobs.Ref{}); len(left) != 1 {
		t.Errorf("%d contents are left", len(left))
	}
	h.must(h.read(has))
}

func TestASmallContentTouchesNoFileBeforeItIsCommitted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	committed := false
	watch := func(call string) error {
		if committed = committed || call == "commit"; !committed && !strings.HasPrefix(call, "lstat ") {
			t.Errorf("before the commit: %s", call)
		}
		return nil
	}
	h.before.Store(&watch)
	for _, size := range []int{1, below - 1} {
		if _, staged := h.upload(strings.Repeat("x", size)); !staged {
			t.Errorf("a content of %d bytes is not staged", size)
		}
	}
	h.before.Store(nil)
	if _, staged := h.upload(strings.Repeat("x", below)); staged {
		t.Errorf("a content of %d bytes is staged", below)
	}
}

func TestAContentIsReadAlikeBeforeAndAfterItIsFlushed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a, _ := h.upload("small")
	large := strings.Repeat("large", below)
	h.upload(large)
	for _, flushed := range []bool{false, true} {
		if flushed {
			h.flush()
		}
		for _, content := range []string{"small", large} {
			h.must(h.read(content))
			info, err := h.Stat(t.Context(), sha256.Sum256([]byte(content)))
			if err != nil || info.Size != int64(len(content)) || info.Damaged || time.Since(info.Modified) > time.Minute {
				t.Errorf("flushed %t: %+v, %v", flushed, info, err)
			}
		}
		if got := len(h.list(h.Store, blobs.Ref{})); got != 2 {
			t.Errorf("flushed %t: %d contents are listed", flushed, got)
		}
		if got, want := len(h.list(h.files, blobs.Ref{})), map[bool]int{false: 1, true: 2}[flushed]; got != want {
			t.Errorf("flushed %t: %d have files", flushed, got)
		}
		if _, err := h.Open(t.Context(), a.SHA256, 4); !errors.Is(err, blobs.ErrDamaged) {
			t.Errorf("flushed %t: opened with another length: %v", flushed, err)
		}
	}
	if h.Staged().Bytes != 0 {
		t.Error("something is staged after all was flushed")
	}
}

func TestAllListsWhatIsStagedAmongBlobsInOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for n := range 60 {
		h.upload(fmt.Sprint("content ", n))
		if n == 30 {
			h.flush()
			h.upload("content 7") // staged, and has a blob
		}
	}
	all := h.list(h.Store, blobs.Ref{})
	if len(all) != 60 {
		t.Fatalf("%d contents are listed", len(all))
	}
	for i, ref := range all {
		if i > 0 && bytes.Compare(all[i-1][:], ref[:]) >= 0 {
			t.Fatal("they are not in order")
		}
		if rest := h.list(h.Store, ref); len(rest) != 60-i {
			t.Errorf("from the %dth on there are %d", i, len(rest))
		}
	}
	for range h.All(t.Context(), blobs.Ref{}) {
		break // must end it
	}
}

func TestADeletedContentNeverComesBackHoweverFarItsFlushIs(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"create tmp", "sync tmp", "rename tmp", "syncdir blobs", "commit", "nothing"} {
		h := newHouse(t)
		a, _ := h.upload("to be deleted")
		var once sync.Once
		var deleted sync.WaitGroup
		during := func(call string) error {
			if strings.HasPrefix(call, when) {
				once.Do(func() {
					_, err := h.records.DeleteAttachment(t.Context(), a.ID)
					if err != nil {
						t.Error(err)
					}
					// It may have to wait for the flushing to end.
					begun := make(chan struct{})
					deleted.Go(func() {
						close(begun)
						h.forget(a.SHA256)
					})
					<-begun
				})
			}
			return nil
		}
		if when == "commit" { // which the deletion cannot be made in
			during = func(string) error { return nil }
			h.remove(a)
		}
		h.before.Store(&during)
		h.flush()
		deleted.Wait()
		if left := h.list(h.Store, blobs.Ref{}); when != "nothing" && len(left) > 0 {
			t.Errorf("deleted at %q, and it is there", when)
		}
	}
}

// Whatever fails during a flush, each content can be read at any moment, and all are
// flushed in the end.
func TestWhicheverCallFailsNothingThatIsStagedIsLost(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{syscall.EIO, syscall.ENOSPC} {
		h := newHouse(t)
		for at := int64(1); ; at++ {
			var count atomic.Int64
			var failed atomic.Pointer[string]
			var contents []string
			for n := range 4 {
				contents = append(contents, fmt.Sprint("content ", at, n))
				h.upload(contents[n])
			}
			fail := func(call string) error {
				if count.Add(1) != at || call == "commit" { // a failed commit ends all changes
					return nil
				}
				failed.Store(&call)
				return failure
			}
			h.before.Store(&fail)
			_ = h.Flush(t.Context()) // a call that failed may have been retried
			h.before.Store(nil)
			for _, content := range contents {
				if err := h.read(content); err != nil {
					t.Errorf("call %d failed: %q: %v", at, content, err)
				}
			}
			h.flush()
			if n := len(h.list(h.files, blobs.Ref{})); n != len(contents)*int(at) || h.Staged().Bytes > 0 {
				t.Errorf("call %d failed, and %d have files in the end", at, n)
			}
			if failed.Load() == nil && count.Load() < at {
				break
			}
		}
	}
}

func TestOneContentThatCannotBeWrittenDoesNotKeepBackTheOthers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	stuck, _ := h.upload("stuck")
	h.upload("free")
	name := blobs.Ref(stuck.SHA256).String()
	fail := func(call string) error {
		if strings.HasPrefix(call, "rename") && strings.HasSuffix(call, name) {
			return syscall.EIO
		}
		return nil
	}
	h.before.Store(&fail)
	if err := h.Flush(t.Context()); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), name) {
		t.Errorf("the failure is told as %v", err)
	}
	if n := len(h.list(h.files, blobs.Ref{})); n != 1 {
		t.Errorf("%d contents have files", n)
	}
	h.must(h.read("stuck"))
}

// The last content of a batch cannot be written, and is deleted then: what is uploaded
// meanwhile is left to the next flush, which writes it together with others.
func TestAFlushOneByOneEndsWhereItsBatchDid(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.upload("free")
	stuck, _ := h.upload("stuck")
	name, tries := blobs.Ref(stuck.SHA256).String(), 0
	fail := func(call string) error {
		if !strings.HasPrefix(call, "rename") || !strings.HasSuffix(call, name) {
			return nil
		}
		if tries++; tries == 1 {
			_, err := h.records.DeleteAttachment(t.Context(), stuck.ID)
			h.must(err)
			for n := range 3 {
				h.upload(fmt.Sprint("later ", n))
			}
		}
		return syscall.EIO
	}
	h.before.Store(&fail)
	if err := h.Flush(t.Context()); err != nil || tries != 1 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if left := h.Staged().Contents; left != 2 { // a look for the one that is gone finds the first
		t.Errorf("%d contents are left to the next flush, and not two", left)
	}
	h.must(h.read("later 2"))
}

func TestADamagedContentIsRepairedByAnotherUploadAtOnce(t *testing.T) {
	t.Parallel()
	t.Run("with a file", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		a, _ := h.upload("content")
		h.flush()
		h.must(h.MarkDamaged(t.Context(), a.SHA256, nil))
		if err := h.read("content"); !errors.Is(err, blobs.ErrDamaged) || h.Damaged() != 1 {
			t.Errorf("%v, and %d are damaged", err, h.Damaged())
		}
		if _, staged := h.upload("content"); staged {
			t.Error("the upload that repairs it is staged")
		}
		h.must(h.read("content"))
		if h.Damaged() != 0 {
			t.Error("it is damaged still")
		}
	})
	t.Run("that is staged", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		good := "the content"
		a := h.stageWrongly(good)
		h.flush()
		info, err := h.Stat(t.Context(), a.SHA256)
		if read := h.read(good); !errors.Is(read, blobs.ErrDamaged) || err != nil || !info.Damaged || h.Damaged() != 1 {
			t.Errorf("%v; %+v, %v; %d are damaged", read, info, err, h.Damaged())
		}
		if len(h.list(h.files, blobs.Ref{})) > 0 {
			t.Error("it got a file")
		}
		if _, staged := h.upload(good); staged {
			t.Error("the upload that repairs it is staged")
		}
		h.must(h.read(good))
		h.flush()
		if h.Damaged() != 0 || h.Staged().Bytes != 0 {
			t.Errorf("%d are damaged, %d bytes are staged", h.Damaged(), h.Staged().Bytes)
		}
	})
	t.Run("that is staged, found by a reader", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		a := h.stageWrongly("content")
		read, err := h.Open(t.Context(), a.SHA256, a.Size)
		h.must(err)
		h.must(h.MarkDamaged(t.Context(), a.SHA256, read))
		h.must(h.MarkDamaged(t.Context(), a.SHA256, nil))
		if err := h.read("content"); !errors.Is(err, blobs.ErrDamaged) {
			t.Error(err)
		}
	})
	t.Run("that is staged, and is found when it was staged anew", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		a := h.stageWrongly("content")
		if _, staged := h.upload("content"); !staged {
			t.Error("it is not staged anew")
		}
		h.must(h.MarkDamaged(t.Context(), a.SHA256, nil))
		h.must(h.read("content"))
		h.flush()
		if h.Damaged() != 0 || h.Staged().Contents != 0 {
			t.Errorf("%d are damaged, %d are staged", h.Damaged(), h.Staged().Contents)
		}
	})
}

// stageWrongly stages a content whose bytes are not those of its hash.
func (h *house) stageWrongly(content string) store.Attachment {
	h.Helper()
	a := store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: h.product.Parent, FileName: "a.txt", Type: "text/plain",
		Size: int64(len(content)), SHA256: sha256.Sum256([]byte(content)), UploaderID: h.user.ID}
	h.must(h.records.CreateStaged(h.Context(), a, bytes.ToUpper([]byte(content)), nil, ""))
	return a
}

func TestRunFlushFlushesSoonAndFlushLastTheRest(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.upload("before")
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.Store.RunFlush(ctx)
		h.must(h.Store.FlushLast(t.Context()))
	}()
	wait := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(patience); len(h.list(h.files, blobs.Ref{})) < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("there are not %d files", n)
			}
		}
	}
	wait(1)
	h.upload("meanwhile")
	wait(2)
	h.upload("last")
	end()
	<-ended
	if n := len(h.list(h.files, blobs.Ref{})); n != 3 {
		t.Errorf("there are %d files", n)
	}
}

// However uploads, deletions and flushes of the same few contents coincide: what is
// recorded can be read, and what nothing refers to is removed.
func TestWhatIsRecordedCanBeReadAtEveryMoment(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	stop := make(chan struct{})
	var flushing, all sync.WaitGroup
	flushing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if err := h.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for k := range uint64(4) {
		random := rand.New(rand.NewPCG(1, k))
		all.Go(func() {
			for range 100 {
				content := fmt.Sprint("content ", random.IntN(2))
				a, _ := h.upload(content)
				for range random.IntN(10) {
					if err := h.read(content); err != nil {
						t.Error(err)
						return
					}
				}
				h.remove(a)
			}
		})
	}
	all.Wait()
	close(stop)
	flushing.Wait()
	if left := h.list(h.Store, blobs.Ref{}); len(left) > 0 {
		t.Errorf("%d contents are left", len(left))
	}
}

// BenchmarkSpool spools a small content without committing it.
func BenchmarkSpool(b *testing.B) {
	records, err := bolt.Open(filepath.Join(b.TempDir(), "attachd.db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer records.Close()
	files, err := disk.Open(b.TempDir(), disk.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer files.Close()
	all := contents.New(records, files, contents.Options{Stager: records, Batcher: files, StageBelow: 64 << 10})
	upload := make([]byte, 10<<10)
	b.SetBytes(int64(len(upload)))
	b.ReportAllocs()
	for b.Loop() {
		spool := all.Spool(b.Context())
		spool.Write(upload)
		spool.Ref()
		spool.Close()
	}
}

// stray is a store in which a content is staged with a record that
// cannot be read.
type stray struct{ *bolt.Store }

func (s stray) StagedAfter(ctx context.Context, after uuid.UUID, limit int, maxBytes int64) ([]store.StagedContent, error) {
	list, err := s.Store.StagedAfter(ctx, after, limit, maxBytes)
	return list, errors.Join(err, store.ErrUnreadable)
}

func TestAContentWhoseRecordCannotBeReadKeepsNoOtherBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	opts := h.Options
	opts.Stager = stray{h.records}
	h.Store = contents.New(h.records, h.files, opts)
	h.upload("one")
	h.upload("two")
	if err := h.Flush(t.Context()); !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("nothing is told of it: %v", err)
	}
	if n := len(h.list(h.files, blobs.Ref{})); n != 2 {
		t.Errorf("%d contents got their files", n)
	}
}

// versions is a file system in which Keep leaves each file in a state, and which is in
// another now.
type versions struct{ kept, now blobs.Version }

func (v versions) Kept(blobs.Spool) blobs.Version      { return v.kept }
func (v versions) Version(blobs.Content) blobs.Version { return v.now }

func TestWhatWasHashedOnItsWayInIsTrustedLikeWhatWasHashedOnItsWayOut(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("large", 100_000)
	rotten := "L" + content[1:]
	one, other := blobs.Version{File: 1, Changed: 1}, blobs.Version{File: 1, Changed: 2}
	for name, c := range map[string]struct {
		versions
		after   time.Duration // between the upload and the download
		trusted bool
	}{
		"it was not touched":             {versions{one, one}, 30 * time.Second, true},
		"it was touched":                 {versions{one, other}, 0, false},
		"it was a minute ago":            {versions{one, one}, time.Minute, false},
		"the clock was set back":         {versions{one, one}, -time.Minute, false},
		"nothing is known of its change": {versions{blobs.Version{}, blobs.Version{}}, 0, false},
		"it was there before":            {versions{blobs.Version{}, one}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			opts := h.Options
			opts.Versioner, opts.VerifyReads = c.versions, true
			h.Store = contents.New(h.records, h.files, opts)
			a, _ := h.upload(content)
			ref := blobs.Ref(a.SHA256).String()
			h.must(os.WriteFile(filepath.Join(h.dir, "blobs", "sha256", ref[:2], ref), []byte(rotten), 0o600))
			reader, err := h.Reader(t.Context(), h.log, a, false)
			h.must(err)
			defer reader.Close()
			reader.TrustRecent(time.Now().Add(c.after))
			got, err := io.ReadAll(reader)
			if c.trusted && (err != nil || string(got) != rotten) || !c.trusted && !errors.Is(err, contents.ErrRotten) {
				t.Errorf("read %.10q, %v", got, err)
			}
		})
	}
}
