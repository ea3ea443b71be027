// Package store defines the storage of the metadata of attachments: their records,
// the directory of what they belong to (users, spaces, products, tickets,
// meetings), and the API keys of callers.
//
// It knows contents only by the SHA-256 of their bytes and never reads or writes
// them. Package storetest tests every backend against the contracts below.
package store

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A method refuses a call with one of these errors, wrapped in an Error where there
// is an explanation for a person. Nothing was changed then.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict")
	ErrQuota    = errors.New("quota exceeded")
	// ErrHeld means that a legal hold keeps what was to be deleted.
	ErrHeld = errors.New("under a legal hold")
	// ErrFull means that the storage has no room left for the change. It may be
	// retried when there is some.
	ErrFull = errors.New("storage is full")
	// ErrDamaged means that the stored data is not a store, or is damaged.
	ErrDamaged = errors.New("storage is damaged")
	// ErrUnavailable means that this commit or an earlier one failed in a way that
	// leaves open whether it took effect: changes are refused until a restart,
	// reads go on.
	ErrUnavailable = errors.New("metadata cannot be changed until a restart")
	// ErrAway means that the database, which is a service of its own, cannot be reached
	// or does not take changes now. A change may have taken effect all the same.
	ErrAway = errors.New("the database is away")
	// ErrNoContent means that a content is not stored, or not any more, to a store that
	// knows which are. Nothing was changed: store the content, and create the record again.
	ErrNoContent = errors.New("the content of the attachment is not stored")
	// ErrFrozen means that changes are refused while all records are moved to another store,
	// and afterwards.
	ErrFrozen = errors.New("the records are being moved to another store")
	// ErrUnreadable means that some staged contents belong to records that cannot
	// be decoded. Check lists them.
	ErrUnreadable = errors.New("the record of a staged content cannot be read")
	// ErrNotStaged means that a content cannot be staged now. Nothing was changed:
	// store it elsewhere, and call CreateAttachment.
	ErrNotStaged = errors.New("the content cannot be staged now")
	// ErrRotten means that the bytes of a staged content are damaged, or lost.
	ErrRotten = errors.New("a staged content is damaged or lost")
)

// Error is a refusal with a sentence for a person.
type Error struct {
	Kind   error  // ErrNotFound, ErrConflict, ErrQuota or ErrHeld
	Detail string // a whole sentence without internals
}

func (e *Error) Error() string { return e.Detail }
func (e *Error) Unwrap() error { return e.Kind }

// Each of these is an ErrUnavailable too: the change may have taken effect.
var (
	// ErrReplaced means that a file was removed or replaced while it was open. What
	// is written to it is lost when it is closed, so no change is acknowledged
	// until the file is back.
	ErrReplaced error = unavailable{"the file was removed or replaced while it was open", nil}
	// ErrOverwritten means that the file of the database is not what was committed
	// to it: another process cut it short or overwrote it while it was open, or its
	// disk cannot read it. The store neither reads nor writes it until it is as it
	// was. It is an ErrReplaced.
	ErrOverwritten error = unavailable{"the file was cut short or overwritten while it was open, or cannot be read", ErrReplaced}
)

// unavailable is an error that is both ErrUnavailable and another.
type unavailable struct {
	text string
	also error
}

func (u unavailable) Error() string { return u.text }
func (u unavailable) Is(target error) bool {
	return target == ErrUnavailable || u.also != nil && target == u.also
}

// DamagedError is the error of a database that cannot be opened because it is
// damaged.
type DamagedError struct {
	Faults []string // a sentence for each
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%v: %s", ErrDamaged, strings.Join(e.Faults[:min(3, len(e.Faults))], " "))
}

// Unwrap makes it an ErrDamaged.
func (e *DamagedError) Unwrap() error { return ErrDamaged }

