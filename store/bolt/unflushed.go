package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"
)

const (
	// walTime is how long changes stay in the write-ahead log alone at most.
	walTime = 250 * time.Millisecond
	// walRetry is after how long a failed commit of those changes is retried.
	walRetry = time.Second
)

// walKey is the key of the log's epoch in schema.Meta.
var walKey = []byte("log")

// ErrLogDamaged means that the write-ahead log was damaged after it was written.
var ErrLogDamaged = wal.ErrDamaged

// openLog commits the changes that the write-ahead log has and the database lacks.
// An empty path means a copy of a database, to which no log belongs.
func (b *Store) openLog(opts Options) (*wal.Log, error) {
	base, stored := 0, []byte(nil)
	err := b.file.View(func(tx *dbfile.Tx) error {
		base, stored = tx.ID(), bytes.Clone(tx.Get(schema.Meta, walKey))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if opts.Log == "" && stored != nil {
		err = b.file.Update(func(tx *dbfile.Tx) error { return tx.Delete(schema.Meta, walKey) })
		return &wal.Log{}, err
	}
	log, err := wal.Open(opts.Log, stored, wal.Options{Own: opts.Own, Write: opts.Logged, Failed: opts.LogFailed})
	if err != nil {
		return nil, err
	}
	if err := b.replay(log, base); err != nil {
		return nil, errors.Join(err, log.Release())
	}
	if err := log.Remove(); err != nil {
		log.Disable() // attachd works without a log
		opts.LogFailed(err)
	}
	return log, nil
}

// replay commits the changes of the log that the database lacks.
func (b *Store) replay(log *wal.Log, base int) error {
	if err := log.Recover(base); err != nil || !log.Unflushed() {
		return err
	}
	err := b.file.WithRoom(func() error {
		err := b.file.Update(func(tx *dbfile.Tx) error { return log.Replay(tx) })
		if durable.IsFull(err) {
			_ = log.Halve()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("repeat what is in the log: %w", err)
	}
	log.Committed()
	return nil
}

// unflushed is an index of the changes that the write-ahead log has and the
// database lacks. Readers consult it before they read the database, which shows
// them only what was last committed, so that they do not miss acknowledged changes.
type unflushed struct {
	some    atomic.Bool
	mu      sync.RWMutex
	ids     map[uuid.UUID]bool
	parents map[store.Parent]bool
	content map[[32]byte]bool
	usage   map[string]store.Usage // by space
}

// created is an attachment that a transaction creates, and the usage of its space
// with it.
type created struct {
	store.Attachment
	space string
	usage store.Usage
}

func (u *unflushed) add(all []created) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ids == nil {
		u.ids, u.parents, u.content, u.usage = map[uuid.UUID]bool{}, map[store.Parent]bool{}, map[[32]byte]bool{}, map[string]store.Usage{}
	}
	for _, c := range all {
		u.ids[c.ID], u.parents[c.Parent], u.content[c.SHA256], u.usage[c.space] = true, true, true, c.usage
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
	u.ids, u.parents, u.content, u.usage = nil, nil, nil, nil
}

func (u *unflushed) has(id uuid.UUID) bool { return u.says(func() bool { return u.ids[id] }) }

func (u *unflushed) hasUnder(p store.Parent) bool { return u.says(func() bool { return u.parents[p] }) }

func (u *unflushed) hasContent(sha256 [32]byte) bool {
	return u.says(func() bool { return u.content[sha256] })
}

func (u *unflushed) usageOf(space string) (usage store.Usage, known bool) {
	known = u.says(func() (is bool) {
		usage, is = u.usage[space]
		return is
	})
	return usage, known
}

// says calls is under the lock, unless nothing is unflushed, which is the usual
// case.
func (u *unflushed) says(is func() bool) bool {
	if !u.some.Load() {
		return false
	}
	u.mu.RLock()
	defer u.mu.RUnlock()
	return is()
}
