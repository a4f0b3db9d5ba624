package audit

// Each query returns at, kind, key and what.
const (
	// riverJobs are the keys' jobs that were relayed. River has an index of args.
	riverJobs = `unnest(@keys::text[]) AS own (key) JOIN river.river_job ON args @> jsonb_build_object('account_id', @account::text, 'key', own.key)`

	rideHistory = `
		SELECT now(), 'ride', key, format('now: %s is %s, %s %s%s%s%s', id, status, fare_amount, fare_currency,
		       coalesce(', paid with ' || charge_id || ' of ' || payment_intent_id, ''),
		       coalesce(', refund ' || refund_id || ' ' || refund_status, ''), CASE WHEN disputed THEN ', disputed' ELSE '' END)
		FROM rides
		WHERE account_id = @account AND id = @ride`

	auditHistory = `
		SELECT created_at, 'audit', coalesce(data ->> 'key', ''), action || coalesce(': ' || (
		         SELECT string_agg(name || ' ' || value, ', ' ORDER BY name)
		         FROM json_each_text(data::json) AS facts (name, value)
		         WHERE name NOT IN ('key', 'request_id') AND value <> ''), '')
		FROM audit_records
		WHERE account_id = @account AND (ride_id = @ride OR data ->> 'key' = ANY(@keys) OR data ->> 'job' = ANY(@jobs))`

	jobHistory = `
		SELECT created_at, 'job', key, format('%s %s is staged, and waits for the relay', kind, id)
		FROM staged_jobs
		WHERE account_id = @account AND key = ANY(@keys)
		UNION ALL
		SELECT created_at, 'job', args ->> 'key', format('%s %s was staged as job %s', split_part(kind, '/', 1), args ->> 'id', id)
		FROM ` + riverJobs + `
		UNION ALL
		SELECT coalesce(finalized_at, now()), 'job', args ->> 'key', format('%s %s %s at attempt %s', split_part(kind, '/', 1), args ->> 'id',
		       CASE state WHEN 'completed' THEN 'was worked' WHEN 'running' THEN 'is being worked now'
		         WHEN 'cancelled' THEN 'was given up by its worker' WHEN 'discarded' THEN 'was given up'
		         ELSE 'is due at ' || to_char(scheduled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') END, attempt)
		FROM ` + riverJobs
	attemptHistory = `
		SELECT (failure ->> 'at')::timestamptz, 'job', args ->> 'key',
		       format('%s %s failed at attempt %s: %s', split_part(kind, '/', 1), args ->> 'id', failure ->> 'attempt', failure ->> 'error')
		FROM ` + riverJobs + `, unnest(errors) AS failure`

	callbackHistory = `
		SELECT created_at, 'callback', key, format('%s, %s for %s, was made', type, id, substring(url from '://(?:[^/?#]*@)?([^/?#]+)'))
		FROM callbacks
		WHERE account_id = @account AND (ride_id = @ride OR key = ANY(@keys))
		UNION ALL
		SELECT coalesce(ended_at, attempted_at, now()), 'callback', key, format('%s, %s, is %s at attempt %s%s', type, id, replace(status, '_', ' '), attempts,
		       coalesce(': the receiver answered ' || last_status, ': ' || last_error, ''))
		FROM callbacks
		WHERE account_id = @account AND (ride_id = @ride OR key = ANY(@keys))`

	eventHistory = `
		SELECT received_at, 'event', '', format('Stripe sent %s, %s, about %s%s', type, id, object_id,
		       CASE WHEN deliveries > 1 THEN ', ' || deliveries || ' times' ELSE '' END)
		FROM stripe_events
		WHERE account_id = '' AND (owner_id = @account AND ride_id = @ride OR object_id = ANY(@objects))
		UNION ALL
		SELECT coalesce(worked_at, now()), 'event', '', format('%s, %s, %s', type, id,
		       CASE WHEN outcome IS NULL THEN 'waits' || coalesce(': ' || CASE WHEN last_error ~ '^[a-z_]+$' THEN replace(last_error, '_', ' ') ELSE last_error END, '') ELSE 'was worked: ' || replace(outcome, '_', ' ') END)
		FROM stripe_events
		WHERE account_id = '' AND (owner_id = @account AND ride_id = @ride OR object_id = ANY(@objects))`
)
