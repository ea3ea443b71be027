package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// benched opens an empty database on a server that syncs, as a store and without one.
func benched(b *testing.B) (*postgres.Store, *pgxpool.Pool) {
	b.Helper()
	dir, err := os.MkdirTemp("", "bench") // the user of the server can go through it
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	server, err := postgrestest.Start(dir)
	if errors.Is(err, exec.ErrNotFound) {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Kill)
	dsn, err := server.CreateDatabase(context.Background(), "bench")
	if err != nil {
		b.Fatal(err)
	}
	s, err := postgres.Open(context.Background(), postgres.Options{DSN: dsn, MaxConnections: 32})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	pool, err := pgxpool.New(context.Background(), dsn+"&pool_max_conns=32")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return s, pool
}

// BenchmarkCommit compares the record of an upload with commits of one row, on a server that
// syncs: rows of their own, or always the same row, as the usage of a space with a quota is.
// The contents are there already. All are made in turn, so that what else the machine does counts
// for all of them.
func BenchmarkCommit(b *testing.B) {
	s, pool := benched(b)
	execute := func(sql string, args ...any) {
		if _, err := pool.Exec(context.Background(), sql, args...); err != nil {
			b.Error(err)
		}
	}
	execute(`create table bench (id bigint primary key, n bigint not null) with (fillfactor = 50)`)
	execute(`insert into bench values (0, 0)`)
	free := fill(b, s, store.Space{Slug: "free"})
	limited := fill(b, s, store.Space{Slug: "limited", QuotaFiles: 1 << 40})
	if err := upload(s, free.file("content")); err != nil {
		b.Fatal(err)
	}
	record := func(h house) {
		if err := s.CreateAttachment(store.WithEntry(context.Background(), &store.Entry{Action: "attachment.upload", Outcome: "done"}), h.file("content"), nil, ""); err != nil {
			b.Error(err)
		}
	}
	var last atomic.Int64
	kinds := []struct {
		name string
		do   func()
	}{
		{"row", func() { execute(`insert into bench values ($1, 0)`, last.Add(1)) }},
		{"record", func() { record(free) }},
		{"same-row", func() { execute(`update bench set n = n + 1 where id = 0`) }},
		{"quota", func() { record(limited) }},
	}
	for _, clients := range []int{1, 16, 32} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var rates [4]float64
			for b.Loop() {
				for i, kind := range kinds {
					rates[i] += often(clients, kind.do)
				}
			}
			for i, kind := range kinds {
				b.ReportMetric(rates[i]/float64(b.N), kind.name+"/s")
			}
			b.ReportMetric(rates[1]/rates[0], "record/row")
			b.ReportMetric(rates[3]/rates[2], "quota/same-row")
		})
	}
}

// often is how often a second some clients do something, in a tenth of a second.
func often(clients int, do func()) float64 {
	var done atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	for range clients {
		all.Go(func() {
			for time.Since(begun) < 100*time.Millisecond {
				do()
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(begun).Seconds()
}

// BenchmarkAgainstOneRow measures what changes with an entry of the audit log and an event cost,
// in commits of a single row on the same server, which syncs each. Both are made in turn, so
// that what else the machine does counts for both.
func BenchmarkAgainstOneRow(b *testing.B) {
	s, pool := benched(b)
	if _, err := pool.Exec(b.Context(), `create table public.plain (id uuid primary key, value bytea)`); err != nil {
		b.Fatal(err)
	}
	h := fill(b, s, store.Space{Slug: "a"})
	entry := store.Entry{Time: noon, Action: "attachment.upload", Resource: "attachment", ID: uuid.NewString(), Name: "plan.pdf", Space: "a", Outcome: "done"}
	ctx := store.WithOutbox(store.WithEntry(context.Background(), &entry), store.Origin{Time: noon})
	made := make(chan store.Attachment, 1)
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name          string
		before, timed func()
	}{
		{"a note", nil, func() { must(s.SetNote(ctx, "a", nil)) }},
		{"an attachment created", func() {
			a := h.file("content")
			must(keep(s, a))
			made <- a
		}, func() { must(s.CreateAttachment(ctx, <-made, nil, "")) }},
		{"an attachment deleted", func() {
			a := h.file("content")
			must(keep(s, a))
			must(s.CreateAttachment(context.Background(), a, nil, ""))
			made <- a
		}, func() {
			_, err := s.DeleteAttachment(ctx, (<-made).ID)
			must(err)
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var plain, change time.Duration
			for b.Loop() {
				if c.before != nil {
					c.before()
				}
				begun := time.Now()
				_, err := pool.Exec(context.Background(), `insert into public.plain values ($1, $2)`, uuid.New(), entry.Encode())
				must(err)
				plain += time.Since(begun)
				begun = time.Now()
				c.timed()
				change += time.Since(begun)
			}
			b.ReportMetric(float64(change)/float64(plain), "rows")
		})
	}
}
