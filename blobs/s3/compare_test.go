package s3_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
)

// keep stores a content and returns the name of its object.
func (o opened) keep(t *testing.T, content string) (ref blobs.Ref, name string) {
	t.Helper()
	spool, err := o.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(spool, content); err != nil {
		t.Fatal(err)
	}
	release, err := spool.Keep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	ref = blobs.RefOf([]byte(content))
	place, err := o.catalog.Place(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return ref, fmt.Sprintf("files/blobs/sha256/%s/%s/%s", ref.String()[:2], ref, place.Key)
}

// compare returns what differs, a line for each, sorted.
func (o opened) compare(t *testing.T) (found []string, all []blobs.Difference, err error) {
	t.Helper()
	for d, err := range o.Compare(t.Context()) {
		if err != nil {
			return nil, nil, err
		}
		kind := map[blobs.DifferenceKind]string{blobs.Missing: "missing", blobs.WrongLength: "wrong length", blobs.Stray: "stray", blobs.Foreign: "foreign"}[d.Kind]
		found, all = append(found, fmt.Sprintf("%s %s %d", kind, d.Name, d.Size)), append(all, d)
	}
	slices.Sort(found)
	return found, all, nil
}

// rude is a bucket whose listings have bad manners.
type rude struct {
	*s3test.Memory
	list func(page []s3.Listed, after, next string) ([]s3.Listed, string, error)
	stat error
	get  error
}

func (r *rude) List(ctx context.Context, prefix, after string) ([]s3.Listed, string, error) {
	page, next, err := r.Memory.List(ctx, prefix, after)
	if r.list == nil || err != nil {
		return page, next, err
	}
	return r.list(page, after, next)
}

func (r *rude) Stat(ctx context.Context, name string) (int64, blobs.Ref, error) {
	if r.stat != nil {
		return 0, blobs.Ref{}, r.stat
	}
	return r.Memory.Stat(ctx, name)
}

func (r *rude) Get(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
	if r.get != nil {
		return nil, 0, r.get
	}
	return r.Memory.Get(ctx, name, from, end)
}

func openRude(t *testing.T) (opened, *rude) {
	r := &rude{}
	o := open(t, func(options *s3.Options) {
		r.Memory = options.Bucket.(*s3test.Memory)
		options.Bucket = r
		options.Patience = 0
	})
	return o, r
}

func TestCompareFindsWhatIsNotAsItShouldBe(t *testing.T) {
	for name, list := range map[string]func(page []s3.Listed, after, next string) ([]s3.Listed, string, error){
		"in order": nil,
		"pages backwards": func(page []s3.Listed, _, next string) ([]s3.Listed, string, error) {
			slices.Reverse(page)
			return page, next, nil
		},
		"a list that lacks objects": func(page []s3.Listed, _, next string) ([]s3.Listed, string, error) {
			return slices.DeleteFunc(page, func(o s3.Listed) bool { return o.Size == 100 }), next, nil
		},
		"a list that has old lengths": func(page []s3.Listed, _, next string) ([]s3.Listed, string, error) {
			for i := range page {
				if page[i].Size == 100 {
					page[i].Size = 7
				}
			}
			return page, next, nil
		},
		"objects that come twice": func(page []s3.Listed, _, next string) ([]s3.Listed, string, error) {
			return append(page, slices.DeleteFunc(slices.Clone(page), func(o s3.Listed) bool { return o.Size != 100 })...), next, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, bucket := openRude(t)
			for i := range 12 {
				o.keep(t, fmt.Sprintf("%0100d", i))
			}
			bucket.list = list
			if found, _, err := o.compare(t); err != nil || len(found) > 0 {
				t.Fatalf("intact: %q, %v", found, err)
			}
			_, missing := o.keep(t, "missing")
			_, short := o.keep(t, "short")
			stray := "files/blobs/sha256/00/" + strings.Repeat("0", 64) + "/" + blobs.NewKey().String()
			probe := "files/probe/" + blobs.NewKey().String()
			if err := o.bucket.Delete(t.Context(), missing); err != nil {
				t.Fatal(err)
			}
			o.bucket.Change(short, []byte("shor"))
			o.bucket.Change(stray, []byte("nobody's"))
			o.bucket.Change(probe, []byte("probe"))
			o.bucket.Change("files/notes.txt", []byte("mine"))
			o.bucket.Change("files/blobs/sha256/00/x", []byte("mine"))
			o.bucket.Change("elsewhere/notes.txt", []byte("mine"))
			found, all, err := o.compare(t)
			want := []string{"missing " + missing + " 0", "wrong length " + short + " 4", "stray " + stray + " 8", "stray " + probe + " 5",
				"foreign files/notes.txt 4", "foreign files/blobs/sha256/00/x 4"}
			slices.Sort(want)
			if err != nil || !slices.Equal(found, want) {
				t.Fatalf("%v\n%s\nnot\n%s", err, strings.Join(found, "\n"), strings.Join(want, "\n"))
			}
			for _, d := range all {
				if d.Lost != nil {
					if err := o.MarkDamaged(t.Context(), d.Ref, d.Lost); err != nil {
						t.Error(err)
					}
				}
			}
			if o.Damaged() != 2 {
				t.Errorf("%d are marked", o.Damaged())
			}
			o.keep(t, "missing")
			o.keep(t, "short")
			if found, _, err := o.compare(t); err != nil || len(found) != 4 || o.Damaged() != 0 {
				t.Errorf("after the same files were uploaded again: %q, %v, %d marked", found, err, o.Damaged())
			}
		})
	}
}

