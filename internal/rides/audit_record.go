package rides

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// record inserts an audit record, once for the account, the action and the
// object. If it is new, tell tells a person, before the commit: if that came
// first and its answer was lost, the record would be there when the event is
// worked again, and nobody would be told. So a person may be told twice.
func (w *eventRun) record(ctx context.Context, account, action, ride, object string, data map[string]any, tell func()) error {
	ctx, cancel := context.WithTimeout(ctx, inboxTimeout)
	defer cancel()
	sql, args, err := auditRecordOnce(account, action, ride, object, data)
	if err != nil {
		return err
	}
	err = pgx.BeginTxFunc(ctx, w.Pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, args...)
		if err == nil && tag.RowsAffected() == 1 {
			tell()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("inserting audit record: %w", err)
	}
	return nil
}

// auditRecordOnce returns the statement that inserts an audit record, once for
// the account, the action and the object. ride is "" if there is none. A new
// ride has a statement of its own, which is shorter; see createRide.
func auditRecordOnce(account, action, ride, object string, data map[string]any) (sql string, args []any, err error) {
	text, err := json.Marshal(data)
	if err != nil {
		return "", nil, fmt.Errorf("encoding audit record: %w", err)
	}
	return `
		INSERT INTO audit_records (account_id, id, action, ride_id, data)
		VALUES ($1, $2, $3, nullif($4, ''), $5)
		ON CONFLICT (account_id, id) DO NOTHING`,
		[]any{account, phases.DerivedID("aud_", action, account, object), action, ride, string(text)}, nil
}
