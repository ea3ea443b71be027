package s3_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
)

// Whoever asks each second whether uploads would work costs a HEAD every few seconds, and a
// PUT each half minute; and learns in less than ten seconds that the store is gone.
func TestAProbeCostsLittleAndFindsOutSoon(t *testing.T) {
	var calls []string
	var far *rude
	o := open(t, func(options *s3.Options) {
		far = &rude{Memory: options.Bucket.(*s3test.Memory)}
		options.Bucket = s3.Observe(far, func(operation, _ string, _ time.Duration) { calls = append(calls, operation) })
	})
	probe := func(want ...string) {
		t.Helper()
		calls = nil
		if err := o.Probe(t.Context()); err != nil || !slices.Equal(calls, want) {
			t.Errorf("%q, not %q, and %v", calls, want, err)
		}
	}
	o.keep(t, "a content")
	probe()
	o.Age(4 * time.Second)
	probe("head")
	probe()
	o.Age(20 * time.Second)
	probe("head")
	o.Age(8 * time.Second)
	probe("put", "delete")
	probe()
	o.Age(-time.Hour) // the clock is set back
	probe("put", "delete")
	o.Age(4 * time.Second)
	far.stat = errors.New("connection refused")
	if err := o.Probe(t.Context()); !errors.Is(err, blobs.ErrUnavailable) {
		t.Errorf("of a store that is gone: %v", err)
	}
	far.stat = nil
	probe("head")
	if err := o.bucket.Delete(t.Context(), "files/attachd.json"); err != nil {
		t.Fatal(err)
	}
	o.Age(4 * time.Second)
	if err := o.Probe(t.Context()); !errors.Is(err, blobs.ErrUnavailable) {
		t.Errorf("of a bucket that was emptied: %v", err)
	}
}
