package bolt_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/storetest"
)

func TestTotalsAreCountedALittleAtATime(t *testing.T) {
	t.Parallel()
	b := bolt.OpenTemp(t)
	const n = 5000
	storetest.Fill(t, b, n)
	var bytes, spared int64 // every tenth has the content of the one before
	for i := range n {
		size := int64(len(storetest.FilledContent(i)))
		bytes += size
		if i%10 == 9 {
			spared += size
		}
	}
	rests := 0
	got, err := b.Totals(t.Context(), func(time.Duration) { rests++ })
	if err != nil {
		t.Fatal(err)
	}
	if want := (store.Usage{Bytes: bytes, Files: n}); got.Attachments != want || got.ByType["text/plain"] != want {
		t.Errorf("the attachments are %v and %v, want %v", got.Attachments, got.ByType, want)
	}
	if want := (store.Usage{Bytes: bytes - spared, Files: n - n/10}); got.Contents != want {
		t.Errorf("the contents are %v, want %v", got.Contents, want)
	}
	if rests != 2 {
		t.Errorf("it rested %d times, want once for the records and once for the contents", rests)
	}
	// rest may end the context.
	ctx, stop := context.WithCancel(t.Context())
	if _, err := b.Totals(ctx, func(time.Duration) { stop() }); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

func TestASizeBelongsToTheSmallestPowerOfTwoThatHoldsIt(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]int{0: 0, 1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 1 << 20: 20, 1<<20 + 1: 21, math.MaxInt64: 63} {
		if got := store.SizeClass(size); got != want {
			t.Errorf("%d bytes are of class %d, want %d", size, got, want)
		}
	}
}

func TestEachCommitTellsHowLongItTook(t *testing.T) {
	t.Parallel()
	commits := 0
	b, err := bolt.Open(t.TempDir()+"/attachd.db", bolt.Options{Committed: func(took time.Duration) {
		if took > 0 {
			commits++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	before := commits
	if err := errors.Join(b.Probe(t.Context()), b.Close()); err != nil || commits != before+1 {
		t.Errorf("%d commits before a probe, %d after: %v", before, commits, err)
	}
}

func BenchmarkTotals(b *testing.B) {
	s := bolt.OpenTemp(b)
	storetest.Fill(b, s, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Totals(b.Context(), func(time.Duration) {}); err != nil {
			b.Fatal(err)
		}
	}
}
