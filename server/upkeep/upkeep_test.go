package upkeep_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/blobs/disk"
	"attachd/blobs/disk/disktest"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/bolt/pages"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

func TestMain(m *testing.M) {
	blobstest.TempInMemory()
	os.Exit(m.Run())
}

// house is both stores over a directory, with a product to put files into.
type house struct {
	*testing.T
	dir     string
	records *bolt.Store
	blobs   *disk.Store
	faults  atomic.Pointer[func(call string) error]
	ada     store.User
	product store.Parent
}

func newHouse(t *testing.T) *house {
	h := &house{T: t, dir: t.TempDir(), ada: store.User{ID: uuid.New(), FullName: "Ada"}, product: store.Parent{Kind: store.Product, ID: uuid.New()}}
	h.open()
	_, err := h.records.Put(t.Context(), h.ada, store.Space{Slug: "a"}, store.Entity{Parent: h.product, Space: "a"})
	h.ok(err)
	t.Cleanup(func() { h.close() })
	return h
}

func (h *house) database() string { return filepath.Join(h.dir, "attachd.db") }

func (h *house) open() {
	h.Helper()
	var err error
	h.records, err = bolt.Open(h.database(), bolt.Options{Log: h.database() + ".log"})
	h.ok(err)
	faults := disktest.Faults{Before: func(call string) error {
		if fail := h.faults.Load(); fail != nil {
			return (*fail)(call)
		}
		return nil
	}}
	h.blobs, err = disk.Open(h.dir, disk.Options{Wrap: faults.Wrap})
	h.ok(err)
}

func (h *house) close() {
	if err := errors.Join(h.blobs.Close(), h.records.Close()); err != nil {
		h.Error(err)
	}
}

func (h *house) ok(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *house) fail(with func(call string) error) { h.faults.Store(&with) }

// keep stores a content, with a record or without.
func (h *house) keep(content string, recorded bool) store.Attachment {
	h.Helper()
	spool, err := h.blobs.Create(context.Background())
	h.ok(err)
	defer spool.Close()
	_, err = spool.Write([]byte(content))
	h.ok(err)
	release, err := spool.Keep(context.Background())
	h.ok(err)
	defer release()
	a := store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: h.product, FileName: "a.txt", Type: "text/plain",
		Size: spool.Size(), SHA256: spool.Ref(), UploaderID: h.ada.ID}
	if recorded {
		h.ok(h.records.CreateAttachment(context.Background(), a, nil, ""))
	}
	return a
}

func (h *house) path(a store.Attachment) string {
	ref := blobs.Ref(a.SHA256).String()
	return filepath.Join(h.dir, "blobs", "sha256", ref[:2], ref)
}

func (h *house) check(deep bool) upkeep.Report {
	h.Helper()
	report, err := upkeep.Check(context.Background(), h.records, h.blobs, upkeep.CheckOptions{Deep: deep, Marker: h.blobs})
	h.ok(err)
	return report
}

// spoilDatabase changes the database while it is closed.
func (h *house) spoilDatabase(spoil func(tx *bbolt.Tx) error) {
	h.Helper()
	h.close()
	db, err := bbolt.Open(h.database(), 0o600, nil)
	h.ok(err)
	h.ok(errors.Join(db.Update(spoil), db.Close()))
	h.open()
}

func TestAHealthyHouseHasNoFaults(t *testing.T) {
	h := newHouse(t)
	h.keep("one", true)
	h.keep("one", true)
	h.keep("three", true)
	h.keep("nobody's", false)
	for _, deep := range []bool{false, true} {
		r := h.check(deep)
		if r.Attachments != 3 || r.Contents != 3 || r.Bytes != 16 || r.Faults == nil || len(r.Faults) > 0 || r.Orphans != 1 || r.OrphanBytes != 8 {
			t.Errorf("deep %t: %+v", deep, r)
		}
	}
}

