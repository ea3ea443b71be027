package server

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"attachd/server/jobs"
	"attachd/store"
)

// cutOff is a store that replicas share, of which only the leases are there, until this one
// cannot reach it any more.
type cutOff struct {
	store.Shared
	is atomic.Bool
}

func (c *cutOff) TakeLeases(_ context.Context, names ...string) (map[string]int64, error) {
	if c.is.Load() {
		return nil, errors.New("it does not answer")
	}
	epochs := map[string]int64{}
	for _, name := range names {
		epochs[name] = 1
	}
	return epochs, nil
}

func (*cutOff) GiveBack(context.Context, ...string) error { return nil }

// A backup learns in time that other replicas may remove what it needs.
func TestABackupEndsWithItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(cutOff)
		p := pins{jobs.NewLeases(shared, slog.New(slog.DiscardHandler)), shared}
		held, end, err := p.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * store.LeaseTime)
		if held.Err() != nil {
			t.Errorf("it ends while it is renewed: %v", held.Err())
		}
		shared.is.Store(true)
		time.Sleep(store.LeaseTime)
		if held.Err() == nil {
			t.Error("it lasts longer than the lease")
		}
		end()
	})
}
