package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// A stopwatch adds the time that work spends with the database to its line in
// the log: waiting for a connection, and for answers. pgx calls it.
type stopwatch struct{}

// timed is the context of what is timed.
type timed struct {
	context.Context //nolint:containedctx // it is one itself

	line  *trace.Line
	since time.Time
}

func start(ctx context.Context) context.Context {
	if line := trace.LineOf(ctx); line != nil {
		return &timed{ctx, line, time.Now()}
	}
	return ctx
}

func stop(ctx context.Context) {
	if t, ok := ctx.(*timed); ok {
		t.line.AddDatabase(time.Since(t.since))
	}
}

// TraceAcquireStart implements pgxpool.AcquireTracer.
func (stopwatch) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return start(ctx)
}

// TraceAcquireEnd implements pgxpool.AcquireTracer.
func (stopwatch) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	stop(ctx)
}

// TraceQueryStart implements pgx.QueryTracer.
func (stopwatch) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return start(ctx)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (stopwatch) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) { stop(ctx) }

// TraceBatchStart implements pgx.BatchTracer.
func (stopwatch) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return start(ctx)
}

// TraceBatchQuery implements pgx.BatchTracer.
func (stopwatch) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (stopwatch) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) { stop(ctx) }
