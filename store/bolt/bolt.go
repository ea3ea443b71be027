// Package bolt keeps the records of store in one bbolt file, with a write-ahead
// log beside it: a change is acknowledged when it is synced in one of them.
package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/inplace"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrLocked means that the database is in use.
var ErrLocked = errors.New("another process holds the database")

// Options say how to open a database. The zero value is good.
type Options struct {
	// LockTimeout is how long to wait for another process that holds the
	// database; zero is one second.
	LockTimeout time.Duration
	// ReadOnly opens a database that is there, such as a snapshot on a medium
	// that cannot be written. Changes fail.
	ReadOnly bool
	// MakeRoom, when set, is called when a change finds the disk full. When it
	// says that there is more room now, the change is tried once more.
	MakeRoom func() bool
	// Log is where the log is to be (wal.go). Without it, every change is
	// acknowledged when it is committed.
	Log string
	// LogFailed, when set, is called when the log could not be made or written.
	// Every change is acknowledged when it is committed from then on, until a
	// new log is made, which is tried every ten seconds, or by the next start if
	// this one could not remove the old one. It must be quick.
	LogFailed func(error)
	// Logged, when set, is called where a record is written to the log and
	// synced. It is for tests, which make that fail.
	Logged func(log *os.File, record []byte, at int64) error
	// Commit, when set, is called where a transaction is committed. It is for
	// tests, which make commits fail.
	Commit func(*bbolt.Tx) error
	// Committed, when set, is called with how long each commit took, two syncs
	// of the file included, and each record of the log, with one. It must be
	// quick: changes wait for it.
	Committed func(took time.Duration)
	// Own, when set, is called with a database that is being made, to hand it
	// to whom it should belong.
	Own func(*os.File) error
	// Lost, when set, is called when the database can be used no more in this
	// process: bbolt failed, for a page that cannot be read, say, and keeps
	// locks for which everybody would wait for ever. It must end the process.
	// All that was acknowledged is on stable storage. Without it, the process
	// panics.
	Lost func(error)
	// Compacting, when set, is called before each step of a Compact but its
	// commits, with the name of the step. It is for tests, which make steps
	// fail.
	Compacting func(step string) error
}

// Store keeps everything in one bbolt file. Reads are transactions of their
// own and see what was last committed; changes go through the committer.
type Store struct {
	path          string
	own           func(*os.File) error
	lost          func(error)
	db            atomic.Pointer[handle]       // the committer puts another in its place
	place         atomic.Pointer[inplace.File] // of db
	whole         sync.RWMutex                 // held for reading by who reads all of it at once
	known         damage
	older         bool // a copy of an older database, which has no checksums
	mixed         bool // one whose take-over has not come to its end
	large         bool // not all of it was looked at when it was opened
	further       context.CancelFunc
	looking       sync.WaitGroup
	touched       touches
	recorded      recorded
	pending       backlog
	unflushed     unflushed
	commitBlocked atomic.Bool // the write-ahead log has changes that cannot be committed at present
	postbox       postbox
	imports       importLock
	makeRoom      func() bool
	freed         freedContents
	batch         int // how much one transaction of an import or a removal has

	keys     decoded[schema.KeyRecord]
	users    decoded[schema.UserRecord]
	ids      store.IDs // of events
	entities decoded[schema.EntityRecord]

	changes   chan *change // to the committer
	stopped   chan struct{}
	mu        sync.RWMutex // held for reading while a change is handed in
	closed    bool
	closeOnce sync.Once
	closeErr  error

	// The committer's own.
	open    *writeTx // its changes are in the log; nil when there is none
	wal     *wal.Log
	walDue  *time.Timer // when they are to be committed
	broken  error       // set when a commit failed without it being known how far it got
	lastErr error       // of what it did when told to stop
	commit  func(*bbolt.Tx) error
	took    func(time.Duration) // is told of each commit
	step    func(string) error  // of compacting
}

// Its abilities beyond store.Store come from being one file.
var _ interface {
	store.Store
	store.Stager
	store.Snapshotter
	store.Compacter
	store.Verifier
	store.Watched
} = (*Store)(nil)