// Store is the contract of every backend; abilities.go has what some can do beyond
// it. All methods may be called from many goroutines at once. When a method that
// changes something returns without an error, the change is on stable storage.
type Store interface {
	Attachments
	Trash
	Holds
	Directory
	Keys
	Notes
	Audit
	Outbox

	// Probe makes a commit without effect, to check whether changes can be
	// committed now.
	Probe(ctx context.Context) error
	// Check checks whether all stored data is consistent, and returns a sentence
	// for each fault: an index entry without its record or a record without its
	// entry, a usage that is not the sum of its files, a reference to an object
	// that does not exist, or other damage that the backend can detect in its own
	// storage. A healthy store has none. It needs little memory, changes nothing,
	// and is correct while the store is in use; changes may have to wait for it,
	// though not for all of it. Unless it is nil, rest is called now and then with
	// the time that the check has worked since the last call, except after a short
	// last part: so a check of a copy, on which nothing waits, can leave the
	// machine to others.
	Check(ctx context.Context, rest func(took time.Duration)) (faults []string, err error)
	// Close finishes running changes and releases the storage.
	Close() error
}

// Kind is what kind of object an attachment belongs to. The values are part of the
// database format.
type Kind byte

const (
	Product Kind = 1
	Ticket  Kind = 2
	Meeting Kind = 3
)

// String is the word for the kind in messages.
func (k Kind) String() string {
	switch k {
	case Product:
		return "product"
	case Ticket:
		return "ticket"
	case Meeting:
		return "meeting"
	}
	return "unknown kind"
}

// Parent names the product, ticket or meeting that an attachment belongs to.
type Parent struct {
	Kind Kind
	ID   uuid.UUID
}

// Attachment is the record of one file.
type Attachment struct {
	ID         uuid.UUID // version 7 (RFC 9562), made when the upload was complete
	Parent     Parent
	CommentID  uuid.NullUUID // of a comment of the ticket
	FileName   string
	Size       int64 // bytes
	Type       string
	SHA256     [32]byte
	UploaderID uuid.UUID
	Uploader   string // full name, filled in when read: the present one, or the last one of a deleted user
}

// CreatedAt is the time in the record's id, in whole seconds, UTC.
func (a Attachment) CreatedAt() time.Time {
	sec, _ := a.ID.Time().UnixTime()
	return time.Unix(sec, 0).UTC()
}

// Usage is what the attachment counts.
func (a Attachment) Usage() Usage { return Usage{Bytes: a.Size, Files: 1} }

// Attachments stores the records of files.
type Attachments interface {
	// CreateAttachment records a, and counts it towards its space's quota, all or
	// nothing. ErrNotFound when the parent, the comment or the uploader does not
	// exist; ErrQuota when the space's quota would be exceeded; ErrConflict when
	// the id is taken. With autoCreate, a missing parent is created first, in the
	// space of that slug, which is created too where it is missing and marked Auto;
	// in a space so marked, the uploader becomes an admin when not a member yet. A
	// ticket so created belongs to the uploader. A product known in another space
	// than that is ErrNotFound; a ticket or meeting stays where it is. The
	// checksums, unless they are empty, are stored as AddChecksums does, in the
	// same commit.
	CreateAttachment(ctx context.Context, a Attachment, checksums []byte, autoCreate string) error
	// Attachment returns one record, or ErrNotFound.
	Attachment(ctx context.Context, id uuid.UUID) (Attachment, error)
	// AttachmentsOf lists at most limit records of a parent, oldest first (that is,
	// by id), beginning after the given id; the zero id begins at the start. The
	// list is empty for a parent that does not exist.
	AttachmentsOf(ctx context.Context, p Parent, after uuid.UUID, limit int) ([]Attachment, error)
	// AllAttachments lists at most limit records of all parents by id, beginning
	// after the given id.
	AllAttachments(ctx context.Context, after uuid.UUID, limit int) ([]Attachment, error)
	// DeleteAttachment deletes the record, gives its quota back, and returns it.
	// ErrNotFound when it does not exist.
	DeleteAttachment(ctx context.Context, id uuid.UUID) (Attachment, error)
	// Referenced says whether any record has this content.
	Referenced(ctx context.Context, sha256 [32]byte) (bool, error)
	// AttachmentsWith lists at most limit records that have this content,
	// oldest first.
	AttachmentsWith(ctx context.Context, sha256 [32]byte, limit int) ([]Attachment, error)
	// Checksums returns the checksums of a content's chunks as they were last
	// stored, or ErrNotFound. The store does not interpret them.
	Checksums(ctx context.Context, sha256 [32]byte) ([]byte, error)
	// AddChecksums stores the checksums of contents, in place of those stored
	// before, until the last record with the content is deleted. Those of a content
	// that no record has are dropped.
	AddChecksums(ctx context.Context, checksums map[[32]byte][]byte) error
	// Totals counts everything. It reads a batch at a time, and calls rest after
	// each with how long that took, so that the caller can pause. Changes made
	// meanwhile may be counted or not, and a record that cannot be read is not.
	Totals(ctx context.Context, rest func(took time.Duration)) (Totals, error)
}

