package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Entry is an entry of the audit log: who did what to what, when and from where,
// and with which outcome.
type Entry struct {
	Seq  uint64    // 1, 2, 3 … without gaps; assigned when it is stored
	Time time.Time // whole milliseconds, UTC

	UserID   uuid.UUID // the user whose rights applied; zero for an unauthenticated caller
	ActorID  uuid.UUID // the superadmin who acted for that user; else zero
	KeyID    uuid.UUID // the key that the caller presented; zero without one
	Operator bool      // whether it was made by someone who can open the data directory

	Action   string // such as "attachment.upload"
	Resource string // the kind of the object, such as "attachment" or "user"
	ID       string // of the object
	Name     string // of a file, or a short description
	Space    string // the slug of the space

	Address   string // of the client
	RequestID string
	Outcome   string // "done", or the code of the refusal

	Previous [32]byte // Hash of the previous entry, zero for the first
	Hash     [32]byte // Sum of this entry; set when it is stored

	// Damage says why a stored entry cannot be read, such as "cannot be read"; only
	// Seq, Previous and Hash of such an entry are valid.
	Damage string
}

// AuditRun is a range of consecutive entries, up to the First of the next run.
// Where it is ordered, none of its entries is older than an earlier one by more
// than LongestRequest: a run ends when the clock is set back.
type AuditRun struct {
	First   uint64    // Seq of its first entry, which may have been removed
	Latest  time.Time // the latest time of its entries
	Ordered bool
}

// LongestRequest is by how much an entry may be older than the one before it
// without the clock having been set back: an entry has the time at which its
// request began, and a request over a bad line may take a day.
const LongestRequest = 24 * time.Hour

// SkipOlder returns the Seq before which entries of the time since or later may be
// found, for a reader that goes from the newest to the oldest and has reached an
// entry e that is older.
func SkipOlder(runs []AuditRun, e Entry, since time.Time) (before uint64) {
	i := len(runs) - 1
	for i >= 0 && runs[i].First > e.Seq {
		i--
	}
	if i < 0 || !runs[i].Ordered || !e.Time.Before(since.Add(-LongestRequest)) {
		return e.Seq
	}
	for i > 0 && runs[i-1].Latest.Before(since) {
		i--
	}
	return runs[i].First
}

// Sum computes Hash: the SHA-256 of Previous and all other fields, each text
// preceded by its length, so that no two entries have the same encoding.
func (e Entry) Sum() [32]byte {
	return sha256.Sum256(append(e.Previous[:], e.Encode()...))
}

// EntryVersion is the first byte of an encoded Entry.
const EntryVersion = 1

// Encode returns all fields but Previous and Hash as bytes:
//
//	version   1 byte: 1
//	seq       8 bytes
//	time      8 bytes: milliseconds since 1970
//	ids       3 x 16 bytes: user, actor, key
//	operator  1 byte: 0 or 1
//	texts     8 x (uvarint: how many bytes follow; the bytes)
func (e Entry) Encode() []byte {
	out := make([]byte, 0, 256)
	out = append(out, EntryVersion)
	out = binary.BigEndian.AppendUint64(out, e.Seq)
	out = binary.BigEndian.AppendUint64(out, uint64(e.Time.UnixMilli()))
	out = append(out, e.UserID[:]...)
	out = append(out, e.ActorID[:]...)
	out = append(out, e.KeyID[:]...)
	operator := byte(0)
	if e.Operator {
		operator = 1
	}
	out = append(out, operator)
	for _, text := range e.Texts() {
		out = binary.AppendUvarint(out, uint64(len(*text)))
		out = append(out, *text...)
	}
	return out
}

// errEntry is the error of bytes that are no entry.
var errEntry = errors.New("damaged entry of the audit log")

