package migrate_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
	"attachd/server/contents"
	"attachd/server/migrate"
	"attachd/server/upkeep"
	"attachd/server/upkeep/upkeeptest"
	"attachd/store"
)

func TestMain(m *testing.M) {
	flag.Parse()
	blobstest.TempInMemory()
	os.Exit(m.Run())
}

// home is a house on the disk, with a bucket to move to.
type home struct {
	*upkeeptest.House
	memory *s3test.Memory
	fail   atomic.Pointer[func(call, name string) error] // called before each call to the bucket
	paused bool
	refuse error // why, after the end
}

func newHome(t *testing.T) *home { return &home{House: upkeeptest.New(t), memory: newMemory()} }

// newMemory is an empty bucket that the installation has used before: the first use takes
// a while.
func newMemory() *s3test.Memory {
	m := new(s3test.Memory)
	m.Change("a/attachd.json", []byte(`{"installation":"this one","layout":1}`))
	return m
}

// Put and Get implement s3.Bucket, with faults.
func (h *home) Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error {
	if err := h.before("put", name); err != nil {
		return err
	}
	return h.memory.Put(ctx, name, content, size, sum)
}

func (h *home) Get(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
	if err := h.before("get", name); err != nil {
		return nil, 0, err
	}
	return h.memory.Get(ctx, name, from, end)
}

func (h *home) before(call, name string) error {
	if fail := h.fail.Load(); fail != nil && strings.Contains(name, "blobs/") {
		return (*fail)(call, name)
	}
	return nil
}

func (h *home) faults(fail func(call, name string) error) { h.fail.Store(&fail) }

// bucket opens the bucket.
func (h *home) bucket() *s3.Store {
	h.Helper()
	catalog, err := h.Records.Catalog(h.Context())
	h.OK(err)
	b, err := s3.Open(h.Context(), s3.Options{Bucket: faulty{h.memory, h}, Catalog: catalog, Local: h.Blobs, Prefix: "a/", Patience: time.Second,
		Installation: func(context.Context) (string, error) { return "this one", nil }})
	h.OK(err)
	return b
}

// faulty is the bucket in memory, with the calls that can fail.
type faulty struct {
	*s3test.Memory
	home *home
}

func (f faulty) Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error {
	return f.home.Put(ctx, name, content, size, sum)
}

func (f faulty) Get(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
	return f.home.Get(ctx, name, from, end)
}

func (h *home) options(from blobs.Store, to migrate.Target) migrate.Options {
	return migrate.Options{Records: h.Records, From: from, To: to,
		RoomFor: func(context.Context, int64) error { return nil },
		Pause: func(context.Context) (func(error), error) {
			h.paused = true
			return func(refuse error) { h.paused, h.refuse = refuse != nil, refuse }, nil
		}}
}

func (h *home) toBucket() migrate.Options { return h.options(h.Blobs, migrate.InBucket(h.bucket())) }

func (h *home) toDisk() migrate.Options { return h.options(h.bucket(), migrate.OnDisk(h.Blobs)) }

// run runs a migration that succeeds.
func (h *home) run(o migrate.Options) migrate.Report {
	h.Helper()
	report, err := migrate.Run(h.Context(), o)
	h.OK(err)
	if !report.Moved || len(report.Faults) > 0 || !h.paused {
		h.Errorf("it ends with %+v, paused %v", report, h.paused)
	}
	return report
}

// isAt checks where the contents are, and that exactly these are there, with these bytes.
func (h *home) isAt(backend string, contents blobs.Store, want ...string) {
	h.Helper()
	if err := upkeep.CheckHome(h.Context(), h.Records, backend); err != nil {
		h.Error(err)
	}
	for _, content := range want {
		if got, err := read(h.Context(), contents, content); err != nil || got != content {
			h.Errorf("%.20q is %.20q, %v", content, got, err)
		}
	}
	n := 0
	for _, err := range contents.All(h.Context(), blobs.Ref{}) {
		h.OK(err)
		n++
	}
	if n != len(want) {
		h.Errorf("there are %d contents, not %d", n, len(want))
	}
}

