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
	// scan reads the statement's first row, if there is one. nil reads none.
	scan func(pgx.Row) error
	// guard marks the statement with which the server itself aborts the
	// transaction when the row isn't as the attempt left it.
	guard bool
	// once marks a statement of QueueOnce: if it violates a unique constraint,
	// the key was used and reaped before.
	once bool
}

const (
	sqlBegin  = "BEGIN ISOLATION LEVEL READ COMMITTED"
	sqlCommit = "COMMIT"
)

// fence is the WHERE of every write to the row of a held key. It matches only a
// row that this attempt holds, at the point where the attempt left it. Each of
// its four conditions beside the key is needed. The token shuts out a worker
// whose key another has claimed. The point shuts out a second run of a
// transaction that had committed unseen. The last two, which are unfinished,
// shut out every write to a row that is finished or parked.
const fence = `
		WHERE account_id = $1 AND key = $2 AND lease_token = $3 AND recovery_point = $4
		  AND ` + unfinished

// unfinished is true of a key that is neither finished nor parked. A statement
// that names its key says so in this way, and not with two IS NULL: those are
// the predicate of idempotency_keys_due_idx, so Postgres could read that index,
// which is as long as the backlog, instead of the primary key.
const unfinished = `num_nonnulls(finished_at, parked_reason) = 0`

// fenceArgs are the arguments of the fence, which come first in its statement.
func (a *attempt) fenceArgs() []any {
	args := make([]any, 0, 10) // with room for those that follow
	return append(args, a.key.Account, a.key.Key, a.token, a.key.RecoveryPoint)
}

// Every guard except the INSERT is a WITH over a write that returns a row, and
// divides by the number of rows: if there is none, that is SQLSTATE 22012
// (division_by_zero), with which the server aborts the whole pipeline. The
// client needs no round trip to check.

// guard is the statement that begins a transaction, and aborts it if the
// attempt doesn't hold the row. It leaves the key as end says, if the attempt
// holds the row or inserts it. The database's clock is stored in now.
func (a *attempt) guard(end *ending, now *time.Time) statement {
	switch a.entry {
	case entryInsert:
		return insertKey(a, end, now)
	case entryUnpark:
		return unparkKey(a, now)
	default:
		return a.write(end, now)
	}
}

// write is the write that leaves a held row as end says.
func (a *attempt) write(end *ending, now *time.Time) statement {
	switch end.kind {
	case endLookUp:
		return lookUpKey(a, end, now)
	case endFinished:
		return finishKey(a, end)
	case endReleased:
		return releaseKey(a, end)
	case endParked:
		return parkKey(a, end)
	case endExpired:
		return expireKey(a)
	default:
		return advanceKey(a, end, now)
	}
}

// insertKey inserts the row, at the point that its transaction reaches. If the
// key exists already, its primary key aborts the transaction. There is neither
// ON CONFLICT nor a WITH: Citus would insert from the coordinator.
func insertKey(a *attempt, end *ending, now *time.Time) statement {
	req := a.request
	args := append(make([]any, 0, 19),
		req.Account, req.Key, a.flow.name, a.flow.version, a.realm, req.RequestID, req.Method, req.Path,
		req.hash, req.CanonVersion, req.Params, orNull(req.Trace), req.Async, end.point, end.foreignKey, end.form,
		a.token, a.engine.config.Lease.Seconds())
	const (
		insert = `
		INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path,
		       request_hash, canon_version, params, trace, async, recovery_point, foreign_key, foreign_form, first_sent_at,
		       lease_token, lease_epoch, leased_until, attempts, calling_until)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::text, $16::text, `
		lease = `,
		        $17, 1, now() + $18 * interval '1 second', 1, `
		returning = `)
		RETURNING 1, created_at`
	)
	sql := insert + `NULL` + lease + `NULL` + returning
	if end.form != nil {
		sql = insert + `now()` + lease + `now() + $19 * interval '1 second'` + returning
		args = append(args, a.callTime(end.calls).Seconds())
	}
	return statement{guard: true, sql: sql, args: args, scan: scanGuard(now, 0)}
}

