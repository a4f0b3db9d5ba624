package phases

import (
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A statement is one command of a transaction, which travels with the others in
// one pipeline.
type statement struct {
	sql  string
	args []any
	// scan reads the statement's one row; nil when it has none.
	scan func(pgx.Row) error
	// guard marks the statement that makes the server itself abort the
	// transaction when the row isn't as this worker left it.
	guard bool
	// once marks the statement whose violation of a unique constraint means
	// that the key has lived before.
	once bool
}

const (
	begin  = "BEGIN ISOLATION LEVEL READ COMMITTED"
	commit = "COMMIT"
)

// held is the fence: the row is mine and where I left it. Each of its four
// conditions is needed. The token shuts out a worker whose lease was taken; the
// point shuts out a repetition of a transaction that did commit after all; the
// last two shut out every write to a row that is over or waits for a person.
const held = `
		WHERE account_id = $1 AND key = $2 AND lease_token = $3 AND recovery_point = $4
		  AND finished_at IS NULL AND parked_reason IS NULL`

// Every guard is a WITH over a write that returns a row, and divides by the
// number of rows: no row is SQLSTATE 22012 (division_by_zero), by which the
// server aborts the whole pipeline. The client needs no round trip to look.

// insertKey makes the row, at the point that its transaction reaches. It
// guards: where the key exists already, the transaction is aborted.
func insertKey(a *attempt, end ending, now *time.Time) statement {
	req := a.request
	return statement{
		guard: true,
		sql: `
		WITH claimed AS (
		  INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path,
		         request_hash, canon_version, params, recovery_point, foreign_key, foreign_form, first_sent_at,
		         lease_token, lease_epoch, leased_until, attempts)
		  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text, $14::text,
		         CASE WHEN $13::text IS NOT NULL THEN now() END,
		         $15, 1, now() + $16 * interval '1 second', 1)
		  ON CONFLICT (account_id, key) DO NOTHING
		  RETURNING created_at)
		SELECT 1/count(*), max(created_at) FROM claimed`,
		args: []any{
			req.Account, req.Key, a.flow.name, a.flow.version, a.engine.config.Realm, req.RequestID, req.Method, req.Path,
			req.hash, req.CanonVersion, req.Params, end.point, end.foreignKey, end.form,
			a.token, a.engine.config.Lease.Seconds(),
		},
		scan: scanGuard(now, 0),
	}
}

// unparkKey takes a parked row, for the transaction in which a person's
// decision is carried out. It guards: the row must be as that person saw it,
// and its last worker's lease must have ended, because until then that worker
// may still be calling.
func unparkKey(a *attempt, now *time.Time) statement {
	return statement{
		guard: true,
		sql: `
		WITH taken AS (
		  UPDATE idempotency_keys
		  SET parked_reason = NULL, lease_token = $3, lease_epoch = lease_epoch + 1,
		      leased_until = now() + $5 * interval '1 second'
		  WHERE account_id = $1 AND key = $2 AND lease_epoch = $4
		    AND parked_reason IS NOT NULL AND (leased_until IS NULL OR leased_until <= now())
		  RETURNING leased_until)
		SELECT 1/count(*), max(leased_until) FROM taken`,
		args: []any{a.key.Account, a.key.Key, a.token, a.epoch, a.engine.config.Lease.Seconds()},
		scan: scanGuard(now, a.engine.config.Lease),
	}
}

// advanceKey moves the row to end.point, freezes the next foreign call when end
// has one, and renews the lease. With the point where it is it only renews, or
// freezes; a late repetition of that must not move the time of a first send
// that has been made since.
func advanceKey(a *attempt, end ending, now *time.Time) statement {
	return statement{
		guard: true,
		sql: `
		WITH moved AS (
		  UPDATE idempotency_keys
		  SET recovery_point = $5, leased_until = now() + $6 * interval '1 second',
		      foreign_key = coalesce($7::text, foreign_key), foreign_form = coalesce($8::text, foreign_form),
		      first_sent_at = CASE WHEN $7::text IS NULL THEN first_sent_at
		                           WHEN recovery_point = $5 THEN coalesce(first_sent_at, now()) ELSE now() END,
		      foreign_ref = CASE WHEN recovery_point = $5 THEN foreign_ref END,
		      find_reason = CASE WHEN recovery_point = $5 THEN find_reason END,
		      find_until = CASE WHEN recovery_point = $5 THEN find_until END` + held + `
		  RETURNING leased_until)
		SELECT 1/count(*), max(leased_until) FROM moved`,
		args: append(a.held(), end.point, a.engine.config.Lease.Seconds(), end.foreignKey, end.form),
		scan: scanGuard(now, a.engine.config.Lease),
	}
}

// lookUpKey notes that the call must be looked up from now on, and renews the
// lease for the looking.
func lookUpKey(a *attempt, end ending, now *time.Time) statement {
	return statement{
		guard: true,
		sql: `
		WITH noted AS (
		  UPDATE idempotency_keys
		  SET find_reason = $5, find_until = first_sent_at + $6 * interval '1 second',
		      leased_until = now() + $7 * interval '1 second'` + held + `
		  RETURNING leased_until)
		SELECT 1/count(*), max(leased_until) FROM noted`,
		args: append(a.held(), end.reason, end.after.Seconds(), a.engine.config.Lease.Seconds()),
		scan: scanGuard(now, a.engine.config.Lease),
	}
}

// finishKey stores the answer and ends the lease.
func finishKey(a *attempt, end ending) statement {
	return statement{
		guard: true,
		sql: `
		WITH finished AS (
		  UPDATE idempotency_keys
		  SET recovery_point = 'finished', finished_at = now(), lease_token = NULL, leased_until = NULL, last_error = NULL,
		      response_status = $5, response_headers = $6, response_body = $7` + held + `
		  RETURNING 1)
		SELECT 1/count(*) FROM finished`,
		args: append(a.held(), end.answer.Status, end.headers, end.answer.Body),
		scan: scanGuard(nil, 0),
	}
}

// buryKey ends a key that turned out to have lived before: it becomes the
// tombstone that it should have met.
func buryKey(a *attempt) statement {
	return statement{
		guard: true,
		sql: `
		WITH buried AS (
		  UPDATE idempotency_keys
		  SET recovery_point = 'finished', finished_at = now(), reaped_at = now(), lease_token = NULL, leased_until = NULL,
		      params = '', foreign_key = NULL, foreign_form = NULL` + held + `
		  RETURNING 1)
		SELECT 1/count(*) FROM buried`,
		args: a.held(),
		scan: scanGuard(nil, 0),
	}
}

// releaseKey gives the row back where it stands, for the completer after
// end.after and for a client's retry at once.
func releaseKey(a *attempt, end ending) statement {
	return statement{
		guard: true,
		sql: `
		WITH released AS (
		  UPDATE idempotency_keys
		  SET lease_token = NULL, leased_until = NULL, lease_epoch = lease_epoch + 1,
		      run_after = now() + $5 * interval '1 second', last_error = $6::text, failures = failures + $7,
		      first_sent_at = CASE WHEN $8 THEN NULL ELSE first_sent_at END,
		      foreign_ref = coalesce($9::text, foreign_ref)` + held + `
		  RETURNING 1)
		SELECT 1/count(*) FROM released`,
		args: append(a.held(), end.after.Seconds(), nullable(end.reason), end.failures, end.unsent, nullable(end.ref)),
		scan: scanGuard(nil, 0),
	}
}

// parkKey stops the row where it stands until a person decides.
func parkKey(a *attempt, end ending) statement {
	return statement{
		guard: true,
		sql: `
		WITH parked AS (
		  UPDATE idempotency_keys
		  SET lease_token = NULL, leased_until = NULL, lease_epoch = lease_epoch + 1,
		      parked_reason = $5, last_error = coalesce($6::text, last_error)` + held + `
		  RETURNING 1)
		SELECT 1/count(*) FROM parked`,
		args: append(a.held(), end.reason, nullable(end.detail)),
		scan: scanGuard(nil, 0),
	}
}

// stealKey takes a row that nobody holds. It compares the epoch and the point
// that were read, so of many claimers one wins, and it is a commit of its own
// that counts the attempt: a worker that dies leaves the count behind. It
// returns the row as it is now held.
const stealKey = `
	UPDATE idempotency_keys
	SET lease_token = $3, lease_epoch = lease_epoch + 1, leased_until = now() + $4 * interval '1 second',
	    attempts = attempts + 1
	WHERE account_id = $1 AND key = $2 AND lease_epoch = $5 AND recovery_point = $6
	  AND finished_at IS NULL AND parked_reason IS NULL AND (leased_until IS NULL OR leased_until <= now())
	RETURNING ` + columns

// audit records something out of the ordinary that happened to a key. The same
// statement is the barrier: a write whose acknowledged commit proves that
// everything committed before it is durable.
func audit(account, action, data string) statement {
	return statement{
		sql: `
		INSERT INTO audit_records (account_id, id, action, data)
		VALUES ($1, $2, $3, $4)`,
		args: []any{account, "aud_" + uuid.Must(uuid.NewV7()).String(), action, data},
	}
}

// scanGuard reads a guard's row. When now is given, the second column is the
// database's clock plus ahead: RETURNING now() is refused by Citus, so the
// clock is read off a time that the statement has just set.
func scanGuard(now *time.Time, ahead time.Duration) func(pgx.Row) error {
	return func(r pgx.Row) error {
		var one int
		if now == nil {
			return r.Scan(&one)
		}
		var set time.Time
		if err := r.Scan(&one, &set); err != nil {
			return err
		}
		*now = set.Add(-ahead)
		return nil
	}
}

func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
