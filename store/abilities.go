package store

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"
)

// The interfaces of this file are optional. A backend implements those of which its
// kind of storage is capable; the code that assembles the program checks which, and
// passes them to the packages that use them.

// Stager stages small contents, each with the record of one attachment: from the commit
// of that record until it is unstaged, which means that the content is on stable storage
// elsewhere, or until the record is deleted. So a record without a staged content has its
// content elsewhere. A Snapshot has no staged contents.
type Stager interface {
	// CreateStaged is CreateAttachment for a content that is stored nowhere else
	// yet: record and content are created in one commit, and are on stable storage
	// when it returns. The content must not change before that. ErrNotStaged when
	// there is no room for it, or it could not be written.
	CreateStaged(ctx context.Context, a Attachment, content, checksums []byte, autoCreate string) error
	// StagedContent returns the bytes that are staged with some record of this
	// content, or ErrNotFound, or ErrRotten. They were not hashed.
	StagedContent(ctx context.Context, sha256 [32]byte) ([]byte, error)
	// StagedSizes returns the length in bytes of each staged content. Those whose
	// record cannot be decoded are left out.
	StagedSizes(ctx context.Context) (map[[32]byte]int64, error)
	// StagedAfter lists staged contents, those of the oldest records first,
	// beginning after the given id: at most limit, and no more once maxBytes of
	// them are reached. Those whose record cannot be decoded are skipped: then it
	// returns an ErrUnreadable beside the list.
	StagedAfter(ctx context.Context, after uuid.UUID, limit int, maxBytes int64) ([]StagedContent, error)
	// Unstage removes the contents that are staged with these records. It returns
	// the ids of records that were deleted: their content may be unreferenced.
	Unstage(ctx context.Context, ids []uuid.UUID) (gone []uuid.UUID, err error)
	// Staged says how much is staged. It is O(1).
	Staged() Staged
	// MayStage reports whether something can be staged now, as far as is known. It is
	// O(1).
	MayStage() bool
}

// Staged is how much is staged.
type Staged struct {
	Contents int64
	Bytes    int64 // of these contents
	// Room is how many bytes the storage of staged contents takes, in which what was
	// unstaged takes room for a while, and MaxRoom how many it may take.
	Room, MaxRoom int64
	// Astray is set when some of it is in files that were removed while they are open,
	// and are lost with the process: it should be kept elsewhere at once.
	Astray bool
}

// StagedContent is a content that is staged with a record.
type StagedContent struct {
	ID      uuid.UUID // of the attachment
	SHA256  [32]byte  // as recorded
	Size    int64     // of the content, in bytes, as recorded
	Content []byte    // not hashed
	// Err is why there is no Content: ErrRotten when it is damaged or lost, ErrNotFound
	// when it was unstaged meanwhile, or another error, which may pass.
	Err error
}

// Inquirer can answer in one call what a server asks about each request: a storage that is
// a call away costs one then, and not one for each question.
type Inquirer interface {
	// Inquire answers what Key or KeyByHash, User, Attachment or Entity, Space and Role
	// would, as of one moment. ErrNotFound when any of these does not exist: which one, the
	// single methods say.
	Inquire(ctx context.Context, about Inquiry) (Findings, error)
}

// Inquiry is what a request is about.
type Inquiry struct {
	Key        uuid.UUID // of the caller; zero where KeyHash says which
	KeyHash    [32]byte
	User       uuid.UUID // whose rights count; zero for the key's own user
	Attachment uuid.UUID // zero where it is about the Parent
	Parent     Parent
	Usage      bool // Space and Used of the parent are asked for, too
}

// Findings are the answers to an Inquiry; what was not asked for is zero.
type Findings struct {
	Key        Key
	Actor      User // whose key it is
	User       User // whose rights count
	Attachment Attachment
	Entity     Entity // the parent, or that of the attachment
	Role       Role   // of User in its space
	Space      Space  // of the parent
	Used       Usage  // by that space
}

// Snapshotter can copy all of its data as of one moment.
type Snapshotter interface {
	// Snapshot writes all data as of one moment to w, in a form from which a store
	// of the same kind can be opened again. Changes are made meanwhile and do not
	// wait for it, but the storage may grow by the data that they replace until it
	// ends; so w should be quick.
	Snapshot(ctx context.Context, w io.Writer) error
}

// Compacter can give unused room back to the file system.
type Compacter interface {
	// Compact rewrites the storage without its unused room, in which deleted data
	// can still be found. Changes wait for it, and it waits for a running Snapshot
	// or Check; all other reads go on. It needs as much free room as the data in
	// use takes, and returns ErrFull where there is not enough. After any error but
	// ErrUnavailable, the storage is as it was before, and stays usable. When ctx
	// ends, it gives up soon.
	Compact(ctx context.Context) (Compaction, error)
	// Size returns how much room the storage takes. Changes wait for it, though not
	// for long.
	Size(ctx context.Context) (Size, error)
}

// Compaction is the size of the storage before and after a Compact.
type Compaction struct {
	Before int64 `json:"bytes_before"`
	After  int64 `json:"bytes_after"`
}

// Size is how much room a storage takes.
type Size struct {
	Bytes int64 `json:"bytes"` // the whole storage
	Free  int64 `json:"free"`  // the part of it that a Compact would give back
}

