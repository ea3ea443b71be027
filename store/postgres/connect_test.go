package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
	"attachd/store/portable"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// run executes statements in a database.
func run(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	for _, statement := range statements {
		if err == nil {
			_, err = conn.Exec(t.Context(), statement)
		}
	}
	if err == nil {
		err = conn.Close(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// with returns a DSN with one part changed.
func with(t *testing.T, dsn string, change func(*url.URL)) string {
	t.Helper()
	u := mustParse(t, dsn)
	change(u)
	return u.String()
}

func TestADatabaseThatCannotBeUsedSaysWhatToDo(t *testing.T) {
	t.Parallel()
	good := postgrestest.Database(t)
	for name, c := range map[string]struct {
		prepare []string
		change  func(*url.URL)
		opts    postgres.Options
		says    string
	}{
		"a user that is not there":     {nil, func(u *url.URL) { u.User = url.UserPassword("stranger", "s3cret") }, postgres.Options{}, "Correct the user and the password of metadata.dsn"},
		"a database that is not there": {nil, func(u *url.URL) { u.Path = "/nowhere" }, postgres.Options{}, "createdb --owner=attachd nowhere"},
		"no right to make a schema":    {[]string{"drop role if exists guest_of_one", "create role guest_of_one login"}, func(u *url.URL) { u.User = url.User("guest_of_one") }, postgres.Options{}, `owner to "guest_of_one"`},
		"a newer schema": {[]string{"create schema attachd", "create table attachd.version (version int, oldest_program int)", "insert into attachd.version values (99, 98)"},
			nil, postgres.Options{}, "needs a newer attachd: update this one"},
		"an installation that must be there": {nil, nil, postgres.Options{Existing: true}, "no installation of attachd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := postgrestest.Database(t)
			run(t, dsn, c.prepare...)
			if c.change != nil {
				dsn = with(t, dsn, c.change)
			}
			c.opts.DSN = dsn
			s, err := postgres.Open(t.Context(), c.opts)
			if err == nil {
				_ = s.Close()
			}
			if err == nil || errors.Is(err, store.ErrAway) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("it says: %v", err)
			}
		})
	}
	run(t, good, "drop database if exists latin", "create database latin encoding 'LATIN1' template template0")
	if _, err := postgres.Open(t.Context(), postgres.Options{DSN: with(t, good, func(u *url.URL) { u.Path = "/latin" })}); err == nil || !strings.Contains(err.Error(), "createdb --encoding=UTF8") {
		t.Errorf("of another encoding it says: %v", err)
	}
}

func TestADatabaseThatIsNotThereYetIsAway(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := postgres.Open(ctx, postgres.Options{DSN: "postgres://attachd@127.0.0.1:1/attachd"}); !errors.Is(err, store.ErrAway) {
		t.Errorf("a port that is closed is %v", err)
	}
	dsn := postgrestest.Database(t)
	run(t, dsn, `alter role current_user in database `+strings.TrimPrefix(mustParse(t, dsn).Path, "/")+` set default_transaction_read_only = on`)
	if _, err := postgres.Open(ctx, postgres.Options{DSN: dsn}); !errors.Is(err, store.ErrAway) {
		t.Errorf("a database that takes no changes is %v", err)
	}
}

func mustParse(t *testing.T, dsn string) *url.URL {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestFactsAreThoseOfTheServer(t *testing.T) {
	t.Parallel()
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: postgrestest.Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	_, beaten := s.Beat(t.Context(), "1.2.3", nil)
	taken, taking := s.TakeLeases(t.Context(), "work")
	f, err := s.Facts(t.Context())
	if err := errors.Join(beaten, taking); err != nil || len(taken) != 1 {
		t.Error(taken, err)
	}
	if len(f.Replicas) != 1 || f.Replicas[0].Version != "1.2.3" || !f.Replicas[0].Lives || f.Replicas[0].Left || len(f.Leases) != 1 || f.Leases[0].Holder != s.Replica() || f.Now.Before(f.Leases[0].Taken) {
		t.Errorf("of those that share it, the facts are %+v", f)
	}
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	if f.Version == "" || f.Host != "127.0.0.1" || !strings.HasPrefix(f.Database, "test") || f.SynchronousCommit != "on" || f.Pooler || f.Standbys != 0 || f.MaxConnections < 100 || f.Connections < 1 || f.Ahead.Abs() > time.Minute {
		t.Errorf("the facts are %+v", f)
	}
}

// TestOnlyADatabaseThatCannotBeReachedIsAway has calls fail for another reason.
func TestOnlyADatabaseThatCannotBeReachedIsAway(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	s := openAt(t, dsn)
	refused := errors.New("the caller has refused it")
	for _, c := range []struct {
		name string
		call func() error
		want error // or nil where the error need only be another than ErrAway
	}{
		{"a function of the caller", func() error {
			return s.ChangeNote(t.Context(), "note", func([]byte) ([]byte, error) { return nil, refused })
		}, refused},
		{"the first row of an import", func() error {
			return s.Import(t.Context(), func(yield func(portable.Row, error) bool) { yield(nil, refused) })
		}, refused},
		{"a later row of an import", func() error {
			return s.Import(t.Context(), func(yield func(portable.Row, error) bool) {
				_ = yield(portable.User{User: store.User{ID: uuid.New()}}, nil) && yield(nil, refused)
			})
		}, refused},
		{"an import into a database in use", func() error {
			fill(t, s, store.Space{Slug: "used"})
			return s.Import(t.Context(), func(func(portable.Row, error) bool) {})
		}, nil},
		{"signing keys that cannot be decoded", func() error {
			run(t, dsn, `update attachd.signing_keys set keys = '{"a": 1}'`)
			_, err := s.SigningKeys(t.Context())
			return err
		}, store.ErrDamaged},
		{"a removal that cannot be decoded", func() error {
			run(t, dsn, `insert into attachd.removals (space, origin) values ('gone', '[1]')`)
			_, _, err := s.Remove(t.Context())
			return err
		}, store.ErrDamaged},
	} {
		err := c.call()
		if err == nil || errors.Is(err, store.ErrAway) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s fails with: %v", c.name, err)
		}
	}
}