// What is garbage, or was intended and may be under way, is neither lost nor stray.
func TestCompareKnowsWhatIsUnderWay(t *testing.T) {
	o := open(t, nil)
	ref, _ := o.keep(t, "removed")
	if _, err := o.Remove(t.Context(), ref, func() (bool, error) { return false, nil }); err != nil {
		t.Fatal(err)
	}
	intended := blobs.NewObject(blobs.RefOf([]byte("under way")))
	if err := o.catalog.Intend(t.Context(), []blobs.Object{intended}); err != nil {
		t.Fatal(err)
	}
	o.bucket.Change("files/blobs/sha256/"+intended.Ref.String()[:2]+"/"+intended.Ref.String()+"/"+intended.Key.String(), []byte("under"))
	o.keep(t, "twice")
	o.keep(t, "twice")
	if found, _, err := o.compare(t); err != nil || len(found) > 0 {
		t.Errorf("%q, %v", found, err)
	}
}

// What a store does not say for certain is an error, never a loss.
func TestCompareFindsNothingOnDoubt(t *testing.T) {
	down := &s3.StoreError{Status: 503, Code: "SlowDown"}
	for name, spoil := range map[string]func(t *testing.T, o opened, r *rude){
		"the store is down": func(_ *testing.T, _ opened, r *rude) { r.get = down },
		"the list fails": func(_ *testing.T, _ opened, r *rude) {
			r.list = func([]s3.Listed, string, string) ([]s3.Listed, string, error) { return nil, "", down }
		},
		"the list fails on its second page": func(_ *testing.T, _ opened, r *rude) {
			r.list = func(page []s3.Listed, after, next string) ([]s3.Listed, string, error) {
				if after != "" {
					return nil, "", down
				}
				return page, next, nil
			}
		},
		"the list repeats a page": func(_ *testing.T, _ opened, r *rude) {
			r.list = func(page []s3.Listed, _, _ string) ([]s3.Listed, string, error) { return page, "same", nil }
		},
		"the list goes round": func(_ *testing.T, _ opened, r *rude) {
			n := 0
			r.list = func(page []s3.Listed, _, _ string) ([]s3.Listed, string, error) {
				n++
				return page, []string{"a", "b", "c"}[n%3], nil
			}
		},
		"an object is not to be asked for": func(t *testing.T, o opened, r *rude) {
			_, name := o.keep(t, "gone")
			if err := o.bucket.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			r.stat = down
		},
		"the bucket was emptied": func(t *testing.T, o opened, _ *rude) {
			for _, name := range append(o.bucket.Names(), "files/attachd.json") {
				if err := o.bucket.Delete(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
		},
		"something else answers 404": func(_ *testing.T, _ opened, r *rude) {
			r.get = fmt.Errorf("%w: page not found", blobs.ErrNotFound)
			r.stat = r.get
			r.list = func([]s3.Listed, string, string) ([]s3.Listed, string, error) { return nil, "", nil }
		},
		"the bucket is another installation's": func(_ *testing.T, o opened, _ *rude) {
			o.bucket.Change("files/attachd.json", []byte(`{"installation":"another","layout":1}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, bucket := openRude(t)
			for i := range 8 {
				o.keep(t, fmt.Sprint(i))
			}
			spoil(t, o, bucket)
			if found, _, err := o.compare(t); err == nil {
				t.Errorf("no error, and %q", found)
			}
		})
	}
}

func TestStraysAreRemovedAndNothingElse(t *testing.T) {
	o := open(t, nil)
	_, kept := o.keep(t, "kept")
	stray, probe := "files/blobs/sha256/00/"+strings.Repeat("0", 64)+"/"+blobs.NewKey().String(), "files/probe/"+blobs.NewKey().String()
	for _, name := range []string{stray, probe, "files/notes.txt"} {
		o.bucket.Change(name, []byte("x"))
	}
	removed, err := o.RemoveStrays(t.Context(), []blobs.Difference{{Name: stray}, {Name: probe}, {Name: kept}})
	if err != nil || len(removed) != 2 || slices.ContainsFunc(removed, func(d blobs.Difference) bool { return d.Name == kept }) {
		t.Errorf("removed: %+v, %v", removed, err)
	}
	for _, name := range []string{"files/notes.txt", "files/attachd.json", "files/"} {
		if _, err := o.RemoveStrays(t.Context(), []blobs.Difference{{Name: name}}); err == nil {
			t.Errorf("%s was removed", name)
		}
	}
	if found, _, err := o.compare(t); err != nil || !slices.Equal(found, []string{"foreign files/notes.txt 1"}) {
		t.Errorf("left: %q, %v", found, err)
	}
	if names := o.bucket.Names(); !slices.Equal(names, []string{kept}) {
		t.Errorf("left of contents: %q", names)
	}
}