func TestCheckFindsLostContents(t *testing.T) {
	const content = "a content"
	change := func(to string) func(h *house, a store.Attachment) {
		return func(h *house, a store.Attachment) { h.ok(os.WriteFile(h.path(a), []byte(to), 0o600)) }
	}
	onlyDeep := true
	for _, c := range []struct {
		name     string
		spoil    func(h *house, a store.Attachment)
		onlyDeep bool
		says     string
		marked   bool // afterwards
	}{
		{"missing", func(h *house, a store.Attachment) { h.ok(os.Remove(h.path(a))) }, !onlyDeep, "The content is missing.", false},
		{"short", change("a cont"), !onlyDeep, "The content has 6 bytes, not 9.", true},
		{"empty", change(""), !onlyDeep, "The content has 0 bytes, not 9.", true},
		{"long", change("a content!"), !onlyDeep, "The content has 10 bytes, not 9.", true},
		{"other bytes", change("A content"), onlyDeep, "The content is damaged: its bytes are not those that were uploaded.", true},
		{"marked", func(h *house, a store.Attachment) {
			change("A content")(h, a)
			h.ok(h.blobs.MarkDamaged(t.Context(), a.SHA256, nil))
		}, !onlyDeep, "The content is marked damaged.", true},
		{"not to be read", func(h *house, a store.Attachment) {
			h.fail(func(call string) error {
				if strings.HasPrefix(call, "read blobs/sha256") && strings.HasSuffix(call, blobs.Ref(a.SHA256).String()) {
					return errors.New("input/output error")
				}
				return nil
			})
		}, onlyDeep, "The content cannot be read: input/output error.", false},
		{"not to be opened", func(h *house, a store.Attachment) {
			h.fail(func(call string) error {
				if strings.HasPrefix(call, "open blobs/sha256") && strings.HasSuffix(call, blobs.Ref(a.SHA256).String()) {
					return errors.New("too many open files")
				}
				return nil
			})
		}, onlyDeep, "The content cannot be opened: too many open files.", false},
		{"not to be marked", func(h *house, a store.Attachment) {
			change("A content")(h, a)
			h.fail(func(call string) error {
				if strings.HasPrefix(call, "create blobs/damaged") {
					return errors.New("no room")
				}
				return nil
			})
		}, onlyDeep, "It could not be marked: no room.", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			first, second := h.keep(content, true), h.keep(content, true)
			h.keep("another", true)
			c.spoil(h, first)
			if shallow := h.check(false); c.onlyDeep && len(shallow.Faults) > 0 || !c.onlyDeep && len(shallow.Faults) != 2 {
				t.Errorf("not deep: %v", shallow.Faults)
			}
			report := h.check(true)
			if len(report.Faults) != 2 {
				t.Fatalf("faults: %v", report.Faults)
			}
			for i, a := range []store.Attachment{first, second} {
				f := report.Faults[i]
				if f.Attachment.UUID != a.ID || f.FileName != "a.txt" || f.Blob != blobs.Ref(a.SHA256).String() || !strings.HasSuffix(f.What, c.says) || f.Unreadable != strings.HasPrefix(c.says, "The content cannot be ") {
					t.Errorf("fault %d is %v", i, f)
				}
			}
			if info, err := h.blobs.Stat(t.Context(), first.SHA256); err == nil && info.Damaged != c.marked {
				t.Errorf("marked: %t", info.Damaged)
			}
			h.faults.Store(nil)
			h.keep(content, false) // repairs what is known to be damaged
			if left := h.check(true); len(left.Faults) > 0 {
				t.Errorf("after a repair: %v", left.Faults)
			}
		})
	}
}

