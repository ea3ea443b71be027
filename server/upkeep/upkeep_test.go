package upkeep_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/server/upkeep"
	"attachd/server/upkeep/upkeeptest"
	"attachd/store"
	"attachd/store/bolt/pages"
	"attachd/store/bolt/wal"
)

func TestMain(m *testing.M) {
	flag.Parse()
	blobstest.Short("TestAHealthyHouseHasNoFaults", "TestCheckFindsLostContents", "TestCollectRemovesOnlyWhatIsOldAndUnwanted", "TestAScrubReadsEverythingOnceInAPeriod")
	blobstest.TempInMemory()
	os.Exit(m.Run())
}

func TestAHealthyHouseHasNoFaults(t *testing.T) {
	h := upkeeptest.New(t)
	h.Keep("one", true)
	h.Keep("one", true)
	h.Keep("three", true)
	h.Keep("nobody's", false)
	for _, deep := range []bool{false, true} {
		r := h.Check(deep)
		if r.Attachments != 3 || r.Contents != 3 || r.Bytes != 16 || r.Faults == nil || len(r.Faults) > 0 || r.Orphans != 1 || r.OrphanBytes != 8 {
			t.Errorf("deep %t: %+v", deep, r)
		}
	}
}

func TestCheckFindsLostContents(t *testing.T) {
	const content = "a content"
	change := func(to string) func(h *upkeeptest.House, a store.Attachment) {
		return func(h *upkeeptest.House, a store.Attachment) { h.OK(os.WriteFile(h.Path(a), []byte(to), 0o600)) }
	}
	onlyDeep := true
	for _, c := range []struct {
		name     string
		spoil    func(h *upkeeptest.House, a store.Attachment)
		onlyDeep bool
		says     string
		marked   bool // afterwards
	}{
		{"missing", func(h *upkeeptest.House, a store.Attachment) { h.OK(os.Remove(h.Path(a))) }, !onlyDeep, "The content is missing.", false},
		{"short", change("a cont"), !onlyDeep, "The content has 6 bytes, not 9.", true},
		{"empty", change(""), !onlyDeep, "The content has 0 bytes, not 9.", true},
		{"long", change("a content!"), !onlyDeep, "The content has 10 bytes, not 9.", true},
		{"other bytes", change("A content"), onlyDeep, "The content is damaged: its bytes are not those that were uploaded.", true},
		{"marked", func(h *upkeeptest.House, a store.Attachment) {
			change("A content")(h, a)
			h.OK(h.Blobs.MarkDamaged(t.Context(), a.SHA256, nil))
		}, !onlyDeep, "The content is marked damaged.", true},
		{"not to be read", func(h *upkeeptest.House, a store.Attachment) {
			h.FailCalls(func(call string) error {
				if strings.HasPrefix(call, "read blobs/sha256") && strings.HasSuffix(call, blobs.Ref(a.SHA256).String()) {
					return errors.New("input/output error")
				}
				return nil
			})
		}, onlyDeep, "The content cannot be read: input/output error.", false},
		{"not to be opened", func(h *upkeeptest.House, a store.Attachment) {
			h.FailCalls(func(call string) error {
				if strings.HasPrefix(call, "open blobs/sha256") && strings.HasSuffix(call, blobs.Ref(a.SHA256).String()) {
					return errors.New("too many open files")
				}
				return nil
			})
		}, onlyDeep, "The content cannot be opened: too many open files.", false},
		{"not to be marked", func(h *upkeeptest.House, a store.Attachment) {
			change("A content")(h, a)
			h.FailCalls(func(call string) error {
				if strings.HasPrefix(call, "create blobs/damaged") {
					return errors.New("no room")
				}
				return nil
			})
		}, onlyDeep, "It could not be marked: no room.", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := upkeeptest.New(t)
			first, second := h.Keep(content, true), h.Keep(content, true)
			h.Keep("another", true)
			c.spoil(h, first)
			if shallow := h.Check(false); c.onlyDeep && len(shallow.Faults) > 0 || !c.onlyDeep && len(shallow.Faults) != 2 {
				t.Errorf("not deep: %v", shallow.Faults)
			}
			report := h.Check(true)
			if len(report.Faults) != 2 {
				t.Fatalf("faults: %v", report.Faults)
			}
			for i, a := range []store.Attachment{first, second} {
				f := report.Faults[i]
				if f.Attachment.UUID != a.ID || f.FileName != "a.txt" || f.Blob != blobs.Ref(a.SHA256).String() || !strings.HasSuffix(f.What, c.says) || f.Unreadable != strings.HasPrefix(c.says, "The content cannot be ") {
					t.Errorf("fault %d is %v", i, f)
				}
			}
			if info, err := h.Blobs.Stat(t.Context(), first.SHA256); err == nil && info.Damaged != c.marked {
				t.Errorf("marked: %t", info.Damaged)
			}
			h.FailCalls(nil)
			h.Keep(content, false) // repairs what is known to be damaged
			if left := h.Check(true); len(left.Faults) > 0 {
				t.Errorf("after a repair: %v", left.Faults)
			}
		})
	}
}

