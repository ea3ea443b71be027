package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"time"
)

const (
	firstWait   = 250 * time.Millisecond
	longestWait = 15 * time.Second // that nobody asked for
)

// attempts paces what is tried again.
type attempts struct {
	client *Client
	failed time.Time // first since something went forward
	wait   time.Duration
}

// forward begins anew: what follows is another failure.
func (a *attempts) forward() { *a = attempts{client: a.client} }

// again waits until the next attempt. It returns err when another would not
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
		a.failed, a.wait = now, firstWait
	} else {
		a.wait = min(2*a.wait, longestWait)
	}
	// Clients that failed together should not come back together.
	jitter, randErr := rand.Int(rand.Reader, big.NewInt(int64(a.wait/4)))
	if randErr != nil {
		return errors.Join(err, randErr)
	}
	wait := a.wait*3/4 + time.Duration(jitter.Int64())
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

// retry tries until it succeeds or there is no hope.
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

// passes says whether the same request may fare better later.
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

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds or
// a date. 0 is nothing said.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return time.Duration(min(seconds, 1<<30)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