// A disk that is away while a check or a collection comes by has lost nothing.
func TestContentsThatAreAwayAreNeitherLostNorCollected(t *testing.T) {
	for name, away := range map[string]func(h *house) (back func()){
		"unmounted": func(h *house) func() {
			blobs, elsewhere := filepath.Join(h.dir, "blobs"), filepath.Join(h.dir, "elsewhere")
			h.ok(os.Rename(blobs, elsewhere))
			h.ok(os.Mkdir(blobs, 0o700)) // the place where it was mounted
			return func() { h.ok(errors.Join(os.Remove(blobs), os.Rename(elsewhere, blobs))) }
		},
		"a path to it fails": func(h *house) func() {
			h.fail(func(call string) error { return syscall.EIO })
			return func() { h.faults.Store(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.keep("one", true)
			h.keep("two", true)
			h.keep("nobody's", false)
			back := away(h)
			for _, deep := range []bool{false, true} {
				unreadable := 0
				for _, fault := range h.check(deep).Faults {
					if fault.Attachment.Valid && fault.Unreadable {
						unreadable++
					} else if !strings.HasPrefix(fault.What, "Not everything could be looked at: ") {
						t.Errorf("deep %t: %v", deep, fault)
					}
				}
				if unreadable != 2 {
					t.Errorf("deep %t: %d contents could not be read", deep, unreadable)
				}
			}
			if got, err := upkeep.Collect(t.Context(), h.records, h.blobs, upkeep.CollectOptions{Now: time.Now().Add(time.Hour)}); err == nil {
				t.Errorf("collected %+v", got)
			}
			back()
			if report := h.check(true); len(report.Faults) > 0 || report.Contents != 3 || h.blobs.Damaged() != 0 {
				t.Errorf("afterwards: %+v", report)
			}
		})
	}
}

// What cannot be read when its turn comes may be read a moment later.
func TestADeepCheckTriesAgainWhatItCouldNotRead(t *testing.T) {
	h := newHouse(t)
	for _, content := range []string{"one", "two", "three", "four"} {
		h.keep(content, true)
	}
	reads := 0
	h.fail(func(call string) error {
		if strings.HasPrefix(call, "read blobs/sha256/") {
			if reads++; reads <= 3 {
				return syscall.ETIMEDOUT
			}
		}
		return nil
	})
	if report := h.check(true); len(report.Faults) > 0 || h.blobs.Damaged() != 0 {
		t.Errorf("%+v", report)
	}
}

// Somebody copies the file back from a backup, in one way or another.
func TestADeepCheckTakesTheMarkFromWhatWasPutRight(t *testing.T) {
	for name, repair := range map[string]func(path string) error{
		"written over": func(path string) error { return os.WriteFile(path, []byte("content"), 0o600) },
		"replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte("content"), 0o600), os.Rename(path+".new", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			a := h.keep("content", true)
			h.ok(os.WriteFile(h.path(a), []byte("CONTENT"), 0o600))
			for range 2 { // it is looked at again, and still wrong
				if n := len(h.check(true).Faults); n != 1 || h.blobs.Damaged() != 1 {
					t.Fatalf("%d faults, and %d contents are marked", n, h.blobs.Damaged())
				}
			}
			h.ok(repair(h.path(a)))
			h.fail(func(call string) error {
				if strings.HasPrefix(call, "remove blobs/damaged") {
					return errors.New("input/output error")
				}
				return nil
			})
			if faults := fmt.Sprint(h.check(true).Faults); !strings.Contains(faults, "The content is whole again, but its mark could not be taken away: input/output error.") {
				t.Errorf("as long as that fails: %v", faults)
			}
			h.faults.Store(nil)
			if left := h.check(true); len(left.Faults) > 0 || h.blobs.Damaged() != 0 {
				t.Errorf("%v, and %d contents are marked", left.Faults, h.blobs.Damaged())
			}
			if _, err := h.blobs.Open(t.Context(), a.SHA256, a.Size); err != nil {
				t.Error(err)
			}
			h.close()
			h.open()
			if h.blobs.Damaged() != 0 {
				t.Error("after a restart it is marked again")
			}
		})
	}
}

func TestADamagedContentOfNobodyIsAFault(t *testing.T) {
	h := newHouse(t)
	a := h.keep("nobody's", false)
	h.ok(os.WriteFile(h.path(a), []byte("nobodY's"), 0o600))
	report := h.check(true)
	if len(report.Faults) != 1 || report.Faults[0].Attachment.Valid || report.Faults[0].Blob != blobs.Ref(a.SHA256).String() || report.Orphans != 1 {
		t.Errorf("%+v", report)
	}
	h.collect(upkeep.CollectOptions{Now: time.Now().Add(time.Hour)}, 1)
	if left := h.check(true); len(left.Faults) > 0 || left.Orphans > 0 {
		t.Errorf("after it was collected: %+v", left)
	}
}

func TestACheckOfADamagedDatabaseGoesOn(t *testing.T) {
	h := newHouse(t)
	a, b := h.keep("one", true), h.keep("two", true)
	h.ok(os.Remove(h.path(a)))
	h.spoilDatabase(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("attachments")).Put(append(append([]byte{1}, h.product.ID[:]...), b.ID[:]...), []byte("no record"))
	})
	faults := fmt.Sprint(h.check(true).Faults)
	for _, says := range []string{"The content is missing.", "The attachments after " + a.ID.String() + " cannot be listed", `In the bucket "attachments", the entry`} {
		if !strings.Contains(faults, says) {
			t.Errorf("nothing says %q: %s", says, faults)
		}
	}
}

