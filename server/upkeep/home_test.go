package upkeep_test

import (
	"errors"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/server/upkeep"
	"attachd/server/upkeep/upkeeptest"
)

func TestARestoredDatabaseHasNothingToDoWithTheBucketOfItsOrigin(t *testing.T) {
	t.Parallel()
	h := upkeeptest.New(t)
	h.Keep("a", true)
	catalog, err := h.Records.Catalog(t.Context())
	h.OK(err)
	var refs []blobs.Ref
	for _, content := range []string{"a", "b", "c"} {
		o := blobs.NewObject(blobs.RefOf([]byte(content)))
		refs = append(refs, o.Ref)
		h.OK(catalog.Intend(t.Context(), []blobs.Object{o}))
		if content != "c" {
			h.OK(catalog.Settle(t.Context(), []blobs.Place{{Object: o, Size: 1}}))
		}
	}
	_, err = catalog.Release(t.Context(), refs[1])
	h.OK(err)
	tenant, err := upkeep.Tenant(t.Context(), h.Records)
	h.OK(err)
	installation, err := upkeep.Installation(t.Context(), h.Records)
	h.OK(err)
	h.OK(upkeep.SetHome(t.Context(), h.Records, "s3"))

	h.OK(upkeep.LeaveBucket(t.Context(), h.Records))
	if err := upkeep.CheckHome(t.Context(), h.Records, "disk"); err != nil {
		t.Errorf("its files are not on the disk: %v", err)
	}
	if err := upkeep.CheckHome(t.Context(), h.Records, "s3"); !errors.Is(err, upkeep.ErrElsewhere) {
		t.Errorf("its files are in a bucket: %v", err)
	}
	if catalog, err = h.Records.Catalog(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p, err := range catalog.Places(t.Context(), blobs.Ref{}) {
		t.Errorf("it has a place: %+v, %v", p, err)
	}
	if garbage, err := catalog.Garbage(t.Context(), time.Now().Add(time.Hour), 10); err != nil || len(garbage) > 0 {
		t.Errorf("it would delete %v, %v", garbage, err)
	}
	if intended, garbage := catalog.Waiting(); intended+garbage != 0 {
		t.Errorf("it would delete %d and %d objects", intended, garbage)
	}
	if now, err := upkeep.Tenant(t.Context(), h.Records); err != nil || now == tenant {
		t.Errorf("it counts as the tenant of the bucket: %s, %v", now, err)
	}
	if now, err := upkeep.Installation(t.Context(), h.Records); err != nil || now != installation {
		t.Errorf("it is another installation: %s, %v", now, err)
	}
}

// Objects that became garbage since the snapshot wait for that word, too.
func TestAPersonConfirmsASnapshotThatWasPutBackAlsoWhereNothingIsToBeRemoved(t *testing.T) {
	t.Parallel()
	h := upkeeptest.New(t)
	h.Keep("known", true)
	h.OK(upkeep.NoteCopy(t.Context(), h.Records, time.Now()))
	for _, c := range []struct {
		what    string
		options upkeep.CollectOptions
		copy    bool
	}{
		{"a collection in the background", upkeep.CollectOptions{Wary: true}, true},
		{"a look", upkeep.CollectOptions{DryRun: true}, true},
		{"a person", upkeep.CollectOptions{}, false},
	} {
		c.options.Now = time.Now()
		_, err := upkeep.Collect(t.Context(), h.Records, h.Blobs, c.options)
		h.OK(err)
		if is, err := upkeep.IsCopy(t.Context(), h.Records); is != c.copy || err != nil {
			t.Errorf("after %s, it is a copy: %v, %v", c.what, is, err)
		}
	}
}

// Garbage of a database that is not the latest waits for a person, as after a snapshot.
func TestADatabaseKnowsItsLastClaimOfTheBucket(t *testing.T) {
	t.Parallel()
	h := upkeeptest.New(t)
	for number, token := range []string{"", "one", "two"} {
		if number > 0 {
			h.OK(upkeep.NoteClaim(t.Context(), h.Records, int64(number), token))
		}
		if n, got, err := upkeep.Claim(t.Context(), h.Records); n != int64(number) || got != token || err != nil {
			t.Errorf("claim %d of %q is read as %d of %q: %v", number, token, n, got, err)
		}
	}
	for range 2 {
		h.OK(upkeep.NoteOutdated(t.Context(), h.Records))
		if is, err := upkeep.IsCopy(t.Context(), h.Records); !is || err != nil {
			t.Errorf("an outdated one is a copy: %t, %v", is, err)
		}
	}
}
