package upkeep_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
	"attachd/server/upkeep"
	"attachd/server/upkeep/upkeeptest"
	"attachd/store"
)

// bucketHouse is a house whose contents are in a bucket.
type bucketHouse struct {
	*upkeeptest.House
	bucket   s3test.Memory
	contents *s3.Store
	catalog  blobs.Catalog
	marks    int // that the catalog says there are beside those that there are
}

// marked is a catalog with more marks than there are.
type marked struct {
	blobs.Catalog
	*bucketHouse
}

func (m marked) Damaged() int { return m.Catalog.Damaged() + m.marks }

func newBucketHouse(t *testing.T) *bucketHouse {
	h := &bucketHouse{House: upkeeptest.New(t)}
	catalog, err := h.Records.Catalog(t.Context())
	h.OK(err)
	h.catalog = catalog
	h.contents, err = s3.Open(t.Context(), s3.Options{Bucket: &h.bucket, Catalog: marked{catalog, h}, Local: h.Blobs, Prefix: "p/", KeepDeleted: time.Hour,
		Installation: func(context.Context) (string, error) { return "this one", nil }})
	h.OK(err)
	return h
}

// keep stores a content in the bucket, with a record, and returns the name of its object.
func (h *bucketHouse) keep(content string) (a store.Attachment, name string) {
	h.Helper()
	spool, err := h.contents.Create(h.Context())
	h.OK(err)
	_, err = io.WriteString(spool, content)
	h.OK(err)
	release, err := spool.Keep(h.Context())
	h.OK(err)
	a = store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: h.Product, FileName: "a.txt", Type: "text/plain", Size: spool.Size(), SHA256: spool.Ref(), UploaderID: h.Ada.ID}
	h.OK(h.Records.CreateAttachment(h.Context(), a, nil, ""))
	release()
	h.OK(spool.Close())
	place, err := h.catalog.Place(h.Context(), a.SHA256)
	h.OK(err)
	return a, objectName(place.Object)
}

func objectName(o blobs.Object) string {
	return fmt.Sprintf("p/blobs/sha256/%s/%s/%s", o.Ref.String()[:2], o.Ref, o.Key)
}

func (h *bucketHouse) check(deep bool) upkeep.Report {
	h.Helper()
	report, err := upkeep.Check(h.Context(), h.Records, h.contents, upkeep.CheckOptions{Deep: deep, Marker: h.contents, Comparer: h.contents})
	h.OK(err)
	return report
}

// stray puts an object into the bucket that has no content, and is of some age.
func (h *bucketHouse) stray(ref blobs.Ref, age time.Duration) string {
	name := objectName(blobs.NewObject(ref))
	h.bucket.Change(name, []byte("stray"))
	h.bucket.Age(name, age)
	return name
}

// lossesInABucket is what others may do to the object of "a content", and what is said of it.
var lossesInABucket = []struct {
	name     string
	spoil    func(h *bucketHouse, name string)
	onlyDeep bool
	shallow  string
	deep     string
}{
	{"deleted", func(h *bucketHouse, name string) { h.OK(h.bucket.Delete(h.Context(), name)) }, false, "The content is missing.", "The content is missing."},
	{"cut short", func(h *bucketHouse, name string) { h.bucket.Change(name, []byte("a con")) }, false, "The content has 5 bytes, not 9.", "The content has 5 bytes, not 9."},
	{"emptied", func(h *bucketHouse, name string) { h.bucket.Change(name, nil) }, false, "The content has 0 bytes, not 9.", "The content has 0 bytes, not 9."},
	{"made longer", func(h *bucketHouse, name string) { h.bucket.Change(name, []byte("a content!")) }, false, "The content has 10 bytes, not 9.", "The content has 10 bytes, not 9."},
	{"other bytes", func(h *bucketHouse, name string) { h.bucket.Change(name, []byte("A content")) }, true, "", "The content is damaged: its bytes are not those that were uploaded."},
}

func TestCheckFindsWhatABucketHasLost(t *testing.T) {
	for _, c := range lossesInABucket {
		for _, deep := range []bool{false, true} {
			if c.onlyDeep && !deep {
				continue
			}
			t.Run(fmt.Sprintf("%s, deep %t", c.name, deep), func(t *testing.T) {
				t.Parallel()
				h := newBucketHouse(t)
				a, name := h.keep("a content")
				h.keep("another")
				if healthy := h.check(true); len(healthy.Faults) > 0 || healthy.Attachments != 2 {
					t.Fatalf("before: %+v", healthy)
				}
				c.spoil(h, name)
				says := c.shallow
				if deep {
					says = c.deep
				}
				report := h.check(deep)
				if len(report.Faults) != 1 || report.Faults[0].What != says || report.Faults[0].Unreadable || report.Faults[0].Attachment.UUID != a.ID {
					t.Errorf("faults: %v", report.Faults)
				}
				if marked := h.contents.Marked(); !slices.Equal(marked, []blobs.Ref{a.SHA256}) {
					t.Errorf("marked: %v", marked)
				}
				if again := h.check(deep); len(again.Faults) != 1 {
					t.Errorf("a second time: %v", again.Faults)
				}
				h.keep("a content")
				if left := h.check(true); len(left.Faults) > 0 || h.contents.Damaged() != 0 {
					t.Errorf("after the same file was uploaded again: %v", left.Faults)
				}
			})
		}
	}
}