// Verifier can detect damage of its own storage. A database that is a separate
// service does that itself.
type Verifier interface {
	// Verify checks whether what is stored is what was written, as far as the
	// backend can detect that from its own storage, and returns a sentence for each
	// fault: it checks less than a Check, and is quicker. It calls rest as Check
	// does. Readers of what it finds damaged get ErrDamaged.
	Verify(ctx context.Context, rest func(took time.Duration)) (faults []string, err error)
	// Damage returns the faults that Verify or a reader has found since the storage
	// was opened. It is O(1).
	Damage() (faults []string)
}

// Freezer can refuse changes, for everybody who uses the storage.
type Freezer interface {
	// Freeze waits for the changes under way, and has later ones refused with ErrFrozen
	// until thaw is called; to freeze again changes nothing. Reads go on, notes can be set,
	// and what has no entry in the audit log may be refused or not: uses of keys, events
	// that were delivered, objects that were deleted.
	Freeze(ctx context.Context) (thaw func(ctx context.Context) error, err error)
	// Thaw does what thaw does, where the process has ended that has frozen the storage.
	Thaw(ctx context.Context) error
}

// Watched is a storage of files, which other processes can remove or replace.
type Watched interface {
	// InPlace returns ErrReplaced when a file is not the one that was opened.
	InPlace() error
}

// LeaseTime is for how long a lease is taken or renewed, and ReplicaLives how long a replica
// counts as alive after it was last seen.
const (
	LeaseTime    = 15 * time.Second
	ReplicaLives = 15 * time.Second
)

// ErrLeaseLost means that a change was refused since it is protected by a lease that this
// replica does not hold any more: another may be doing the same work.
var ErrLeaseLost = errors.New("another replica has taken over this work")

// Shared is a store that several processes use at once, the replicas of one server. All
// times are those of the store's clock.
type Shared interface {
	// Replica is the id of this replica; it is another one after each start.
	Replica() uuid.UUID
	// Beat notes that this replica lives, with the version of its program and a value that
	// it shares with the others, and returns how many live, at least 1.
	Beat(ctx context.Context, version string, shares []byte) (live int, err error)
	// Replicas lists the replicas that were seen within a day, those seen last first.
	Replicas(ctx context.Context) ([]Replica, error)
	// Depart notes that this replica ends: it does not count as alive any more.
	Depart(ctx context.Context) error

	// TakeLeases takes, until LeaseTime from now, those of the leases that nobody else
	// holds, and renews those that this replica holds. It returns the epoch of each that it
	// took or renewed, which is another one whenever the holder changes. What is left out
	// may still be this replica's until its time is over.
	TakeLeases(ctx context.Context, names ...string) (epochs map[string]int64, err error)
	// GiveBack ends those of the leases that this replica holds.
	GiveBack(ctx context.Context, names ...string) error
	// Leases lists the leases that are held, by name.
	Leases(ctx context.Context) ([]Lease, error)

	// Load says what this replica's way to the store is busy with, and what waits there. It
	// is O(1).
	Load() Load

	// SigningKeys returns the keys that sign links; the first signs new ones.
	SigningKeys(ctx context.Context) ([]SigningKey, error)
	// ChangeSigningKeys replaces these keys by those that change returns for the present
	// ones, which nobody else changes meanwhile, and returns them. change may run several
	// times.
	ChangeSigningKeys(ctx context.Context, change func([]SigningKey) []SigningKey) ([]SigningKey, error)
}

// Replica is one of the processes that share a store.
type Replica struct {
	ID      uuid.UUID
	Version string // of its program
	Started time.Time
	Seen    time.Time
	Lives   bool // it was seen within ReplicaLives, and has not departed
	Left    bool // it has departed
	Shares  []byte
}

// Load is what a replica's way to a shared store is busy with.
type Load struct {
	Connections, InUse, Limit int           // connections that are open, of these those in use, and how many may be open
	Waits                     int64         // how often somebody had to wait for a connection, or for one to be made
	Waited                    time.Duration // for how long, together
	// Unchained is how many entries of the audit log are yet to get their places in its chain,
	// as of a moment ago.
	Unchained int64
}

// Lease is the right of one replica to do work that only one may do at once.
type Lease struct {
	Name   string
	Holder uuid.UUID // the replica
	Epoch  int64
	Taken  time.Time // by this holder
	Until  time.Time
}

// SigningKey is a secret that signs links.
type SigningKey struct {
	Secret []byte
	Until  time.Time // when its links end; zero for the key that signs
}

type leaseContext struct{}

// WithLease returns a context whose changes a Shared store commits only while the lease is
// held in this epoch by this replica: a process that stood still may otherwise go on when
// another has taken over. ErrLeaseLost otherwise.
func WithLease(ctx context.Context, name string, epoch int64) context.Context {
	return context.WithValue(ctx, leaseContext{}, Lease{Name: name, Epoch: epoch})
}

// LeaseOf returns the lease that WithLease put into the context, with its name and epoch.
func LeaseOf(ctx context.Context) (lease Lease, is bool) {
	lease, is = ctx.Value(leaseContext{}).(Lease)
	return lease, is
}
