// Package schema defines the buckets of the database: their names, the form of their
// keys, and the encodings of their values. It reads and writes nothing.
//
// Ids are the 16 bytes of a UUID, hashes the 32 of a SHA-256, numbers
// big-endian; slug0 is a slug and a zero byte, without which space "a" would
// contain the entries of space "ab". Every value has a checksum behind it, which
// is not shown here.
//
//	bucket           key                  value
//	attachments      kind parent id       record; a parent's lie together, oldest first
//	attachment_ids   id                   kind parent, and a byte 1 when it is in the bucket "trash"
//	contents         sha256 id            -           the references to a content; a byte 1 likewise
//	checksums        sha256               checksums of its chunks, as long as a record has the content
//	staged           id                   place       of a content in the write-ahead log, until it is flushed to a file; see wal.Place
//
//	places           sha256               key size seconds, 8 each   of the object with the content (objects.go), as are the following
//	marks            sha256               key         of the object, which is damaged
//	intents          sha256 key           seconds, 8  an object that may be written
//	garbage          seconds sha256 key   -           an object to be deleted; the first comes first
//	garbage_objects  sha256 key           seconds, 8  of its entry in garbage
//
//	users            id                   JSON; a deleted user stays, for the name
//	spaces           slug                 JSON
//	usage            slug                 bytes files, 8 each
//	members          slug0 user           role
//	memberships      user slug            role
//	entities         kind id              JSON
//	space_entities   slug0 kind id        -
//	comments         ticket id            JSON; empty in older databases
//
//	keys             id                   JSON
//	key_hashes       hash                 key
//	user_keys        user key             -
//	touched          key                  unix seconds, 8; apart from keys: written often, and small
//	sessions         hash                 JSON
//	key_sessions     key hash             -
//	session_expiry   time hash            -           the first to expire comes first
//
//	audit            seq, 8               sha256, entry (audit.go)
//	outbox           seq, 8               JSON (outbox.go)   from the commit of the change until it is delivered
//	dead             seq, 8               JSON (outbox.go)   events that were given up, in that order; with a separate sequence
//	import           (import.go)          what is staged of an import; mostly empty
//	removals         (import.go)          JSON        removals under way; mostly empty
//
//	trash            kind parent id       when and by whom an attachment was deleted, and its record (trash.go)
//	trash_objects    (import.go)          JSON        parents and spaces in the trash; the keys are those of removals
//	trash_until      seconds 0 kind parent id, or seconds and a key of trash_objects   -   what is due first comes first
//	trash_spaces     slug0 ^seconds and likewise   -  what was deleted last comes first; spaces have an empty slug
//
//	holds            id                   JSON (hold.go)
//	held             slug0 kind parent attachment hold   -   the holds by what they are on; what does not apply is zeros
//
//	about            "probe"              -           what Probe writes
//	                 "log"                position    in its write-ahead log; see package wal
//	                 "note " name         its value
//	                 "audit anchor"       seq sha256  of the last audit entry that was removed
//	                 "audit head"         seq sha256  of the last audit entry that was written; older databases lack it
//	                 "trash"              bytes files, 8 each   of all attachments in the trash
package schema

// The names of the buckets.
var (
	Attachments   = []byte("attachments")
	AttachmentIDs = []byte("attachment_ids")
	Contents      = []byte("contents")
	Checksums     = []byte("checksums")
	Staged        = []byte("staged")
	Places        = []byte("places")
	Marks         = []byte("marks")
	Intents       = []byte("intents")
	Garbage       = []byte("garbage")
	GarbageObject = []byte("garbage_objects")
	Users         = []byte("users")
	Spaces        = []byte("spaces")
	Usage         = []byte("usage")
	Members       = []byte("members")
	Memberships   = []byte("memberships")
	Entities      = []byte("entities")
	SpaceEntities = []byte("space_entities")
	Comments      = []byte("comments")
	Keys          = []byte("keys")
	KeyHashes     = []byte("key_hashes")
	UserKeys      = []byte("user_keys")
	Touched       = []byte("touched")
	Sessions      = []byte("sessions")
	KeySessions   = []byte("key_sessions")
	SessionExpiry = []byte("session_expiry")
	Audit         = []byte("audit")
	Outbox        = []byte("outbox")
	Dead          = []byte("dead")
	Import        = []byte("import")
	Removals      = []byte("removals")
	Trash         = []byte("trash")
	TrashObjects  = []byte("trash_objects")
	TrashUntil    = []byte("trash_until")
	TrashSpaces   = []byte("trash_spaces")
	Holds         = []byte("holds")
	Held          = []byte("held")
	Meta          = []byte("about")

	// Of databases from before there were checksums; see package dbfile.
	OldMeta  = []byte("meta")
	Takeover = []byte("takeover")

	// Pending is the bucket of staged contents, by id, in databases from before the
	// write-ahead log held them.
	Pending = []byte("pending")
)

// Original are the buckets that every database has.
var Original = [][]byte{
	Attachments, AttachmentIDs, Contents,
	Users, Spaces, Usage, Members, Memberships,
	Entities, SpaceEntities, Comments,
	Keys, KeyHashes, UserKeys, Touched,
	Sessions, KeySessions, SessionExpiry,
	Meta,
}

// Later are the buckets that were added when databases without them were in use.
var Later = [][]byte{Audit, Outbox, Dead, Checksums, Import, Removals, Staged, Places, Marks, Intents, Garbage, GarbageObject, Trash, TrashObjects, TrashUntil, TrashSpaces, Holds, Held}

// Records are the buckets that are empty in a database of which nothing has been made yet:
// all but Meta, and those of the catalog of objects.
var Records = [][]byte{
	Attachments, AttachmentIDs, Contents, Checksums, Staged,
	Users, Spaces, Usage, Members, Memberships, Entities, SpaceEntities, Comments,
	Keys, KeyHashes, UserKeys, Touched, Sessions, KeySessions, SessionExpiry,
	Audit, Outbox, Dead, Import, Removals, Trash, TrashObjects, TrashUntil, TrashSpaces,
	Holds, Held,
}