// Open opens the database at path and makes it where there is none yet.
// The directory must be there. ErrLocked when another process has it open,
// ErrDamaged when it is no whole database, ErrLogDamaged when its log is not.
func Open(path string, opts Options) (*Store, error) {
	if opts.LockTimeout == 0 {
		opts.LockTimeout = time.Second
	}
	if opts.Commit == nil {
		opts.Commit = (*bbolt.Tx).Commit
	}
	if opts.Committed == nil {
		opts.Committed = func(time.Duration) {}
	}
	if opts.LogFailed == nil {
		opts.LogFailed = func(error) {}
	}
	if opts.Lost == nil {
		opts.Lost = func(err error) { panic(err) }
	}
	if opts.Compacting == nil {
		opts.Compacting = func(string) error { return nil }
	}
	if !opts.ReadOnly {
		if err := createOnce(path, opts.Own); err != nil {
			return nil, fmt.Errorf("make database %s: %w", path, err)
		}
	}
	db, err := openFile(path, opts.LockTimeout, opts.ReadOnly)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("open database %s: %w", path, ErrLocked)
	case err != nil && !fromSystem(err):
		return nil, fmt.Errorf("open database %s: %w: %w", path, store.ErrDamaged, err)
	case err != nil:
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	b := newStore(path, opts)
	if err := b.lookOver(db); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.Close())
	}
	if b.mixed && opts.ReadOnly {
		return nil, errors.Join(fmt.Errorf("open database %s: %w: it is of an earlier version and was being taken over; that goes on where it can be written", path, store.ErrDamaged), db.Close())
	}
	if err := b.viewIn(db, isWhole); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w: %w", path, store.ErrDamaged, err), db.Close())
	}
	if !opts.ReadOnly {
		if err := removeLeftovers(path); err != nil {
			return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.Close())
		}
	}

	b.db.Store(db)
	if err := b.findPlace(); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.Close())
	}
	if !opts.ReadOnly {
		if err := b.prepare(db, opts); err != nil {
			return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.Close())
		}
	}
	if err := errors.Join(b.preparePending(opts.ReadOnly), b.countPosted()); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), b.wal.Close(), db.Close())
	}
	go b.commitLoop()
	var ctx context.Context
	ctx, b.further = context.WithCancel(context.Background())
	b.looking.Go(func() { b.lookFurther(ctx) })
	if !opts.ReadOnly {
		if err := b.resumeAtStart(); err != nil && !errors.Is(err, store.ErrDamaged) { // which is remembered
			return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), b.Close())
		}
	}
	return b, nil
}

// prepare brings a database that is to be written to the form of this version.
func (b *Store) prepare(db *handle, opts Options) (err error) {
	if err := b.takeOver(db, opts); err != nil {
		return err
	}
	if b.wal, err = b.openLog(db, opts); err != nil {
		return err
	}
	// After the log, which is good for the database only as the crash left it.
	if err := b.upgrade(db); err != nil {
		return errors.Join(err, b.wal.Close())
	}
	return nil
}

func newStore(path string, opts Options) *Store {
	return &Store{
		path:     path,
		own:      opts.Own,
		lost:     opts.Lost,
		makeRoom: opts.MakeRoom,
		batch:    batchSize,
		changes:  make(chan *change),
		stopped:  make(chan struct{}),
		commit:   opts.Commit,
		took:     opts.Committed,
		step:     opts.Compacting,
		wal:      &wal.Log{},
		walDue:   time.NewTimer(walTime),
		recorded: recorded{many: make(chan struct{}, 1)},
		postbox:  postbox{grown: make(chan struct{}, 1), max: store.MaxEvents},
	}
}

// openFile opens a file that is there. It leaves syncing as bbolt has it:
// always, the list of free pages included, so that opening reads that list and
// scans nothing.
func openFile(path string, lockTimeout time.Duration, readOnly bool) (opened *handle, err error) {
	var file *os.File
	var db *bbolt.DB
	options := &bbolt.Options{
		Timeout:         lockTimeout,
		ReadOnly:        readOnly,
		PreLoadFreelist: true, // also of a copy, whose Size may be asked for
		InitialMmapSize: roomToGrow,
		FreelistType:    bbolt.FreelistMapType,
		NoStatistics:    true,
		OpenFile: func(name string, flag int, mode os.FileMode) (opened *os.File, err error) {
			opened, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
			file = opened
			return opened, err
		},
	}
	err = withoutPanic(func() error { // bbolt panics at some damaged files
		db, err = bbolt.Open(path, 0o600, options)
		if errors.Is(err, syscall.ENOMEM) { // little address space is allowed here
			options.InitialMmapSize = 0
			db, err = bbolt.Open(path, 0o600, options)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	// While this waited for the lock, its holder may have put another file in
	// the place of the one that was opened (see Compact), and holds that now.
	same, err := isFileAt(path, file)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if !same {
		if err := db.Close(); err != nil {
			return nil, err
		}
		return openFile(path, lockTimeout, readOnly)
	}
	db.AllocSize = growth
	if opened, err = newHandle(db, file); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

func isFileAt(path string, file *os.File) (bool, error) {
	opened, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(opened, there), nil
}

// growth is by how many bytes a full file grows: little enough for a small
// disk, and enough for some thousand attachments.
const growth = 1 << 20

// fromSystem says whether an error is about a file rather than its content.
func fromSystem(err error) bool {
	var number syscall.Errno
	var path *os.PathError
	return errors.As(err, &number) || errors.As(err, &path)
}

// isWhole looks at what can be seen without reading everything.
func isWhole(tx *dbTx) error {
	file, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if file.Size() < tx.Size() {
		return fmt.Errorf("the file has %d bytes, and should have %d at least", file.Size(), tx.Size())
	}
	for _, name := range schema.Original {
		if tx.bucket(name) == nil && !bytes.Equal(name, schema.Pending) { // which older ones lack
			return fmt.Errorf("not a database of attachd: no bucket %q", name)
		}
	}
	return nil
}

// upgrade makes what a database from an earlier version lacks.
func (b *Store) upgrade(db *handle) error {
	missing := false
	err := b.viewIn(db, func(tx *dbTx) error {
		for _, name := range schema.Later {
			missing = missing || tx.bucket(name) == nil
		}
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return b.updateIn(db, makeLaterBuckets)
}

func makeLaterBuckets(tx *dbTx) error {
	for _, name := range schema.Later {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("make bucket %q: %w", name, err)
		}
	}
	return nil
}

// The database is made under a name that begins with its own and this.
const newSuffix = ".new"

// createOnce makes the database where there is none. A crash at any point
// leaves none or a whole one; of several processes at once, one makes it and
// the others find it.
func createOnce(path string, own func(*os.File) error) error {
	_, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		failed := makeNew(path, own)
		if _, err := os.Lstat(path); err != nil {
			return errors.Join(failed, err)
		}
	} else if err != nil {
		return err
	}
	// Also where another process made it, or made it anew, and may not have
	// come this far.
	return durable.SyncDir(filepath.Dir(path))
}

func makeNew(path string, own func(*os.File) error) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+newSuffix) // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if err := errors.Join(fillNew(file, own), file.Close()); err != nil {
		return err
	}
	return moveNew(file.Name(), path)
}

// removeLeftovers removes what a crash left of making the database, or of
// making it anew. Whoever calls it holds the database's lock; a process that is
// making one just now will find that there is one.
func removeLeftovers(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), filepath.Base(path)+newSuffix) {
			continue
		}
		err := os.Remove(filepath.Join(filepath.Dir(path), entry.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	return nil
}

func fillNew(file *os.File, own func(*os.File) error) error {
	if own != nil {
		if err := own(file); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
	}
	db, err := openFile(file.Name(), time.Second, false)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range schema.Original {
			if _, err := tx.CreateBucket(name); err != nil {
				return fmt.Errorf("make bucket %q: %w", name, err)
			}
		}
		return makeLaterBuckets(&dbTx{Tx: tx, known: new(damage)})
	})
	return errors.Join(err, db.Close(), file.Sync())
}

