package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// tracer tells Options.Called how long what is sent to the server takes.
type tracer struct {
	called func(operation, outcome string, took time.Duration)
}

type begunContext struct{}

func begin(ctx context.Context) context.Context {
	return context.WithValue(ctx, begunContext{}, time.Now())
}

func (t tracer) end(ctx context.Context, operation string, err error) {
	if begun, is := ctx.Value(begunContext{}).(time.Time); is {
		t.called(operation, outcomeOf(err), time.Since(begun))
	}
}

// outcomeOf says in a word how something that was sent has ended.
func outcomeOf(err error) string {
	switch code := code(err); {
	case err == nil, errors.Is(err, pgx.ErrNoRows):
		return "ok"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case metAnother(err):
		return "repeated"
	case code == "", isAway(code):
		return "away"
	}
	return "refused"
}

// TraceConnectStart implements pgx.ConnectTracer.
func (t tracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return begin(ctx)
}

// TraceConnectEnd implements pgx.ConnectTracer.
func (t tracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	t.end(ctx, "connect", data.Err)
}

// TraceQueryStart implements pgx.QueryTracer.
func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return begin(ctx)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (t tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	t.end(ctx, "statement", data.Err)
}

// TraceBatchStart implements pgx.BatchTracer.
func (t tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return begin(ctx)
}

// TraceBatchQuery implements pgx.BatchTracer.
func (t tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (t tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	t.end(ctx, "statement", data.Err)
}

// Load implements store.Shared.
func (s *Store) Load() store.Load {
	pool := s.pool.Stat()
	return store.Load{
		Connections: int(pool.TotalConns()), InUse: int(pool.AcquiredConns()), Limit: int(pool.MaxConns()),
		Waits: pool.EmptyAcquireCount(), Waited: pool.EmptyAcquireWaitTime(), Unchained: s.unchained.Load(),
	}
}
