package server_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/server/upkeep"
)

// upkept has the server do work, and returns the last line of its answer.
func (w *world) upkept(t *testing.T, do, order string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(w.do(t, step{as: "root", do: do, json: order, want: 200}).body)), "\n")
	return lines[len(lines)-1]
}

// What others do to the objects of files is found, told everywhere, and mended by uploading
// the same file again.
func TestACheckFindsWhatTheBucketHasLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(b *bucket, object string)
		order string
		says  string
	}{
		"deleted":     {func(b *bucket, object string) { _ = b.Delete(t.Context(), object) }, `{}`, "The content is missing."},
		"cut short":   {func(b *bucket, object string) { b.Change(object, []byte("abc")) }, `{}`, "The content has 3 bytes, not 26."},
		"other bytes": {func(b *bucket, object string) { b.Change(object, []byte(strings.ToUpper(alphabet))) }, `{"deep": true}`, "its bytes are not those that were uploaded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bucket
			w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
			w.expectLog("a check found faults")
			w.expectLog("damaged")
			if last := w.upkept(t, "POST /upkeep/check", c.order); !strings.Contains(last, `"faults":[]`) {
				t.Fatalf("before: %s", last)
			}
			c.spoil(&b, b.Names()[0])
			if last := w.upkept(t, "POST /upkeep/check", c.order); !strings.Contains(last, c.says) {
				t.Errorf("the check says %s", last)
			}
			w.wantStats(t, `{"damaged": 1}`)
			if a := w.do(t, step{as: "root", do: "GET /faults", want: 200}); !strings.Contains(string(a.body), `"file_name":"a.txt"`) {
				t.Errorf("the faults are %s", a.body)
			}
			w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 500, code: "damaged"})
			w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", alphabet)}, want: 201})
			w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200})
			w.wantStats(t, `{"damaged": 0}`)
			if last := w.upkept(t, "POST /upkeep/check", `{"deep": true}`); !strings.Contains(last, `"faults":[]`) {
				t.Errorf("after the same file was uploaded again: %s", last)
			}
		})
	}
}

func TestACollectionDeletesStraysFromTheBucket(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	w.stray(&b)
	if last := w.upkept(t, "POST /upkeep/gc", `{"dry_run": true}`); !strings.Contains(last, `"strays":1,"stray_bytes":5`) || len(b.Names()) != 2 {
		t.Errorf("a dry run says %s", last)
	}
	ours := b.Content("p/attachd.json")
	b.Change("p/attachd.json", []byte(`{"installation":"another","layout":1}`))
	w.expectLog("refused")
	w.do(t, step{as: "root", do: "POST /upkeep/gc", want: 503, code: "unavailable"})
	if len(b.Names()) != 2 {
		t.Error("something was removed on doubt")
	}
	b.Change("p/attachd.json", ours)
	if last := w.upkept(t, "POST /upkeep/gc", `{}`); !strings.Contains(last, `"strays":1`) || len(b.Names()) != 1 {
		t.Errorf("a collection says %s, and %q are left", last, b.Names())
	}
}

// stray puts an object into the bucket that has no content, and is a day old.
func (w *world) stray(b *bucket) (name string) {
	name = "p/blobs/sha256/00/" + strings.Repeat("0", 64) + "/" + blobs.NewKey().String()
	b.Change(name, []byte("stray"))
	b.Age(name, time.Since(w.clock.Now())+25*time.Hour) // by the clock of the world, which stands still
	return name
}

// Nobody has to run `attachd gc` for that, and the bucket is not listed each hour.
func TestTheServerListsTheBucketOnceInAMonth(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	for i, c := range []struct {
		pass time.Duration
		left int // strays, each time one more before the collection
	}{{time.Hour, 0}, {time.Hour, 1}, {28 * 24 * time.Hour, 2}, {2 * 24 * time.Hour, 0}} {
		w.clock.advance(c.pass)
		w.stray(&b)
		w.must(w.server.CollectInBackground(t.Context()))
		if names := b.Names(); len(names) != 1+c.left {
			t.Errorf("the %d. time: %q are left", i+1, names)
		}
	}
}

// A database that lacks records is not the reason to delete what it does not know; nor is it
// tried each hour.
func TestTheServerDeletesNoMoreThanFewStraysByItself(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	for range 11 {
		w.stray(&b)
	}
	if err := w.server.CollectInBackground(t.Context()); !errors.Is(err, upkeep.ErrMany) || len(b.Names()) != 12 {
		t.Errorf("%v, and %d are left", err, len(b.Names()))
	}
	w.must(w.server.CollectInBackground(t.Context()))
	if last := w.upkept(t, "POST /upkeep/gc", `{}`); !strings.Contains(last, `"strays":11`) || len(b.Names()) != 1 {
		t.Errorf("an operator's collection says %s, and %q are left", last, b.Names())
	}
}

// What is left of lost files may be what there is of them.
func TestNothingIsCollectedFromABucketThatHasLostMuch(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	for i := range 10 {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", strings.Repeat("b", i+1))}, want: 201})
	}
	objects := map[string][]byte{}
	for _, name := range b.Names() {
		objects[name] = b.Content(name)
		w.must(b.Delete(t.Context(), name))
	}
	stray := w.stray(&b)
	w.do(t, step{as: "root", do: "POST /upkeep/gc", want: 409, code: "conflict"})
	if names := b.Names(); !slices.Equal(names, []string{stray}) {
		t.Errorf("%q are left", names)
	}
	for name, content := range objects {
		b.Change(name, content)
	}
	if last := w.upkept(t, "POST /upkeep/gc", `{}`); !strings.Contains(last, `"strays":1`) || len(b.Names()) != 11 {
		t.Errorf("after they were put back: %s, and %q are left", last, b.Names())
	}
}

// A deleted file goes at once, and its object when storage.keep_deleted is over.
func TestTheObjectOfADeletedFileWaits(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	w.do(t, step{as: "root", do: "DELETE /catalog/attachments/{A}", want: 200})
	w.wantStats(t, `{"storage": {"backend": "disk", "unswept": 1}}`)
	if len(b.Names()) != 1 {
		t.Errorf("objects: %q", b.Names())
	}
	if last := w.upkept(t, "POST /upkeep/check", `{"deep": true}`); !strings.Contains(last, `"faults":[],"orphans":0,"orphan_bytes":0}`) {
		t.Errorf("the check says %s", last)
	}
}
