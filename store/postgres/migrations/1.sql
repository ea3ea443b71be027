-- All names are qualified: a pooler may hand out a session with any search_path.
create schema attachd;

-- The version of this schema, and the oldest program that can still use it.
create table attachd.version (
	one_row        boolean primary key default true check (one_row),
	version        integer not null,
	oldest_program integer not null
);

-- Where contents are (package blobs: Catalog). A content that no object has is in none of
-- the three; an object is in one of them at most, except that a settled upload keeps its row
-- until the record of the attachment is committed: while it is there, nobody removes the content.
create table attachd.contents (
	sha256  bytea primary key,
	key     bytea not null,
	size    bigint not null,
	stored  timestamptz not null,
	damaged boolean not null default false,
	replaced bytea -- the key before, for the statement that replaces it
);
create index on attachd.contents (sha256) where damaged;
create table attachd.uploads (
	sha256  bytea not null,
	key     bytea not null,
	begun   timestamptz not null,
	settled boolean not null default false,
	primary key (sha256, key)
) with (autovacuum_vacuum_scale_factor = 0.02);
create index on attachd.uploads (begun);
create table attachd.garbage (
	sha256 bytea not null,
	key    bytea not null,
	since  timestamptz not null,
	claimed_by    uuid, -- the process that is deleting it
	claimed_until timestamptz,
	primary key (sha256, key)
) with (autovacuum_vacuum_scale_factor = 0.02);
create index on attachd.garbage (since, sha256, key);

-- The directory. What belongs to a space or to a parent that is not there is hidden, and
-- waits in "removals" for its deletion.
create table attachd.users (
	id         uuid primary key,
	full_name  text not null,
	superadmin boolean not null,
	deleted    boolean not null default false -- the row stays, for the name
);
create table attachd.spaces (
	slug        text collate "C" primary key,
	name        text not null,
	quota_bytes bigint not null,
	quota_files bigint not null,
	auto        boolean not null
);
create table attachd.members (
	space   text collate "C" not null references attachd.spaces on delete cascade,
	user_id uuid not null references attachd.users,
	role    smallint not null,
	primary key (space, user_id)
);
create index on attachd.members (user_id, space);
create table attachd.entities (
	kind     smallint not null,
	id       uuid not null,
	space    text collate "C" not null,
	name     text not null,
	owner    uuid, -- of a ticket
	comments integer not null default 0, -- the last number that a comment was given
	primary key (kind, id)
);
create index on attachd.entities (space, kind, id);
create table attachd.comments (
	ticket     uuid not null,
	id         uuid not null,
	number     integer not null,
	created_at timestamptz,
	primary key (ticket, id)
);
create table attachd.removals (
	id     bigint generated always as identity primary key,
	space  text collate "C" not null,
	kind   smallint, -- null: all of the space
	parent uuid,
	entry  bytea, -- of the audit log, encoded
	origin jsonb not null -- of the events; null in JSON where there are none
);
create unique index on attachd.removals (space) where kind is null;
create unique index on attachd.removals (kind, parent);

-- The foreign key is the guard: no record names a content that is not there.
create table attachd.attachments (
	id       uuid primary key,
	kind     smallint not null,
	parent   uuid not null,
	space    text collate "C" not null, -- that of the parent
	sha256   bytea not null references attachd.contents on delete restrict,
	comment  uuid,
	name     text not null,
	size     bigint not null,
	type     text not null,
	uploader uuid not null
);
create index on attachd.attachments (kind, parent, id);
create index on attachd.attachments (sha256, id);
create index on attachd.attachments (space, id);
create table attachd.checksums (
	sha256 bytea primary key references attachd.contents on delete cascade,
	sums   bytea not null
);

-- A space with a quota has its usage in one row, which each upload locks last; the others
-- append to usage_delta, which is added up now and then. A space is in one of them only: what
-- sets or ends its quota moves its usage, while it holds the row of the space for update.
create table attachd.usage (
	space text collate "C" primary key,
	bytes bigint not null,
	files bigint not null,
	fits  boolean not null default true check (fits) -- what an upload sets: it fails otherwise
) with (fillfactor = 50);
create table attachd.usage_delta (
	space text collate "C" not null,
	bytes bigint not null,
	files bigint not null
) with (autovacuum_vacuum_scale_factor = 0.02);
create index on attachd.usage_delta (space);

create table attachd.keys (
	id         uuid primary key,
	user_id    uuid not null references attachd.users,
	name       text not null,
	prefix     text not null,
	hash       bytea not null unique,
	created_at timestamptz not null,
	created_ns smallint not null, -- the nanoseconds that created_at has no room for
	expires_at timestamptz, -- null: never
	expires_ns smallint not null,
	used_at    timestamptz -- in no index, so that an update rewrites none
) with (fillfactor = 80);
create index on attachd.keys (user_id, id);
create table attachd.sessions (
	hash       bytea primary key,
	key        uuid not null references attachd.keys on delete cascade,
	expires_at timestamptz not null,
	expires_ns smallint not null
);
create index on attachd.sessions (key);
create index on attachd.sessions (expires_at, expires_ns);

create table attachd.notes (
	name  text primary key,
	value bytea not null
);

-- The audit log. Entries are committed with their change to audit_waiting, and move to audit
-- when they get their place in the chain soon after: one row that all changes write would be
-- the slowest part of each.
create table attachd.audit_waiting (
	id    bigint generated always as identity primary key,
	entry bytea not null -- encoded with the seq 0
) with (autovacuum_vacuum_scale_factor = 0.02);
create table attachd.audit (
	seq   bigint primary key,
	entry bytea not null, -- as in audit_waiting
	hash  bytea not null
);
create table attachd.audit_ends (
	one_row     boolean primary key default true check (one_row),
	anchor_seq  bigint not null default 0,
	anchor_hash bytea not null default '\x0000000000000000000000000000000000000000000000000000000000000000',
	head_seq    bigint not null default 0,
	head_hash   bytea not null default '\x0000000000000000000000000000000000000000000000000000000000000000',
	runs        bytea not null default ''
);
insert into attachd.audit_ends default values;

create table attachd.outbox (
	seq   bigint generated always as identity primary key,
	event json not null
) with (autovacuum_vacuum_scale_factor = 0.02);
create table attachd.dead_letters (
	seq    bigint generated always as identity primary key,
	letter json not null
);
-- Which numbered records existed at which age of the installation: the age of a record is how
-- long it has been stored, whatever time is in it.
create table attachd.ages (
	of    text primary key, -- "audit" or "dead_letters"
	marks bytea not null
);

-- The processes that share this database.
create table attachd.replicas (
	id       uuid primary key,
	version  text not null,
	started  timestamptz not null,
	seen     timestamptz not null,
	departed boolean not null default false,
	shares   bytea not null -- what it lets the others know
) with (fillfactor = 50);
create table attachd.leases (
	name   text collate "C" primary key,
	holder uuid not null,
	epoch  bigint not null, -- another one for each holder
	taken  timestamptz not null,
	until  timestamptz not null
) with (fillfactor = 50);
-- The keys that sign links. One row, so that a change locks all of them.
create table attachd.signing_keys (
	one_row boolean primary key default true check (one_row),
	keys    jsonb not null default '[]' -- the first signs
);
insert into attachd.signing_keys default values;