// A disk that does not list its contents is one fault, and no reason not to
// look at the rest.
func TestACheckThatCannotListContentsGoesOn(t *testing.T) {
	h := newHouse(t)
	a := h.keep("one", true)
	h.ok(os.Remove(h.path(a)))
	h.spoilDatabase(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("pending")).Put(make([]byte, 16), pages.Seal([]byte("pending"), make([]byte, 16), []byte("stray")))
	})
	h.fail(func(call string) error {
		if strings.HasPrefix(call, "list blobs/sha256") {
			return errors.New("input/output error")
		}
		return nil
	})
	for _, deep := range []bool{false, true} {
		faults := h.check(deep).Faults
		for _, says := range []string{"Not everything could be looked at: listing contents: input/output error.", "The content is missing.", "A content of 5 bytes waits"} {
			if !strings.Contains(fmt.Sprint(faults), says) {
				t.Errorf("nothing says %q: %v", says, faults)
			}
		}
		if len(faults) != 3 {
			t.Errorf("deep %t: %v", deep, faults)
		}
	}
}

// While a check runs, somebody does something at one step of it.
func TestWhatComesAndGoesIsNoFault(t *testing.T) {
	for name, happens := range map[string]func(h *house, a store.Attachment){
		"an upload": func(h *house, _ store.Attachment) { h.keep("upload", true) },
		"a delete": func(h *house, a store.Attachment) {
			_, err := h.records.DeleteAttachment(context.Background(), a.ID)
			h.ok(err)
			_, err = h.blobs.Remove(context.Background(), a.SHA256, func() (bool, error) { return false, nil })
			h.ok(err)
		},
		"a repair": func(h *house, a store.Attachment) {
			h.ok(h.blobs.MarkDamaged(context.Background(), a.SHA256, nil))
			h.keep("the content", false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			for at, happened := 0, true; happened; at += 10 {
				happened = false
				a := h.keep("the content", true)
				n := 0
				h.fail(func(string) error {
					if n++; n > at && !happened {
						happened = true
						happens(h, a)
					}
					return nil
				})
				report := h.check(true)
				h.faults.Store(nil)
				if len(report.Faults) > 0 || report.Orphans > 0 {
					t.Errorf("at step %d: %+v", at, report)
				}
			}
		})
	}
}

