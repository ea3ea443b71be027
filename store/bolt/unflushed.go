package bolt

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/wal"
)

// unflushed is an index of the changes that the write-ahead log has and the database
// lacks. Readers take what they need of them from here, since a read of the database sees
// only what was last committed, and a commit takes as long as the disk does.
//
// These changes are creations of attachments and places of contents in an object store,
// and all of them were made after the same commit. What else is changed is committed at
// once, together with them. So a reader that finds this commit in the database finds the
// latest state there, but for what is here.
type unflushed struct {
	some    atomic.Bool
	mu      sync.RWMutex
	base    dbfile.Version // that of the commit that they follow
	ids     map[uuid.UUID]*created
	parents map[store.Parent][]*created
	content map[[32]byte][]*created
	places  map[blobs.Ref]blobs.Place
	usage   map[string]store.Usage // by space
}

// created is an attachment that a transaction creates, and the usage of its space
// with it.
type created struct {
	store.Attachment
	checksums []byte // of its content, or nil
	content   int    // the index in writeTx.contents of what is staged with it; -1 for nothing
	place     wal.Place
	space     string
	usage     store.Usage
}

// add adds what was written to the log after the commit base.
func (u *unflushed) add(base dbfile.Version, all []created, settled []blobs.Place) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ids == nil {
		u.ids, u.parents, u.content = map[uuid.UUID]*created{}, map[store.Parent][]*created{}, map[[32]byte][]*created{}
		u.places, u.usage = map[blobs.Ref]blobs.Place{}, map[string]store.Usage{}
	}
	u.base = base
	for _, c := range all {
		u.ids[c.ID], u.usage[c.space] = &c, c.usage
		u.parents[c.Parent] = append(u.parents[c.Parent], &c)
		u.content[c.SHA256] = append(u.content[c.SHA256], &c)
	}
	for _, p := range settled {
		u.places[p.Ref] = p
	}
	u.some.Store(true)
}

func (u *unflushed) clear() {
	if !u.some.Load() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.some.Store(false)
	u.ids, u.parents, u.content, u.places, u.usage = nil, nil, nil, nil, nil
}

// viewWith is viewCommitted for a read that takes from what is unflushed too. look returns
// what it needs of that, under the lock, and read gets it together with a transaction that
// lacks just that: the zero value where nothing is unflushed, or the transaction has it.
func viewWith[V any](ctx context.Context, b *Store, look func(*unflushed) V, read func(tx *dbfile.Tx, ahead V) error) error {
	var ahead, none V
	var base dbfile.Version
	if b.unflushed.some.Load() {
		b.unflushed.mu.RLock()
		if b.unflushed.some.Load() {
			ahead, base = look(&b.unflushed), b.unflushed.base
		}
		b.unflushed.mu.RUnlock()
	}
	return b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		if tx.Version() != base { // a later commit, which has all of it
			return read(tx, none)
		}
		return read(tx, ahead)
	})
}

// of lists the attachments of a parent behind an id, in the order of their ids.
func (u *unflushed) of(p store.Parent, after uuid.UUID) (list []store.Attachment) {
	for _, c := range u.parents[p] {
		if byID(c.ID, after) > 0 {
			list = append(list, c.Attachment)
		}
	}
	slices.SortFunc(list, func(a, b store.Attachment) int { return byID(a.ID, b.ID) })
	return list
}

// has says whether an attachment is in the log only.
func (u *unflushed) has(id uuid.UUID) (is bool) {
	if !u.some.Load() {
		return false
	}
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.ids[id] != nil
}

func byID(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

// checksumsOf returns the newest checksums of a content.
func (u *unflushed) checksumsOf(sha256 [32]byte) []byte {
	for _, c := range slices.Backward(u.content[sha256]) {
		if len(c.checksums) > 0 {
			return c.checksums
		}
	}
	return nil
}

// stagedOf lists the ids with which a content is staged, and where its bytes are, the newest
// first.
func (u *unflushed) stagedOf(sha256 [32]byte) (all stagedCopies) {
	for _, c := range slices.Backward(u.content[sha256]) {
		if c.content >= 0 {
			all.add(c.ID, stagedEntry{Place: c.place})
		}
	}
	return all
}
