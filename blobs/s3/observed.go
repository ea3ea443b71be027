package s3

import (
	"context"
	"errors"
	"io"
	"time"

	"attachd/blobs"
)

// Observe returns a bucket whose calls are reported, with their operation, how they ended,
// and how long they took: a get until its answer began.
func Observe(bucket Bucket, called func(operation, outcome string, took time.Duration)) Bucket {
	return &observed{bucket, called}
}

type observed struct {
	Bucket
	called func(operation, outcome string, took time.Duration)
}

func (o *observed) observe(operation string, began time.Time, err error) {
	o.called(operation, outcomeOf(err), time.Since(began))
}

// outcomeOf says in a word how a call has ended.
func outcomeOf(err error) string {
	var answer *StoreError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, blobs.ErrNotFound):
		return "not_found"
	case errors.Is(err, ErrStalled):
		return "stalled"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled"
	case !errors.As(err, &answer):
		return "unreachable"
	case answer.Status >= 500, answer.Status == 429:
		return "failed"
	}
	return "refused"
}

// Put implements Bucket.
func (o *observed) Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error {
	began := time.Now()
	err := o.Bucket.Put(ctx, name, content, size, sum)
	o.observe("put", began, err)
	return err
}

// Get implements Bucket.
func (o *observed) Get(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
	began := time.Now()
	content, size, err := o.Bucket.Get(ctx, name, from, end)
	o.observe("get", began, err)
	return content, size, err
}

// Stat implements Bucket.
func (o *observed) Stat(ctx context.Context, name string) (int64, blobs.Ref, error) {
	began := time.Now()
	size, sum, err := o.Bucket.Stat(ctx, name)
	o.observe("head", began, err)
	return size, sum, err
}

// Delete implements Bucket.
func (o *observed) Delete(ctx context.Context, name string) error {
	began := time.Now()
	err := o.Bucket.Delete(ctx, name)
	o.observe("delete", began, err)
	return err
}

// List implements Bucket.
func (o *observed) List(ctx context.Context, prefix, after string) ([]Listed, string, error) {
	began := time.Now()
	page, next, err := o.Bucket.List(ctx, prefix, after)
	o.observe("list", began, err)
	return page, next, err
}