// The scrub reads, and compares nothing.
func TestAScrubFindsWhatABucketHasLost(t *testing.T) {
	for _, c := range lossesInABucket {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newBucketHouse(t)
			a, name := h.keep("a content")
			verify := func() *upkeep.Loss {
				info, err := h.contents.Stat(t.Context(), a.SHA256)
				h.OK(err)
				_, lost, err := upkeep.VerifyContent(t.Context(), h.contents, h.contents, info, func(r io.Reader) io.Reader { return r })
				h.OK(err)
				return lost
			}
			if lost := verify(); lost != nil {
				t.Fatalf("before: %+v", lost)
			}
			c.spoil(h, name)
			for range 2 {
				if lost := verify(); lost == nil || !lost.Marked || lost.Unread || h.contents.Damaged() != 1 {
					t.Errorf("%+v, %d marked", lost, h.contents.Damaged())
				}
			}
			h.bucket.Change(name, []byte("a content")) // as from a copy of the bucket
			if lost := verify(); lost != nil || h.contents.Damaged() != 0 {
				t.Errorf("after the object was put back: %+v, %d marked", lost, h.contents.Damaged())
			}
		})
	}
}

// The log says of them all what is the matter, once; package contents sees to that.
func TestOfManyContentsThatAreLostNotEachIsMarked(t *testing.T) {
	h := newBucketHouse(t)
	a, name := h.keep("a content")
	h.OK(h.bucket.Delete(t.Context(), name))
	h.marks = 1000
	info, err := h.contents.Stat(t.Context(), a.SHA256)
	h.OK(err)
	_, lost, err := upkeep.VerifyContent(t.Context(), h.contents, h.contents, info, func(r io.Reader) io.Reader { return r })
	if err != nil || lost == nil || lost.Why != upkeep.Missing || lost.Marked || !lost.Many {
		t.Errorf("%+v, %v", lost, err)
	}
	for _, deep := range []bool{false, true} {
		if report := h.check(deep); len(report.Faults) != 1 || report.Faults[0].What != upkeep.Missing || len(h.contents.Marked()) != 0 {
			t.Errorf("deep is %t: %v; marked: %v", deep, report.Faults, h.contents.Marked())
		}
	}
	h.marks = 0
	if h.check(false); len(h.contents.Marked()) != 1 {
		t.Error("where few are marked, it is not")
	}
}

// Nothing is said to be lost, nor marked, because the store did not answer.
func TestABucketThatIsAwayHasLostNothing(t *testing.T) {
	h := newBucketHouse(t)
	h.keep("a content")
	h.OK(h.bucket.Delete(t.Context(), "p/attachd.json"))
	for _, name := range h.bucket.Names() {
		h.OK(h.bucket.Delete(t.Context(), name))
	}
	for _, deep := range []bool{false, true} {
		report := h.check(deep)
		if len(report.Faults) == 0 || h.contents.Damaged() != 0 {
			t.Errorf("deep %t: %v, %d marked", deep, report.Faults, h.contents.Damaged())
		}
		for _, fault := range report.Faults {
			if fault.Unreadable == fault.Storage || !fault.Unreadable && !strings.HasPrefix(fault.What, "Not everything could be looked at: ") {
				t.Errorf("deep %t: %v", deep, fault)
			}
		}
	}
}

// Another bucket than the right one may have the marker, because somebody copied it.
func TestManyLossesAtOnceAreReportedAndNotMarked(t *testing.T) {
	h := newBucketHouse(t)
	for i := range 15 {
		h.keep(fmt.Sprint("content ", i))
	}
	for _, name := range h.bucket.Names()[:11] {
		h.OK(h.bucket.Delete(t.Context(), name))
	}
	report := h.check(false)
	if len(report.Faults) != 12 || !strings.HasPrefix(report.Faults[0].What, "The object store has lost 11 of 15 contents.") || h.contents.Damaged() != 0 {
		t.Errorf("%d marked, %v", h.contents.Damaged(), report.Faults)
	}
}

