package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
)

// answering is a bucket whose calls all end with an error.
type answering struct {
	s3test.Memory
	err error
}

func (a *answering) Put(context.Context, string, io.Reader, int64, blobs.Ref) error { return a.err }
func (a *answering) Get(context.Context, string, int64, int64) (io.ReadCloser, int64, error) {
	return nil, 0, a.err
}
func (a *answering) Stat(context.Context, string) (int64, blobs.Ref, error) {
	return 0, blobs.Ref{}, a.err
}
func (a *answering) Delete(context.Context, string) error { return a.err }
func (a *answering) List(context.Context, string, string) ([]s3.Listed, string, error) {
	return nil, "", a.err
}

func TestEachCallIsReportedWithHowItEnded(t *testing.T) {
	for outcome, err := range map[string]error{
		"ok":          nil,
		"not_found":   fmt.Errorf("%w: no such object", blobs.ErrNotFound),
		"refused":     fmt.Errorf("calling: %w", &s3.StoreError{Status: 403, Code: "AccessDenied"}),
		"failed":      &s3.StoreError{Status: 503, Code: "SlowDown"},
		"unreachable": errors.New("connection refused"),
		"canceled":    context.Canceled,
	} {
		var calls []string
		bucket := s3.Observe(&answering{err: err}, func(operation, how string, took time.Duration) {
			if took < 0 {
				t.Errorf("%s took %v", operation, took)
			}
			calls = append(calls, operation+" "+how)
		})
		ctx := t.Context()
		got := []error{bucket.Put(ctx, "a", strings.NewReader(""), 0, blobs.Ref{})}
		_, _, gone := bucket.Get(ctx, "a", 0, 0)
		got = append(got, gone)
		_, _, gone = bucket.Stat(ctx, "a")
		got = append(got, gone, bucket.Delete(ctx, "a"))
		_, _, gone = bucket.List(ctx, "", "")
		got = append(got, gone)
		for i := range got {
			if got[i] != err {
				t.Errorf("%s: call %d returned %v", outcome, i, got[i])
			}
		}
		if want := []string{"put " + outcome, "get " + outcome, "head " + outcome, "delete " + outcome, "list " + outcome}; !slices.Equal(calls, want) {
			t.Errorf("%s: %q", outcome, calls)
		}
	}
}