// unparkKey claims a parked row, for the transaction in which a person's
// decision is carried out. The row must be as that person saw it, and the calls
// of its workers must have ended.
func unparkKey(a *attempt, now *time.Time) statement {
	return statement{
		guard: true,
		sql: `
		WITH unparked AS (
		  UPDATE idempotency_keys
		  SET parked_reason = NULL, lease_token = $3, lease_epoch = lease_epoch + 1,
		      claimed_at = now(), leased_until = now() + $5 * interval '1 second'
		  WHERE account_id = $1 AND key = $2 AND lease_epoch = $4
		    AND parked_reason IS NOT NULL AND ` + nobodyCalls + `
		  RETURNING leased_until)
		SELECT 1/count(*), max(leased_until) FROM unparked`,
		args: []any{a.key.Account, a.key.Key, a.token, a.epoch, a.engine.config.Lease.Seconds()},
		scan: scanGuard(now, a.engine.config.Lease),
	}
}

// nobodyCalls is true of a row whose workers have certainly ended their calls:
// the time that the last send had is over. A worker of the release before this
// one doesn't know that time, but its calls end with its lease.
const nobodyCalls = `(leased_until IS NULL OR leased_until <= now()) AND (calling_until IS NULL OR calling_until <= now())`

// advanceKey moves the row to end.point, or leaves it there, renews the lease,
// and freezes the next foreign call when end has one. calling_until says how
// long the send may take that follows; otherwise it is what the claim found,
// because the attempt's own send is over. Leaving a point ends what was known
// of its call. A second run of a freeze at the point where the row
// stands must not move the time of a first send that was made since: hence
// least, which ignores NULL.
//
// Each of the four cases has a statement of its own, because Citus refuses
// now() inside CASE and COALESCE.
func advanceKey(a *attempt, end *ending, now *time.Time) statement {
	args := append(a.fenceArgs(), a.engine.config.Lease.Seconds(), a.othersCall)
	set := `leased_until = now() + $5 * interval '1 second', calling_until = `
	if end.calls {
		set += `greatest($6::timestamptz, now() + $7 * interval '1 second')`
		args = append(args, a.callTime(true).Seconds())
	} else {
		set += `$6`
	}
	const leave = `, foreign_ref = NULL, find_reason = NULL, find_until = NULL, recovery_point = `
	switch moves := end.point != a.key.RecoveryPoint; {
	case end.form != nil && moves: // and a send follows
		set += leave + `$8, foreign_key = $9, foreign_form = $10, first_sent_at = now()`
		args = append(args, end.point, end.foreignKey, end.form)
	case end.form != nil:
		set += `, foreign_key = $8, foreign_form = $9, first_sent_at = least(first_sent_at, now())`
		args = append(args, end.foreignKey, end.form)
	case moves:
		set += leave + `$7`
		args = append(args, end.point)
	}
	return statement{
		guard: true,
		sql: `
		WITH moved AS (
		  UPDATE idempotency_keys
		  SET ` + set + fence + `
		  RETURNING leased_until)
		SELECT 1/count(*), max(leased_until) FROM moved`,
		args: args,
		scan: scanGuard(now, a.engine.config.Lease),
	}
}

// lookUpKey stores that the call is only looked up from now on, and renews the
// lease for the look-up.
func lookUpKey(a *attempt, end *ending, now *time.Time) statement {
	return statement{
		guard: true,
		sql: `
		WITH noted AS (
		  UPDATE idempotency_keys
		  SET find_reason = $5, find_until = $6, leased_until = now() + $7 * interval '1 second'` + fence + `
		  RETURNING leased_until)
		SELECT 1/count(*), max(leased_until) FROM noted`,
		args: append(a.fenceArgs(), end.reason, a.call.firstSentAt.Add(end.after), a.engine.config.Lease.Seconds()),
		scan: scanGuard(now, a.engine.config.Lease),
	}
}

// finishKey stores the answer and ends the lease. The form goes, because
// nothing is sent any more: it is a quarter of the row, and of the log of this
// UPDATE.
func finishKey(a *attempt, end *ending) statement {
	return statement{
		guard: true,
		sql: `
		WITH finished AS (
		  UPDATE idempotency_keys
		  SET recovery_point = 'finished', finished_at = now(), last_error = NULL,
		      lease_token = NULL, claimed_at = NULL, leased_until = NULL, calling_until = NULL,
		      foreign_form = NULL, response_status = $5, response_headers = $6, response_body = $7` + fence + `
		  RETURNING 1)
		SELECT 1/count(*) FROM finished`,
		args: append(a.fenceArgs(), end.answer.Status, encodeHeaders(end.answer.Headers), end.answer.Body),
	}
}

