// Package dbfile is one file of bbolt that is open, or is being made, taken over
// or copied, and is trusted in nothing: before each transaction it is checked
// that the file is the one that was last committed, what is read is verified, and
// a panic of bbolt over a damaged page is an error. What is found damaged is
// remembered, and nothing is answered from there.
package dbfile

import (
	"bytes"
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

// ErrLocked means that the database is in use.
var ErrLocked = errors.New("another process holds the database")

// Options say how to open a file.
type Options struct {
	LockTimeout time.Duration        // how long to wait for another process that holds it
	ReadOnly    bool                 // it must be there, and is not changed
	MakeRoom    func() bool          // called when the disk is full; may be nil
	Own         func(*os.File) error // hands a new file to the user it should belong to; may be nil
	Lost        func(error)          // must end the process: bbolt keeps locks that it never releases
}

// File is an open database file.
type File struct {
	path    string
	opts    Options
	current atomic.Pointer[handle]       // Copy.Use puts another in its place
	place   atomic.Pointer[inplace.File] // of current
	known   Damage
	older   bool // a copy of an older database, which has no checksums
	mixed   bool // one whose take-over has not come to its end
	large   bool // not all of it was verified when it was opened
}

// Open opens the file at path and makes it where there is none yet. The
// directory must be there.
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

// verifyAtStart refuses what is no whole database.
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

// Close waits for transactions to end.
func (f *File) Close() error { return f.locked(f.current.Load().Close) }

// openHandle opens a file that is there. It leaves syncing as bbolt has it:
// always, the list of free pages included, so that opening reads that list and
// scans nothing.
func openHandle(path string, lockTimeout time.Duration, readOnly bool) (opened *handle, err error) {
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
	err = WithoutPanic(func() error { // bbolt panics at some damaged files
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
	// the place of the one that was opened (see Copy), and holds that now.
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

// isWhole checks what can be seen without reading everything.
func isWhole(tx *Tx) error {
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

// Upgrade makes what a database from an earlier version lacks.
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
		return fmt.Errorf("%w. Nothing is read from it or written to it until it is as it was. If it can be put back, copy it over the file, and attachd goes on; if it cannot, restart attachd, which names the snapshot to go back to. Leave the log beside it (attachd.wal) where it is: it has the latest uploads", err)
	}
	return fmt.Errorf("%w. Changes are refused until it is back. This process still has it: if it is gone for good, run `attachd backup DIR` before the server stops, then stop it and restore that", err)
}

// HasLastCommit fails with store.ErrOverwritten when the file has not what was
// last committed, as far as its length and its meta pages say.
func (f *File) HasLastCommit() error { return f.current.Load().holds() }

// notePlace notes which file the database is.
func (f *File) notePlace() error {
	p, err := inplace.Of(f.path)
	if err == nil {
		f.place.Store(&p)
	}
	return err
}
