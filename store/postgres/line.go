package postgres

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// defaultCommitFor is how long a server may take to answer a COMMIT before the connection
	// is given up, unless the context has an earlier deadline. A connection that can no
	// longer answer is not always a broken one: a pooler, or the server itself, may hang.
	defaultCommitFor = time.Minute
	// undoFor is how long a rollback may take before the connection is given up. The server
	// rolls back what had no COMMIT by itself.
	undoFor = 5 * time.Second
)

// line is the way to the server of one connection. It keeps pgx, which asks the server to
// cancel what it works on whenever a connection is given up, from having a COMMIT cancelled:
// one that waits for a standby would be done at once then, and show what the standby has not.
type line struct {
	dial       pgconn.DialFunc
	made       atomic.Bool // what is dialled from then on is to cancel something
	committing atomic.Bool
}

// lineKey is where a connection has its line.
const lineKey = "attachd.line"

var errCommitting = errors.New("a COMMIT is not cancelled")

// ownLine gives a connection that is about to be made a line of its own.
func ownLine(_ context.Context, config *pgx.ConnConfig) error {
	l := &line{dial: config.DialFunc}
	config.DialFunc = l.connect
	config.Config.AfterConnect = func(_ context.Context, conn *pgconn.PgConn) error {
		conn.CustomData()[lineKey] = l
		l.made.Store(true)
		return nil
	}
	return nil
}

func (l *line) connect(ctx context.Context, network, address string) (net.Conn, error) {
	if l.made.Load() && l.committing.Load() {
		return nil, errCommitting
	}
	return l.dial(ctx, network, address)
}

// withoutCancel sends what commits over a connection. The end of ctx does not end that, only
// its deadline does, or commitFor: whether it was committed is not known then.
func (s *Store) withoutCancel(ctx context.Context, conn *pgx.Conn, send func(ctx context.Context) error) error {
	until := time.Now().Add(s.commitFor)
	if earlier, is := ctx.Deadline(); is && earlier.Before(until) {
		until = earlier
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	l := conn.PgConn().CustomData()[lineKey].(*line)
	l.committing.Store(true)
	began := time.Now()
	err := send(ctx)
	s.called("commit", outcomeOf(err), time.Since(began))
	if !conn.IsClosed() {
		l.committing.Store(false)
	}
	return err
}

// release gives a connection back to the pool. One that was given up ends at once: pgx would
// first say goodbye, which may hang as well, while the server keeps the locks of its transaction.
func release(conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() {
		_ = conn.Conn().PgConn().Conn().Close()
	}
	conn.Release()
}
