// Package bolt stores the metadata of package store in one bbolt file, with a
// write-ahead log beside it: a change is acknowledged when it is synced in one of
// them.
//
// The file itself is in dbfile, the pages below bbolt in pages, the log in wal, and
// the contents of the buckets in schema. This package implements the calls: each
// read runs in a separate transaction, changes go through the committer
// (committer.go).
package bolt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"

	"attachd/store"
	"attachd/store/backend"
	"attachd/store/bolt/check"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"
)

// ErrLocked means that another process holds the database.
var ErrLocked = dbfile.ErrLocked

// Options configure how a database is opened. The zero value is valid.
type Options struct {
	// LockTimeout is how long to wait while another process holds the database;
	// zero is one second.
	LockTimeout time.Duration
	// ReadOnly opens an existing database, such as a snapshot on a medium that
	// cannot be written. Changes fail.
	ReadOnly bool
	// MakeRoom, when set, is called when a change finds the disk full. When it
	// returns true, there is more room now, and the change is retried once.
	MakeRoom func() bool
	// Log is the folder of the write-ahead log. If it is empty, nothing can be staged,
	// and the database is a copy: what is staged in it is forgotten.
	Log string
	// LogSize is how many bytes the log takes at most; wal.DefaultSize when zero.
	LogSize int64
	// LogRoom, when set, returns how many bytes of the disk the log may take now, beyond
	// what it has.
	LogRoom func() int64
	// TakeOver, when set, is called before the database becomes one that an earlier
	// version opens and finds incomplete. It keeps that version out.
	TakeOver func() error
	// OlderLog is the file in which earlier versions had their log.
	OlderLog string
	// LogFailed, when set, is called when the log could not be created or written.
	// Nothing can be staged then until a segment of it is created anew, which is tried
	// after ten seconds. It must be quick.
	LogFailed func(error)
	// Logged, when set, is called with the function that writes and syncs a record of
	// the log. It is for tests, which make that fail.
	Logged func(write func() error) error
	// Commit, when set, replaces the commit of a transaction. It is for tests,
	// which make commits fail.
	Commit func(*bbolt.Tx) error
	// CommitAfter is how long changes stay in the log alone at most; zero is 250 ms. It is
	// for tests of what only the log has, however slow the machine is.
	CommitAfter time.Duration
	// Committed, when set, is called with the duration of each commit, which
	// includes two syncs of the file, and of each record of the log, which includes
	// one. It must be quick: changes wait for it.
	Committed func(took time.Duration)
	// Own, when set, is called with a database that is being created, to set its
	// owner.
	Own func(*os.File) error
	// Lost, when set, is called when this process cannot use the database any more:
	// bbolt failed, on a page that cannot be read, say, and keeps locks that it
	// never releases. It must end the process. All acknowledged changes are on
	// stable storage. If Lost is nil, the process panics.
	Lost func(error)
	// Compacting, when set, is called before each step of a Compact except its
	// commits, with the name of the step. It is for tests, which make steps fail.
	Compacting func(step string) error
}

// Store is a store.Store in one bbolt file. Each read is a transaction that sees
// what was last committed; changes go through the committer.
type Store struct {
	file         *dbfile.File
	log          *wal.Log     // the committer's, but for reads of contents
	replacing    sync.RWMutex // held while the file is replaced, and for reading while the whole file is read
	committer    committer
	verifying    sync.WaitGroup
	endVerifying context.CancelFunc

	touched       backend.Touches
	auditQueue    *backend.EntryQueue
	staged        stagedStats
	doubts        error // about the log, found at the start
	unflushed     unflushed
	commitBlocked atomic.Bool // the write-ahead log has changes that cannot be committed at present
	outbox        outboxStats
	imports       importLock
	freed         freedContents
	batch         int // how many entries one transaction of an import or a removal writes

	keys     dbfile.Cache[schema.KeyRecord]
	users    dbfile.Cache[schema.UserRecord]
	entities dbfile.Cache[schema.EntityRecord]

	keysByID    dbfile.Latest[uuid.UUID, keyAndUser]
	keysByHash  dbfile.Latest[[32]byte, keyAndUser]
	roles       dbfile.Latest[member, store.Role]
	parents     dbfile.Latest[store.Parent, store.Entity]
	attachments dbfile.Latest[uuid.UUID, store.Attachment]

	ids store.IDs // of events

	frozen    atomic.Bool
	changing  *semaphore.Weighted
	changes   chan *change // to the committer
	mu        sync.RWMutex // held for reading while a change is handed in
	closed    bool
	closeOnce sync.Once
	closeErr  error
}

