package blobstest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"attachd/blobs"
)

// catalogPromise is a part of the contract of blobs.Catalog.
type catalogPromise struct {
	words string
	test  func(t *testing.T, c blobs.Catalog)
}

var ofCatalogs = []catalogPromise{
	{"an object is intended, settled, garbage, and then forgotten", lifeOfObject},
	{"the last object that was settled is the place of a content", lastSettled},
	{"what is not intended cannot be settled, and nothing is settled then", notIntended},
	{"an upload that was given up is garbage, and cannot be settled", givenUp},
	{"what was intended before a time is given up by Abandon", abandoned},
	{"a mark belongs to an object, and goes with it", markOfObject},
	{"places are listed in order, from a content on", placesListed},
	{"garbage is listed from the oldest on, and only what is old enough", garbageListed},
	{"nothing is known of what there was before Clear", cleared},
	{"an object that is not known can be adopted by a content that has a place", adopted},
	{"an object that is known is not adopted", adoptedOnce},
	{"what is held is not released", heldStays},
}

// RunCatalog tests the catalogs that open returns. Each test gets an empty one, which open
// closes by t.Cleanup.
func RunCatalog(t *testing.T, open func(t *testing.T) blobs.Catalog) {
	for _, p := range ofCatalogs {
		t.Run(p.words, func(t *testing.T) {
			t.Parallel()
			p.test(t, open(t))
		})
	}
}

func objectOf(content string) blobs.Object { return blobs.NewObject(blobs.RefOf([]byte(content))) }

func placeOf(o blobs.Object, size int64) blobs.Place {
	return blobs.Place{Object: o, Size: size, Stored: time.Unix(1_700_000_000, 0)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func settle(t *testing.T, c blobs.Catalog, o blobs.Object) {
	t.Helper()
	must(t, c.Intend(t.Context(), []blobs.Object{o}))
	settleAll(t, c, placeOf(o, 7))
}

// settleAll settles objects that are intended, and holds none.
func settleAll(t *testing.T, c blobs.Catalog, places ...blobs.Place) {
	t.Helper()
	must(t, c.Settle(t.Context(), places))
	if holder, is := c.(blobs.Holder); is {
		must(t, holder.Unhold(t.Context(), refsOf(places)))
	}
}

func refsOf(places []blobs.Place) (refs []blobs.Ref) {
	for _, p := range places {
		refs = append(refs, p.Ref)
	}
	return refs
}

func wantWaiting(t *testing.T, c blobs.Catalog, intended, garbage int64) {
	t.Helper()
	if i, g := c.Waiting(); i != intended || g != garbage {
		t.Errorf("%d are intended and %d garbage; they are %d and %d", i, g, intended, garbage)
	}
}

func wantKnown(t *testing.T, c blobs.Catalog, o blobs.Object, want bool) {
	t.Helper()
	if got, err := c.Knows(t.Context(), o); err != nil || got != want {
		t.Errorf("Knows: %v, %v", got, err)
	}
}

// soon is a time before which everything that was done until now was done.
func soon() time.Time { return time.Now().Add(time.Minute) }

func wantGarbage(t *testing.T, c blobs.Catalog, want ...blobs.Object) {
	t.Helper()
	got, err := c.Garbage(t.Context(), soon(), 100)
	if err != nil || len(got) != len(want) {
		t.Fatalf("garbage is %v, %v; it is %v", got, err, want)
	}
	for _, o := range want {
		if !slices.Contains(got, o) {
			t.Errorf("%v is not garbage", o)
		}
	}
}

func lifeOfObject(t *testing.T, c blobs.Catalog) {
	o := objectOf("a")
	wantKnown(t, c, o, false)
	must(t, c.Intend(t.Context(), []blobs.Object{o}))
	wantKnown(t, c, o, true)
	wantWaiting(t, c, 1, 0)
	if _, err := c.Place(t.Context(), o.Ref); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("the place of what is only intended: %v", err)
	}
	want := placeOf(o, 1<<40)
	settleAll(t, c, want)
	if got, err := c.Place(t.Context(), o.Ref); err != nil || got != want {
		t.Errorf("place %+v, %v; it is %+v", got, err, want)
	}
	wantKnown(t, c, o, true)
	wantWaiting(t, c, 0, 0)
	for _, first := range []bool{true, false} {
		if was, err := c.Release(t.Context(), o.Ref); was != first || err != nil {
			t.Errorf("Release: %v, %v", was, err)
		}
	}
	if _, err := c.Place(t.Context(), o.Ref); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("the place of what was released: %v", err)
	}
	wantKnown(t, c, o, true)
	wantWaiting(t, c, 0, 1)
	wantGarbage(t, c, o)
	for range 2 { // once more changes nothing
		must(t, c.Forget(t.Context(), []blobs.Object{o}))
		wantKnown(t, c, o, false)
		wantWaiting(t, c, 0, 0)
		wantGarbage(t, c)
	}
}

