package postgres_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/portable"
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

// TestAMillionRecordsMoveThereAndBack moves a million records from an embedded database and
// back, or 2000 without -long, each with its content, its checksums and an entry of the audit
// log. Both sides are compared each time. Changes are refused for as long as one move takes.
func TestAMillionRecordsMoveThereAndBack(t *testing.T) {
	t.Parallel()
	many := 2000
	if *long {
		many = 1_000_000
	}
	from, to, back := embedded(t), open(t), embedded(t)
	if err := from.Import(t.Context(), records(many)); err != nil {
		t.Fatal(err)
	}
	var moved [2]portable.Summary
	for i, way := range []struct {
		name     string
		from, to interface {
			portable.Source
			portable.Target
		}
	}{{"there", from, to}, {"back", to, back}} {
		begun := time.Now()
		var err error
		if moved[i], err = portable.Copy(t.Context(), way.from, way.to, nil); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d records, %d rows, move %s in %v", many, rows(moved[i]), way.name, time.Since(begun))
	}
	if faults := moved[0].Differences(moved[1]); len(faults) > 0 || moved[0].Counts[portable.KindAttachment].Rows != int64(many) {
		t.Errorf("of %d records, not all came back: %v", many, faults)
	}
	if faults, err := back.Check(t.Context(), nil); err != nil || len(faults) > 0 {
		t.Errorf("the database has faults: %.10q, %v", faults, err)
	}
}

func rows(s portable.Summary) (n int64) {
	for _, count := range s.Counts {
		n += count.Rows
	}
	return n
}

// records are many attachments, and what belongs to them.
func records(many int) iter.Seq2[portable.Row, error] {
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	ada := store.User{ID: uuid.UUID{1}, FullName: "Ada"}
	parent := func(n int) store.Parent {
		return store.Parent{Kind: store.Product, ID: uuid.UUID{2, 15: byte(n % 100)}}
	}
	content := func(n int) [32]byte { return sha256.Sum256(fmt.Append(nil, n)) }
	return portable.Ended(func(yield func(portable.Row, error) bool) {
		row := func(r portable.Row) bool { return yield(r, nil) }
		more := row(portable.User{User: ada}) && row(portable.Space{Space: store.Space{Slug: "a"}}) &&
			row(portable.Usage{Space: "a", Usage: store.Usage{Bytes: int64(many) * 1000, Files: int64(many)}})
		for n := 0; more && n < 100; n++ {
			more = row(portable.Entity{Entity: store.Entity{Parent: parent(n), Space: "a", Name: "Customer 360"}})
		}
		for n := 0; more && n < many; n++ {
			more = row(portable.Place{Place: blobs.Place{Object: blobs.Object{Ref: content(n), Key: [8]byte{1}}, Size: 1000, Stored: noon}})
		}
		for n := 0; more && n < many; n++ {
			id := uuid.UUID{0x01, 0xa2, 6: 0x70, 8: 0x80}
			binary.BigEndian.PutUint32(id[2:], uint32(n))
			more = row(portable.Attachment{Space: "a", Attachment: store.Attachment{ID: id, Parent: parent(n), FileName: "orders per month.pdf", Size: 1000, Type: "application/pdf", SHA256: content(n), UploaderID: ada.ID}})
		}
		for n := 0; more && n < many; n++ {
			more = row(portable.Checksums{SHA256: content(n), Sums: []byte("checksums")})
		}
		var head store.ChainPos
		for n := 0; more && n < many; n++ {
			e := store.Entry{Seq: uint64(n + 1), Previous: head.Hash, Time: noon, UserID: ada.ID, Action: "attachment.upload", Resource: "attachment", Name: "orders per month.pdf", Space: "a", Outcome: "done"}
			head = store.ChainPos{Seq: e.Seq, Hash: e.Sum()}
			more = row(portable.Entry{Seq: e.Seq, Hash: head.Hash, Encoded: e.Encode()})
		}
		if more {
			row(portable.Chain{Head: head})
		}
	})
}
