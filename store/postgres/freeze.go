package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"attachd/store"
)

// A database is frozen by constraints that no new row meets. So all processes that use it
// see at once that it is, none has to ask, and it stays so when the one ends that has
// frozen it. Deletions have entries in the audit log, and so are refused, too.
const frozenConstraint = "frozen"

// frozenTables are the tables that have the constraint, in the order in which they get it.
var frozenTables = []string{"audit_waiting", "attachments", "uploads", "entities", "comments", "users", "spaces", "members", "keys", "sessions", "removals", "trash", "trash_usage", "holds"}

const (
	duplicateObject  = "42710"
	lockNotAvailable = "55P03"
	// lockFor is how long the lock of a table is waited for at a time: whoever comes later
	// waits as long.
	lockFor = "1s"
)

var _ store.Freezer = (*Store)(nil)

// Freeze implements store.Freezer. A table that gets the constraint is locked for a moment,
// which waits for the changes of it that are under way.
func (s *Store) Freeze(ctx context.Context) (thaw func(context.Context) error, err error) {
	for _, table := range frozenTables {
		err := s.alter(ctx, table, `add constraint `+frozenConstraint+` check (false) not valid`)
		if err != nil && code(err) != duplicateObject {
			return nil, errors.Join(explain(err), s.Thaw(context.WithoutCancel(ctx)))
		}
	}
	return s.Thaw, nil
}

// Thaw implements store.Freezer.
func (s *Store) Thaw(ctx context.Context) error {
	for _, table := range frozenTables {
		if err := s.alter(ctx, table, `drop constraint if exists `+frozenConstraint); err != nil {
			return explain(err)
		}
	}
	return nil
}

// alter changes a table in a transaction of its own, so that it waits for no lock while it
// has another.
func (s *Store) alter(ctx context.Context, table, how string) error {
	for {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `set local lock_timeout = '`+lockFor+`'`); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, fmt.Sprintf(`alter table attachd.%s %s`, table, how))
			return err
		})
		if code(err) != lockNotAvailable && code(err) != deadlockDetected {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond): // for those that have waited
		}
	}
}

// isFrozen reports whether a change was refused because the database is frozen.
func isFrozen(err error) bool {
	var refusal *pgconn.PgError
	return errors.As(err, &refusal) && refusal.Code == checkViolation && refusal.ConstraintName == frozenConstraint
}