func lastSettled(t *testing.T, c blobs.Catalog) {
	first, second := objectOf("twice"), objectOf("twice")
	settle(t, c, first)
	settle(t, c, second)
	if p, err := c.Place(t.Context(), first.Ref); err != nil || p.Object != second {
		t.Errorf("the place is %+v, %v", p, err)
	}
	wantGarbage(t, c, first)
	third, fourth := objectOf("twice"), objectOf("twice") // in one call
	must(t, c.Intend(t.Context(), []blobs.Object{third, fourth}))
	settleAll(t, c, placeOf(third, 7), placeOf(fourth, 7))
	if p, err := c.Place(t.Context(), first.Ref); err != nil || p.Object != fourth {
		t.Errorf("the place is %+v, %v", p, err)
	}
	wantGarbage(t, c, first, second, third)
	wantWaiting(t, c, 0, 3)
}

func notIntended(t *testing.T, c blobs.Catalog) {
	intended, not := objectOf("a"), objectOf("b")
	must(t, c.Intend(t.Context(), []blobs.Object{intended}))
	err := c.Settle(t.Context(), []blobs.Place{placeOf(intended, 7), placeOf(not, 7)})
	if !errors.Is(err, blobs.ErrAbandoned) {
		t.Errorf("Settle: %v", err)
	}
	if _, err := c.Place(t.Context(), intended.Ref); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("one of them was settled: %v", err)
	}
	wantWaiting(t, c, 1, 0)
}

func givenUp(t *testing.T, c blobs.Catalog) {
	o, settled := objectOf("a"), objectOf("b")
	must(t, c.Intend(t.Context(), []blobs.Object{o}))
	settle(t, c, settled)
	must(t, c.Discard(t.Context(), []blobs.Object{o, settled})) // the second is not intended
	wantGarbage(t, c, o)
	wantWaiting(t, c, 0, 1)
	if err := c.Settle(t.Context(), []blobs.Place{placeOf(o, 7)}); !errors.Is(err, blobs.ErrAbandoned) {
		t.Errorf("Settle: %v", err)
	}
}

func abandoned(t *testing.T, c blobs.Catalog) {
	o, settled := objectOf("a"), objectOf("b")
	must(t, c.Intend(t.Context(), []blobs.Object{o}))
	settle(t, c, settled)
	must(t, c.Abandon(t.Context(), time.Now().Add(-time.Hour)))
	wantWaiting(t, c, 1, 0)
	must(t, c.Abandon(t.Context(), soon()))
	wantWaiting(t, c, 0, 1)
	wantGarbage(t, c, o)
}

func markOfObject(t *testing.T, c blobs.Catalog) {
	before, now := objectOf("a"), objectOf("a")
	marked := func(want bool) {
		t.Helper()
		p, err := c.Place(t.Context(), before.Ref)
		if err != nil || p.Damaged != want || slices.Contains(c.Marked(), before.Ref) != want || c.Damaged() != len(c.Marked()) {
			t.Errorf("place %+v, %v, marked %v, %d damaged", p, err, c.Marked(), c.Damaged())
		}
	}
	if err := c.Mark(t.Context(), before, true); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("a mark of nothing: %v", err)
	}
	settle(t, c, before)
	for range 2 {
		must(t, c.Mark(t.Context(), before, true))
		marked(true)
	}
	settle(t, c, now)
	marked(false)
	must(t, c.Mark(t.Context(), before, true)) // which is garbage
	marked(false)
	must(t, c.Mark(t.Context(), now, true))
	must(t, c.Mark(t.Context(), before, false))
	marked(true)
	must(t, c.Mark(t.Context(), now, false))
	marked(false)
	must(t, c.Mark(t.Context(), now, true))
	if _, err := c.Release(t.Context(), now.Ref); err != nil || len(c.Marked()) > 0 {
		t.Errorf("released, and marked: %v, %v", c.Marked(), err)
	}
}