// A disk that is away during a check or a collection has lost nothing.
func TestContentsThatAreAwayAreNeitherLostNorCollected(t *testing.T) {
	for name, away := range map[string]func(h *upkeeptest.House) (back func()){
		"unmounted": func(h *upkeeptest.House) func() {
			blobs, elsewhere := filepath.Join(h.Dir, "blobs"), filepath.Join(h.Dir, "elsewhere")
			h.OK(os.Rename(blobs, elsewhere))
			h.OK(os.Mkdir(blobs, 0o700)) // the mount point
			return func() { h.OK(errors.Join(os.Remove(blobs), os.Rename(elsewhere, blobs))) }
		},
		"a path to it fails": func(h *upkeeptest.House) func() {
			h.FailCalls(func(call string) error { return syscall.EIO })
			return func() { h.FailCalls(nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := upkeeptest.New(t)
			h.Keep("one", true)
			h.Keep("two", true)
			h.Keep("nobody's", false)
			back := away(h)
			for _, deep := range []bool{false, true} {
				unreadable := 0
				for _, fault := range h.Check(deep).Faults {
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
			if got, err := upkeep.Collect(t.Context(), h.Records, h.Blobs, upkeep.CollectOptions{Now: time.Now().Add(time.Hour)}); err == nil {
				t.Errorf("collected %+v", got)
			}
			back()
			if report := h.Check(true); len(report.Faults) > 0 || report.Contents != 3 || h.Blobs.Damaged() != 0 {
				t.Errorf("afterwards: %+v", report)
			}
		})
	}
}

// What cannot be read at first may be readable a moment later.
func TestADeepCheckTriesAgainWhatItCouldNotRead(t *testing.T) {
	h := upkeeptest.New(t)
	for _, content := range []string{"one", "two", "three", "four"} {
		h.Keep(content, true)
	}
	reads := 0
	h.FailCalls(func(call string) error {
		if strings.HasPrefix(call, "read blobs/sha256/") {
			if reads++; reads <= 3 {
				return syscall.ETIMEDOUT
			}
		}
		return nil
	})
	if report := h.Check(true); len(report.Faults) > 0 || h.Blobs.Damaged() != 0 {
		t.Errorf("%+v", report)
	}
}

// The file is restored from a backup, in one way or another.
func TestADeepCheckTakesTheMarkFromWhatWasPutRight(t *testing.T) {
	for name, repair := range map[string]func(path string) error{
		"written over": func(path string) error { return os.WriteFile(path, []byte("content"), 0o600) },
		"replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte("content"), 0o600), os.Rename(path+".new", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := upkeeptest.New(t)
			a := h.Keep("content", true)
			h.OK(os.WriteFile(h.Path(a), []byte("CONTENT"), 0o600))
			for range 2 { // it is checked again, and still wrong
				if n := len(h.Check(true).Faults); n != 1 || h.Blobs.Damaged() != 1 {
					t.Fatalf("%d faults, and %d contents are marked", n, h.Blobs.Damaged())
				}
			}
			h.OK(repair(h.Path(a)))
			h.FailCalls(func(call string) error {
				if strings.HasPrefix(call, "remove blobs/damaged") {
					return errors.New("input/output error")
				}
				return nil
			})
			if faults := fmt.Sprint(h.Check(true).Faults); !strings.Contains(faults, "The content is whole again, but its mark could not be taken away: input/output error.") {
				t.Errorf("as long as that fails: %v", faults)
			}
			h.FailCalls(nil)
			if left := h.Check(true); len(left.Faults) > 0 || h.Blobs.Damaged() != 0 {
				t.Errorf("%v, and %d contents are marked", left.Faults, h.Blobs.Damaged())
			}
			if _, err := h.Blobs.Open(t.Context(), a.SHA256, a.Size); err != nil {
				t.Error(err)
			}
			h.Close()
			h.Open()
			if h.Blobs.Damaged() != 0 {
				t.Error("after a restart it is marked again")
			}
		})
	}
}

func TestADamagedContentOfNobodyIsAFault(t *testing.T) {
	h := upkeeptest.New(t)
	a := h.Keep("nobody's", false)
	h.OK(os.WriteFile(h.Path(a), []byte("nobodY's"), 0o600))
	report := h.Check(true)
	if len(report.Faults) != 1 || report.Faults[0].Attachment.Valid || report.Faults[0].Blob != blobs.Ref(a.SHA256).String() || report.Orphans != 1 {
		t.Errorf("%+v", report)
	}
	collect(h, upkeep.CollectOptions{Now: time.Now().Add(time.Hour)}, 1)
	if left := h.Check(true); len(left.Faults) > 0 || left.Orphans > 0 {
		t.Errorf("after it was collected: %+v", left)
	}
}

func TestWhatIsInTheTrashHasItsContent(t *testing.T) {
	h := upkeeptest.New(t)
	a := h.Keep("one", true)
	now := time.Now().UTC().Truncate(time.Second)
	_, err := h.Records.TrashAttachment(t.Context(), a.ID, store.Deletion{At: now, Until: now.Add(time.Hour), ByID: a.UploaderID})
	h.OK(err)
	if found := h.Check(true); len(found.Faults) > 0 || found.Attachments != 1 {
		t.Errorf("before: %+v", found)
	}
	h.OK(os.Remove(h.Path(a)))
	found := h.Check(false)
	if len(found.Faults) != 1 || found.Faults[0].Attachment.UUID != a.ID || found.Faults[0].What != upkeep.Missing {
		t.Errorf("without its content: %+v", found)
	}
}

func TestACheckOfADamagedDatabaseGoesOn(t *testing.T) {
	h := upkeeptest.New(t)
	a, b := h.Keep("one", true), h.Keep("two", true)
	h.OK(os.Remove(h.Path(a)))
	h.SpoilDatabase(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("attachments")).Put(append(append([]byte{1}, h.Product.ID[:]...), b.ID[:]...), []byte("no record"))
	})
	faults := fmt.Sprint(h.Check(true).Faults)
	for _, says := range []string{"The content is missing.", "The attachments after " + a.ID.String() + " cannot be listed", `In the bucket "attachments", the entry`} {
		if !strings.Contains(faults, says) {
			t.Errorf("nothing says %q: %s", says, faults)
		}
	}
}

