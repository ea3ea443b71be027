package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"attachd/store"
)

// The codes of PostgreSQL's errors (appendix A of its manual) that are told apart.
const (
	divisionByZero        = "22012" // see useSQL
	foreignKeyViolation   = "23503"
	uniqueViolation       = "23505"
	checkViolation        = "23514"
	readOnlyTransaction   = "25006"
	noSuchPrepared        = "26000"
	serializationFailure  = "40001"
	deadlockDetected      = "40P01"
	duplicatePrepared     = "42P05"
	insufficientPrivilege = "42501"
	diskFull              = "53100"
	dataCorrupted         = "XX001"
	indexCorrupted        = "XX002"
)

// code returns PostgreSQL's code of an error, or "".
func code(err error) string {
	var from *pgconn.PgError
	if errors.As(err, &from) {
		return from.Code
	}
	return ""
}

// outside is an error that says nothing of the database, such as that of a caller's function.
type outside struct{ error }

func (o outside) Unwrap() error { return o.error }

// explain makes an error of package store of what PostgreSQL or the way to it has said.
func explain(err error) error {
	var refusal *store.Error
	var put *store.PutError
	var busy *removing
	var useless unusable
	var other instead
	var foreign outside
	var unread pgx.ScanArgError
	switch {
	case err == nil, errors.As(err, &foreign), errors.As(err, &refusal), errors.As(err, &put), errors.As(err, &busy), errors.As(err, &useless), errors.As(err, &other), errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrLeaseLost), errors.Is(err, store.ErrDamaged), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, pgx.ErrNoRows):
		return store.ErrNotFound
	case errors.As(err, &unread):
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	switch code := code(err); {
	case code == duplicatePrepared, code == noSuchPrepared:
		return fmt.Errorf("%w: a pooler is between attachd and PostgreSQL: set metadata.pooler = true", err)
	case isFrozen(err):
		return store.ErrFrozen
	case code == diskFull:
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	case code == dataCorrupted, code == indexCorrupted:
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	case code == "", isAway(code):
		return fmt.Errorf("%w: %w", store.ErrAway, err)
	}
	return err
}

// rows reads all rows of a query outside of a change.
func rows[T any](ctx context.Context, s *Store, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	found, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, explain(err)
	}
	list, err := pgx.CollectRows(found, scan)
	return list, explain(err)
}

// row is a row whose errors are those of package store.
type row struct{ pgx.Row }

// Scan hides that of pgx.Row.
func (r row) Scan(into ...any) error { return explain(r.Row.Scan(into...)) }

func (s *Store) row(ctx context.Context, sql string, args ...any) row {
	return row{s.pool.QueryRow(ctx, sql, args...)}
}

// change is a transaction that changes something, with the entries of the audit log and the
// events that are committed with it.
type change struct {
	pgx.Tx
	ctx     context.Context
	entry   *store.Entry  // of the change, or nil
	origin  *store.Origin // of its events, or nil
	queued  []store.Entry // of the queue, committed with the change
	entries []store.Entry // of side effects, which come before that of the change
	events  []store.Event
	outbox  outboxDelta
	counts  bool      // it changes the outbox
	last    pgx.Batch // statements that go with the commit
}

// maxTries is how often a change is made that PostgreSQL asks to make again.
const maxTries = 10

// change makes a change, all or nothing: again where others were in its way. do may run
// several times. It is committed whatever becomes of ctx by then (see withoutCancel).
func (s *Store) change(ctx context.Context, do func(tx *change) error) error {
	err := s.again(ctx, func() error { return s.changeOnce(s.newChange(ctx), do) })
	if errors.Is(err, store.ErrFrozen) && store.EntryOf(ctx) == nil {
		// It may be only the queued entries that a frozen database does not take.
		err = s.again(ctx, func() error {
			tx := s.newChange(ctx)
			s.entries.PutBack(tx.queued)
			tx.queued = nil
			return s.changeOnce(tx, do)
		})
	}
	return err
}

// again does something, again where PostgreSQL asks for that.
func (s *Store) again(ctx context.Context, do func() error) error {
	var err error
	for try := range maxTries {
		err = do()
		if code(err) == readOnlyTransaction { // a standby by now: so are its other connections
			s.pool.Reset()
		}
		if !metAnother(err) {
			break
		}
		select {
		case <-ctx.Done():
			return explain(ctx.Err())
		case <-time.After(time.Duration(try+1) * 5 * time.Millisecond):
		}
	}
	return explain(err)
}

// atomic makes the change of some statements in one round trip, all or nothing. Entries of
// the audit log and events have no part in it. Once it has begun, ctx does not end it.
func (s *Store) atomic(ctx context.Context, queue func(b *pgx.Batch)) error {
	return s.again(ctx, func() error {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer release(conn)
		b := new(pgx.Batch)
		queue(b)
		return s.withoutCancel(ctx, conn.Conn(), func(ctx context.Context) error { return conn.SendBatch(ctx, b).Close() })
	})
}

// instead is the error of a change that did not find what it needs, and that the caller makes
// in another way. Nobody else gets it.
type instead string

func (i instead) Error() string { return string(i) }

// errAgain makes a change again, since another was made meanwhile.
const errAgain = instead("another change was made meanwhile")