func placesListed(t *testing.T, c blobs.Catalog) {
	var want []blobs.Ref
	for _, content := range []string{"a", "b", "c", "d", "e"} {
		o := objectOf(content)
		settle(t, c, o)
		want = append(want, o.Ref)
	}
	slices.SortFunc(want, func(a, b blobs.Ref) int { return slices.Compare(a[:], b[:]) })
	for n, from := range append([]blobs.Ref{{}}, want...) {
		var got []blobs.Ref
		for p, err := range c.Places(t.Context(), from) {
			must(t, err)
			got = append(got, p.Ref)
		}
		if !slices.Equal(got, want[max(0, n-1):]) {
			t.Errorf("from %s: %v", from, got)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range c.Places(cancelled, blobs.Ref{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after the end of its context: %v", err)
		}
	}
}

func garbageListed(t *testing.T, c blobs.Catalog) {
	var all []blobs.Object
	for _, content := range []string{"a", "b", "c"} {
		o := objectOf(content)
		settle(t, c, o)
		_, err := c.Release(t.Context(), o.Ref)
		must(t, err)
		all = append(all, o)
	}
	if early, err := c.Garbage(t.Context(), time.Now().Add(-time.Hour), 10); err != nil || len(early) > 0 {
		t.Errorf("garbage before there was any: %v, %v", early, err)
	}
	if some, err := c.Garbage(t.Context(), soon(), 2); err != nil || len(some) != 2 {
		t.Errorf("two of them: %v, %v", some, err)
	}
	wantGarbage(t, c, all...)
}

func cleared(t *testing.T, c blobs.Catalog) {
	intended, settled, garbage := objectOf("a"), objectOf("b"), objectOf("c")
	must(t, c.Intend(t.Context(), []blobs.Object{intended}))
	settle(t, c, settled)
	must(t, c.Mark(t.Context(), settled, true))
	settle(t, c, garbage)
	_, err := c.Release(t.Context(), garbage.Ref)
	must(t, err)
	for range 2 {
		must(t, c.Clear(t.Context()))
		wantWaiting(t, c, 0, 0)
		wantGarbage(t, c)
		for _, o := range []blobs.Object{intended, settled, garbage} {
			wantKnown(t, c, o, false)
		}
		if marked := c.Marked(); len(marked) > 0 {
			t.Errorf("marked %v", marked)
		}
	}
	settle(t, c, settled) // it goes on
	if p, err := c.Place(t.Context(), settled.Ref); err != nil || p.Object != settled || p.Damaged {
		t.Errorf("place %+v, %v", p, err)
	}
}

func adopted(t *testing.T, c blobs.Catalog) {
	before, now, other := objectOf("a"), objectOf("a"), objectOf("b")
	settle(t, c, before)
	must(t, c.Mark(t.Context(), before, true))
	want := placeOf(now, 7)
	must(t, c.Adopt(t.Context(), want))
	if p, err := c.Place(t.Context(), now.Ref); err != nil || p != want || len(c.Marked()) > 0 {
		t.Errorf("the place is %+v, %v; marked %v", p, err, c.Marked())
	}
	wantGarbage(t, c, before)
	must(t, c.Adopt(t.Context(), placeOf(other, 7)))
	if _, err := c.Place(t.Context(), other.Ref); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("a content without a place has one now: %v", err)
	}
	wantKnown(t, c, other, false)
	wantWaiting(t, c, 0, 1)
}

// adoptedOnce is what several processes do that have looked into the same bucket.
func adoptedOnce(t *testing.T, c blobs.Catalog) {
	before, now := objectOf("a"), objectOf("a")
	settle(t, c, before)
	for range 2 {
		must(t, c.Adopt(t.Context(), placeOf(now, 7)))
	}
	must(t, c.Adopt(t.Context(), placeOf(before, 7))) // which is garbage
	if p, err := c.Place(t.Context(), now.Ref); err != nil || p.Object != now {
		t.Errorf("the place is %+v, %v", p, err)
	}
	wantGarbage(t, c, before)
	wantWaiting(t, c, 0, 1)
}

func heldStays(t *testing.T, c blobs.Catalog) {
	holder, is := c.(blobs.Holder)
	if !is {
		t.Skip("optional: only one process uses this catalog")
	}
	first, second := objectOf("twice"), objectOf("twice")
	for _, o := range []blobs.Object{first, second} {
		must(t, c.Intend(t.Context(), []blobs.Object{o}))
		must(t, c.Settle(t.Context(), []blobs.Place{placeOf(o, 7)}))
	}
	for _, want := range []bool{false, false, true} {
		if was, err := c.Release(t.Context(), first.Ref); was != want || err != nil {
			t.Errorf("Release: %v, %v; it is %v", was, err, want)
		}
		must(t, holder.Unhold(t.Context(), []blobs.Ref{first.Ref})) // one more than there are changes nothing
	}
	wantGarbage(t, c, first, second)
}
