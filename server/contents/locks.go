package contents

import (
	"context"
	"maps"
	"slices"
	"sync"

	"attachd/store"
)

// Leases postpone removals while backups are under way. They are the third of
// the locks that keep a content from being removed while somebody needs it:
//
//	hold   shared, of one content, from before it gets its name until its
//	       record is committed: from blobs.Spool.Keep to release
//	claim  exclusive, of one content: blobs.Store.Remove waits for its holds,
//	       lets none begin, and asks then whether anything refers to it
//	lease  of all contents: from Begin to end, nothing is removed
//
// Holds and claims are taken by the blob backend, around its own writes and
// wherever it keeps what several processes must know, so that nothing is locked
// twice. Leases are the only lock here. Those of one process are in its memory;
// replicas hand in others, which live in the database they share.
//
// A content that a snapshot needs cannot slip away, although the question
// whether it is referenced may have been answered before the lease began. The
// answer "no" means that first no record had the content and then there was no
// lease. The snapshot is taken after the lease begins, so after both; and from
// the answer until the content is gone, nobody can record it, since that takes
// a hold that waits for the claim. So no record in the snapshot has it, unless
// it was kept and recorded once more after it was gone. The order of the two
// questions matters: a lease that begins between Postpone and a later question
// to the records would protect a record that is deleted before that question.
type Leases interface {
	// Begin starts a lease. The last one to end gives what was postponed, as far
	// as it is known here; the rest is for a collection.
	Begin(ctx context.Context) (end func() (postponed [][32]byte), err error)
	// Postpone says whether there is a lease, and if so remembers the content
	// until the last one ends.
	Postpone(ctx context.Context, sha256 [32]byte) (bool, error)
	// Any says whether there is a lease.
	Any(ctx context.Context) (bool, error)
}

// localLeases are the Leases of one process.
type localLeases struct {
	mu        sync.Mutex
	count     int // of leases
	postponed map[[32]byte]struct{}
}

// maxPostponed is how many removals are remembered. Any beyond are left for a
// collection.
const maxPostponed = 100_000

// Begin implements Leases.
func (l *localLeases) Begin(context.Context) (end func() (postponed [][32]byte), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	return l.end, nil
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

// Leased is records as a collection sees them: while there is a lease, every
// content is referenced.
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