// metAnother says whether a change has failed because of another one, and may succeed when it
// is made again.
func metAnother(err error) bool {
	var from *pgconn.PgError
	if !errors.As(err, &from) {
		return errors.Is(err, errAgain)
	}
	return from.Code == serializationFailure || from.Code == deadlockDetected || from.Code == divisionByZero ||
		from.Code == checkViolation && from.ConstraintName == "usage_fits_check"
}

// newChange is a change that takes the queued entries along.
func (s *Store) newChange(ctx context.Context) *change {
	return &change{ctx: ctx, entry: store.EntryOf(ctx), origin: store.OriginOf(ctx), queued: s.entries.Drain()}
}

// changeOnce tries once to make a change.
func (s *Store) changeOnce(tx *change, do func(tx *change) error) error {
	conn, err := s.pool.Acquire(tx.ctx)
	if err == nil {
		defer release(conn)
		// A statement must see what was committed before it, and not only before the first one.
		if tx.Tx, err = conn.BeginTx(tx.ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}); err == nil {
			if err = do(tx); err == nil {
				return s.commit(tx, conn.Conn())
			}
			err = errors.Join(err, tx.undo())
		}
	}
	s.entries.PutBack(tx.queued)
	return err
}

// undo rolls back a change that has failed.
func (tx *change) undo() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), undoFor)
	defer cancel()
	return ignoreClosed(tx.Rollback(ctx))
}

// lastly queues a statement, whose result nobody needs, for the round trip of the commit.
func (tx *change) lastly(sql string, args ...any) { tx.last.Queue(sql, args...) }

// commit commits a change in one round trip with its last statements, its entries and its
// events. One that a lease protects takes another: whether the lease is still held has to be
// known before.
func (s *Store) commit(tx *change, conn *pgx.Conn) error {
	return s.committing(tx, func() error {
		err := tx.saveEvents()
		if err != nil {
			return errors.Join(err, tx.undo())
		}
		tx.saveEntries()
		if _, protected := store.LeaseOf(tx.ctx); protected {
			err = errors.Join(tx.SendBatch(tx.ctx, &tx.last).Close(), tx.protect(s.replica))
			if err != nil {
				return errors.Join(err, tx.undo())
			}
			tx.last = pgx.Batch{}
		}
		committed := false
		tx.last.Queue(`commit`).Exec(func(tag pgconn.CommandTag) error {
			if committed = tag.String() == "COMMIT"; !committed {
				return pgx.ErrTxCommitRollback
			}
			return nil
		})
		err = s.withoutCancel(tx.ctx, conn, func(ctx context.Context) error { return conn.SendBatch(ctx, &tx.last).Close() })
		if err != nil && !committed {
			err = errors.Join(err, tx.undo())
		}
		return err
	})
}

// committing calls what commits a change, and counts what the change has done to the outbox.
func (s *Store) committing(tx *change, commit func() error) error {
	s.begins(tx)
	err := commit()
	s.ends(tx, err)
	return err
}

// begins announces that a change is about to be committed, and ends what has become of it. The
// queued entries of one that fails are queued again: if it was committed after all, they are
// there twice, which is better than not at all.
func (s *Store) begins(tx *change) {
	if tx.counts = (tx.outbox != outboxDelta{}) || len(tx.events) > 0; tx.counts {
		s.outbox.begin()
	}
}

func (s *Store) ends(tx *change, err error) {
	if tx.counts {
		s.outbox.end(tx.outbox, err == nil)
	}
	if err != nil {
		s.entries.PutBack(tx.queued)
	}
}

// ignoreClosed drops the error of a rollback of a transaction that has ended.
func ignoreClosed(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}

func (tx *change) exec(sql string, args ...any) error {
	_, err := tx.Exec(tx.ctx, sql, args...)
	return err
}

// affected executes a statement, and returns how many rows it has changed.
func (tx *change) affected(sql string, args ...any) (int64, error) {
	tag, err := tx.Exec(tx.ctx, sql, args...)
	return tag.RowsAffected(), err
}

// get reads one row; pgx.ErrNoRows when there is none.
func (tx *change) get(sql string, args ...any) pgx.Row { return tx.QueryRow(tx.ctx, sql, args...) }

// note records a side effect of the change. Fields that are not arguments are those of the
// entry of the change.
func (tx *change) note(action, resource, id, name, space string) {
	if tx.entry != nil {
		tx.noteFor(*tx.entry, action, resource, id, name, space)
	}
}

// noteFor is note for an entry that was recorded before.
func (tx *change) noteFor(e store.Entry, action, resource, id, name, space string) {
	e.Action, e.Resource, e.ID, e.Name, e.Space = action, resource, id, name, space
	tx.entries = append(tx.entries, e)
}

// enqueue adds an event of an attachment, which has its uploader's name.
func (tx *change) enqueue(what store.EventType, a store.Attachment, space string) {
	if tx.origin == nil {
		return
	}
	at := tx.origin.Time
	if what == store.AttachmentCreated {
		at = a.CreatedAt()
	}
	tx.events = append(tx.events, store.Event{ID: uuid.New(), Type: what, Time: at, Queued: tx.origin.Time, Origin: *tx.origin, Space: space, Attachment: a})
}