// DecodeEntry reads the bytes that Encode returns.
func DecodeEntry(data []byte) (e Entry, err error) {
	const operator = 1 + 8 + 8 + 3*16 // where that byte is
	if len(data) <= operator || data[0] != EntryVersion || data[operator] > 1 {
		return Entry{}, errEntry
	}
	e.Seq = binary.BigEndian.Uint64(data[1:])
	e.Time = time.UnixMilli(int64(binary.BigEndian.Uint64(data[9:]))).UTC()
	for i, id := range []*uuid.UUID{&e.UserID, &e.ActorID, &e.KeyID} {
		copy(id[:], data[17+16*i:])
	}
	e.Operator = data[operator] == 1
	rest := data[operator+1:]
	for _, text := range e.Texts() {
		length, n := binary.Uvarint(rest)
		if n <= 0 || length > uint64(len(rest)-n) {
			return Entry{}, errEntry
		}
		end := n + int(length)
		*text, rest = string(rest[n:end]), rest[end:]
	}
	if len(rest) > 0 {
		return Entry{}, errEntry
	}
	return e, nil
}

// Texts returns pointers to the text fields, in the order in which Encode writes
// them.
func (e *Entry) Texts() []*string {
	return []*string{&e.Action, &e.Resource, &e.ID, &e.Name, &e.Space, &e.Address, &e.RequestID, &e.Outcome}
}

// ChainPos is a position in the chain of entries.
type ChainPos struct {
	Seq  uint64
	Hash [32]byte
}

// Audit stores the audit log: a chain of entries, each of which contains the hash
// of the previous one. Entries are never changed; the oldest may be removed, and
// the link to the last removed one stays.
//
// A change whose context has an entry (WithEntry) is stored together with that
// entry, both or neither. Side effects of the change have separate entries, with
// the same request, actor and time: each attachment that is deleted with its parent
// or space, and the space, parent and member that an upload creates.
type Audit interface {
	// Record stores an entry without a change. It is on stable storage with the
	// next change, or within a second, or at Close; a crash may lose it. When
	// entries arrive faster than they can be stored, an entry "audit.skip" says how
	// many are missing.
	Record(e Entry)
	AuditChain
	// EntriesBefore is Entries in the opposite order: newest first, beginning
	// before seq, or with the last entry when seq is 0.
	EntriesBefore(ctx context.Context, before uint64, limit int) ([]Entry, error)
	// AuditRuns returns the runs of entries whose times are in order, the oldest
	// first, so that a search by time need not read all entries.
	AuditRuns(ctx context.Context) ([]AuditRun, error)
	// PruneAudit removes at most limit of the oldest entries, those that have been
	// stored for at least keep, and returns how many. age is how much time has
	// passed in all, by a count that continues across restarts: the time in an
	// entry is not used, since the clock may have been wrong then. At each call,
	// though not more often than every day or every hundredth of keep, it records
	// which entries exist at that age: entries whose age was never recorded stay.
	PruneAudit(ctx context.Context, age, keep time.Duration, limit int) (removed int, err error)
}

// AuditChain is the part of Audit that VerifyAudit reads.
type AuditChain interface {
	// Entries returns at most limit entries, oldest first, beginning after seq. One
	// that cannot be read is among them, with its Damage.
	Entries(ctx context.Context, after uint64, limit int) ([]Entry, error)
	// AuditEnds returns the anchor that the log begins after (the zero ChainPos, or
	// the last entry that was removed) and the head, the entry that was written
	// last, which is recorded apart from the entries: the entry itself may be
	// missing. Both are the same when there was no entry.
	AuditEnds(ctx context.Context) (anchor, head ChainPos, err error)
}

type entryContext struct{}

// WithEntry returns a context with which a change is recorded as e, in the same
// commit. e is read when the change is handed to the store; a refused change is not
// recorded.
func WithEntry(ctx context.Context, e *Entry) context.Context {
	return context.WithValue(ctx, entryContext{}, e)
}

type eachContext struct{}