// moveNew gives a new database its name. A link, unlike a rename, never takes
// the place of a database that another process has made meanwhile; where the
// file system knows no links, a rename has to do.
func moveNew(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, os.ErrExist) {
		return nil
	}
	return os.Rename(from, to)
}

// view runs read in a transaction of its own, in which all is that was
// acknowledged before. Nothing that points into the transaction may leave it:
// what keys and values are made of is gone then.
func (b *Store) view(ctx context.Context, read func(*dbTx) error) error {
	if b.commitBlocked.Load() || b.commitLog(ctx) != nil {
		// It cannot be committed, but it can be read.
		return b.handIn(ctx, &change{peek: read, done: make(chan error, 1)})
	}
	return b.look(ctx, read)
}

// look is view for who needs nothing that is in the log only: nothing that a
// small upload writes, or nothing of which ahead knows.
func (b *Store) look(ctx context.Context, read func(*dbTx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		db := b.db.Load()
		err := b.viewIn(db, read)
		if !errors.Is(err, bolterrors.ErrDatabaseNotOpen) || b.db.Load() == db {
			return err
		} // it was compacted before the transaction began
	}
}

// viewer is view or look.
type viewer func(ctx context.Context, read func(*dbTx) error) error

// viewIf is view for what is ahead, and look for what is not.
func (b *Store) viewIf(isAhead bool) viewer {
	if isAhead {
		return b.view
	}
	return b.look
}

// Snapshot implements Store. It is a database that Open opens.
func (b *Store) Snapshot(ctx context.Context, w io.Writer) error {
	b.whole.RLock()
	defer b.whole.RUnlock()
	defer b.pending.pause()()
	if err := b.commitLog(ctx); err != nil {
		return err
	}
	return b.look(ctx, func(tx *dbTx) error {
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
	return b.update(ctx, func(tx *writeTx) error {
		tx.put(schema.Meta, []byte("probe"), schema.Nothing)
		return nil
	})
}

// Note implements Notes.
func (b *Store) Note(ctx context.Context, name string) (value []byte, err error) {
	err = b.view(ctx, func(tx *dbTx) error {
		noted := tx.get(schema.Meta, noteKey(name))
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
	return b.update(ctx, func(tx *writeTx) error {
		tx.put(schema.Meta, noteKey(name), value)
		return nil
	})
}

func noteKey(name string) []byte { return []byte("note " + name) }

// Close implements Store. It may be called more than once.
func (b *Store) Close() error {
	b.closeOnce.Do(func() {
		b.further()
		b.looking.Wait()
		b.mu.Lock() // waits for those who are handing in
		b.closed = true
		close(b.changes)
		b.mu.Unlock()
		<-b.stopped
		b.closeErr = errors.Join(b.lastErr, b.locked(b.db.Load().Close))
	})
	return b.closeErr
}