// Store has these optional abilities since it is one file.
var _ interface {
	store.Store
	store.Stager
	store.Snapshotter
	store.Compacter
	store.Verifier
	store.Watched
	store.Freezer
} = (*Store)(nil)

// setDefaults sets the options that are not set.
func (o *Options) setDefaults() {
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	if o.Commit == nil {
		o.Commit = (*bbolt.Tx).Commit
	}
	if o.Committed == nil {
		o.Committed = func(time.Duration) {}
	}
	if o.LogFailed == nil {
		o.LogFailed = func(error) {}
	}
	if o.Lost == nil {
		o.Lost = func(err error) { panic(err) }
	}
	if o.Compacting == nil {
		o.Compacting = func(string) error { return nil }
	}
}

// Open opens the database at path and creates it where there is none yet. The
// directory must exist. ErrLocked when another process has it open,
// store.ErrDamaged when it is not an intact database, ErrLogDamaged when its log is
// not intact.
func Open(path string, opts Options) (*Store, error) {
	opts.setDefaults()
	file, err := dbfile.Open(path, dbfile.Options{
		LockTimeout: opts.LockTimeout, ReadOnly: opts.ReadOnly, MakeRoom: opts.MakeRoom, Own: opts.Own, Lost: opts.Lost,
	})
	if err != nil {
		return nil, err
	}
	b := newStore(file, opts)
	if !opts.ReadOnly {
		err = b.prepare(opts)
	}
	if err == nil {
		err = errors.Join(b.countStaged(), b.countOutbox())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), b.log.Release(), file.Close())
	}
	go b.committer.run()
	var ctx context.Context
	ctx, b.endVerifying = context.WithCancel(context.Background())
	b.verifying.Go(func() { b.verifyRest(ctx) })
	if !opts.ReadOnly {
		if err := b.resumeAtStart(); err != nil && !errors.Is(err, store.ErrDamaged) { // damage is recorded and reported later
			return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), b.Close())
		}
	}
	return b, nil
}

func newStore(file *dbfile.File, opts Options) *Store {
	opts.CommitAfter = cmp.Or(opts.CommitAfter, walTime)
	b := &Store{
		file:       file,
		log:        new(wal.Log),
		batch:      batchSize,
		changing:   semaphore.NewWeighted(allChanges),
		changes:    make(chan *change),
		auditQueue: backend.NewEntryQueue(),
		outbox:     outboxStats{newEvents: make(chan struct{}, 1), max: store.MaxEvents},
	}
	b.committer = committer{
		store:   b,
		stopped: make(chan struct{}),
		walDue:  time.NewTimer(opts.CommitAfter),
		opts:    opts,
	}
	return b
}

// prepare upgrades a database that is to be written to the format of this version.
func (b *Store) prepare(opts Options) error {
	if err := b.file.TakeOver(func() error { return b.replayOlder(opts) }); err != nil {
		return err
	}
	if err := b.replayOlder(opts); err != nil {
		return err
	}
	if err := b.openLog(opts); err != nil {
		return err
	}
	// After the log has been replayed, which fits the database only as the crash
	// left it.
	return errors.Join(b.file.Upgrade(), b.moveStaged(opts))
}

// verifyRest verifies the part of a large database that the start did not, until
// ctx ends.
func (b *Store) verifyRest(ctx context.Context) {
	if !b.file.Unverified() {
		return
	}
	_, _ = b.Verify(ctx, func(took time.Duration) { // faults are recorded as damage
		select {
		case <-time.After(took):
		case <-ctx.Done():
		}
	})
}

