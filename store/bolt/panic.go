package bolt

import (
	"errors"
	"fmt"
	"runtime/debug"

	"attachd/store"

	"go.etcd.io/bbolt"
)

// viewIn runs read in a read transaction of db. A panic in read ends that
// alone. One where the transaction begins or ends leaves bbolt's locks held:
// see locked.
func (b *Store) viewIn(db *handle, read func(*dbTx) error) error {
	var tx *bbolt.Tx
	err := b.locked(func() (err error) {
		tx, err = db.Begin(false)
		return err
	})
	if err != nil {
		return err
	}
	err = withoutPanic(func() error { return read(b.wrap(tx)) })
	if errors.Is(err, store.ErrDamaged) {
		if gone := db.holds(); gone != nil {
			err = fmt.Errorf("%w: %w", gone, err)
		}
	}
	if failed := b.locked(tx.Rollback); err == nil {
		err = failed
	}
	return err
}

func (b *Store) wrap(tx *bbolt.Tx) *dbTx { return &dbTx{Tx: tx, older: b.older, known: &b.known} }

// updateIn makes a change to db in a transaction of its own, beside the
// committer: while the database is being opened.
func (b *Store) updateIn(db *handle, apply func(*dbTx) error) error {
	var tx *bbolt.Tx
	err := b.locked(func() (err error) {
		tx, err = db.Begin(true)
		return err
	})
	if err != nil {
		return err
	}
	err = withoutPanic(func() error {
		if err := apply(b.wrap(tx)); err != nil {
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
		_ = b.locked(tx.Rollback) // a commit that failed may have done so
	}
	return err
}

// rollBack ends a transaction of the committer without what it has done.
func (b *Store) rollBack(w *writeTx) error { return b.locked(w.Rollback) }

// locked runs a part of bbolt that takes its locks. It releases them by plain
// statements, so a panic in it leaves them held, for ever: the database is given
// up then.
func (b *Store) locked(do func() error) error {
	err := withoutPanic(do)
	if _, is := err.(*panicked); is {
		b.giveOut(err)
	}
	return err
}

// giveOut ends the use of the database in this process.
func (b *Store) giveOut(cause error) {
	b.lost(fmt.Errorf("the database %s can be used no more by this process, which ends: %w. Whatever was acknowledged is kept. Start attachd again; should this come back, look at the disk and the system's log, and run: attachd check", b.path, cause))
}

// withoutPanic turns a panic into an error. bbolt panics when a page is not
// what it should be, and the system ends a process that touches a page which
// the disk cannot give; neither must end the server, where reads of other
// pages may go on. Damage that dbTx came upon is an error as it is.
func withoutPanic(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *notAsWritten:
			err = p
		default:
			err = &panicked{p, debug.Stack()}
		}
	}()
	return do()
}

// panicked is a panic that has become an error: a sentence for people, and the
// stack for whoever asks.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string {
	if p.isFault() {
		return fmt.Sprintf("a page of the database cannot be read: %v", p.value)
	}
	return fmt.Sprintf("panic: %v", p.value)
}

// Unwrap says that the storage is to blame: nothing else panics in a
// transaction.
func (p *panicked) Unwrap() error { return store.ErrDamaged }

// Stack is where it happened, as debug.Stack gives it.
func (p *panicked) Stack() []byte { return p.stack }

// isFault says whether memory could not be read, as of a page of the file that
// the disk cannot give or that was cut off.
func (p *panicked) isFault() bool {
	_, is := p.value.(interface{ Addr() uintptr })
	return is
}
