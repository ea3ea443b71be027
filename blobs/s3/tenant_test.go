package s3_test

import (
	"context"
	"errors"
	"testing"

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
	if err := o.Sweep(t.Context()); err != nil || len(o.bucket.Names()) != 1 || o.Unswept() != 1 {
		t.Errorf("%v; %d objects are left, %d to be deleted", err, len(o.bucket.Names()), o.Unswept())
	}
	latest = true
	if err := o.Sweep(t.Context()); err != nil || len(o.bucket.Names()) != 0 || o.Unswept() != 0 {
		t.Errorf("%v; %d objects are left, %d to be deleted", err, len(o.bucket.Names()), o.Unswept())
	}
}
