package server_test

import (
	"strings"
	"testing"
	"time"

	"attachd/blobs"
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
	stray := "p/blobs/sha256/00/" + strings.Repeat("0", 64) + "/" + blobs.NewKey().String()
	b.Change(stray, []byte("stray"))
	// The age of an object is by the clock of the world, which stands still.
	b.Age(stray, time.Since(w.clock.Now())+25*time.Hour)
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
