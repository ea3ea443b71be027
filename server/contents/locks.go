package contents

import (
	"context"
	"maps"
	"slices"
	"sync"

	"attachd/store"
)

// Leases postpone removals while backups are under way. They are the third of
// the locks that keep a content from being removed while it is needed:
//
//	hold   shared, of one content, from before it gets its name until its
//	       record is committed: from blobs.Spool.Keep to release
//	claim  exclusive, of one content: blobs.Store.Remove waits for its holds,
//	       lets none begin, and then checks whether anything refers to it
//	lease  of all contents: from Begin to end, nothing is removed
//
// Holds and claims are taken by the blob backend, around its own writes and in
// the place where it keeps state shared by several processes, so that nothing is
// locked twice. Leases are the only lock here. Those of one process are in its
// memory; replicas pass in others, which are kept in the database they share.
//
// A content that a snapshot needs cannot be removed, although the check whether
// it is referenced may have ended before the lease began. Its result "no" means
// that first no record had the content and then there was no lease. The snapshot
// is taken after the lease begins, so after both; and from the check until the
// content is removed, nothing can record it, since that takes a hold that waits
// for the claim. So no record in the snapshot has it, unless it was kept and
// recorded again after its removal. The order of the two checks matters: if
// Postpone were called before the records are checked, a lease could begin in
// between, and its snapshot have a record that is deleted before that check.
type Leases interface {
	// Begin starts a lease. held ends with ctx, and when the lease is lost, after which
	// contents may be removed. The end of the last one returns the contents whose removal
	// was postponed, as far as they are remembered; the rest are left to a collection.
	Begin(ctx context.Context) (held context.Context, end func() (postponed [][32]byte), err error)
	// Postpone reports whether there is a lease, and if so remembers the content
	// until the last one ends.
	Postpone(ctx context.Context, sha256 [32]byte) (bool, error)
	// Any reports whether there is a lease.
	Any(ctx context.Context) (bool, error)
}

// localLeases are the Leases of one process.
type localLeases struct {
	mu        sync.Mutex
	count     int // of leases
	postponed map[[32]byte]struct{}
}

// maxPostponed is how many postponed removals are remembered. Those beyond are left to a
// collection.
const maxPostponed = 100_000

// Begin implements Leases.
func (l *localLeases) Begin(ctx context.Context) (held context.Context, end func() (postponed [][32]byte), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	return ctx, l.end, nil
}

func (l *localLeases) end() (postponed [][32]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	if l.count > 0 {
		return nil
	}
	postponed = slices.Collect(maps.Keys(l.postponed))
	l.postponed = nil
	return postponed
}

// Postpone implements Leases.
func (l *localLeases) Postpone(_ context.Context, sha256 [32]byte) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == 0 {
		return false, nil
	}
	if l.postponed == nil {
		l.postponed = map[[32]byte]struct{}{}
	}
	if len(l.postponed) < maxPostponed {
		l.postponed[sha256] = struct{}{}
	}
	return true, nil
}

// Any implements Leases.
func (l *localLeases) Any(context.Context) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count > 0, nil
}

// Leased returns records for a collection: while there is a lease, every content counts
// as referenced.
func (c *Store) Leased(records store.Store) store.Store { return leased{records, c.Leases} }

type leased struct {
	store.Store
	leases Leases
}

func (l leased) Referenced(ctx context.Context, sha256 [32]byte) (bool, error) {
	found, err := l.Store.Referenced(ctx, sha256)
	if err != nil || found {
		return found, err
	}
	return l.leases.Any(ctx)
}