// Totals are the numbers and sizes of everything stored.
type Totals struct {
	Attachments Usage
	Contents    Usage            // each content counted once, however many attachments have it
	ByType      map[string]Usage // of attachments, by their Type
	BySize      [64]Usage        // of attachments, by the SizeClass of their Size
}

// Add counts an attachment.
func (t *Totals) Add(a Attachment) {
	for _, sum := range []*Usage{&t.Attachments, &t.BySize[SizeClass(a.Size)]} {
		sum.Files++
		sum.Bytes += a.Size
	}
	sum := t.ByType[a.Type]
	t.ByType[a.Type] = Usage{Files: sum.Files + 1, Bytes: sum.Bytes + a.Size}
}

// SizeClass is the smallest n for which a size in bytes is at most 1<<n.
func SizeClass(size int64) int {
	if size < 1 {
		return 0
	}
	return bits.Len64(uint64(size) - 1)
}

// User is a person or a program that may have keys.
type User struct {
	ID           uuid.UUID
	FullName     string
	IsSuperadmin bool
	// IsRecordsManager is set for who may set legal holds, and lift them, as superadmins may.
	IsRecordsManager bool
}

// Space contains products, tickets and meetings, and has members.
type Space struct {
	Slug       string // [a-z0-9][a-z0-9-]{0,62}
	Name       string
	QuotaBytes int64 // sum of file sizes, a content stored once counting for each file; 0 is no limit
	QuotaFiles int64 // 0 is no limit
	Auto       bool  // created by an upload, not by the system of record
}

// Usage is how many files there are and how much room they take, such as what
// counts towards a space's quota.
type Usage struct {
	Bytes int64
	Files int64
}

// Plus is the sum of two usages.
func (u Usage) Plus(v Usage) Usage { return Usage{Bytes: u.Bytes + v.Bytes, Files: u.Files + v.Files} }

// Minus is the difference of two usages.
func (u Usage) Minus(v Usage) Usage { return Usage{Bytes: u.Bytes - v.Bytes, Files: u.Files - v.Files} }

// ValidSlug says whether s matches [a-z0-9][a-z0-9-]{0,62}, so that it can be part
// of a key of a backend.
func ValidSlug(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-')
	})
}

// CheckQuota returns ErrQuota when a space whose usage is used has no room for one
// more file of at least size bytes. Every backend calls it in the transaction that
// creates an attachment; earlier checks only avoid work.
func CheckQuota(space Space, used Usage, size int64) error {
	if space.QuotaFiles > 0 && used.Files >= space.QuotaFiles {
		return Refuse(ErrQuota, "Space %q may hold %d files and holds %d.", space.Slug, space.QuotaFiles, used.Files)
	}
	if space.QuotaBytes > 0 && size > space.QuotaBytes-used.Bytes {
		return Refuse(ErrQuota, "Space %q may hold %d bytes of files: %d are left, and this file has more.",
			space.Slug, space.QuotaBytes, max(0, space.QuotaBytes-used.Bytes))
	}
	return nil
}

// CheckRestore is CheckQuota for files that come back from the trash together. Where there
// are none, there is room.
func CheckRestore(space Space, used, back Usage) error {
	if space.QuotaFiles > 0 && back.Files > 0 && back.Files > space.QuotaFiles-used.Files {
		return Refuse(ErrQuota, "Space %q may hold %d files and holds %d: there is no room for %d that come back.", space.Slug, space.QuotaFiles, used.Files, back.Files)
	}
	if space.QuotaBytes > 0 && back.Bytes > 0 && back.Bytes > space.QuotaBytes-used.Bytes {
		return Refuse(ErrQuota, "Space %q may hold %d bytes of files: %d are left, and what comes back has %d.",
			space.Slug, space.QuotaBytes, max(0, space.QuotaBytes-used.Bytes), back.Bytes)
	}
	return nil
}

// Role is what a member may do in a space. The values are part of the
// database format.
type Role byte

const (
	NoRole Role = 0
	Viewer Role = 1
	Editor Role = 2
	Admin  Role = 3
)