// A disk that does not list its contents is one fault, and the rest is checked all the
// same.
func TestACheckThatCannotListContentsGoesOn(t *testing.T) {
	h := upkeeptest.New(t)
	a := h.Keep("one", true)
	h.OK(os.Remove(h.Path(a)))
	h.SpoilDatabase(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("staged")).Put(make([]byte, 16), pages.Seal([]byte("staged"), make([]byte, 16), wal.Place{Length: 5}.Encode()))
	})
	h.FailCalls(func(call string) error {
		if strings.HasPrefix(call, "list blobs/sha256") {
			return errors.New("input/output error")
		}
		return nil
	})
	for _, deep := range []bool{false, true} {
		faults := h.Check(deep).Faults
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

// During a check, the stores change at one step of it.
func TestWhatComesAndGoesIsNoFault(t *testing.T) {
	for name, happens := range map[string]func(h *upkeeptest.House, a store.Attachment){
		"an upload": func(h *upkeeptest.House, _ store.Attachment) { h.Keep("upload", true) },
		"a delete": func(h *upkeeptest.House, a store.Attachment) {
			_, err := h.Records.DeleteAttachment(context.Background(), a.ID)
			h.OK(err)
			_, err = h.Blobs.Remove(context.Background(), a.SHA256, func() (bool, error) { return false, nil })
			h.OK(err)
		},
		"a repair": func(h *upkeeptest.House, a store.Attachment) {
			h.OK(h.Blobs.MarkDamaged(context.Background(), a.SHA256, nil))
			h.Keep("the content", false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := upkeeptest.New(t)
			for at, happened := 0, true; happened; at += 10 {
				happened = false
				a := h.Keep("the content", true)
				n := 0
				h.FailCalls(func(string) error {
					if n++; n > at && !happened {
						happened = true
						happens(h, a)
					}
					return nil
				})
				report := h.Check(true)
				h.FailCalls(nil)
				if len(report.Faults) > 0 || report.Orphans > 0 {
					t.Errorf("at step %d: %+v", at, report)
				}
			}
		})
	}
}

func TestACheckCanBeEnded(t *testing.T) {
	h := upkeeptest.New(t)
	a := h.Keep(strings.Repeat("x", 1<<20), true)
	ctx, end := context.WithCancel(t.Context())
	_, err := upkeep.Check(ctx, h.Records, h.Blobs, upkeep.CheckOptions{Deep: true, Marker: h.Blobs, Progress: func(p upkeep.Progress) {
		if p.AllBytes > 0 { // in the middle of reading
			end()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if info, err := h.Blobs.Stat(t.Context(), a.SHA256); err != nil || info.Damaged {
		t.Errorf("afterwards: %+v, %v", info, err)
	}
}

func collect(h *upkeeptest.House, opts upkeep.CollectOptions, want int64) {
	h.Helper()
	got, err := upkeep.Collect(context.Background(), h.Records, h.Blobs, opts)
	if err != nil || got.Contents != want {
		h.Errorf("%+v: %+v, %v", opts, got, err)
	}
}

func TestCollectRemovesOnlyWhatIsOldAndUnwanted(t *testing.T) {
	h := upkeeptest.New(t)
	now := time.Now()
	wanted, old, young := h.Keep("wanted", true), h.Keep("old", false), h.Keep("young", false)
	for a, age := range map[store.Attachment]time.Duration{wanted: 2 * time.Hour, old: time.Hour, young: time.Hour - time.Second} {
		h.OK(os.Chtimes(h.Path(a), now, now.Add(-age)))
	}
	left := func(want ...store.Attachment) {
		t.Helper()
		n := 0
		for _, err := range h.Blobs.All(t.Context(), blobs.Ref{}) {
			h.OK(err)
			n++
		}
		for _, a := range want {
			if _, err := h.Blobs.Stat(t.Context(), a.SHA256); err != nil {
				t.Error(err)
			}
		}
		if n != len(want) {
			t.Errorf("%d contents are left", n)
		}
	}
	collect(h, upkeep.CollectOptions{MinAge: time.Hour, Now: now, DryRun: true}, 1)
	left(wanted, old, young)
	collect(h, upkeep.CollectOptions{MinAge: time.Hour, Now: now}, 1)
	left(wanted, young)
	collect(h, upkeep.CollectOptions{MinAge: time.Hour, Now: now}, 0)
	collect(h, upkeep.CollectOptions{MinAge: time.Hour, Now: now.Add(time.Minute)}, 1)
	left(wanted)
}

// After a return to a snapshot, contents that are later than it seem unreferenced.
func TestAWaryCollectionTakesNothingWhileTheDatabaseIsASnapshotThatWasPutBack(t *testing.T) {
	h := upkeeptest.New(t)
	h.Keep("known to the snapshot", true)
	h.Keep("came after it", false)
	h.OK(upkeep.NoteCopy(h.Context(), h.Records, time.Now()))
	wary := upkeep.CollectOptions{Wary: true, Now: time.Now().Add(time.Hour)}
	if done, err := upkeep.Collect(h.Context(), h.Records, h.Blobs, wary); !errors.Is(err, upkeep.ErrCopy) || done.Contents != 0 {
		t.Errorf("removed %+v, %v", done, err)
	}
	look := upkeep.CollectOptions{DryRun: true, Now: wary.Now}
	if done, err := upkeep.Collect(h.Context(), h.Records, h.Blobs, look); err != nil || done.Contents != 1 {
		t.Errorf("would remove %+v, %v", done, err)
	}
	person := upkeep.CollectOptions{Now: wary.Now}
	if done, err := upkeep.Collect(h.Context(), h.Records, h.Blobs, person); err != nil || done.Contents != 1 {
		t.Errorf("removed %+v, %v", done, err)
	}
	h.Keep("left by a crash", false)
	if done, err := upkeep.Collect(h.Context(), h.Records, h.Blobs, wary); err != nil || done.Contents != 1 {
		t.Errorf("once a person has decided, it removed %+v, %v", done, err)
	}
}

func TestAWaryCollectionLeavesManyContentsToAPerson(t *testing.T) {
	h := upkeeptest.New(t)
	for n := range 20 {
		h.Keep(fmt.Sprintf("known %d", n), true)
	}
	opts := upkeep.CollectOptions{Wary: true, Now: time.Now().Add(time.Hour)}
	for n := range 11 {
		h.Keep(fmt.Sprintf("unknown %d", n), false)
	}
	if got, err := upkeep.Collect(t.Context(), h.Records, h.Blobs, opts); !errors.Is(err, upkeep.ErrMany) || got.Contents != 0 {
		t.Errorf("removed %d contents, %v", got.Contents, err)
	}
	opts.Wary = false
	collect(h, opts, 11)
	opts.Wary = true
	for n := range 10 {
		h.Keep(fmt.Sprintf("spare %d", n), false)
	}
	collect(h, opts, 10)
}

// A content whose entry in the index is lost seems unreferenced.
func TestCollectRemovesNothingOnDoubt(t *testing.T) {
	h := upkeeptest.New(t)
	needed := h.Keep("needed", true)
	h.SpoilDatabase(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("contents")).Delete(append(needed.SHA256[:], needed.ID[:]...))
	})
	h.Keep("spare", false)
	opts := upkeep.CollectOptions{Now: time.Now().Add(time.Hour)}
	got, err := upkeep.Collect(t.Context(), h.Records, h.Blobs, opts)
	if !errors.Is(err, upkeep.ErrDoubt) || got.Contents != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := h.Blobs.Stat(t.Context(), needed.SHA256); err != nil {
		t.Errorf("what is needed: %v", err)
	}
}

// unsure is a store that cannot report whether a content is referenced, from the n-th
// time on.
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
	h := upkeeptest.New(t)
	for n := range 3 {
		h.Keep(fmt.Sprint("spare ", n), false)
	}
	opts := upkeep.CollectOptions{Now: time.Now().Add(time.Hour)}
	// Each of three contents is checked twice: before anything is removed, and last.
	for answered, removed := range []int64{0, 0, 0, 0, 1, 1} {
		got, err := upkeep.Collect(t.Context(), &unsure{h.Records, answered}, h.Blobs, opts)
		if !errors.Is(err, errUnsure) || got.Contents != removed {
			t.Errorf("with %d answers: %+v, %v", answered, got, err)
		}
		if removed > 0 {
			h.Keep("spare "+fmt.Sprint(answered), false)
			break
		}
	}
}
