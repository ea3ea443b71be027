package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/blobs/disk"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
	"attachd/store"
	"attachd/store/postgres"
)

// process is what a process has: the database and the bucket.
type process struct {
	*postgres.Store
	bucket *s3.Store
}

// processes share a database and a bucket.
func processes(t *testing.T, n int, bucket s3.Bucket, keepDeleted time.Duration) (all []process, exec func(sql string, args ...any)) {
	t.Helper()
	stores, exec := replicas(t, n)
	for _, s := range stores {
		all = append(all, process{s, bucketOf(t, s, bucket, keepDeleted)})
	}
	return all, exec
}

func bucketOf(t *testing.T, s *postgres.Store, bucket s3.Bucket, keepDeleted time.Duration) *s3.Store {
	t.Helper()
	local, err := disk.Open(t.TempDir(), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := s3.Open(t.Context(), s3.Options{Bucket: bucket, Catalog: s, Local: local, Shared: true, KeepDeleted: keepDeleted, Patience: time.Second,
		Installation: func(context.Context) (string, error) { return "this one", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	return kept
}

func TestABucketWithItsCatalogInPostgreSQL(t *testing.T) {
	t.Parallel()
	blobstest.Run(t, func(t *testing.T) blobs.Store { return bucketOf(t, open(t), new(s3test.Memory), time.Hour) })
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hold uploads a content, and holds it.
func (p process) hold(ctx context.Context, content []byte) (release func(), err error) {
	spool, err := p.bucket.Create(ctx)
	if err != nil {
		return nil, err
	}
	if _, err = spool.Write(content); err == nil {
		release, err = spool.Keep(ctx)
	}
	return release, errors.Join(err, spool.Close())
}

// upload uploads a content, and records it.
func (p process) upload(ctx context.Context, of store.Entity, by uuid.UUID, content []byte) (a store.Attachment, err error) {
	release, err := p.hold(ctx, content)
	if err != nil {
		return a, err
	}
	defer release()
	a = store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: of.Parent, FileName: "a.txt", Size: int64(len(content)), Type: "text/plain", SHA256: blobs.RefOf(content), UploaderID: by}
	return a, p.CreateAttachment(ctx, a, nil, "")
}

// remove deletes an attachment, and its content if no other one has it.
func (p process) remove(ctx context.Context, a store.Attachment) error {
	if _, err := p.DeleteAttachment(ctx, a.ID); err != nil {
		return err
	}
	_, err := p.forget(ctx, a.SHA256)
	return err
}

func (p process) forget(ctx context.Context, ref blobs.Ref) (bool, error) {
	return p.bucket.Remove(ctx, ref, func() (bool, error) { return p.Referenced(ctx, ref) })
}

func (p process) read(ctx context.Context, content []byte) error {
	c, err := p.bucket.Open(ctx, blobs.RefOf(content), int64(len(content)))
	if err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(got, content) {
		err = fmt.Errorf("read %d bytes that are not those", len(got))
	}
	return errors.Join(err, c.Close())
}

// aProduct puts what an upload needs.
func (p process) aProduct(t *testing.T) (product store.Entity, by uuid.UUID) {
	t.Helper()
	ada := store.User{ID: uuid.New(), FullName: "Ada"}
	product = store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a", Name: "P"}
	_, err := p.Put(t.Context(), ada, store.Space{Slug: "a", Name: "A"}, product)
	ok(t, err)
	return product, ada.ID
}

// Between the upload of a content and the commit of its record, no other process removes it,
// and what came to nothing holds nothing.
func TestAnotherProcessDoesNotRemoveWhatIsHeld(t *testing.T) {
	t.Parallel()
	all, exec := processes(t, 2, new(s3test.Memory), time.Hour)
	one, other := all[0], all[1]
	product, ada := one.aProduct(t)
	content := []byte("held")
	ref := blobs.RefOf(content)
	want := func(when string, removed bool) {
		t.Helper()
		if got, err := other.forget(t.Context(), ref); got != removed || err != nil {
			t.Errorf("%s it is removed: %v, %v", when, got, err)
		}
	}
	release, err := one.hold(t.Context(), content)
	ok(t, err)
	want("while it is held", false)
	release()
	want("after that", true)

	first, err := one.hold(t.Context(), content)
	ok(t, err)
	second, err := one.hold(t.Context(), content)
	ok(t, err)
	a := store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: product.Parent, FileName: "a", Size: 4, Type: "text/plain", SHA256: ref, UploaderID: ada}
	ok(t, one.CreateAttachment(t.Context(), a, nil, ""))
	first()
	want("while a record names it", false)
	_, err = other.DeleteAttachment(t.Context(), a.ID)
	ok(t, err)
	want("while another upload holds it", false)
	unknown := a
	unknown.UploaderID = uuid.New()
	if err := one.CreateAttachment(t.Context(), unknown, nil, ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an upload by nobody: %v", err)
	}
	want("while it may still be recorded", false)
	second()
	want("after all of them", true)

	_, err = one.hold(t.Context(), content)
	ok(t, err)
	exec(`update attachd.uploads set begun = begun - interval '61 minutes'`) // its process has ended
	want("an hour after a process has ended", true)
	if err := one.CreateAttachment(t.Context(), a, nil, ""); !errors.Is(err, store.ErrNoContent) {
		t.Errorf("a record of what is gone: %v", err)
	}
}

// A mark by one process counts for the others at once, and in what they list soon.
func TestAMarkCountsForAllProcesses(t *testing.T) {
	t.Parallel()
	all, _ := processes(t, 2, new(s3test.Memory), time.Hour)
	content := []byte("damaged")
	ref := blobs.RefOf(content)
	release, err := all[0].hold(t.Context(), content)
	ok(t, err)
	release()
	ok(t, all[0].bucket.MarkDamaged(t.Context(), ref, nil))
	if err := all[1].read(t.Context(), content); !errors.Is(err, blobs.ErrDamaged) {
		t.Errorf("the other one reads it: %v", err)
	}
	soon(t, "the mark is listed", func() bool { return slices.Equal(all[1].bucket.Marked(), []blobs.Ref{ref}) })
	release, err = all[1].hold(t.Context(), content)
	ok(t, err)
	release()
	ok(t, all[0].read(t.Context(), content))
	soon(t, "the mark is gone", func() bool { return all[0].bucket.Damaged() == 0 })
}

// soon waits for what happens within seconds.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// Two that sweep at the same time do not delete the same.
func TestGarbageIsOfOneProcessForAWhile(t *testing.T) {
	t.Parallel()
	all, exec := processes(t, 2, new(s3test.Memory), 0)
	for i := range 20 {
		content := fmt.Append(nil, "content ", i)
		release, err := all[0].hold(t.Context(), content)
		ok(t, err)
		release()
		if removed, err := all[0].forget(t.Context(), blobs.RefOf(content)); !removed || err != nil {
			t.Fatal(removed, err)
		}
	}
	garbage := func(p process, limit int) []blobs.Object {
		list, err := p.Garbage(t.Context(), time.Now().Add(time.Minute), limit)
		ok(t, err)
		return list
	}
	mine := garbage(all[0], 5)
	others := garbage(all[1], 100)
	if len(mine) != 5 || len(others) != 15 || slices.ContainsFunc(others, func(o blobs.Object) bool { return slices.Contains(mine, o) }) {
		t.Errorf("one has %d, the other %d of 20", len(mine), len(others))
	}
	if again := garbage(all[0], 100); !slices.Equal(again, mine) {
		t.Errorf("its own again: %d of %d", len(again), len(mine))
	}
	exec(`update attachd.garbage set claimed_until = now() - interval '1 second'`)
	if left := garbage(all[0], 100); len(left) != 20 {
		t.Errorf("%d are left by one that has ended", len(left))
	}
	soon(t, "the other one counts it", func() bool { return all[1].bucket.Unswept() == 20 })
}

// Two processes upload few contents, read them, delete them and sweep. What a record names is
// never removed, and what none names is.
func TestRemoveNeverTakesWhatARecordNames(t *testing.T) {
	t.Parallel()
	bucket := new(s3test.Memory)
	all, _ := processes(t, 2, bucket, 0)
	product, ada := all[0].aProduct(t)
	contents := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	var users, sweeps sync.WaitGroup
	for n := range 6 {
		users.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for range 25 {
				content := contents[r.IntN(len(contents))]
				a, err := all[r.IntN(2)].upload(t.Context(), product, ada, content)
				if err == nil {
					err = all[r.IntN(2)].read(t.Context(), content)
				}
				if err == nil {
					err = all[r.IntN(2)].remove(t.Context(), a)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var over atomic.Bool
	for _, p := range all {
		sweeps.Go(func() {
			for !over.Load() {
				if err := p.bucket.Sweep(t.Context(), time.Now().Add(time.Minute)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	users.Wait()
	over.Store(true)
	sweeps.Wait()
	for _, content := range contents { // that another upload held when its last record went
		_, err := all[0].forget(t.Context(), blobs.RefOf(content))
		ok(t, err)
	}
	ok(t, all[0].bucket.Sweep(t.Context(), time.Now().Add(time.Minute)))
	ok(t, all[1].bucket.Sweep(t.Context(), time.Now().Add(time.Minute)))
	if left := bucket.Names(); len(left) > 0 {
		t.Errorf("the bucket still has %v", left)
	}
	faults, err := all[0].Check(t.Context(), nil)
	if err != nil || len(faults) > 0 {
		t.Errorf("%v, %v", faults, err)
	}
}

// A DELETE that a store carries out late meets nothing that was acknowledged since, whichever
// process has made it.
func TestALateDeletionOfAnotherProcessMeetsNothing(t *testing.T) {
	t.Parallel()
	late := &lateDeletion{Bucket: new(s3test.Memory)}
	all, exec := processes(t, 2, late, 0)
	product, ada := all[0].aProduct(t)
	content := []byte("uploaded, deleted, uploaded")
	a, err := all[0].upload(t.Context(), product, ada, content)
	ok(t, err)
	ok(t, all[0].remove(t.Context(), a))
	if err := all[0].bucket.Sweep(t.Context(), time.Now().Add(time.Minute)); !errors.Is(err, s3.ErrStalled) {
		t.Fatalf("the first deletion: %v", err)
	}
	exec(`update attachd.garbage set claimed_until = now() - interval '1 second'`)
	ok(t, all[1].bucket.Sweep(t.Context(), time.Now().Add(time.Minute)))
	_, err = all[1].upload(t.Context(), product, ada, content)
	ok(t, err)
	ok(t, late.Bucket.Delete(t.Context(), late.name))
	for _, p := range all {
		ok(t, p.read(t.Context(), content))
	}
}

// lateDeletion is a bucket whose first deletion waits for the test.
type lateDeletion struct {
	s3.Bucket
	name string
}

func (b *lateDeletion) Delete(ctx context.Context, name string) error {
	if b.name == "" {
		b.name = name
		return s3.ErrStalled
	}
	return b.Bucket.Delete(ctx, name)
}

// TestAProcessWhoseClockIsAheadSweepsNothing has a process sweep that is ahead of the database by
// a month: nobody's upload is given up, and what was deleted stays for its time.
func TestAProcessWhoseClockIsAheadSweepsNothing(t *testing.T) {
	t.Parallel()
	bucket := new(s3test.Memory)
	all, exec := processes(t, 2, bucket, time.Hour)
	product, ada := all[0].aProduct(t)
	a, err := all[0].upload(t.Context(), product, ada, []byte("deleted by mistake"))
	ok(t, err)
	ok(t, all[0].remove(t.Context(), a))
	underWay := blobs.Object{Ref: blobs.RefOf([]byte("under way")), Key: blobs.Key{1}}
	ok(t, all[0].Intend(t.Context(), []blobs.Object{underWay}))
	ok(t, all[1].bucket.Sweep(t.Context(), time.Now().AddDate(0, 1, 0)))
	if left := bucket.Names(); len(left) != 1 {
		t.Errorf("the bucket has %v", left)
	}
	ok(t, all[0].Settle(t.Context(), []blobs.Place{{Object: underWay, Size: 9, Stored: time.Now()}}))
	exec(`update attachd.garbage set since = since - interval '2 hours'`)
	ok(t, all[1].bucket.Sweep(t.Context(), time.Now()))
	if left := bucket.Names(); len(left) != 0 {
		t.Errorf("after its time the bucket has %v", left)
	}
}
