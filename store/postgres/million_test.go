package postgres_test

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// TestAMillionRecords fills a product with a thousand records and another with a million, or
// with 5000 without -long, and compares how long a page of each takes. A check and the
// totals need no memory for all of them.
func TestAMillionRecords(t *testing.T) {
	t.Parallel()
	many := 5000
	if *long {
		many = 1_000_000
	}
	all, exec := replicas(t, 1)
	s := all[0]
	h := fill(t, s, store.Space{Slug: "few"})
	big := fill(t, s, store.Space{Slug: "many"})
	load := func(h house, space string, n int) {
		t.Helper()
		exec(`insert into attachd.contents (sha256, key, size, stored)
			select sha256(($1::text || n)::bytea), '\x0011223344556677', 1000, now() from generate_series(1, $2::int) n`, space, n)
		exec(`insert into attachd.attachments (id, kind, parent, space, sha256, name, size, type, uploader)
			select overlay(md5($1::text || n) placing '01a2' || lpad(to_hex(n), 8, '0') from 1)::uuid, 1, $3, $1, sha256(($1::text || n)::bytea), 'plan.pdf', 1000, 'application/pdf', $4
			from generate_series(1, $2::int) n`, space, n, h.product.ID, h.ada.ID)
		exec(`insert into attachd.usage_delta values ($1, $2::bigint * 1000, $2)`, space, n)
	}
	load(h, "few", 1000)
	load(big, "many", many)
	pages := func(h house) []time.Duration {
		var took []time.Duration
		after := uuid.Nil
		for range 200 {
			begun := time.Now()
			list, err := s.AttachmentsOf(t.Context(), h.product.Parent, after, 100)
			took = append(took, time.Since(begun))
			if err != nil || len(list) != 100 {
				t.Fatalf("a page of %d, %v", len(list), err)
			}
			if after = list[99].ID; len(took)%9 == 0 {
				after = uuid.Nil
			}
		}
		slices.Sort(took)
		return took
	}
	pages(h)
	few, lots := pages(h), pages(big)
	t.Logf("a page of 100 of 1000 takes %v (median), of %d %v", few[100], many, lots[100])
	peak := watchHeap(t)
	begun := time.Now()
	totals, err := s.Totals(t.Context(), func(time.Duration) {})
	if err != nil || totals.Attachments.Files != int64(many)+1000 || totals.Contents != totals.Attachments {
		t.Errorf("the totals are %v of %v, %v", totals.Attachments, totals.Contents, err)
	}
	t.Logf("totals take %v", time.Since(begun))
	begun = time.Now()
	whole(t, s)
	t.Logf("a check takes %v", time.Since(begun))
	if grown := peak(); grown > 16<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if *long && lots[100] > few[100]*3/2 {
		t.Errorf("a page of a million records takes %v, one of a thousand %v", lots[100], few[100])
	}
}

// watchHeap returns a function that ends it, and says by how many bytes the heap grew at most.
func watchHeap(t *testing.T) (grown func() uint64) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	before, most := heap(), uint64(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				most = max(most, heap())
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-stopped
		return most - min(before, most)
	}
}
