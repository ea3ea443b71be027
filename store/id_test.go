package store_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

func timeIn(id uuid.UUID) time.Time { return store.Attachment{ID: id}.CreatedAt() }

// An id follows the clock, in whichever direction that was set.
func TestIDsFollowTheClockBothWays(t *testing.T) {
	var ids store.IDs
	for _, now := range []time.Time{
		time.Date(2026, 3, 1, 12, 0, 0, 999_999_999, time.UTC),
		time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC),
		time.Date(2026, 3, 1, 12, 0, 2, 1, time.UTC),
		time.Date(1970, 1, 1, 0, 0, 7, 5_000_000, time.UTC),
		time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC),
		time.Date(2026, 3, 1, 12, 0, 2, 0, time.UTC),
	} {
		id := ids.New(now)
		if got := timeIn(id); !got.Equal(now.Truncate(time.Second)) || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Errorf("at %v, the id %s of version %d says %v", now, id, id.Version(), got)
		}
	}
	if id := ids.New(time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)); timeIn(id).Unix() != 0 || id.Version() != 7 {
		t.Errorf("before 1970, the id is %s", id)
	}
}

// When the clock stands still, or is set back by a little, ids stay in order.
func TestIDsOfOneMomentComeInOrder(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var ids store.IDs
	var last uuid.UUID
	for n := range 20_000 {
		id := ids.New(now.Add(-time.Duration(n) * 40 * time.Microsecond))
		if bytes.Compare(id[:], last[:]) <= 0 {
			t.Fatalf("id %d, %s, comes after %s", n, id, last)
		}
		last = id
	}
}

func TestIDsDiffer(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var ids store.IDs
	var mu sync.Mutex
	var all sync.WaitGroup
	seen := map[uuid.UUID]bool{}
	for worker := range 8 {
		all.Go(func() {
			for n := range 1000 {
				// The clock is set back by an hour repeatedly.
				id := ids.New(now.Add(-time.Duration((n+worker)%3) * time.Hour))
				mu.Lock()
				if seen[id] {
					t.Errorf("%s was there before", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
}
