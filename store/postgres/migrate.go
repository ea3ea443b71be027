package postgres

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// version is the newest version of the schema that this program knows.
	version = 3
	// oldestProgram is the oldest program that can use a database of that version, by the
	// newest version that it knows.
	oldestProgram = 3 // 2 would delete what is under a legal hold
	// oldestServer is the oldest server with which attachd is tested, as its
	// server_version_num.
	oldestServer = 130000
	// migrating identifies the lock that one program at most holds while it changes the
	// schema. It is a lock of the transaction, which poolers do not break.
	migrating int64 = 0x617474616368 // "attach"
)

// migrate brings the schema to this program's version, all or nothing. Where there must be
// one, none is made.
func (s *Store) migrate(ctx context.Context, existing bool) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, migrating); err != nil {
			return err
		}
		var server, is, oldest int
		var encoding string
		var there bool
		err := tx.QueryRow(ctx, `select current_setting('server_version_num')::int, current_setting('server_encoding'), to_regclass('attachd.version') is not null`).Scan(&server, &encoding, &there)
		if err == nil {
			err = checkServer(server, encoding)
		}
		if err != nil {
			return err
		}
		switch {
		case !there && existing:
			return errEmpty
		case there:
			if err := tx.QueryRow(ctx, `select version, oldest_program from attachd.version`).Scan(&is, &oldest); err != nil {
				return err
			}
		}
		if oldest > version {
			return unusable(fmt.Sprintf("the database has schema %d, which needs a newer attachd: update this one", is))
		}
		if is >= version {
			return nil
		}
		for next := is + 1; next <= version; next++ {
			sql, err := migrations.ReadFile(fmt.Sprintf("migrations/%d.sql", next))
			if err != nil {
				return err
			}
			// Without arguments, Exec with this mode takes several statements.
			if _, err := tx.Exec(ctx, string(sql), pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("schema %d: %w", next, err)
			}
		}
		_, err = tx.Exec(ctx, `insert into attachd.version (version, oldest_program) values ($1, $2)
			on conflict (one_row) do update set version = excluded.version, oldest_program = excluded.oldest_program`, version, oldestProgram)
		return err
	})
}