func TestObjectsWithoutAContentAreToldAndCollectedWhenTheyAreOld(t *testing.T) {
	h := newBucketHouse(t)
	_, kept := h.keep("a content")
	damaged, lost := h.stray(blobs.RefOf([]byte("damaged")), 48*time.Hour), h.stray(blobs.RefOf([]byte("lost")), 48*time.Hour)
	a, _ := h.keep("damaged")
	h.OK(h.contents.MarkDamaged(t.Context(), a.SHA256, nil))
	_, gone := h.keep("lost")
	h.OK(h.bucket.Delete(t.Context(), gone))
	old, young := h.stray(blobs.RefOf([]byte("a content")), 25*time.Hour), h.stray(blobs.Ref{1}, 23*time.Hour)
	h.bucket.Change("p/notes.txt", []byte("mine"))
	h.bucket.Age("p/notes.txt", 48*time.Hour)
	report := h.check(false)
	if report.Strays != 3 || report.StrayBytes != 15 || report.Foreign != 1 || !slices.Equal(report.ForeignNames, []string{"p/notes.txt"}) {
		t.Errorf("%+v", report)
	}
	collect := func(opts upkeep.CollectOptions) (upkeep.Collected, error) {
		opts.Now, opts.MinAge, opts.Comparer = time.Now(), upkeep.MinAge, h.contents
		return upkeep.Collect(t.Context(), h.Records, h.contents, opts)
	}
	names := h.bucket.Names()
	if done, err := collect(upkeep.CollectOptions{DryRun: true}); err != nil || done.Strays != 1 || done.StrayBytes != 5 || !slices.Equal(h.bucket.Names(), names) {
		t.Errorf("dry run: %+v, %v", done, err)
	}
	if done, err := collect(upkeep.CollectOptions{}); err != nil || done.Strays != 1 || done.Contents != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == old })
	if left := h.bucket.Names(); !slices.Equal(left, names) || !slices.Contains(left, young) || !slices.Contains(left, kept) || !slices.Contains(left, damaged) || !slices.Contains(left, lost) {
		t.Errorf("left: %q, not %q", left, names)
	}
}

// overtaken is a bucket in which strays turn out to be none once they were found.
type overtaken struct {
	*s3.Store
	catalog blobs.Catalog
	known   []blobs.Object
}

func (o *overtaken) RemoveStrays(ctx context.Context, strays []blobs.Difference) ([]blobs.Difference, error) {
	if err := o.catalog.Intend(ctx, o.known); err != nil {
		return nil, err
	}
	return o.Store.RemoveStrays(ctx, strays)
}

func TestOnlyStraysThatWereDeletedAreCounted(t *testing.T) {
	h := newBucketHouse(t)
	h.keep("a content")
	h.stray(blobs.Ref{1}, 48*time.Hour)
	known := blobs.NewObject(blobs.Ref{2})
	h.bucket.Change(objectName(known), []byte("known"))
	h.bucket.Age(objectName(known), 48*time.Hour)
	done, err := upkeep.Collect(t.Context(), h.Records, h.contents,
		upkeep.CollectOptions{Now: time.Now(), Comparer: &overtaken{h.contents, h.catalog, []blobs.Object{known}}})
	if err != nil || done.Strays != 1 || done.StrayBytes != 5 || !slices.Contains(h.bucket.Names(), objectName(known)) {
		t.Errorf("%+v, %v; left: %q", done, err, h.bucket.Names())
	}
}

// Where it is not certain what is wanted, nothing goes.
func TestStraysStayOnDoubt(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(h *bucketHouse)
		opts  upkeep.CollectOptions
		want  error
	}{
		"a database that was put back": {func(h *bucketHouse) { h.OK(upkeep.NoteCopy(h.Context(), h.Records, time.Now())) }, upkeep.CollectOptions{Wary: true}, upkeep.ErrCopy},
		"a bucket of another":          {func(h *bucketHouse) { h.bucket.Change("p/attachd.json", []byte(`{"installation":"another"}`)) }, upkeep.CollectOptions{}, upkeep.ErrNotCompared},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newBucketHouse(t)
			h.keep("a content")
			stray := h.stray(blobs.Ref{1}, 48*time.Hour)
			c.spoil(h)
			c.opts.Now, c.opts.Comparer = time.Now(), h.contents
			done, err := upkeep.Collect(t.Context(), h.Records, h.contents, c.opts)
			if !errors.Is(err, c.want) || done.Strays != 0 || !slices.Contains(h.bucket.Names(), stray) {
				t.Errorf("%+v, %v", done, err)
			}
		})
	}
}

// A migration leaves a damaged content behind, which then is in no object.
func TestAContentThatIsInNoObjectIsOneFaultAndStopsNoCollection(t *testing.T) {
	t.Parallel()
	h := newBucketHouse(t)
	h.OK(upkeep.SetHome(t.Context(), h.Records, "s3"))
	h.keep("a content")
	h.keep("another")
	lost := store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: h.Product, FileName: "lost.txt", Type: "text/plain", Size: 4, SHA256: blobs.RefOf([]byte("lost")), UploaderID: h.Ada.ID}
	h.OK(h.Records.CreateAttachment(t.Context(), lost, nil, ""))
	unwanted, _ := h.keep("unwanted")
	_, err := h.Records.DeleteAttachment(t.Context(), unwanted.ID)
	h.OK(err)
	report := h.check(false)
	if len(report.Faults) != 1 || report.Faults[0].What != upkeep.Missing || report.Faults[0].Attachment.UUID != lost.ID {
		t.Errorf("faults: %v", report.Faults)
	}
	done, err := upkeep.Collect(t.Context(), h.Records, h.contents, upkeep.CollectOptions{Now: time.Now(), Comparer: h.contents})
	if err != nil || done.Contents != 1 {
		t.Errorf("it has collected %+v, %v", done, err)
	}
}
