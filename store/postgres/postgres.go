// Package postgres is a store.Store in a PostgreSQL database, 13 or later, that several
// processes may use at once. It is a blobs.Catalog too: record and object are in one
// database, so that no record can name a content that is not there.
//
// No session state is used: no LISTEN, no prepared statement that must survive, no lock of a
// session, no search_path. So a pooler that hands out a session for one transaction may be
// between them, with Options.Pooler.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/backend"
)

// Options configure a Store.
type Options struct {
	// DSN names the database, as a URL or in the form "host=… user=…" (see libpq). With
	// several hosts, the one that can be written is used.
	DSN string
	// MaxConnections is how many connections are open at most; 0 is 20.
	MaxConnections int
	// Pooler says that a pooler in transaction mode is between.
	Pooler bool
	// Existing refuses a database in which attachd has made nothing yet, with ErrNotFound.
	Existing bool
	// Log gets what fails in the background, which no caller is told; optional.
	Log *slog.Logger
	// Called is told of each connection that was made ("connect"), of what was sent over one
	// ("statement"), and of what committed something ("commit"), how it has ended, and how long
	// it took; optional.
	Called func(operation, outcome string, took time.Duration)

	commitFor time.Duration // for tests; 0 is defaultCommitFor
}

// defaultConnections is the default of MaxConnections.
const defaultConnections = 20

// Store is a store.Store in a PostgreSQL database.
type Store struct {
	pool    *pgxpool.Pool
	replica uuid.UUID       // this process
	life    context.Context // ended by Close
	end     context.CancelFunc

	objects    objects
	together   together
	background sync.WaitGroup // what runs until Close
	freed      freedContents
	touched    backend.Touches
	entries    *backend.EntryQueue
	outbox     outboxStats
	commitFor  time.Duration // see defaultCommitFor
	attemptFor time.Duration // see defaultAttemptFor
	askFor     time.Duration // see defaultAskFor
	unchained  atomic.Int64  // entries that seal has found last
	log        *slog.Logger
	called     func(operation, outcome string, took time.Duration)
}

var _ interface {
	store.Store
	blobs.Catalog
	blobs.Holder
} = (*Store)(nil)

// Open opens the database, and creates or updates its schema. ErrAway when it cannot be
// reached; other errors say what to do.
func Open(ctx context.Context, opts Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(opts.DSN)
	if err != nil {
		return nil, fmt.Errorf("metadata.dsn: %w", err)
	}
	config.MaxConns = defaultConnections
	if opts.MaxConnections > 0 {
		config.MaxConns = int32(opts.MaxConnections)
	}
	if opts.Pooler {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "attachd"
	}
	prepareConnections(&config.ConnConfig.Config)
	config.BeforeConnect = ownLine
	if opts.Called != nil {
		config.ConnConfig.Tracer = tracer{opts.Called}
	}
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		registerTypes(conn.TypeMap())
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	s := &Store{
		pool: pool, replica: uuid.New(), objects: objects{holds: map[blobs.Ref]*hold{}},
		entries: backend.NewEntryQueue(), outbox: newOutboxStats(), together: newTogether(),
	}
	s.commitFor, s.attemptFor, s.askFor = cmp.Or(opts.commitFor, defaultCommitFor), defaultAttemptFor, defaultAskFor
	if s.called = opts.Called; s.called == nil {
		s.called = func(string, string, time.Duration) {}
	}
	s.log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	s.life, s.end = context.WithCancel(context.Background())
	err = s.migrate(ctx, opts.Existing)
	if err == nil {
		err = s.countObjects(ctx)
	}
	if err == nil {
		err = s.countOutbox(ctx)
	}
	if err != nil {
		pool.Close()
		return nil, advise(err, &config.ConnConfig.Config)
	}
	s.background.Go(s.keepCounting)
	s.background.Go(s.work)
	return s, nil
}

const (
	// flushInterval is how long queued entries wait at most while no change commits them, and
	// how long it takes until a process has the changes of others in its counts.
	flushInterval = time.Second
	// touchInterval is the time between flushes of the times when keys were used.
	touchInterval = time.Minute
	// lastFlush is how long Close may take to store what is in memory.
	lastFlush = 4 * time.Second
)

// work does what is to be done now and then, until Close. What fails is tried again the next
// time.
func (s *Store) work() {
	failures := s.newFailures()
	flush := func() { failures.try("storing entries of the audit log", s.flushEntries) }
	each := time.NewTicker(flushInterval)
	defer each.Stop()
	touched := time.NewTicker(touchInterval)
	defer touched.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-touched.C:
			failures.try("storing when keys were used", s.flushTouched)
		case <-s.entries.Long():
			flush()
		case <-s.outbox.full:
			failures.try("trimming the outbox", s.trimOutbox)
		case <-each.C:
			flush()
			failures.try("chaining entries of the audit log", s.seal)
			failures.try("counting the outbox", s.countOutbox)
			failures.try("adding up the usage of spaces", func(ctx context.Context) error { return s.foldUsage(ctx, foldFrom) })
			failures.try("adding up what is in the trash", func(ctx context.Context) error { return s.foldTrash(ctx, foldFrom) })
		}
	}
}

// registerTypes says what the types of arguments are in the database, where the server is not
// asked before each statement.
func registerTypes(types *pgtype.Map) {
	types.RegisterDefaultPgType(uuid.UUID{}, "uuid")
	types.RegisterDefaultPgType([]uuid.UUID{}, "_uuid")
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.end()
	s.background.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), lastFlush)
	defer cancel()
	var err error
	for _, flush := range []func(context.Context) error{s.flushTouched, s.flushEntries} {
		if failed := flush(ctx); !errors.Is(failed, store.ErrFrozen) { // it would be in a database that nobody uses any more
			err = errors.Join(err, failed)
		}
	}
	s.pool.Close()
	return err
}

// touchVersion is a change that changes nothing. Its commit comes after all that can be seen.
const touchVersion = `update attachd.version set version = version`

// probeFor is how long a probe may take.
const probeFor = 5 * time.Second

// Probe implements store.Store.
func (s *Store) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	return s.execute(ctx, touchVersion)
}

// Note implements store.Notes.
func (s *Store) Note(ctx context.Context, name string) (value []byte, err error) {
	err = s.row(ctx, `select value from attachd.notes where name = $1`, name).Scan(&value)
	return value, err
}

const setNote = `insert into attachd.notes (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value`

// ChangeNote sets the value of a name to what replace returns for the present one, which
// nobody else changes meanwhile; empty where there is none. replace may run several times.
func (s *Store) ChangeNote(ctx context.Context, name string, replace func(value []byte) ([]byte, error)) error {
	return s.change(ctx, func(tx *change) error {
		var value []byte
		err := tx.exec(`insert into attachd.notes (name, value) values ($1, '') on conflict (name) do nothing`, name)
		if err == nil {
			err = tx.get(`select value from attachd.notes where name = $1 for update`, name).Scan(&value)
		}
		if err == nil {
			if value, err = replace(value); err != nil {
				err = outside{err}
			}
		}
		if err == nil {
			err = tx.exec(`update attachd.notes set value = $2 where name = $1`, name, value)
		}
		return err
	})
}

// SetNote implements store.Notes.
func (s *Store) SetNote(ctx context.Context, name string, value []byte) error {
	if value == nil {
		value = []byte{}
	}
	return s.execute(ctx, setNote, name, value)
}

// execute makes a change of one statement.
func (s *Store) execute(ctx context.Context, sql string, args ...any) error {
	return s.change(ctx, func(tx *change) error {
		tx.lastly(sql, args...)
		return nil
	})
}
