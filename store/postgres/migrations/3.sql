-- Legal holds, each on an attachment, on a product, ticket or meeting, or on a space: what it is
-- not on has zeros. The row says where that is, which stays as long as the hold does.
create table attachd.holds (
	id         uuid primary key,
	space      text collate "C" not null,
	kind       smallint not null,
	parent     uuid not null,
	attachment uuid not null,
	reason     text not null,
	set_by     uuid not null
);
create index on attachd.holds (space, kind, parent, attachment, id);

-- Who may set and lift them, beside superadmins.
alter table attachd.users add column records_manager boolean not null default false;

-- The newest schema that the program of a replica knows: those that do not know holds delete
-- what is held.
alter table attachd.replicas add column knows smallint not null default 2;
