package s3_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
)

// A restored backup has the id of the installation from which it comes, and that may be in use.
func TestAPrefixBelongsToOneOfSeveralCopiesOfAnInstallation(t *testing.T) {
	t.Parallel()
	tenant := func(id string) func(*s3.Options) {
		return func(o *s3.Options) { o.Tenant = func(context.Context) (string, error) { return id, nil } }
	}
	first := open(t, tenant("one"))
	first.keep(t, "a")
	for id, want := range map[string]error{"one": nil, "another": s3.ErrForeign, "": s3.ErrForeign} {
		other := open(t, func(o *s3.Options) {
			tenant(id)(o)
			o.Bucket = first.bucket
		})
		if err := other.Claim(t.Context()); !errors.Is(err, want) {
			t.Errorf("as %q: %v", id, err)
		}
	}
}

// A typing error in the name of the bucket, or a bucket that was emptied, must not look like
// the loss of single files.
func TestAPrefixWithoutItsMarkerIsNotTakenWhileContentsShouldBeThere(t *testing.T) {
	t.Parallel()
	o := open(t, nil)
	ref, _ := o.keep(t, "a")
	elsewhere, err := s3.Open(t.Context(), func() s3.Options {
		options := o.Options
		options.Prefix = "other/"
		return options
	}())
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Claim(t.Context()); !errors.Is(err, s3.ErrEmptied) {
		t.Errorf("with another prefix: %v", err)
	} else if _, marker, _ := strings.Cut(err.Error(), "with this content: "); marker+"\n" != string(o.bucket.Content("files/attachd.json")) {
		t.Errorf("the marker to put back is %s", marker)
	}
	if _, err := o.Remove(t.Context(), ref, nobody); err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Claim(t.Context()); err != nil {
		t.Errorf("once there is nothing: %v", err)
	}
}

func TestNothingIsDeletedAsLongAsTheCatalogMayNotBeTheLatestOne(t *testing.T) {
	t.Parallel()
	latest := false
	o := open(t, func(o *s3.Options) {
		o.KeepDeleted = 0
		o.MayDelete = func(context.Context) (bool, error) { return latest, nil }
	})
	ref, _ := o.keep(t, "a")
	if _, err := o.Remove(t.Context(), ref, nobody); err != nil {
		t.Fatal(err)
	}
	if err := o.Sweep(t.Context(), time.Now()); err != nil || len(o.bucket.Names()) != 1 || o.Unswept() != 1 {
		t.Errorf("%v; %d objects are left, %d to be deleted", err, len(o.bucket.Names()), o.Unswept())
	}
	latest = true
	if err := o.Sweep(t.Context(), time.Now()); err != nil || len(o.bucket.Names()) != 0 || o.Unswept() != 0 {
		t.Errorf("%v; %d objects are left, %d to be deleted", err, len(o.bucket.Names()), o.Unswept())
	}
}

// After a return to a snapshot of the database, the objects of contents that were uploaded
// again since then are gone; the bucket has the later ones.
func TestContentsAreFoundAgainInTheObjectsOfALaterCatalog(t *testing.T) {
	t.Parallel()
	o := open(t, func(o *s3.Options) { o.MayDelete = func(context.Context) (bool, error) { return false, nil } })
	again, name := o.keep(t, "uploaded again")
	_, intact := o.keep(t, "intact")
	snapshot, err := o.catalog.Place(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	_, later := o.keep(t, "uploaded again")
	_, unknown := o.keep(t, "came later")
	if err := o.bucket.Delete(t.Context(), name); err != nil { // as the sweep did
		t.Fatal(err)
	}
	// And now the snapshot is put back.
	if err := o.catalog.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	stay := []blobs.Place{snapshot, {Object: objectOf(t, intact), Size: 6, Stored: snapshot.Stored}}
	for _, p := range stay {
		if err := o.catalog.Intend(t.Context(), []blobs.Object{p.Object}); err != nil {
			t.Fatal(err)
		}
		if err := o.catalog.Settle(t.Context(), []blobs.Place{p}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := o.Sweep(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if p, err := o.catalog.Place(t.Context(), again); err != nil || p.Object != objectOf(t, later) {
			t.Errorf("its place is %+v, %v", p, err)
		}
		if content, err := o.Open(t.Context(), again, int64(len("uploaded again"))); err != nil {
			t.Error(err)
		} else if got, err := io.ReadAll(content); err != nil || string(got) != "uploaded again" || content.Close() != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if p, err := o.catalog.Place(t.Context(), stay[1].Ref); err != nil || p.Object != stay[1].Object {
			t.Errorf("the place of what was intact is %+v, %v", p, err)
		}
		if known, err := o.catalog.Knows(t.Context(), objectOf(t, unknown)); known || err != nil {
			t.Errorf("what no record may have was adopted: %v, %v", known, err)
		}
	}
	if n := len(o.bucket.Names()); n != 3 {
		t.Errorf("there are %d objects", n)
	}
}

// objectOf reads the name of an object.
func objectOf(t *testing.T, name string) blobs.Object {
	t.Helper()
	parts := strings.Split(name, "/")
	ref, err := blobs.ParseRef(parts[len(parts)-2])
	key, bad := blobs.ParseKey(parts[len(parts)-1])
	if err := errors.Join(err, bad); err != nil {
		t.Fatal(err)
	}
	return blobs.Object{Ref: ref, Key: key}
}