// ParseRole parses the word for a role; "member" is a viewer.
func ParseRole(s string) (Role, bool) {
	switch s {
	case "viewer", "member":
		return Viewer, true
	case "editor":
		return Editor, true
	case "admin":
		return Admin, true
	}
	return NoRole, false
}

func (r Role) String() string {
	switch r {
	case Viewer:
		return "viewer"
	case Editor:
		return "editor"
	case Admin:
		return "admin"
	}
	return ""
}

// Member is a user's role in a space.
type Member struct {
	Space  string
	UserID uuid.UUID
	Role   Role
}

// Entity is a product, a ticket or a meeting as the directory has it.
type Entity struct {
	Parent
	Space   string
	Name    string    // a ticket's or meeting's title
	OwnerID uuid.UUID // of a ticket
}

// Comment belongs to a ticket.
type Comment struct {
	TicketID uuid.UUID
	ID       uuid.UUID
	// CreatedAt is when it was made according to the system of record, in whole
	// seconds. A Put without it keeps the stored value, or takes Told for a new
	// comment. It is zero for comments that were put before the field existed.
	CreatedAt time.Time
	// Told is when the system of record sent it. Only Put reads it.
	Told time.Time
	// Number is its position among the comments of its ticket, from 1, in the order
	// in which they were first put. Put assigns it: it never changes, and is never
	// reused. It is zero for comments that were put before there were numbers,
	// until another comment of the ticket is put; their order is that of their ids.
	Number int
}

// Object is an object of the directory: a User, Space, Member, Entity or Comment.
type Object interface{ object() }

func (User) object()    {}
func (Space) object()   {}
func (Member) object()  {}
func (Entity) object()  {}
func (Comment) object() {}

// PutError says which of several objects was refused.
type PutError struct {
	Index int
	Err   error
}

func (e *PutError) Error() string { return e.Err.Error() }
func (e *PutError) Unwrap() error { return e.Err }

// Directory stores the objects that a system of record sends: what the attachments
// belong to, and who may access them. Lists are in order of their key, have at most
// limit entries (none when limit is not positive) and begin after the given key; a
// zero key begins at the start, and so is never an object's own.
type Directory interface {
	// Put writes the objects in their order, each as a whole (a known one is
	// replaced), and returns for each whether it is new: all or none. The first
	// that is refused is returned as a *PutError: ErrNotFound when it names a
	// space, user or ticket that does not exist (a ticket may belong to a user who
	// has been deleted); ErrConflict when a product, ticket or meeting is known in
	// another space, or an id is zero. A deleted user who is put again is new.
	// Other changes of the directory may have to wait for a Put of many objects,
	// and no other call waits long; what it puts into a new space becomes visible
	// with the space.
	Put(ctx context.Context, objects ...Object) (created []bool, err error)

	// User returns a user, or ErrNotFound.
	User(ctx context.Context, id uuid.UUID) (User, error)
	Users(ctx context.Context, after uuid.UUID, limit int) ([]User, error)
	// DeleteUser deletes a user with their keys, sessions and memberships. Uploads
	// stay, with the name. ErrNotFound when the user does not exist.
	DeleteUser(ctx context.Context, id uuid.UUID) error

	// Space returns a space and the used part of its quota, or ErrNotFound.
	Space(ctx context.Context, slug string) (Space, Usage, error)
	Spaces(ctx context.Context, after string, limit int) ([]Space, error)
	// DeleteSpace deletes a space with its members, products, tickets, comments and
	// meetings. ErrNotFound when it does not exist. ErrConflict when it has
	// attachments, unless withAttachments: then they are deleted too. When it
	// returns, nothing of all that is visible or counted any more; where there is
	// much of it, most is left for Remove. freed are contents that may be
	// unreferenced now.
	DeleteSpace(ctx context.Context, slug string, withAttachments bool) (freed [][32]byte, err error)

	// Role returns a user's role in a space; NoRole for those who have none.
	Role(ctx context.Context, slug string, user uuid.UUID) (Role, error)
	Members(ctx context.Context, slug string, after uuid.UUID, limit int) ([]Member, error)
	// Memberships lists the spaces that a user is a member of, by slug.
	Memberships(ctx context.Context, user uuid.UUID) ([]Member, error)
	// DeleteMember removes a user's role in a space. ErrNotFound when there is
	// none.
	DeleteMember(ctx context.Context, slug string, user uuid.UUID) error

	// Entity returns a product, ticket or meeting, or ErrNotFound.
	Entity(ctx context.Context, p Parent) (Entity, error)
	Entities(ctx context.Context, slug string, kind Kind, after uuid.UUID, limit int) ([]Entity, error)
	// DeleteEntity deletes a product, meeting, or ticket with its comments, and
	// treats attachments as DeleteSpace does.
	DeleteEntity(ctx context.Context, p Parent, withAttachments bool) (freed [][32]byte, err error)

	// Remove continues the deletion of what deleted parents and spaces contained:
	// it deletes a batch, returns contents that may be unreferenced now, and
	// whether there is more to do. Audit entries and events of each attachment are
	// written with its deletion, on behalf of the user who deleted the parent. A
	// crash in between loses nothing, except that contents which were freed and not
	// returned yet are left to a garbage collection. A call that puts a deleted
	// object anew waits until its removal is complete.
	Remove(ctx context.Context) (freed [][32]byte, more bool, err error)

	// Comment returns a comment of a ticket, or ErrNotFound.
	Comment(ctx context.Context, ticket, id uuid.UUID) (Comment, error)
	Comments(ctx context.Context, ticket uuid.UUID, after uuid.UUID, limit int) ([]Comment, error)
	// DeleteComment deletes a comment; attachments that named it stay and name
	// none. ErrNotFound when it does not exist; ErrHeld as for deleting its ticket (Holds).
	DeleteComment(ctx context.Context, c Comment) error
}

