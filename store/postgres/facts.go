package postgres

import (
	"context"
	"time"

	"attachd/store"
)

// Facts are what a PostgreSQL server says of itself that its operator may want to change.
type Facts struct {
	Version           string
	Host, Database    string
	FSync             bool
	SynchronousCommit string // "on", or what else a commit waits for
	SynchronousTo     string // synchronous_standby_names
	Standbys          int    // that are connected
	MaxConnections    int    // for users who are no superusers
	Connections       int    // of all users
	Pooler            bool   // a pooler is between
	// Archives is whether it archives its write-ahead log, Archived when it last did, and
	// NotArchived since when it fails to; zero where it never did, and does not fail.
	Archives              bool
	Archived, NotArchived time.Time
	Ahead                 time.Duration // of its clock, compared with that of this machine
	Frozen                bool          // changes are refused while records are moved

	Now       time.Time // by its clock, as all times of Replicas and Leases
	Replicas  []store.Replica
	Leases    []store.Lease // that are held
	Unchained int64         // entries of the audit log without a place in its chain
}

// Facts asks the server.
func (s *Store) Facts(ctx context.Context) (Facts, error) {
	f, err := s.serverFacts(ctx)
	if err == nil {
		f.Replicas, err = s.Replicas(ctx)
	}
	if err == nil {
		f.Leases, err = s.Leases(ctx)
	}
	if err == nil {
		err = s.row(ctx, `select now(), (select count(*) from attachd.audit_waiting)`).Scan(&f.Now, &f.Unchained)
	}
	return f, err
}

// serverFacts are those that say nothing of attachd.
func (s *Store) serverFacts(ctx context.Context) (f Facts, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return f, explain(err)
	}
	defer conn.Release()
	var process uint32
	var now time.Time
	var archived, failed *time.Time
	asked := time.Now()
	err = conn.QueryRow(ctx, `select current_setting('server_version'), current_database(), current_setting('fsync')::bool, current_setting('synchronous_commit'),
		current_setting('synchronous_standby_names'), (select count(*) from pg_stat_replication),
		current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
		(select count(*) from pg_stat_activity where backend_type = 'client backend'), pg_backend_pid(), clock_timestamp(),
		current_setting('archive_mode') <> 'off', last_archived_time, case when last_failed_time > last_archived_time or last_archived_time is null then last_failed_time end,
		exists (select from pg_constraint where conname = '`+frozenConstraint+`' and connamespace = 'attachd'::regnamespace)
		from pg_stat_archiver`).
		Scan(&f.Version, &f.Database, &f.FSync, &f.SynchronousCommit, &f.SynchronousTo, &f.Standbys, &f.MaxConnections, &f.Connections, &process, &now,
			&f.Archives, &archived, &failed, &f.Frozen)
	if err != nil {
		return f, explain(err)
	}
	took := time.Since(asked)
	f.Archived, f.NotArchived = timeOf(archived), timeOf(failed)
	f.Ahead = now.Sub(asked.Add(took / 2))
	f.Host = conn.Conn().Config().Host
	// A pooler gives its clients numbers of its own.
	f.Pooler = conn.Conn().PgConn().PID() != process
	return f, nil
}
