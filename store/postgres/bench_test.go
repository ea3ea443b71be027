package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// BenchmarkCommit compares the record of an upload with commits of one row, on a server that
// syncs: rows of their own, or always the same row, as the usage of a space with a quota is.
// The contents are there already.
func BenchmarkCommit(b *testing.B) {
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
	s, err := postgres.Open(context.Background(), postgres.Options{DSN: dsn, MaxConnections: 16})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	pool, err := pgxpool.New(context.Background(), dsn+"&pool_max_conns=16")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
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
	for _, clients := range []int{1, 16} {
		for _, c := range []struct {
			name string
			do   func()
		}{
			{"row", func() { execute(`insert into bench values ($1, 0)`, last.Add(1)) }},
			{"record", func() { record(free) }},
			{"same row", func() { execute(`update bench set n = n + 1 where id = 0`) }},
			{"record with quota", func() { record(limited) }},
		} {
			b.Run(fmt.Sprintf("%s/clients=%d", c.name, clients), func(b *testing.B) {
				var left atomic.Int64
				left.Store(int64(b.N))
				done := make(chan struct{})
				for range clients {
					go func() {
						for left.Add(-1) >= 0 {
							c.do()
						}
						done <- struct{}{}
					}()
				}
				for range clients {
					<-done
				}
			})
		}
	}
}
