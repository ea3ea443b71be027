package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Entry is a line of the audit log: who did what to what, when and from
// where, and how it ended.
type Entry struct {
	Seq  uint64    // 1, 2, 3 … without gaps; given when it is kept
	Time time.Time // whole milliseconds, UTC

	UserID   uuid.UUID // whose rights counted; zero when nobody was known
	ActorID  uuid.UUID // the superadmin who acted for that user; else zero
	KeyID    uuid.UUID // shown by whoever called; zero without one
	Operator bool      // it came from whoever may open the data directory

	Action   string // such as "attachment.upload"
	Resource string // the kind of what it was done to, such as "attachment" or "user"
	ID       string // of the resource
	Name     string // of a file, or a few words more
	Space    string // slug

	Address   string // of the client
	RequestID string
	Outcome   string // "done", or the code that a refusal had

	Previous [32]byte // Hash of the entry before, zero for the first
	Hash     [32]byte // Sum of this entry; given when it is kept

	// Damage says why an entry that was kept cannot be read, such as "cannot
	// be read"; of such a one, only Seq, Previous and Hash mean anything.
	Damage string
}

// AuditRun is a run of entries up to the next one. Where it is ordered, none
// of its entries is older by more than a day, which a request may take, than
// one before it: a run ends when the clock is set back.
type AuditRun struct {
	First   uint64    // its first entry, which may have been removed
	Latest  time.Time // the latest time of its entries
	Ordered bool
}

// LongestRequest is by how much an entry may be older than one before it although
// the clock was not set back: entries have the time at which their request
// began, and one over a bad line may take a day.
const LongestRequest = 24 * time.Hour

// SkipOlder gives the number before which entries of a time or later may be
// found, for one who goes from the newest to the oldest and has come to an entry
// that is older.
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

// Sum is what Hash must be: the SHA-256 of Previous and all other fields, each
// text with its length before it, so that no two entries have the same bytes.
func (e Entry) Sum() [32]byte {
	return sha256.Sum256(append(e.Previous[:], e.Encode()...))
}

// EntryVersion is the first byte of an encoded Entry.
const EntryVersion = 1

// Encode gives the fields without Previous and Hash:
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

// Texts gives the fields that are texts, in the order in which Encode has them.
func (e *Entry) Texts() []*string {
	return []*string{&e.Action, &e.Resource, &e.ID, &e.Name, &e.Space, &e.Address, &e.RequestID, &e.Outcome}
}

// ChainPos is a place in the chain of entries.
type ChainPos struct {
	Seq  uint64
	Hash [32]byte
}

// Audit keeps the audit log: a chain of entries, of which each holds the hash
// of the one before. None is ever changed; the oldest may be removed, and the
// link to the last removed one stays.
//
// A change whose context has an entry (WithEntry) is kept together with that
// entry, both or neither. What else it does has entries of its own, with the
// same request, actor and time: each attachment that goes with its parent or
// space, and what an upload makes of a space, a parent and a member.
type Audit interface {
	// Record keeps an entry for which nothing is changed. It is on stable
	// storage with the next change, or within a second, or at Close; a crash
	// may lose it. When entries come in faster than they can be kept, an entry
	// "audit.skip" says how many are not there.
	Record(e Entry)
	AuditChain
	// EntriesBefore is Entries the other way: newest first, beginning before
	// seq, or with the last entry when seq is 0.
	EntriesBefore(ctx context.Context, before uint64, limit int) ([]Entry, error)
	// AuditRuns gives the runs of entries whose times are in order, the oldest
	// first, so that a search by time need not read all.
	AuditRuns(ctx context.Context) ([]AuditRun, error)
	// PruneAudit removes at most limit of the oldest entries, as far as they
	// have been there for as long as they are to be kept, and says how many. age
	// is how much time has passed in all, by a count that goes on over restarts:
	// what time an entry says it is of does not matter, since the clock may have
	// been wrong then. It notes at each call, though not more often than a day or
	// a hundredth of keep apart, which entries are there: those of which it was
	// never told how old they are stay.
	PruneAudit(ctx context.Context, age, keep time.Duration, limit int) (removed int, err error)
}

// AuditChain is the part of Audit that VerifyAudit walks.
type AuditChain interface {
	// Entries gives at most limit entries, oldest first, beginning after seq.
	// One that cannot be read is among them, with its Damage.
	Entries(ctx context.Context, after uint64, limit int) ([]Entry, error)
	// AuditEnds gives what the log begins after (the zero ChainPos, or the last
	// entry that was removed) and the entry that was written last, which is
	// remembered apart from the entries: it need not be there any more. Both
	// are the same when there was none.
	AuditEnds(ctx context.Context) (anchor, head ChainPos, err error)
}

type entryContext struct{}

// WithEntry gives a context with which a change is recorded as e, in the same
// commit. What e says when the change is handed in counts; a change that is
// refused is not recorded.
func WithEntry(ctx context.Context, e *Entry) context.Context {
	return context.WithValue(ctx, entryContext{}, e)
}

type eachContext struct{}

// WithEach gives a context with which a change of many objects (Put) is
// recorded in detail: each user and member that is new, or not what it was,
// has an entry of its own beside that of the change.
func WithEach(ctx context.Context) context.Context {
	return context.WithValue(ctx, eachContext{}, true)
}

// EachOf reports whether the context is one of WithEach.
func EachOf(ctx context.Context) bool { return ctx.Value(eachContext{}) != nil }

// Granted says in a few words what rights an object of the directory gives; it
// is empty for one that gives none.
func Granted(o Object) string {
	switch o := o.(type) {
	case Member:
		return "role " + o.Role.String()
	case User:
		if o.IsSuperadmin {
			return "superadmin"
		}
		return "no superadmin"
	}
	return ""
}

// EntryOf gives a copy of what WithEntry put into the context, as it is now; nil
// where nothing was.
func EntryOf(ctx context.Context) *Entry {
	e, _ := ctx.Value(entryContext{}).(*Entry)
	if e == nil {
		return nil
	}
	taken := *e
	return &taken
}

// VerifyAudit walks the chain and gives a sentence for each place where it is
// broken, and how many entries there are. It must hold the entry that was
// written last, and known, if that is given, or have begun after them. It
// reads a part at a time: what is added meanwhile is looked at too.
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
				// The oldest may have been removed as is proper meanwhile.
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
	begins, _, err := a.AuditEnds(ctx) // now, since more may have become too old
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