// Verify implements store.Verifier.
func (b *Store) Verify(ctx context.Context, rest func(took time.Duration)) ([]string, error) {
	b.replacing.RLock()
	defer b.replacing.RUnlock()
	faults, err := b.file.Verify(ctx, rest)
	return faults.Sentences(), err
}

// Check implements Store.
func (b *Store) Check(ctx context.Context, rest func(took time.Duration)) ([]string, error) {
	b.replacing.RLock()
	defer b.replacing.RUnlock()
	return check.Database(ctx, b.file, b.viewAll, rest)
}

// Damage implements store.Verifier.
func (b *Store) Damage() []string { return b.file.Known() }

// InPlace fails with store.ErrReplaced when the file of the database was removed
// or replaced, and with store.ErrOverwritten when it was cut short or overwritten.
func (b *Store) InPlace() error { return b.file.InPlace() }

// viewAll runs read in a read transaction that sees every change that was
// acknowledged before, and commits the write-ahead log first where necessary. No
// slice of a key or value may outlive the transaction.
func (b *Store) viewAll(ctx context.Context, read func(*dbfile.Tx) error) error {
	if b.commitBlocked.Load() || b.commitLog(ctx) != nil {
		// The log cannot be committed, but the open transaction that has its
		// changes can be read.
		return b.handIn(ctx, &change{readOpen: read, done: make(chan error, 1)})
	}
	return b.viewCommitted(ctx, read)
}

// viewCommitted is viewAll without committing the log first: for buckets that small
// uploads do not write. See viewWith for the others.
func (b *Store) viewCommitted(ctx context.Context, read func(*dbfile.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.file.View(read)
}

// latest is viewCommitted for a value that is cached until the next commit. An error is
// not cached.
func latest[K comparable, V any](ctx context.Context, b *Store, cache *dbfile.Latest[K, V], key K, read func(*dbfile.Tx) (V, error)) (value V, err error) {
	if err := ctx.Err(); err != nil {
		return value, err
	}
	if value, found := cache.Get(b.file, key); found {
		return value, nil
	}
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		if value, err = read(tx); err == nil {
			cache.Put(b.file, tx, key, value)
		}
		return err
	})
	return value, err
}

// Snapshot implements store.Snapshotter. It writes a database that Open opens.
func (b *Store) Snapshot(ctx context.Context, w io.Writer) error {
	b.replacing.RLock()
	defer b.replacing.RUnlock()
	if err := b.commitLog(ctx); err != nil {
		return err
	}
	return b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		_, err := tx.WriteTo(&untilDone{ctx, w})
		return err
	})
}

// untilDone is a writer that fails once its context has ended.
type untilDone struct {
	ctx context.Context
	io.Writer
}

func (u *untilDone) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Writer.Write(p)
}

// Probe implements Store.
func (b *Store) Probe(ctx context.Context) error {
	return b.updateAlways(ctx, func(tx *writeTx) error {
		tx.Put(schema.Meta, []byte("probe"), schema.Nothing)
		return nil
	})
}

// Note implements Notes.
func (b *Store) Note(ctx context.Context, name string) (value []byte, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		noted := tx.Get(schema.Meta, schema.NoteKey(name))
		if noted == nil {
			return store.ErrNotFound
		}
		value = bytes.Clone(noted)
		return nil
	})
	return value, err
}

// SetNote implements Notes.
func (b *Store) SetNote(ctx context.Context, name string, value []byte) error {
	return b.updateAlways(ctx, func(tx *writeTx) error {
		tx.Put(schema.Meta, schema.NoteKey(name), value)
		return nil
	})
}

// Close implements Store. It may be called more than once.
func (b *Store) Close() error {
	b.closeOnce.Do(func() {
		b.endVerifying()
		b.verifying.Wait()
		b.mu.Lock() // waits for changes that are being handed in
		b.closed = true
		close(b.changes)
		b.mu.Unlock()
		<-b.committer.stopped
		b.closeErr = errors.Join(b.committer.lastErr, b.file.Close())
	})
	return b.closeErr
}
