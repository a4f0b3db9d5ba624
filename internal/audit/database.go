package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A query is a check of the database, with the SQL that returns the violations
// as (account, key, ride, detail). @overdue is Auditor.Overdue in seconds.
type query struct {
	check

	sql string
}

// queries returns all checks of the database. In most of them, k is a key of
// the hail flow and r is its ride.
func queries() []query {
	return slices.Concat(rideQueries(), recordQueries(), keyQueries(), refundQueries(), eventQueries(), jobQueries())
}

// rideQueries returns the checks that compare keys with rides.
func rideQueries() []query {
	return []query{
		{
			check{"answer-has-its-ride", "I2", "A key answered with 201 has one ride, with the charge and the fare of the answer."}, `
			SELECT k.account_id, k.key, r.id, CASE
			         WHEN r.id IS NULL THEN 'answered with 201, and there is no ride'
			         WHEN r.status NOT IN ('charged', 'canceled') THEN 'answered with 201, and the ride is ' || r.status
			         ELSE 'the answer shows another ride, charge or fare than the row' END
			FROM idempotency_keys k LEFT JOIN rides r USING (account_id, key)
			WHERE k.flow = 'hail' AND k.response_status = 201
			  AND (r.id IS NULL OR r.status NOT IN ('charged', 'canceled')
			    OR NOT convert_from(k.response_body, 'UTF8')::jsonb @> jsonb_build_object('id', r.id,
			      'charge', jsonb_build_object('id', r.charge_id, 'payment_intent', r.payment_intent_id),
			      'fare', jsonb_build_object('amount', r.fare_amount, 'currency', r.fare_currency)))`,
		},
		{
			check{"refused-means-not-charged", "I3", "A key answered with 402 has a declined ride without a charge."}, `
			SELECT k.account_id, k.key, r.id, 'answered with 402, and the ride is ' || coalesce(r.status, 'missing')
			FROM idempotency_keys k LEFT JOIN rides r USING (account_id, key)
			WHERE k.flow = 'hail' AND k.response_status = 402
			  AND (r.status = 'declined' AND r.charge_id IS NULL) IS NOT TRUE`,
		},
		{
			check{"ride-agrees-with-key", "I12", "A ride's status and its key's recovery point never disagree."}, `
			SELECT r.account_id, r.key, r.id,
			       'the ride is ' || r.status || ', and the key stands at ' || k.recovery_point || coalesce(' with ' || k.response_status, '')
			FROM rides r JOIN idempotency_keys k USING (account_id, key)
			WHERE k.flow = 'hail' AND k.reaped_at IS NULL AND NOT CASE r.status
			        WHEN 'pending' THEN k.recovery_point = 'ride_created'
			        WHEN 'declined' THEN coalesce(k.response_status = 402, false)
			        ELSE k.recovery_point = 'charge_created' OR coalesce(k.response_status = 201, false) END`,
		},
		{
			check{"nothing-is-forgotten", "I16", "A pending ride has an unfinished key, so it will be brought to its end."}, `
			SELECT r.account_id, r.key, r.id, 'the ride is pending, and its key is ' || CASE
			         WHEN k.key IS NULL THEN 'gone' WHEN k.reaped_at IS NOT NULL THEN 'reaped' ELSE 'finished' END
			FROM rides r LEFT JOIN idempotency_keys k USING (account_id, key)
			WHERE r.status = 'pending' AND (k.key IS NULL OR k.finished_at IS NOT NULL)`,
		},
		{
			check{"key-has-its-ride", "I12", "A key past its first recovery point has a ride."}, `
			SELECT k.account_id, k.key, NULL, 'the key stands at ' || k.recovery_point || ', and there is no ride'
			FROM idempotency_keys k LEFT JOIN rides r USING (account_id, key)
			WHERE k.flow = 'hail' AND k.finished_at IS NULL AND k.recovery_point <> 'started' AND r.id IS NULL`,
		},
	}
}

// receipts are all that are known, wherever they are on their way.
const receipts = `(
			  SELECT account_id, key, args ->> 'ride_id' AS ride_id, coalesce(args ->> 'event', 'charged') AS event
			  FROM staged_jobs
			  WHERE kind = 'receipt'
			  UNION ALL
			  SELECT args ->> 'account_id', args ->> 'key', args -> 'job' ->> 'ride_id', coalesce(args -> 'job' ->> 'event', 'charged')
			  FROM river.river_job
			  WHERE kind = 'receipt/1')`

