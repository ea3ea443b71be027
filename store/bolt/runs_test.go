package bolt_test

import (
	"path/filepath"
	"testing"
	"time"

	"attachd/store"
	"attachd/store/bolt"
)

// A search by time reads the entries of that time and few others, in a log whose
// clock was sometimes wrong.
func TestAnOldEntryEndsTheSearchInItsRun(t *testing.T) {
	b, err := bolt.Open(filepath.Join(t.TempDir(), "attachd.db"), bolt.Options{})
	must(t, err)
	defer b.Close()
	record := func(at time.Time, n int) {
		for range n {
			b.Record(store.Entry{Time: at, Action: "a"})
			at = at.Add(time.Hour)
		}
		must(t, b.Probe(t.Context()))
	}
	record(start, 100)                    // 1 to 100
	record(start.AddDate(12, 0, 0), 10)   // to 110: in the future, and of the same run
	record(start.AddDate(0, 0, 5), 100)   // to 210: a run from 111
	record(start.AddDate(-56, 0, 0), 10)  // to 220: a run from 211
	record(start.AddDate(0, 0, 10), 1000) // to 1220: in order again
	runs, err := b.AuditRuns(t.Context())
	must(t, err)
	if len(runs) != 3 || runs[0].First != 1 || runs[1].First != 111 || runs[2].First != 211 {
		t.Fatalf("the runs are %+v", runs)
	}
	for _, c := range []struct {
		since  time.Time
		from   uint64
		before uint64
	}{
		{start.AddDate(0, 0, 40), 800, 111}, // those with a future time may be of that time
		{start.AddDate(0, 0, 6), 215, 211},  // and so may those of the run before
		{start.AddDate(0, 0, 6), 120, 120},  // older by less than LongestRequest: does not end the search
		{start.AddDate(13, 0, 0), 1220, 1},  // there is none
		{start.AddDate(0, 0, 8), 115, 111},
	} {
		list, err := b.EntriesBefore(t.Context(), c.from+1, 1)
		must(t, err)
		if got := store.SkipOlder(runs, list[0], c.since); got != c.before {
			t.Errorf("since %v, from %d on, the search goes on before %d, not %d", c.since, c.from, got, c.before)
		}
	}
	// Removed entries have no runs.
	_, err = b.PruneAudit(t.Context(), 0, time.Hour, 10_000)
	must(t, err)
	record(start.AddDate(0, 0, 60), 5)
	_, err = b.PruneAudit(t.Context(), time.Hour, time.Hour, 10_000)
	must(t, err)
	record(start.AddDate(0, 0, 61), 5)
	if runs, err := b.AuditRuns(t.Context()); err != nil || len(runs) != 1 {
		t.Errorf("the runs are %+v, %v", runs, err)
	}
}

// Setting back the clock repeatedly does not make an unbounded list.
func TestTheRunsOfTheAuditLogAreBounded(t *testing.T) {
	b, err := bolt.Open(filepath.Join(t.TempDir(), "attachd.db"), bolt.Options{})
	must(t, err)
	defer b.Close()
	for i := range 1500 {
		b.Record(store.Entry{Time: start.AddDate(0, 0, -2*i), Action: "a"})
	}
	must(t, b.Probe(t.Context()))
	runs, err := b.AuditRuns(t.Context())
	must(t, err)
	if len(runs) != 500 || runs[0].First != 1 || runs[0].Ordered || !runs[0].Latest.Equal(start) || runs[499].First != 1500 {
		t.Errorf("there are %d runs: %+v", len(runs), runs[:2])
	}
}