func TestACheckCanBeEnded(t *testing.T) {
	h := newHouse(t)
	a := h.keep(strings.Repeat("x", 1<<20), true)
	ctx, end := context.WithCancel(t.Context())
	_, err := upkeep.Check(ctx, h.records, h.blobs, upkeep.CheckOptions{Deep: true, Marker: h.blobs, Progress: func(p upkeep.Progress) {
		if p.AllBytes > 0 { // in the middle of reading
			end()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if info, err := h.blobs.Stat(t.Context(), a.SHA256); err != nil || info.Damaged {
		t.Errorf("afterwards: %+v, %v", info, err)
	}
}

func (h *house) collect(opts upkeep.CollectOptions, want int64) {
	h.Helper()
	got, err := upkeep.Collect(context.Background(), h.records, h.blobs, opts)
	if err != nil || got.Contents != want {
		h.Errorf("%+v: %+v, %v", opts, got, err)
	}
}

func TestCollectRemovesOnlyWhatIsOldAndUnwanted(t *testing.T) {
	h := newHouse(t)
	now := time.Now()
	wanted, old, young := h.keep("wanted", true), h.keep("old", false), h.keep("young", false)
	for a, age := range map[store.Attachment]time.Duration{wanted: 2 * time.Hour, old: time.Hour, young: time.Hour - time.Second} {
		h.ok(os.Chtimes(h.path(a), now, now.Add(-age)))
	}
	left := func(want ...store.Attachment) {
		t.Helper()
		n := 0
		for _, err := range h.blobs.All(t.Context(), blobs.Ref{}) {
			h.ok(err)
			n++
		}
		for _, a := range want {
			if _, err := h.blobs.Stat(t.Context(), a.SHA256); err != nil {
				t.Error(err)
			}
		}
		if n != len(want) {
			t.Errorf("%d contents are left", n)
		}
	}
	h.collect(upkeep.CollectOptions{MinAge: time.Hour, Now: now, DryRun: true}, 1)
	left(wanted, old, young)
	h.collect(upkeep.CollectOptions{MinAge: time.Hour, Now: now}, 1)
	left(wanted, young)
	h.collect(upkeep.CollectOptions{MinAge: time.Hour, Now: now}, 0)
	h.collect(upkeep.CollectOptions{MinAge: time.Hour, Now: now.Add(time.Minute)}, 1)
	left(wanted)
}

// After a database of before was put back, contents look as though nobody had
// them.
// After going back to a snapshot, what came later is only in its files.
func TestAWaryCollectionTakesNothingWhileTheDatabaseIsASnapshotThatWasPutBack(t *testing.T) {
	h := newHouse(t)
	h.keep("known to the snapshot", true)
	h.keep("came after it", false)
	h.ok(upkeep.NoteCopy(h.Context(), h.records, time.Now()))
	wary := upkeep.CollectOptions{Wary: true, Now: time.Now().Add(time.Hour)}
	if done, err := upkeep.Collect(h.Context(), h.records, h.blobs, wary); !errors.Is(err, upkeep.ErrCopy) || done.Contents != 0 {
		t.Errorf("removed %+v, %v", done, err)
	}
	look := upkeep.CollectOptions{DryRun: true, Now: wary.Now}
	if done, err := upkeep.Collect(h.Context(), h.records, h.blobs, look); err != nil || done.Contents != 1 {
		t.Errorf("would remove %+v, %v", done, err)
	}
	person := upkeep.CollectOptions{Now: wary.Now}
	if done, err := upkeep.Collect(h.Context(), h.records, h.blobs, person); err != nil || done.Contents != 1 {
		t.Errorf("removed %+v, %v", done, err)
	}
	h.keep("left by a crash", false)
	if done, err := upkeep.Collect(h.Context(), h.records, h.blobs, wary); err != nil || done.Contents != 1 {
		t.Errorf("once a person has decided, it removed %+v, %v", done, err)
	}
}

func TestAWaryCollectionLeavesManyContentsToAPerson(t *testing.T) {
	h := newHouse(t)
	for n := range 20 {
		h.keep(fmt.Sprintf("known %d", n), true)
	}
	opts := upkeep.CollectOptions{Wary: true, Now: time.Now().Add(time.Hour)}
	for n := range 11 {
		h.keep(fmt.Sprintf("unknown %d", n), false)
	}
	if got, err := upkeep.Collect(t.Context(), h.records, h.blobs, opts); !errors.Is(err, upkeep.ErrMany) || got.Contents != 0 {
		t.Errorf("removed %d contents, %v", got.Contents, err)
	}
	opts.Wary = false
	h.collect(opts, 11)
	opts.Wary = true
	for n := range 10 {
		h.keep(fmt.Sprintf("spare %d", n), false)
	}
	h.collect(opts, 10)
}

// A content whose entry in the index is lost looks as though nobody had it.
func TestCollectRemovesNothingOnDoubt(t *testing.T) {
	h := newHouse(t)
	needed := h.keep("needed", true)
	h.spoilDatabase(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("contents")).Delete(append(needed.SHA256[:], needed.ID[:]...))
	})
	h.keep("spare", false)
	opts := upkeep.CollectOptions{Now: time.Now().Add(time.Hour)}
	got, err := upkeep.Collect(t.Context(), h.records, h.blobs, opts)
	if !errors.Is(err, upkeep.ErrDoubt) || got.Contents != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := h.blobs.Stat(t.Context(), needed.SHA256); err != nil {
		t.Errorf("what is needed: %v", err)
	}
}

// unsure is a store that cannot say who has a content, from the n-th time on.
type unsure struct {
	store.Store
	left int
}

var errUnsure = errors.New("input/output error")

func (u *unsure) Referenced(ctx context.Context, sum [32]byte) (bool, error) {
	if u.left--; u.left < 0 {
		return false, errUnsure
	}
	return u.Store.Referenced(ctx, sum)
}

func TestTheFirstErrorEndsCollecting(t *testing.T) {
	h := newHouse(t)
	for n := range 3 {
		h.keep(fmt.Sprint("spare ", n), false)
	}
	opts := upkeep.CollectOptions{Now: time.Now().Add(time.Hour)}
	// Three contents are asked after twice: before anything goes, and last.
	for answered, removed := range []int64{0, 0, 0, 0, 1, 1} {
		got, err := upkeep.Collect(t.Context(), &unsure{h.records, answered}, h.blobs, opts)
		if !errors.Is(err, errUnsure) || got.Contents != removed {
			t.Errorf("with %d answers: %+v, %v", answered, got, err)
		}
		if removed > 0 {
			h.keep("spare "+fmt.Sprint(answered), false)
			break
		}
	}
}
