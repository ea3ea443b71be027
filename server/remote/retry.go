package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"attachd/server/backoff"
)

const (
	// firstWait is the wait after the first failure, and longestWait the longest wait
	// after any failure for which the server requested none.
	firstWait   = 250 * time.Millisecond
	longestWait = 15 * time.Second
)

// attempts is the backoff of retries.
type attempts struct {
	client   *Client
	failed   time.Time // the first failure since the last progress
	failures int       // failures since the last progress
}

// forward resets the backoff after progress.
func (a *attempts) forward() { *a = attempts{client: a.client} }

// again waits until the next attempt. It returns err when another attempt would not
// help, or would come too late.
func (a *attempts) again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !passes(err) || a.client.RetryFor <= 0 {
		return err
	}
	now := time.Now()
	if a.failed.IsZero() {
		a.failed = now
	}
	a.failures++
	most := backoff.Doubled(firstWait, a.failures, longestWait)
	wait := backoff.Jitter(most*3/4, most)
	var r *Refusal
	if errors.As(err, &r) && r.RetryAfter > 0 {
		wait = r.RetryAfter
	}
	if left := a.failed.Add(a.client.RetryFor).Sub(now); wait > left {
		if r != nil && r.RetryAfter > 0 {
			return fmt.Errorf("%w (the server asks to wait %v)", err, wait)
		}
		return err
	}
	if a.client.Retrying != nil {
		a.client.Retrying(err, wait)
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retry calls try until it succeeds, or another attempt would not help.
func (c *Client) retry(ctx context.Context, try func() error) error {
	for a := (attempts{client: c}); ; {
		err := try()
		if err == nil {
			return nil
		}
		if err := a.again(ctx, err); err != nil {
			return err
		}
	}
}

// passes reports whether the same request may succeed later.
func passes(err error) bool {
	var (
		r    *Refusal
		lost *lostError
	)
	if !errors.As(err, &r) {
		return errors.As(err, &lost)
	}
	switch r.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