// Key is a caller's secret, known by its hash.
type Key struct {
	ID         uuid.UUID
	UserID     uuid.UUID
	Name       string
	Prefix     string // the first characters of the secret, to recognise it by
	Hash       [32]byte
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	LastUsedAt time.Time // zero: not yet
}

// Session stands for a key in a browser, known by the hash of its cookie.
type Session struct {
	Hash      [32]byte
	KeyID     uuid.UUID
	ExpiresAt time.Time
}

const (
	// MaxKeys is how many keys a user may have, those included that have expired.
	MaxKeys = 200
	// MaxSessions is how many sessions a user may have with all their keys.
	MaxSessions = 100
)

// Keys stores API keys and sessions. The caller, which has the clock, checks
// whether they have expired.
type Keys interface {
	// CreateKey stores a key. ErrNotFound when its user does not exist, ErrConflict
	// when its id or hash is taken, or when the user has MaxKeys already: in that
	// case the one that expired first is deleted instead, if any had expired when
	// the new one was created.
	CreateKey(ctx context.Context, k Key) error
	// Key returns a key and its user, or ErrNotFound, also for a revoked one.
	Key(ctx context.Context, id uuid.UUID) (Key, User, error)
	// KeyByHash is Key for the hash of a presented secret.
	KeyByHash(ctx context.Context, hash [32]byte) (Key, User, error)
	// KeysOf lists the keys of a user by id.
	KeysOf(ctx context.Context, user uuid.UUID, after uuid.UUID, limit int) ([]Key, error)
	// TouchKey records that a key was used. Readers see it at once; it is on stable
	// storage within a minute or at Close; a crash may lose it.
	TouchKey(id uuid.UUID, at time.Time)
	// DeleteKey revokes a key and ends its sessions. ErrNotFound when it does not
	// exist.
	DeleteKey(ctx context.Context, id uuid.UUID) error

	// CreateSession stores a session and deletes those that expired before now.
	// ErrNotFound when its key does not exist, ErrConflict when its hash is taken.
	// When the user has MaxSessions already, the one that would expire first ends.
	CreateSession(ctx context.Context, s Session, now time.Time) error
	// Session returns a session, or ErrNotFound.
	Session(ctx context.Context, hash [32]byte) (Session, error)
	// DeleteSession ends a session; one that does not exist is not an error.
	DeleteSession(ctx context.Context, hash [32]byte) error
}

// Notes stores a few small values for package upkeep, each under a name. The store
// does not interpret them.
type Notes interface {
	// Note returns the last value of a name, or ErrNotFound.
	Note(ctx context.Context, name string) ([]byte, error)
	// SetNote sets the value of a name.
	SetNote(ctx context.Context, name string, value []byte) error
}