func read(ctx context.Context, contents blobs.Store, content string) (string, error) {
	c, err := contents.Open(ctx, blobs.RefOf([]byte(content)), int64(len(content)))
	if err != nil {
		return "", err
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	return string(got), err
}

// some returns contents, one of them larger than what is copied in batches.
func some(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("content %d", i))
	}
	return append(list, strings.Repeat("large ", 100_000))
}

func (h *home) keepAll(contents []string) (made []store.Attachment) {
	for _, content := range contents {
		made = append(made, h.Keep(content, true))
	}
	return made
}

func TestContentsMoveIntoABucketAndBack(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	all := some(200)
	h.keepAll(all)
	h.Keep("nobody's", false)
	report := h.run(h.toBucket())
	if report.Contents != 201 || report.Copied != 201 || report.Bytes != report.CopiedBytes {
		t.Errorf("%+v", report)
	}
	h.isAt("s3", h.bucket(), all...)
	if _, err := read(t.Context(), h.Blobs, all[0]); err != nil {
		t.Errorf("the file at the old place: %v", err)
	}
	h.OK(os.RemoveAll(h.Path(store.Attachment{SHA256: blobs.RefOf([]byte(all[0]))}))) // and so it is copied back
	h.OK(os.WriteFile(h.Path(store.Attachment{SHA256: blobs.RefOf([]byte(all[1]))}), []byte("CONTENT 1"), 0o600))
	report = h.run(h.toDisk())
	if report.Contents != 201 || report.Copied != 2 {
		t.Errorf("%+v", report)
	}
	h.isAt("disk", h.Blobs, all...)
}

func TestAMigrationThatEndsEarlyChangesNothingAndIsContinued(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	all := some(300)
	h.keepAll(all)
	var puts atomic.Int64
	h.faults(func(call, _ string) error {
		// Four batches of 64 may be under way, which count as copied at their end only: the
		// fifth begins when one of them has come to that.
		if call == "put" && puts.Add(1) > 270 {
			return &s3.StoreError{Status: 403, Code: "AccessDenied"}
		}
		return nil
	})
	report, err := migrate.Run(t.Context(), h.toBucket())
	if err == nil || report.Moved || h.paused {
		t.Fatalf("%+v, %v", report, err)
	}
	h.isAt("disk", h.Blobs, all...)
	removed := h.Keep("came later", true)
	_, err = h.Records.DeleteAttachment(t.Context(), removed.ID)
	h.OK(err)
	h.fail.Store(nil)
	report = h.run(h.toBucket())
	if report.Copied == 0 || report.Copied > 250 {
		t.Errorf("it has copied %d of %d", report.Copied, report.Contents)
	}
	h.isAt("s3", h.bucket(), all...)
}

func TestWhatIsDeletedMeanwhileDoesNotStay(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	all := some(10)
	made := h.keepAll(all)
	o := h.toBucket()
	pause := o.Pause
	o.Pause = func(ctx context.Context) (func(error), error) {
		_, err := h.Records.DeleteAttachment(t.Context(), made[3].ID)
		h.OK(err)
		h.Keep("the last moment", true)
		return pause(ctx)
	}
	h.run(o)
	h.isAt("s3", h.bucket(), append(append([]string{"the last moment"}, all[:3]...), all[4:]...)...)
}

func TestDamagedContentsAreLeftBehindOnlyIfThatIsWanted(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	all := some(10)
	made := h.keepAll(all)
	h.OK(os.WriteFile(h.Path(made[2]), []byte("CONTENT 2"), 0o600))
	h.OK(os.Remove(h.Path(made[4])))
	h.OK(h.Blobs.MarkDamaged(t.Context(), made[6].SHA256, nil))
	o := h.toBucket()
	report, err := migrate.Run(t.Context(), o)
	if err != nil || report.Moved || len(report.Faults) != 3 || h.paused {
		t.Fatalf("%+v, %v", report, err)
	}
	for i, what := range []string{upkeep.Damaged, upkeep.Missing, "The content is damaged."} {
		if f := report.Faults[i]; f.What != what || f.Attachment.UUID != made[2+2*i].ID {
			t.Errorf("fault %d is %s", i, f)
		}
	}
	if err := upkeep.CheckHome(t.Context(), h.Records, "disk"); err != nil {
		t.Error(err)
	}
	o.DespiteDamage = true
	report, err = migrate.Run(t.Context(), o)
	if err != nil || !report.Moved || len(report.Faults) != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	h.isAt("s3", h.bucket(), all[0], all[1], all[3], all[5], all[7], all[8], all[9], all[10])
}