// recordQueries returns the checks of what belongs to a ride or a key: audit
// records and receipts.
func recordQueries() []query {
	return []query{
		{
			check{"ride-has-its-record", "I12", "A ride has exactly one ride.created record, and each such record has a ride."}, `
			SELECT coalesce(r.account_id, a.account_id), r.key, coalesce(r.id, a.ride_id), CASE
			         WHEN r.id IS NULL THEN 'a ride.created record without a ride' ELSE coalesce(a.n, 0) || ' ride.created records' END
			FROM rides r
			FULL JOIN (SELECT account_id, ride_id, count(*) AS n FROM audit_records
			           WHERE action = 'ride.created' GROUP BY 1, 2) a ON a.account_id = r.account_id AND a.ride_id = r.id
			WHERE r.id IS NULL OR a.n IS DISTINCT FROM 1`,
		},
		{
			// River forgets a job a day after its delivery, so a key that
			// finished earlier needs none.
			check{"end-has-its-receipt", "I12", "A ride that was charged, canceled, or declined after respond-async, has its receipt: staged, on its way or delivered."}, `
			SELECT k.account_id, k.key, NULL, 'answered with ' || k.response_status || ' without a receipt'
			FROM idempotency_keys k LEFT JOIN ` + receipts + ` j USING (account_id, key)
			WHERE (k.flow = 'hail' AND (k.response_status = 201 OR k.response_status = 402 AND k.async) OR k.flow = 'cancel' AND k.response_status = 200)
			  AND k.finished_at > now() - interval '1 day' AND j.key IS NULL`,
		},
		{
			check{"receipt-is-true", "I20", "A receipt tells of a ride that is as the receipt says."}, `
			SELECT j.account_id, j.key, r.id, 'a receipt says ' || j.event || ' of a ride that is ' || coalesce(r.status, 'missing')
			FROM ` + receipts + ` j LEFT JOIN rides r ON r.account_id = j.account_id AND r.id = j.ride_id
			WHERE (r.status = j.event OR r.status = 'canceled' AND j.event = 'charged') IS NOT TRUE`,
		},
		{
			check{"parked-is-recorded", "I12", "A parked key has a reason and an audit record."}, `
			SELECT k.account_id, k.key, NULL, 'parked for ' || k.parked_reason || ' without an audit record'
			FROM idempotency_keys k
			WHERE k.parked_reason IS NOT NULL AND (k.parked_reason = '' OR NOT EXISTS (
			  SELECT FROM audit_records a
			  WHERE a.account_id = k.account_id AND a.action = 'key.parked' AND a.data ->> 'key' = k.key))`,
		},
	}
}

// keyQueries returns the checks of keys alone, and of what is unique.
func keyQueries() []query {
	return []query{
		{
			check{"foreign-key-is-stable", "I6", "The idempotency key for Stripe is a pure function of flow, point, account and key, and is in the frozen form, while there is one."}, `
			SELECT account_id, key, NULL, 'the key for Stripe is another one, or is not in the form'
			FROM idempotency_keys
			WHERE flow IN ('hail', 'cancel', 'refund_late') AND foreign_key IS NOT NULL AND (
			  position(foreign_key IN foreign_form) = 0 OR foreign_key <> encode(sha256(
			    int8send(octet_length(flow)) || convert_to(flow, 'UTF8') ||
			    CASE flow WHEN 'hail' THEN int8send(octet_length('charge_created')) || convert_to('charge_created', 'UTF8')
			      ELSE int8send(octet_length('refund_created')) || convert_to('refund_created', 'UTF8') END ||
			    int8send(octet_length(account_id)) || convert_to(account_id, 'UTF8') ||
			    int8send(octet_length(key)) || convert_to(key, 'UTF8')), 'hex'))`,
		},
		{
			check{"charge-pays-one-ride", "I2", "No charge and no payment intent pays two rides, not even of two accounts."}, `
			SELECT min(account_id), min(key), min(id), count(*) || ' rides have ' || paid.by
			FROM rides CROSS JOIN LATERAL (VALUES (charge_id), (payment_intent_id)) AS paid (by)
			WHERE paid.by IS NOT NULL
			GROUP BY paid.by
			HAVING count(*) > 1`,
		},
		{
			check{"account-and-mode", "I26", "A key belongs to an account that exists, in that account's mode."}, `
			SELECT k.account_id, k.key, NULL, CASE
			         WHEN a.id IS NULL THEN 'there is no such account' ELSE 'a ' || k.realm || ' key in an account of the other mode' END
			FROM idempotency_keys k LEFT JOIN accounts a ON a.id = k.account_id
			WHERE split_part(k.realm, '/', 1) IS DISTINCT FROM CASE WHEN a.livemode THEN 'live' WHEN NOT a.livemode THEN 'test' END`,
		},
		{
			check{"tombstones-are-empty", "I22", "A reaped key holds no parameters, no form and no answer."}, `
			SELECT account_id, key, NULL, 'reaped, but not emptied'
			FROM idempotency_keys
			WHERE reaped_at IS NOT NULL
			  AND (params <> '' OR foreign_form IS NOT NULL OR response_body IS NOT NULL OR response_headers IS NOT NULL)`,
		},
		{
			check{"nothing-is-overdue", "I16", "An unfinished key that isn't parked is being worked on, or will be soon."}, `
			SELECT account_id, key, NULL, 'due since ' || to_char(greatest(run_after, leased_until) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
			       || ', at ' || recovery_point || ', after ' || attempts || ' attempts'
			FROM idempotency_keys
			WHERE finished_at IS NULL AND parked_reason IS NULL
			  AND greatest(run_after, leased_until) < now() - @overdue * interval '1 second'`,
		},
		{
			check{"constraints-are-in-force", "I1", "The unique indexes that the other rules rely on exist and are valid."}, `
			SELECT NULL, NULL, NULL, 'the index ' || wanted || ' is missing or not valid'
			FROM unnest(ARRAY['idempotency_keys_pkey', 'rides_pkey', 'rides_one_per_key', 'staged_jobs_pkey', 'audit_records_pkey']) AS wanted
			LEFT JOIN pg_index i ON i.indexrelid = to_regclass(quote_ident(wanted))
			WHERE (i.indisunique AND i.indisvalid AND i.indisready) IS NOT TRUE`,
		},
	}
}