// expireKey ends a key that turned out to have been used and reaped before: it
// becomes the tombstone that it should have found.
func expireKey(a *attempt) statement {
	return statement{
		guard: true,
		sql: `
		WITH expired AS (
		  UPDATE idempotency_keys
		  SET recovery_point = 'finished', finished_at = now(), reaped_at = now(),
		      lease_token = NULL, claimed_at = NULL, leased_until = NULL, calling_until = NULL,
		      params = '', trace = NULL, foreign_key = NULL, foreign_form = NULL` + fence + `
		  RETURNING 1)
		SELECT 1/count(*) FROM expired`,
		args: a.fenceArgs(),
	}
}

// atRest is what a row that nobody holds shows of its last worker: until when
// calls of others may be under way, which had the key before it. Its own is
// over.
const atRest = `lease_token = NULL, claimed_at = NULL, leased_until = NULL, lease_epoch = lease_epoch + 1, calling_until = $5`

// releaseKey releases the row where it stands. A client's retry may claim it at
// once, the completer after end.after.
func releaseKey(a *attempt, end *ending) statement {
	return statement{
		guard: true,
		sql: `
		WITH released AS (
		  UPDATE idempotency_keys
		  SET ` + atRest + `,
		      run_after = now() + $6 * interval '1 second', last_error = $7::text, failures = failures + $8,
		      first_sent_at = CASE WHEN $9 THEN NULL ELSE first_sent_at END,
		      foreign_ref = coalesce($10::text, foreign_ref)` + fence + `
		  RETURNING 1)
		SELECT 1/count(*) FROM released`,
		args: append(a.fenceArgs(), a.othersCall, end.after.Seconds(), orNull(end.reason), end.failures, end.neverSent, orNull(end.ref)),
	}
}

// parkKey stops the row where it stands until a person decides.
func parkKey(a *attempt, end *ending) statement {
	return statement{
		guard: true,
		sql: `
		WITH parked AS (
		  UPDATE idempotency_keys
		  SET ` + atRest + `,
		      parked_reason = $6, last_error = coalesce($7::text, last_error),
		      first_sent_at = CASE WHEN $8 THEN NULL ELSE first_sent_at END` + fence + `
		  RETURNING 1)
		SELECT 1/count(*) FROM parked`,
		args: append(a.fenceArgs(), a.othersCall, end.reason, orNull(end.detail), end.neverSent),
	}
}

// claimKey claims a row that nobody holds. It compares the epoch and the point
// that were read, so of many claimers one wins. It compares calling_until too,
// because the attempt puts it back when it is done. It is a commit of its own
// that counts the attempt, so that a worker that dies leaves the count behind.
// It returns the row as it is now held.
const claimKey = `
	UPDATE idempotency_keys
	SET lease_token = $3, lease_epoch = lease_epoch + 1, claimed_at = now(), leased_until = now() + $4 * interval '1 second',
	    calling_until = greatest($7::timestamptz, now() + $8 * interval '1 second'), attempts = attempts + 1
	WHERE account_id = $1 AND key = $2 AND lease_epoch = $5 AND recovery_point = $6
	  AND calling_until IS NOT DISTINCT FROM $7::timestamptz
	  AND ` + unfinished + ` AND (leased_until IS NULL OR leased_until <= now())
	RETURNING ` + columns

// auditRecord records something out of the ordinary that happened to a key. The
// same statement is the barrier: a write whose acknowledged commit proves that
// everything committed before it is durable.
func auditRecord(account, action string, data map[string]string) statement {
	for name, text := range data {
		data[name] = FitText(text)
	}
	return statement{
		sql: `
		INSERT INTO audit_records (account_id, id, action, data)
		VALUES ($1, $2, $3, $4)`,
		args: []any{account, "aud_" + uuid.Must(uuid.NewV7()).String(), action, encode(data)},
	}
}

// scanGuard reads a guard's row. The second column is the database's clock plus
// ahead: Citus refuses RETURNING now(), so the clock is taken from a time that
// the statement has just set.
func scanGuard(now *time.Time, ahead time.Duration) func(pgx.Row) error {
	return func(r pgx.Row) error {
		err := r.Scan(nil, now)
		*now = now.Add(-ahead)
		return err
	}
}

// orNull returns the text as it can be stored, or nil for the empty string.
func orNull(text string) *string {
	if text == "" {
		return nil
	}
	text = FitText(text)
	return &text
}
