// Package dbfile opens, creates, takes over and copies a bbolt file, and verifies
// all of it: before each transaction it checks that the file is the one that was
// last committed, entries are verified when they are read, and a panic of bbolt
// over a damaged page becomes an error. Damage that is found is recorded, and
// nothing is returned from there.
package dbfile

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"attachd/store"
	"attachd/store/bolt/inplace"
	"attachd/store/bolt/schema"
)

// ErrLocked means that another process holds the database.
var ErrLocked = errors.New("another process holds the database")

// Options say how to open a file.
type Options struct {
	LockTimeout time.Duration        // how long to wait for another process that holds it
	ReadOnly    bool                 // it must exist, and is not changed
	MakeRoom    func() bool          // called when the disk is full; may be nil
	Own         func(*os.File) error // sets the owner of a new file; may be nil
	Lost        func(error)          // must end the process: bbolt keeps locks that it never releases
}

// File is an open database file.
type File struct {
	path    string
	opts    Options
	current atomic.Pointer[handle]       // Copy.Use puts another in its place
	place   atomic.Pointer[inplace.File] // of current
	known   Damage
	older   bool // an older database, which has no checksums
	mixed   bool // one whose takeover is not complete
	large   bool // part of it was not verified when it was opened
}

// Open opens the file at path and creates it where there is none yet. The directory
// must exist.
func Open(path string, opts Options) (*File, error) {
	if !opts.ReadOnly {
		if err := createOnce(path, opts.Own); err != nil {
			return nil, fmt.Errorf("make database %s: %w", path, err)
		}
	}
	db, err := openHandle(path, opts.LockTimeout, opts.ReadOnly)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("open database %s: %w", path, ErrLocked)
	case err != nil && !fromSystem(err):
		return nil, fmt.Errorf("open database %s: %w: %w", path, store.ErrDamaged, err)
	case err != nil:
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	f := &File{path: path, opts: opts}
	f.current.Store(db)
	if err := f.verifyAtStart(); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), db.Close())
	}
	return f, nil
}

// verifyAtStart returns an error for a file that is not an intact database.
func (f *File) verifyAtStart() error {
	if err := f.verifyPages(); err != nil {
		return err
	}
	if f.mixed && f.opts.ReadOnly {
		return fmt.Errorf("%w: it is of an earlier version and was being taken over; that goes on where it can be written", store.ErrDamaged)
	}
	if err := f.View(isWhole); err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if !f.opts.ReadOnly {
		if err := removeLeftovers(f.path); err != nil {
			return err
		}
	}
	return f.notePlace()
}

// Path is where the file is.
func (f *File) Path() string { return f.path }

// ReadOnly says whether changes fail.
func (f *File) ReadOnly() bool { return f.current.Load().IsReadOnly() }

// Close waits for transactions to end, and closes the file.
func (f *File) Close() error { return f.locked(f.current.Load().Close) }

// openHandle opens an existing file. It leaves bbolt's sync options at their
// defaults: every commit is synced, including the list of free pages, so that
// opening reads that list and scans nothing.
func openHandle(path string, lockTimeout time.Duration, readOnly bool) (opened *handle, err error) {
	var file *os.File
	var db *bbolt.DB
	options := &bbolt.Options{
		Timeout:         lockTimeout,
		ReadOnly:        readOnly,
		PreLoadFreelist: true, // also of a read-only copy, for Size
		InitialMmapSize: roomToGrow,
		FreelistType:    bbolt.FreelistMapType,
		NoStatistics:    true,
		OpenFile: func(name string, flag int, mode os.FileMode) (opened *os.File, err error) {
			opened, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
			file = opened
			return opened, err
		},
	}
	err = WithoutPanic(func() error { // bbolt panics on some damaged files
		db, err = bbolt.Open(path, 0o600, options)
		if errors.Is(err, syscall.ENOMEM) { // the process may use little address space
			options.InitialMmapSize = 0
			db, err = bbolt.Open(path, 0o600, options)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	// While this waited for the lock, its holder may have replaced the file that
	// was opened with another (see Copy), and hold that now.
	same, err := isFileAt(path, file)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if !same {
		if err := db.Close(); err != nil {
			return nil, err
		}
		return openHandle(path, lockTimeout, readOnly)
	}
	db.AllocSize = growth
	if opened, err = newHandle(db, file); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	if !readOnly {
		opened.fillHoles()
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

// growth is by how many bytes a full file grows: little enough for a small disk,
// and enough for some thousand attachments.
const growth = 1 << 20

// fromSystem says whether an error is about access to a file rather than its
// content.
func fromSystem(err error) bool {
	var number syscall.Errno
	var path *os.PathError
	return errors.As(err, &number) || errors.As(err, &path)
}

// isWhole checks what can be checked without reading the whole file.
func isWhole(tx *Tx) error {
	file, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if file.Size() < tx.Size() {
		return fmt.Errorf("the file has %d bytes, and should have %d at least", file.Size(), tx.Size())
	}
	for _, name := range schema.Original {
		if tx.bucket(name) == nil {
			return fmt.Errorf("not a database of attachd: no bucket %q", name)
		}
	}
	return nil
}

// Upgrade creates the buckets that a database from an earlier version lacks.
func (f *File) Upgrade() error {
	missing := false
	err := f.View(func(tx *Tx) error {
		for _, name := range schema.Later {
			missing = missing || tx.bucket(name) == nil
		}
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return f.Update(makeLaterBuckets)
}

func makeLaterBuckets(tx *Tx) error {
	for _, name := range schema.Later {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("make bucket %q: %w", name, err)
		}
	}
	return nil
}

// InPlace fails with store.ErrReplaced when the file was removed or replaced, and
// with store.ErrOverwritten when it was cut short or overwritten.
func (f *File) InPlace() error {
	db := f.current.Load()
	length, err := db.written()
	if err == nil {
		err = f.place.Load().Check(length)
	}
	if err == nil {
		return nil
	}
	if err := db.holds(); err != nil {
		return fmt.Errorf("%w. Nothing is read from it or written to it until it is as it was. If it can be put back, copy it over the file, and attachd goes on; if it cannot, restart attachd, which names the snapshot to go back to. Leave the log beside it (the folder wal) where it is: it has the latest uploads", err)
	}
	return fmt.Errorf("%w. Changes are refused until it is back. This process still has it: if it is gone for good, run `attachd backup DIR` before the server stops, then stop it and restore that", err)
}

// HasLastCommit returns store.ErrOverwritten when the file lacks the last commit,
// as far as its length and its meta pages show.
func (f *File) HasLastCommit() error { return f.current.Load().holds() }

// notePlace records which file the path leads to.
func (f *File) notePlace() error {
	p, err := inplace.Of(f.path)
	if err == nil {
		f.place.Store(&p)
	}
	return err
}