// queryTimeout bounds one query. It is ten times what a million keys take on a
// small machine. The limit of the role is for statements that a client waits
// for, and too short here.
const queryTimeout = 10 * time.Minute

// checkDatabase makes all checks of the database in the transaction tx.
func (a Auditor) checkDatabase(ctx context.Context, tx pgx.Tx, report *Report) error {
	counts := tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM idempotency_keys), (SELECT count(*) FROM rides)`)
	if err := counts.Scan(&report.Keys, &report.Rides); err != nil {
		return fmt.Errorf("counting keys and rides: %w", err)
	}
	for _, q := range queries() {
		began := time.Now()
		found, err := a.findings(ctx, tx, q)
		if err != nil {
			return fmt.Errorf("checking %s: %w", q.name, err)
		}
		a.add(report, q.check, began, found)
	}
	return nil
}

// readWhole calls read in a transaction that sees one snapshot and may read whole
// tables. What is sent past it has the settings of the role, which are those of
// requests: on a large table it would end at their time-out.
func readWhole(ctx context.Context, pool *pgxpool.Pool, read func(tx pgx.Tx) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error {
		if err := setLimits(ctx, tx); err != nil {
			return err
		}
		return read(tx)
	})
}

// setLimits sets the limits of the transaction, and lets it read whole tables
// and sort them, which is what its statements do. The first setting is what
// takes the others to the workers of Citus; elsewhere nothing reads it.
func setLimits(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL citus.propagate_set_commands = 'local';
		SET LOCAL statement_timeout = %d; SET LOCAL work_mem = '64MB';
		SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on; SET LOCAL enable_sort = on`, queryTimeout.Milliseconds()))
	if err != nil {
		return fmt.Errorf("setting limits: %w", err)
	}
	return nil
}

// findings runs one query. Data that the query can't read, such as an answer
// that isn't JSON, is a finding too, and doesn't end the transaction.
func (a Auditor) findings(ctx context.Context, tx pgx.Tx, q query) ([]Finding, error) {
	var found []Finding
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, q.sql, pgx.NamedArgs{"overdue": a.Overdue.Seconds()})
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (Finding, error) {
			f := Finding{Check: q.name}
			var account, key, ride pgtype.Text // some checks have no key, or no ride
			err := r.Scan(&account, &key, &ride, &f.Detail)
			f.Account, f.Key, f.Ride = account.String, key.String, ride.String
			return f, err
		})
		return err
	})
	if isDataException(err) {
		return append(found, Finding{Check: q.name, Detail: "a row can't be read: " + err.Error()}), nil
	}
	return found, err
}

// isDataException reports whether a query met data that it can't read (SQLSTATE
// class 22).
func isDataException(err error) bool {
	problem, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(problem.Code, "22")
}