// A storage that fails for a while says nothing of any content.
func TestWhatCannotBeReadAtTheMomentIsNotLeftBehind(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	all := some(10)
	h.keepAll(all)
	h.run(h.toBucket())
	for _, content := range all {
		h.OK(os.Remove(h.Path(store.Attachment{SHA256: blobs.RefOf([]byte(content))})))
	}
	down := errors.New("connection refused")
	h.faults(func(call, _ string) error {
		if call == "get" {
			return &s3.StoreError{Status: 403, Code: down.Error()}
		}
		return nil
	})
	o := h.toDisk()
	o.DespiteDamage = true
	if report, err := migrate.Run(t.Context(), o); err == nil || report.Moved || h.paused && report.PausedSeconds > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := upkeep.CheckHome(t.Context(), h.Records, "s3"); err != nil {
		t.Error(err)
	}
	h.fail.Store(nil)
	h.run(h.toDisk())
	h.isAt("disk", h.Blobs, all...)
}

func TestAMigrationToTheDiskWantsRoom(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.keepAll(some(3))
	h.run(h.toBucket())
	h.OK(os.RemoveAll(h.Path(store.Attachment{SHA256: blobs.RefOf([]byte(some(3)[3]))})))
	o := h.toDisk()
	o.RoomFor = func(_ context.Context, bytes int64) error {
		if bytes != 600_000 {
			t.Errorf("it wants room for %d bytes", bytes)
		}
		return blobs.ErrFull
	}
	if report, err := migrate.Run(t.Context(), o); !errors.Is(err, blobs.ErrFull) || report.Moved {
		t.Errorf("%+v, %v", report, err)
	}
}

// A process that dies makes no more calls. Whichever was the last one, what is noted of the
// place of the contents is true, and a migration that is begun again ends as the first would
// have.
func TestAMigrationMayDieAtAnyCall(t *testing.T) {
	t.Parallel()
	for how, kind := range s3test.Faults {
		for _, to := range []string{"s3", "disk"} {
			t.Run(how+" a call, to "+to, func(t *testing.T) {
				t.Parallel()
				h := newHome(t)
				all := some(3)
				h.keepAll(all)
				calls := 0
				for ; ; calls++ {
					h.startOver(to, all)
					dying := &s3test.Schedule{Kind: kind, Other: 1 << 30}
					o := h.mortal(to, dying)
					dying.Begin(calls + 1)
					report, err := migrate.Run(t.Context(), o)
					last := dying.Struck()
					dying.Begin(0)
					dying.Deliver()
					if last == "" {
						h.OK(err)
						break
					}
					if err == nil || report.Moved {
						t.Fatalf("dead since call %d, %s, it has moved: %+v, %v", calls+1, last, report, err)
					}
					h.isAt(map[string]string{"s3": "disk", "disk": "s3"}[to], o.From, all...)
					h.run(h.mortal(to, new(s3test.Schedule)))
					h.isAt(to, h.mortal(to, new(s3test.Schedule)).To, all...)
				}
				t.Logf("it died at %d calls", calls)
				if calls < 10 {
					t.Errorf("there were only %d calls", calls)
				}
			})
		}
	}
}

