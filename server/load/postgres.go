//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// sameRow is the limit of what changes one row again and again, as the usage of a space
	// with a quota is changed by each upload.
	sameRow = "PostgreSQL, the same row, 32"
	// manySpaces is the number of spaces of the workload with many.
	manySpaces = 64
)

// overPostgres are the workloads of attachd with its metadata in PostgreSQL, beside those of
// overBucket, whose space has no quota.
func overPostgres() []workload {
	return []workload{
		{name: "upload 10 KB, 32 clients, 64 spaces", clients: 32, goal: 0.60, begin: uploadingTo(small, intoSpaces)},
		{name: "upload 10 KB, 32 clients, quota", clients: 32, limits: []string{sameRow}, goal: 0.90, goalOf: sameRow, begin: uploadingTo(small, intoQuota)},
	}
}

// intoSpaces has all clients upload to many spaces in turns.
func intoSpaces(in *instance, n int) (folders []string, err error) {
	for i := range manySpaces {
		folder, err := in.space(fmt.Sprint("load-", (n+i)%manySpaces), n == 0, `{}`)
		if err != nil {
			return nil, err
		}
		folders = append(folders, folder)
	}
	return folders, nil
}

// intoQuota has all clients upload to one space with a quota, which they do not reach.
func intoQuota(in *instance, n int) ([]string, error) {
	folder, err := in.space("load-quota", n == 0, `{"quota_files": 1000000000}`)
	return []string{folder}, err
}

// space returns a folder in a space, both of which it makes first if it is to, where the server
// is attachd.
func (in *instance) space(slug string, makes bool, settings string) (folder string, err error) {
	product := uuid.NewSHA1(uuid.MustParse(in.folder), []byte(slug)).String()
	if in.dir == "" || !makes {
		return slug + "/" + product, nil
	}
	c, err := dial(in.address)
	if err != nil {
		return "", err
	}
	for _, made := range [][2]string{{slug, settings}, {slug + "/products/" + product, `{}`}} {
		head := bytes.TrimSuffix(request("PUT", "/directory/spaces/"+made[0], in.key), []byte("\r\n"))
		_, failed := c.succeed(fmt.Appendf(head, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(made[1]), made[1]))
		err = errors.Join(err, failed)
	}
	return slug + "/" + product, errors.Join(err, c.close())
}

// parsePostgres parses the value of -postgres.
func parsePostgres(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err == nil && !strings.HasPrefix(u.Scheme, "postgres") {
		err = errors.New("a database is postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	return u, err
}

// createDatabase creates an empty database on the server of another one, and returns its DSN
// and what drops it.
func createDatabase(server *url.URL) (dsn string, drop func() error, err error) {
	name := "attachd-load-" + uuid.NewString()
	execute := func(sql string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgx.Connect(ctx, server.String())
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, sql+pgx.Identifier{name}.Sanitize())
		return errors.Join(err, conn.Close(ctx))
	}
	u := *server
	u.Path = "/" + name
	return u.String(), func() error { return execute("drop database ") }, execute("create database ")
}

// inPostgres returns the environment of an attachd that keeps its metadata in a database.
func inPostgres(dsn string) []string {
	return []string{"ATTACHD_METADATA_BACKEND=postgres", "ATTACHD_METADATA_DSN=" + dsn}
}

// sameRowRate is how many commits a second change the same row, each by a statement of its own.
func (m *machine) sameRowRate(d time.Duration, clients int) (rate float64, err error) {
	dsn, drop, err := createDatabase(m.postgres)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return 0, err
	}
	config.MaxConns = int32(clients)
	ctx := context.Background()
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	if _, err = pool.Exec(ctx, `create table counted (id int primary key, n bigint not null) with (fillfactor = 50)`); err == nil {
		_, err = pool.Exec(ctx, `insert into counted values (1, 0)`)
	}
	if err != nil {
		return 0, err
	}
	update := func() error {
		_, err := pool.Exec(ctx, `update counted set n = n + 1 where id = $1`, 1)
		return err
	}
	found, err := drive(clients, d, 0, func(int) (worker, error) {
		return worker{step: update, close: func() error { return nil }}, update() // which connects
	})
	return found.rate(), err
}