// WithEach returns a context with which a change of many objects (Put) is recorded
// in detail: each user and member that is new or changed has an entry beside that
// of the change.
func WithEach(ctx context.Context) context.Context {
	return context.WithValue(ctx, eachContext{}, true)
}

// EachOf reports whether the context was made by WithEach.
func EachOf(ctx context.Context) bool { return ctx.Value(eachContext{}) != nil }

// Granted describes in a few words the rights that an object of the directory
// grants; it is empty for one that grants none.
func Granted(o Object) string {
	switch o := o.(type) {
	case Member:
		return "role " + o.Role.String()
	case User:
		switch {
		case o.IsSuperadmin && o.IsRecordsManager:
			return "superadmin, records manager"
		case o.IsSuperadmin:
			return "superadmin"
		case o.IsRecordsManager:
			return "records manager"
		}
		return "no superadmin"
	}
	return ""
}

// EntryOf returns a copy of the entry that WithEntry put into the context, as it is
// now; nil where there is none.
func EntryOf(ctx context.Context) *Entry {
	e, _ := ctx.Value(entryContext{}).(*Entry)
	if e == nil {
		return nil
	}
	taken := *e
	return &taken
}

// VerifyAudit reads the chain and returns a sentence for each place where it is
// broken, and the number of entries. The chain must contain the entry that was
// written last, and known, if that is given, or begin after them. It reads a batch
// at a time: entries that are added meanwhile are checked too.
func VerifyAudit(ctx context.Context, a AuditChain, known *ChainPos) (entries int64, head ChainPos, faults []string, err error) {
	const atATime = 5000
	anchor, written, err := a.AuditEnds(ctx)
	if err != nil {
		return 0, ChainPos{}, nil, err
	}
	head = anchor
	hasWritten, hasKnown := false, known == nil
	meet := func() {
		hasWritten = hasWritten || written == head
		hasKnown = hasKnown || *known == head
	}
	meet()
	for {
		list, err := a.Entries(ctx, head.Seq, atATime)
		if err != nil {
			return entries, head, faults, err
		}
		for _, e := range list {
			if e.Seq != head.Seq+1 {
				// The oldest may have been pruned meanwhile, which is no fault.
				if now, _, err := a.AuditEnds(ctx); err == nil && now.Seq > head.Seq && now.Seq+1 == e.Seq {
					head = now
				} else {
					faults = append(faults, fmt.Sprintf("Entry %d is followed by entry %d: those between are missing.", head.Seq, e.Seq))
				}
			}
			e.Previous = head.Hash
			switch {
			case e.Damage != "":
				faults = append(faults, fmt.Sprintf("Entry %d %s.", e.Seq, e.Damage))
			case e.Sum() != e.Hash:
				faults = append(faults, fmt.Sprintf("Entry %d is not what was written, or not what followed entry %d.", e.Seq, head.Seq))
			}
			head = ChainPos{e.Seq, e.Hash}
			meet()
			entries++
		}
		if len(list) < atATime {
			break
		}
	}
	begins, _, err := a.AuditEnds(ctx) // again, since more entries may have been pruned
	if err != nil {
		return entries, head, faults, err
	}
	if begins.Seq > head.Seq {
		head = begins
	}
	switch {
	case hasWritten || written.Seq < begins.Seq || written == begins:
	case head.Seq < written.Seq:
		faults = append(faults, fmt.Sprintf("The log ends at entry %d and not at %d: the newest were cut off.", head.Seq, written.Seq))
	default:
		faults = append(faults, fmt.Sprintf("Entry %d is not the one that was written last: the end was rewritten.", written.Seq))
	}
	switch {
	case hasKnown:
	case known.Seq < begins.Seq:
		faults = append(faults, fmt.Sprintf("Entry %d was removed as too old: it cannot be compared.", known.Seq))
	default:
		faults = append(faults, fmt.Sprintf("The log does not hold entry %d with that hash: it was cut off or rewritten.", known.Seq))
	}
	return entries, head, faults, nil
}