// startOver has all contents at one place, and none at the one to which they move.
func (h *home) startOver(to string, all []string) {
	h.Helper()
	catalog, err := h.Records.Catalog(h.Context())
	h.OK(err)
	h.OK(catalog.Clear(h.Context()))
	h.memory = newMemory()
	for _, content := range all {
		if _, err := h.Blobs.Stat(h.Context(), blobs.RefOf([]byte(content))); err != nil {
			h.Fatal(err)
		}
	}
	h.OK(upkeep.SetHome(h.Context(), h.Records, "disk"))
	if to == "disk" {
		h.run(h.toBucket())
		for _, content := range all {
			h.OK(os.Remove(h.Path(store.Attachment{SHA256: blobs.RefOf([]byte(content))})))
		}
	}
}

// mortal is a migration whose calls to the bucket and its catalog may fail.
func (h *home) mortal(to string, dying *s3test.Schedule) migrate.Options {
	h.Helper()
	catalog, err := h.Records.Catalog(h.Context())
	h.OK(err)
	bucket, err := s3.Open(h.Context(), s3.Options{Bucket: s3test.Bucket{Bucket: h.memory, Schedule: dying}, Catalog: s3test.Catalog{Catalog: catalog, Schedule: dying},
		Local: h.Blobs, Prefix: "a/", Patience: time.Millisecond, Installation: func(context.Context) (string, error) { return "this one", nil }})
	h.OK(err)
	if to == "s3" {
		return h.options(h.Blobs, migrate.InBucket(bucket))
	}
	return h.options(bucket, migrate.OnDisk(h.Blobs))
}

// forgetful are records in which a note fails.
type forgetful struct {
	migrate.Records
	written bool // nevertheless
	err     error
}

func (f forgetful) SetNote(ctx context.Context, name string, value []byte) error {
	if f.written {
		if err := f.Records.SetNote(ctx, name, value); err != nil {
			return err
		}
	}
	return f.err
}

// What was uploaded to the old place after the note was written would not be found again.
func TestChangesAreRefusedAfterTheSwitchFailedUnlessItWasCertainlyNotMade(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.keepAll(some(2))
	for _, c := range []struct {
		written bool
		err     error
		refuse  error
	}{
		{false, store.ErrFull, nil},
		{false, errors.New("sync: input/output error"), contents.ErrPerhapsMoved},
		{true, errors.New("sync: input/output error"), contents.ErrPerhapsMoved},
	} {
		o := h.toBucket()
		o.Records = forgetful{h.Records, c.written, c.err}
		h.paused = false
		report, err := migrate.Run(t.Context(), o)
		if !errors.Is(err, c.err) || report.Moved || h.refuse != c.refuse || c.refuse != nil && !errors.Is(err, c.refuse) {
			t.Errorf("written %v, %v: it ends with %+v, %v, and changes are refused: %v", c.written, c.err, report, err, h.refuse)
		}
	}
}

// The time for which changes are refused includes that of the wait for the ones under way.
func TestAMigrationIsGivenUpWhenAnUploadDoesNotEnd(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	all := some(2)
	h.keepAll(all)
	ctx, giveUp := context.WithCancel(t.Context())
	o := h.toBucket()
	o.Pause = func(ctx context.Context) (func(error), error) {
		if end, ends := ctx.Deadline(); !ends || time.Until(end) > 2*time.Minute {
			t.Errorf("it would wait until %s", end)
		}
		giveUp()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if report, err := migrate.Run(ctx, o); !errors.Is(err, context.Canceled) || report.Moved || report.PausedSeconds == 0 {
		t.Errorf("it ends with %+v, %v", report, err)
	}
	h.isAt("disk", h.Blobs, all...)
}

func TestOnlyWhatTheBucketHasLostIsCopiedAgain(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	all := some(20)
	h.keepAll(all)
	h.run(h.toBucket())
	h.OK(upkeep.SetHome(t.Context(), h.Records, "disk"))
	lost := h.memory.Names()[5]
	h.OK(h.memory.Delete(t.Context(), lost))
	if report := h.run(h.toBucket()); report.Copied != 1 {
		t.Errorf("it has copied %d", report.Copied)
	}
	h.isAt("s3", h.bucket(), all...)
}
