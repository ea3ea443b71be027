-- The trash. Attachments that were deleted by themselves are in a table of their own; the key
-- guards their contents as that of attachments does.
create table attachd.trash (
	id         uuid primary key,
	kind       smallint not null,
	parent     uuid not null,
	space      text collate "C" not null, -- that of the parent at the time of the deletion
	sha256     bytea not null references attachd.contents on delete restrict,
	comment    uuid,
	name       text not null,
	size       bigint not null,
	type       text not null,
	uploader   uuid not null,
	deleted_at timestamptz not null,
	deleted_by uuid not null,
	until      timestamptz not null
);
create index on attachd.trash (kind, parent, id);
create index on attachd.trash (space, deleted_at, id);
create index on attachd.trash (until, id);
create index on attachd.trash (sha256);

-- A parent or space in the trash is a removal that rests: it has a negative number, which
-- programs that do not know the trash leave alone. With a positive number and "until", the
-- attachments that it had move to the table above, since it is put anew.
alter table attachd.removals
	add column purges     boolean not null default false, -- it was in the trash
	add column deleted_at timestamptz, -- null, as are the following: it was not
	add column deleted_by uuid,
	add column until      timestamptz,
	add column name       text,
	add column owner      uuid, -- of a ticket
	add column comments   integer, -- as in entities
	add column quota_bytes bigint, -- of a space, as are the following
	add column quota_files bigint,
	add column auto       boolean,
	add column bytes      bigint, -- of the attachments that come back with it, or are still to move
	add column files      bigint;
create index on attachd.removals (space, deleted_at, parent, kind) where id < 0;
create index on attachd.removals (deleted_at, space) where id < 0 and kind is null;
create index on attachd.removals (until, id) where id < 0;
create table attachd.trash_members (
	space   text collate "C" not null, -- one in the trash
	user_id uuid not null references attachd.users,
	role    smallint not null,
	primary key (space, user_id)
);
create index on attachd.trash_members (user_id);

-- What changes the trash appends to trash_usage, which is added up now and then.
create table attachd.trash_usage (
	bytes bigint not null,
	files bigint not null
) with (autovacuum_vacuum_scale_factor = 0.02);

-- Events that are still to be added for the attachments of a parent or a space, since there
-- are too many for the change that they tell of.
create table attachd.tellings (
	id     bigint generated always as identity primary key,
	space  text collate "C" not null,
	kind   smallint, -- null: all of the space
	parent uuid,
	event  text not null,
	origin jsonb not null,
	last   uuid not null, -- none is told of that has a higher id
	after_kind   smallint not null default 0, -- the last one that was told of
	after_parent uuid not null default '00000000-0000-0000-0000-000000000000',
	after        uuid not null default '00000000-0000-0000-0000-000000000000'
);
create index on attachd.tellings (space);
