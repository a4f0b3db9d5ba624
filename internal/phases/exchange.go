package phases

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// sendBatch sends statements in one round trip, and returns what failed first.
// In pgx, arguments of somebody else's type may panic before anything is sent,
// and targets after it.
func (e *Engine) sendBatch(ctx context.Context, conn *pgxpool.Conn, batch []statement) *failure {
	defer func(began time.Time) { trace.LineOf(ctx).AddDatabase(time.Since(began)) }(time.Now())
	queued, err := catchPanic(func() (*pgconn.Batch, error) { return e.encode(ctx, conn.Conn(), batch) })
	if err != nil {
		return &failure{err: err, broken: conn.Conn().IsClosed()} // no COMMIT is on its way
	}
	committing := batch[len(batch)-1].sql == sqlCommit
	failed, err := catchPanic(func() (*failure, error) { return exchange(ctx, conn.Conn(), queued, batch, committing), nil })
	if err != nil {
		return &failure{err: err, committing: committing}
	}
	if failed != nil && !committing {
		failed.broken = conn.Conn().IsClosed()
	}
	return failed
}

// exchange sends what encode has made of a batch. With encode, it does what
// pgx's SendBatch does, but keeps no lists of what is sent: those were a fifth
// of all that an api allocates.
func exchange(ctx context.Context, conn *pgx.Conn, queued *pgconn.Batch, batch []statement, committing bool) *failure {
	results := conn.PgConn().ExecBatch(ctx, queued)
	for i, s := range batch {
		if err := readResult(results, conn.TypeMap(), s); err != nil {
			_ = results.Close() // it repeats err
			if isStale(err) {
				_ = conn.Close(ctx) // and the pool makes another one
			}
			return &failure{statement: s, err: err, committing: committing, last: committing && i == len(batch)-1}
		}
	}
	if err := results.Close(); err != nil && !committing {
		// After COMMIT was acknowledged nothing can take it back.
		return &failure{err: err}
	}
	return nil
}

// encode returns the messages of statements. Unless the pool prepares nothing,
// each statement that is new to conn is prepared for as long as conn lives, in
// a round trip of its own.
func (e *Engine) encode(ctx context.Context, conn *pgx.Conn, batch []statement) (*pgconn.Batch, error) {
	var queued pgconn.Batch
	builder := pgx.ExtendedQueryBuilder{ParamValues: make([][]byte, 0, 32), ParamFormats: make([]int16, 0, 32), ResultFormats: make([]int16, 0, 32)}
	for _, s := range batch {
		if e.config.Sending != nil {
			e.config.Sending(s.sql, s.args)
		}
		var prepared *pgconn.StatementDescription
		if e.prepares {
			var err error
			if prepared, err = conn.Prepare(ctx, s.sql, s.sql); err != nil {
				return nil, err
			}
		}
		if err := builder.Build(conn.TypeMap(), prepared, s.args); err != nil {
			return nil, err
		}
		if prepared == nil {
			queued.ExecParams(s.sql, builder.ParamValues, nil, builder.ParamFormats, builder.ResultFormats)
			continue
		}
		queued.ExecStatement(prepared, builder.ParamValues, builder.ParamFormats, builder.ResultFormats)
		// The batch keeps the formats of the results, so the builder must not
		// write over them.
		builder.ResultFormats = builder.ResultFormats[len(builder.ResultFormats):]
	}
	return &queued, nil
}

func readResult(results *pgconn.MultiResultReader, types *pgtype.Map, s statement) error {
	if !results.NextResult() {
		if err := results.Close(); err != nil {
			return err
		}
		return fmt.Errorf("there is no answer to %s", s.sql)
	}
	result := results.ResultReader()
	if s.scan != nil && result.NextRow() {
		if err := s.scan(firstRow{result, types}); err != nil {
			return err
		}
	}
	tag, err := result.Close()
	if err != nil {
		return err
	}
	if s.sql == sqlCommit && tag.String() != sqlCommit {
		return fmt.Errorf("COMMIT was answered with %s", tag.String())
	}
	return nil
}

// A firstRow is the row of a result at which its reader stands.
type firstRow struct {
	result *pgconn.ResultReader
	types  *pgtype.Map
}

// Scan implements pgx.Row. It reads nothing of a column whose target is nil.
func (r firstRow) Scan(targets ...any) error {
	fields, values := r.result.FieldDescriptions(), r.result.Values()
	if len(targets) != len(fields) {
		return fmt.Errorf("a row has %d columns, for %d targets", len(fields), len(targets))
	}
	for i, target := range targets {
		if err := r.types.Scan(fields[i].DataTypeOID, fields[i].Format, values[i], target); err != nil {
			return pgx.ScanArgError{ColumnIndex: i, FieldName: fields[i].Name, Err: err}
		}
	}
	return nil
}
