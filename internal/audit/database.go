package audit

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// A query is an invariant of the database, with the SQL that returns its
// violations as (account, key, ride, what is wrong). @overdue is in seconds.
type query struct {
	name, rule, sql string
}

// queries are the invariants that one snapshot can show. In each, k is a key of
// the hail flow and r its ride.
func queries() []query {
	return slices.Concat(rideQueries(), recordQueries(), keyQueries())
}

// rideQueries compare keys with rides.
func rideQueries() []query {
	return []query{
		{
			"answer-has-its-ride", "A key answered with 201 has one ride, charged as the answer says.", `
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
			"refused-means-not-charged", "A key answered with 402 has a declined ride without a charge.", `
			SELECT k.account_id, k.key, r.id, 'answered with 402, and the ride is ' || coalesce(r.status, 'missing')
			FROM idempotency_keys k LEFT JOIN rides r USING (account_id, key)
			WHERE k.flow = 'hail' AND k.response_status = 402
			  AND (r.status = 'declined' AND r.charge_id IS NULL) IS NOT TRUE`,
		},
		{
			"ride-agrees-with-key", "A ride's status and its key's recovery point never disagree.", `
			SELECT r.account_id, r.key, r.id,
			       'the ride is ' || r.status || ', and the key stands at ' || k.recovery_point || coalesce(' with ' || k.response_status, '')
			FROM rides r JOIN idempotency_keys k USING (account_id, key)
			WHERE k.flow = 'hail' AND k.reaped_at IS NULL AND NOT CASE r.status
			        WHEN 'pending' THEN k.recovery_point = 'ride_created'
			        WHEN 'declined' THEN coalesce(k.response_status = 402, false)
			        ELSE k.recovery_point = 'charge_created' OR coalesce(k.response_status = 201, false) END`,
		},
		{
			"nothing-is-forgotten", "A pending ride has an unfinished key, which brings it to its end.", `
			SELECT r.account_id, r.key, r.id, 'the ride is pending, and its key is ' || CASE
			         WHEN k.key IS NULL THEN 'gone' WHEN k.reaped_at IS NOT NULL THEN 'reaped' ELSE 'finished' END
			FROM rides r LEFT JOIN idempotency_keys k USING (account_id, key)
			WHERE r.status = 'pending' AND (k.key IS NULL OR k.finished_at IS NOT NULL)`,
		},
		{
			"key-has-its-ride", "A key past its first recovery point has a ride.", `
			SELECT k.account_id, k.key, NULL, 'the key stands at ' || k.recovery_point || ', and there is no ride'
			FROM idempotency_keys k LEFT JOIN rides r USING (account_id, key)
			WHERE k.flow = 'hail' AND k.finished_at IS NULL AND k.recovery_point <> 'started' AND r.id IS NULL`,
		},
	}
}

// recordQueries look at what hangs on a ride or a key.
func recordQueries() []query {
	return []query{
		{
			"ride-has-its-record", "A ride has exactly one audit record of its making, and none is without a ride.", `
			SELECT coalesce(r.account_id, a.account_id), r.key, coalesce(r.id, a.ride_id), CASE
			         WHEN r.id IS NULL THEN 'an audit record without a ride' ELSE coalesce(a.n, 0) || ' audit records' END
			FROM rides r
			FULL JOIN (SELECT account_id, ride_id, count(*) AS n FROM audit_records
			           WHERE action = 'ride.created' GROUP BY 1, 2) a ON a.account_id = r.account_id AND a.ride_id = r.id
			WHERE r.id IS NULL OR a.n IS DISTINCT FROM 1`,
		},
		{
			"receipt-belongs-to-a-charge", "A charged ride has its receipt staged, and no other ride has one.", `
			SELECT coalesce(k.account_id, j.account_id), coalesce(k.key, j.key), r.id, CASE
			         WHEN j.id IS NULL THEN 'answered with 201 without a receipt' ELSE 'a receipt for a ride that is ' || coalesce(r.status, 'missing') END
			FROM (SELECT * FROM staged_jobs WHERE kind = 'receipt') j
			FULL JOIN (SELECT * FROM idempotency_keys WHERE flow = 'hail' AND response_status = 201) k USING (account_id, key)
			LEFT JOIN rides r ON r.account_id = coalesce(k.account_id, j.account_id) AND r.key = coalesce(k.key, j.key)
			WHERE j.id IS NULL OR (r.status IN ('charged', 'canceled')) IS NOT TRUE`,
		},
		{
			"parked-is-recorded", "A parked key has a reason and an audit record.", `
			SELECT k.account_id, k.key, NULL, 'parked for ' || k.parked_reason || ' without an audit record'
			FROM idempotency_keys k
			WHERE k.parked_reason IS NOT NULL AND (k.parked_reason = '' OR NOT EXISTS (
			  SELECT FROM audit_records a
			  WHERE a.account_id = k.account_id AND a.action = 'key.parked' AND a.data ->> 'key' = k.key))`,
		},
	}
}

// keyQueries look at keys, and at what is unique.
func keyQueries() []query {
	return []query{
		{
			"foreign-key-is-stable", "What Stripe is asked under is a pure function of flow, point, account and key, and stands in the form.", `
			SELECT account_id, key, NULL, 'the key and form for Stripe are not those of this request'
			FROM idempotency_keys
			WHERE flow = 'hail' AND foreign_key IS NOT NULL AND (
			  position(foreign_key IN foreign_form) = 0 OR foreign_key <> encode(sha256(
			    int8send(octet_length(flow)) || convert_to(flow, 'UTF8') ||
			    int8send(octet_length('charge_created')) || convert_to('charge_created', 'UTF8') ||
			    int8send(octet_length(account_id)) || convert_to(account_id, 'UTF8') ||
			    int8send(octet_length(key)) || convert_to(key, 'UTF8')), 'hex'))`,
		},
		{
			"charge-pays-one-ride", "No charge and no payment intent pays two rides, not even of two accounts.", `
			SELECT min(account_id), min(key), min(id), count(*) || ' rides have ' || paid.by
			FROM rides CROSS JOIN LATERAL (VALUES (charge_id), (payment_intent_id)) AS paid (by)
			WHERE paid.by IS NOT NULL
			GROUP BY paid.by
			HAVING count(*) > 1`,
		},
		{
			"account-and-mode", "A key belongs to an account that exists, in that account's mode.", `
			SELECT k.account_id, k.key, NULL, CASE
			         WHEN a.id IS NULL THEN 'there is no such account' ELSE 'a key of realm ' || k.realm || ' in an account of the other mode' END
			FROM idempotency_keys k LEFT JOIN accounts a ON a.id = k.account_id
			WHERE k.realm IS DISTINCT FROM CASE WHEN a.livemode THEN 'live' WHEN NOT a.livemode THEN 'test' END`,
		},
		{
			"tombstones-are-empty", "A reaped key holds nothing any more.", `
			SELECT account_id, key, NULL, 'reaped, and not emptied'
			FROM idempotency_keys
			WHERE reaped_at IS NOT NULL
			  AND (params <> '' OR foreign_form IS NOT NULL OR response_body IS NOT NULL OR response_headers IS NOT NULL)`,
		},
		{
			"nothing-is-overdue", "An unfinished key that nobody has parked is being worked on, or will be soon.", `
			SELECT account_id, key, NULL, 'due since ' || to_char(greatest(run_after, leased_until) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
			       || ', at ' || recovery_point || ', after ' || attempts || ' attempts'
			FROM idempotency_keys
			WHERE finished_at IS NULL AND parked_reason IS NULL
			  AND greatest(run_after, leased_until) < now() - @overdue * interval '1 second'`,
		},
		{
			"constraints-are-in-force", "The unique indexes that carry the promise are there and valid.", `
			SELECT NULL, NULL, NULL, 'the index ' || wanted || ' is missing or not valid'
			FROM unnest(ARRAY['idempotency_keys_pkey', 'rides_pkey', 'rides_account_id_key_key', 'rides_account_id_charge_id_key',
			       'rides_account_id_payment_intent_id_key', 'staged_jobs_account_id_key_kind_key', 'audit_records_pkey']) AS wanted
			LEFT JOIN pg_index i ON i.indexrelid = to_regclass(quote_ident(wanted))
			WHERE (i.indisunique AND i.indisvalid AND i.indisready) IS NOT TRUE`,
		},
	}
}

// auditTimeout bounds one query: ten times what a million keys take on a small
// machine. The servers' own limit is for statements that a client waits for.
const auditTimeout = 10 * time.Minute

// checkDatabase makes all checks in one snapshot.
func (a Auditor) checkDatabase(ctx context.Context, tx pgx.Tx, report *Report) error {
	settings := fmt.Sprintf(`SET LOCAL statement_timeout = %d; SET LOCAL work_mem = '64MB'`, auditTimeout.Milliseconds())
	if _, err := tx.Exec(ctx, settings); err != nil {
		return fmt.Errorf("setting limits: %w", err)
	}
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
		a.add(report, q.name, q.rule, began, found)
	}
	return nil
}

// findings runs one query. Data that the query can't even read, such as an
// answer that is no JSON, is a finding of its own; the snapshot goes on.
func (a Auditor) findings(ctx context.Context, tx pgx.Tx, q query) ([]Finding, error) {
	var found []Finding
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, q.sql, pgx.NamedArgs{"overdue": a.Overdue.Seconds()})
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (Finding, error) {
			f := Finding{Check: q.name}
			var account, key, ride *string
			err := r.Scan(&account, &key, &ride, &f.Detail)
			f.Account, f.Key, f.Ride = text(account), text(key), text(ride)
			return f, err
		})
		return err
	})
	if isDataException(err) {
		return append(found, Finding{Check: q.name, Detail: "a row can't be read: " + err.Error()}), nil
	}
	return found, err
}
