package dbfile

import (
	"errors"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"attachd/store"
)

// View runs read in a read transaction. A panic in read ends only that transaction;
// one where the transaction begins or ends leaves bbolt's locks held: see locked.
// Nothing that points into the transaction may outlive it.
func (f *File) View(read func(*Tx) error) error {
	for {
		db := f.current.Load()
		err := f.viewIn(db, read)
		if !errors.Is(err, bolterrors.ErrDatabaseNotOpen) || f.current.Load() == db {
			return err
		} // a copy replaced the file before the transaction began
	}
}

func (f *File) viewIn(db *handle, read func(*Tx) error) error {
	var tx *bbolt.Tx
	err := f.locked(func() (err error) {
		tx, err = db.Begin(false)
		return err
	})
	if err != nil {
		return err
	}
	err = WithoutPanic(func() error {
		wrapped := f.wrap(tx)
		wrapped.version = Version{db, uint64(tx.ID())}
		return read(wrapped)
	})
	if errors.Is(err, store.ErrDamaged) {
		if gone := db.holds(); gone != nil {
			err = fmt.Errorf("%w: %w", gone, err)
		}
	}
	if failed := f.locked(tx.Rollback); err == nil {
		err = failed
	}
	return err
}

func (f *File) wrap(tx *bbolt.Tx) *Tx { return &Tx{Tx: tx, older: f.older, known: &f.known} }

// Update makes a change in one transaction, while the database is being opened.
func (f *File) Update(apply func(*Tx) error) error {
	db := f.current.Load()
	var tx *bbolt.Tx
	err := f.locked(func() (err error) {
		tx, err = db.Begin(true)
		return err
	})
	if err != nil {
		return err
	}
	err = WithoutPanic(func() error {
		if err := apply(f.wrap(tx)); err != nil {
			return err
		}
		id := tx.ID()
		err := tx.Commit()
		if err == nil {
			db.committed(id)
		}
		return err
	})
	if err != nil {
		_ = f.locked(tx.Rollback) // a commit that failed may have rolled it back
	}
	return err
}

// Begin begins a read-write transaction. It ends with Commit or Rollback.
func (f *File) Begin() (*Tx, error) {
	var tx *bbolt.Tx
	err := f.locked(func() (err error) {
		tx, err = f.current.Load().Begin(true)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f.wrap(tx), nil
}

// Commit commits a transaction by calling commit. The caller calls HasLastCommit
// before.
func (f *File) Commit(tx *Tx, commit func(*bbolt.Tx) error) error {
	db, id := f.current.Load(), tx.ID()
	err := WithoutPanic(func() error { return commit(tx.Tx) })
	if err != nil {
		db.unsure.Store(true)
		return err
	}
	db.committed(id)
	db.fillHoles()
	return nil
}

// Rollback ends a transaction without what it has done.
func (f *File) Rollback(tx *Tx) error { return f.locked(tx.Rollback) }

// LastCommit is the number of the transaction that readers see.
func (f *File) LastCommit() (id int, err error) {
	err = f.View(func(tx *Tx) error {
		id = tx.ID()
		return nil
	})
	return id, err
}

// locked runs a function of bbolt that takes bbolt's locks. bbolt releases them
// without defer, so a panic in it leaves them held for ever: the database is given
// up then.
func (f *File) locked(do func() error) error {
	err := WithoutPanic(do)
	if _, is := err.(*PanicError); is {
		f.giveUp(err)
	}
	return err
}

// giveUp ends the use of the database in this process.
func (f *File) giveUp(cause error) {
	f.opts.Lost(fmt.Errorf("the database %s can be used no more by this process, which ends: %w. Whatever was acknowledged is kept. Start attachd again; should this come back, look at the disk and the system's log, and run: attachd check", f.path, cause))
}

// WithoutPanic turns a panic into an error. bbolt panics when a page is invalid,
// and the system faults a process that reads a mapped page which the disk cannot
// read; neither must end the server, where reads of other pages may go on. A
// DamageError that Tx panics with is returned as it is.
func WithoutPanic(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *DamageError:
			err = p
		default:
			err = &PanicError{p, debug.Stack()}
		}
	}()
	return do()
}

// PanicError is a panic turned into an error: a sentence for people, and the stack
// for the log.
type PanicError struct {
	value any
	stack []byte
}

func (p *PanicError) Error() string {
	if p.isFault() {
		return fmt.Sprintf("a page of the database cannot be read: %v", p.value)
	}
	return fmt.Sprintf("panic: %v", p.value)
}

// Unwrap makes it an ErrDamaged: nothing but damaged storage causes a panic in a
// transaction.
func (p *PanicError) Unwrap() error { return store.ErrDamaged }

// Stack is the stack of the panic, as debug.Stack returns it.
func (p *PanicError) Stack() []byte { return p.stack }

// isFault says whether memory could not be read, such as a mapped page of the file
// that the disk cannot read or that was cut off.
func (p *PanicError) isFault() bool {
	_, is := p.value.(interface{ Addr() uintptr })
	return is
}
