package doctor

import (
	"context"
	"time"

	"attachd/server/upkeep"
	"attachd/store/postgres"
)

// shares reports whether the records are in a database that several servers share. Then the
// data directory has nothing of value.
func (c *Case) shares() bool { return c.Config.Metadata.Backend == "postgres" }

// sharedDatabase examines PostgreSQL and what the records say.
func sharedDatabase(ctx context.Context, c *Case) []Finding {
	if !c.shares() || c.Facts == nil {
		return nil
	}
	facts, err := c.Facts(ctx)
	if err != nil {
		return problem("Do as it says, or correct what is set for metadata.*.", "The server does not start, or answers 503: %v.", err)
	}
	found := ok("Records are in the database %q of PostgreSQL %s at %s.", facts.Database, facts.Version, facts.Host)
	if facts.Frozen {
		found = append(found, problem("Where `attachd migrate` does not run any more, run it again as before, or give it up: attachd migrate --give-up",
			"All changes are refused while records are moved to another database.")...)
	}
	found = append(found, durability(facts)...)
	found = append(found, connections(c, facts)...)
	found = append(found, sharing(facts)...)
	if apart := facts.Ahead.Abs().Round(time.Second); apart > skewTold {
		found = append(found, warning("Set the clock, and keep it right with NTP (timedatectl set-ntp true), here or where PostgreSQL runs.",
			"The clock is %s apart from that of PostgreSQL.", apart)...)
	}
	status, err := c.Status(ctx)
	if err != nil {
		return append(found, problem("Look in the server's log, and run `attachd check`.", "The records cannot be read: %v.", err)...)
	}
	if status.Faulty > 0 {
		found = append(found, problem("`attachd check` lists them; upload the files again, or restore them from a backup.",
			"Stored files are missing or damaged, %d in all.", status.Faulty)...)
	}
	if n := status.Storage.Unswept; n > 0 {
		found = append(found, ok("Objects wait to be deleted or to be confirmed, %d of them.", n)...)
	}
	found = append(append(found, checks(c, status)...), sharedBackup(c, facts, status)...)
	return append(found, outbox(c, status)...)
}

// sharedBackup says whether what was lost can be brought back: by PostgreSQL, or from a backup.
func sharedBackup(c *Case, facts postgres.Facts, status upkeep.Status) []Finding {
	switch {
	case !facts.Archives:
		return lastBackup(c, status, "Have PostgreSQL archive its write-ahead log, for point-in-time recovery, or run `attachd backup DIR` every night.")
	case !facts.NotArchived.IsZero():
		return warning("Look in PostgreSQL's log for why archive_command fails.",
			"PostgreSQL cannot archive its write-ahead log, last tried at %s: it cannot be recovered to a moment since.", facts.NotArchived.UTC().Format(time.RFC3339))
	case facts.Archived.IsZero(): // as with archive_mode on and no archive_command, which is no failure
		return warning("See that archive_command is set in postgresql.conf, and run select pg_switch_wal(). Then run `attachd doctor` again.",
			"PostgreSQL is set to archive its write-ahead log, and has archived nothing so far.")
	}
	found := ok("PostgreSQL archives its write-ahead log, and the bucket has deleted files for %s more (storage.keep_deleted).", time.Duration(c.Config.Storage.KeepDeleted))
	if !status.LastBackup.IsZero() {
		found = append(found, lastBackup(c, status, "Run `attachd backup DIR` every night, onto another disk.")...)
	}
	return found
}

// durability says whether what is acknowledged survives a crash and a failover.
func durability(facts postgres.Facts) (found []Finding) {
	if !facts.FSync {
		found = append(found, problem("Set fsync = on in postgresql.conf, and restart PostgreSQL.", "PostgreSQL does not sync (fsync = off): a power cut can destroy the database.")...)
	}
	if facts.SynchronousCommit == "off" {
		found = append(found, problem("alter role ... reset synchronous_commit, or set it to on in postgresql.conf.", "PostgreSQL confirms changes before they are on its disk (synchronous_commit = off): a crash loses uploads that were acknowledged.")...)
	}
	if facts.Standbys > 0 && (facts.SynchronousTo == "" || facts.SynchronousCommit == "local") {
		found = append(found, warning("Set synchronous_standby_names, and leave synchronous_commit on, where each acknowledged upload must survive a failover.",
			"PostgreSQL has standbys (%d) and waits for none of them: a failover may lose uploads that were acknowledged last.", facts.Standbys)...)
	}
	if len(found) == 0 {
		return ok("What PostgreSQL confirms is on its disk%s.", map[bool]string{true: " and on a standby"}[facts.Standbys > 0])
	}
	return found
}

// connections says whether the servers can have the connections that they may open.
func connections(c *Case, facts postgres.Facts) (found []Finding) {
	if facts.Pooler && !c.Config.Metadata.Pooler {
		found = problem("Set metadata.pooler = true.", "A pooler is between attachd and PostgreSQL, and metadata.pooler is false: requests fail at random where it hands out a session for one transaction.")
	}
	if each := c.Config.Metadata.MaxConnections; !facts.Pooler && each >= facts.MaxConnections {
		found = append(found, warning("Raise max_connections in postgresql.conf, lower metadata.max_connections, or put a pooler between.",
			"PostgreSQL has room for %d connections of all its users, and this server may open %d.", facts.MaxConnections, each)...)
	}
	if facts.Connections*10 >= facts.MaxConnections*9 {
		found = append(found, warning("Raise max_connections in postgresql.conf, lower metadata.max_connections, or put a pooler between.",
			"Of the %d connections that PostgreSQL has room for, %d are open.", facts.MaxConnections, facts.Connections)...)
	}
	if len(found) == 0 {
		return ok("%d of %d connections to PostgreSQL are open; this server opens %d at most.", facts.Connections, facts.MaxConnections, c.Config.Metadata.MaxConnections)
	}
	return found
}
