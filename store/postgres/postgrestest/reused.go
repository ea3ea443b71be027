package postgrestest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// reused is a database that one test after the other has for itself.
type reused struct {
	dsn   string
	reset string // statements that make it as it was at first
	admin *pgx.Conn
}

// bigTable is the size in bytes from which a table is truncated between tests: below, it is
// quicker to delete its rows.
const bigTable = 256 << 10

// Reused returns the DSN of a database as prepare leaves an empty one, which may only make
// the schema "attachd". Another test may have had it before: that is a tenth of the work of a
// new one. All tests of a package must name the same prepare. A test that changes the schema or
// settings, or leaves something running, needs a Database of its own.
func Reused(t testing.TB, prepare func(ctx context.Context, dsn string) error) (dsn string) {
	t.Helper()
	server(t)
	shared.Lock()
	var db *reused
	if n := len(shared.free); n > 0 {
		db, shared.free = shared.free[n-1], shared.free[:n-1]
	}
	shared.Unlock()
	if db == nil {
		db = &reused{dsn: Database(t)}
		if err := db.prepare(t.Context(), prepare); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := db.empty(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("empty a database for the next test: %v", err)
			return
		}
		shared.Lock()
		defer shared.Unlock()
		shared.free = append(shared.free, db)
	})
	return db.dsn
}

// prepare makes the schema, and keeps a copy of the rows that it begins with.
func (db *reused) prepare(ctx context.Context, make func(ctx context.Context, dsn string) error) error {
	err := make(ctx, db.dsn)
	if err != nil {
		return err
	}
	if db.admin, err = pgx.Connect(ctx, db.dsn); err != nil {
		return err
	}
	tables, err := db.names(ctx, `select relname from pg_class where relnamespace = 'attachd'::regnamespace and relkind = 'r'`)
	if err != nil {
		return err
	}
	sequences, err := db.names(ctx, `select relname from pg_class where relnamespace = 'attachd'::regnamespace and relkind = 'S'`)
	if err != nil {
		return err
	}
	var reset strings.Builder
	reset.WriteString("begin; set local session_replication_role = replica;") // so that no foreign key is in the way
	kept := []string{"create schema pristine"}
	for _, table := range tables {
		var some bool
		if err := db.admin.QueryRow(ctx, "select exists (select from attachd."+table+")").Scan(&some); err != nil {
			return err
		}
		fmt.Fprintf(&reset, "delete from attachd.%s;", table)
		if some {
			kept = append(kept, fmt.Sprintf("create table pristine.%s as table attachd.%[1]s", table))
			fmt.Fprintf(&reset, "insert into attachd.%s overriding system value table pristine.%[1]s;", table)
		}
	}
	for _, sequence := range sequences {
		fmt.Fprintf(&reset, "select setval('attachd.%s', 1, false);", sequence)
	}
	reset.WriteString("commit")
	db.reset = reset.String()
	return db.exec(ctx, strings.Join(kept, ";"))
}

// exec executes one or several statements.
func (db *reused) exec(ctx context.Context, sql string) error {
	_, err := db.admin.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

// names reads a list of names, quoted.
func (db *reused) names(ctx context.Context, sql string) ([]string, error) {
	rows, err := db.admin.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (name string, err error) {
		err = row.Scan(&name)
		return pgx.Identifier{name}.Sanitize(), err
	})
}

// empty makes the database as it was at first.
func (db *reused) empty(ctx context.Context) error {
	big, err := db.names(ctx, `select relname from pg_class where relnamespace = 'attachd'::regnamespace and relkind = 'r' and pg_relation_size(oid) > `+strconv.Itoa(bigTable))
	if err != nil {
		return err
	}
	if len(big) > 0 {
		for i := range big {
			big[i] = "attachd." + big[i]
		}
		slices.Sort(big)
		if err := db.exec(ctx, "truncate "+strings.Join(big, ", ")+" cascade"); err != nil {
			return err
		}
	}
	return db.exec(ctx, db.reset)
}
