package audit

// jobQueries returns the checks of deferred work: what was staged arrives, and
// no callback tells what isn't so.
func jobQueries() []query {
	return []query{
		{
			check{"jobs-are-not-overdue", "I19", "A staged job is relayed soon, and a job that is due is worked soon."}, `
			SELECT account_id, key, args ->> 'ride_id', 'a ' || kind || ' is staged since ' || created_at || ', and not relayed'
			FROM staged_jobs
			WHERE created_at < now() - @overdue * interval '1 second'
			UNION ALL
			SELECT args ->> 'account_id', args ->> 'key', args -> 'job' ->> 'ride_id', kind || ' is ' || state || ' since ' ||
			       CASE state WHEN 'running' THEN attempted_at ELSE scheduled_at END
			FROM river.river_job
			WHERE state IN ('available', 'pending', 'retryable', 'running', 'scheduled')
			  AND CASE state WHEN 'running' THEN attempted_at ELSE scheduled_at END < now() - @overdue * interval '1 second'`,
		},
		{
			check{"end-has-its-callback", "I19", "A ride with a callback_url has the callback of each of its ends: staged, on its way or in the log."}, `
			SELECT e.account_id, e.key, e.ride_id, 'the callback ' || e.type || ' is nowhere'
			FROM ` + ends + ` e
			LEFT JOIN ` + callbacks + ` c ON c.account_id = e.account_id AND c.ride_id = e.ride_id AND c.type = e.type
			WHERE c.ride_id IS NULL`,
		},
		{
			check{"callback-has-its-job", "I19", "A callback that has not ended has a job that will try it again."}, `
			SELECT c.account_id, c.key, c.ride_id, c.type || ' is pending, and no job tries it: completer callbacks resend ' || c.id
			FROM callbacks c
			LEFT JOIN (
			  SELECT account_id, id
			  FROM staged_jobs
			  WHERE kind = 'callback'
			  UNION ALL
			  SELECT args ->> 'account_id', args ->> 'id'
			  FROM river.river_job
			  WHERE kind = 'callback/1' AND state NOT IN ('completed', 'cancelled', 'discarded')) j ON j.account_id = c.account_id AND j.id = c.job_id
			WHERE c.status = 'pending' AND j.id IS NULL`,
		},
		{
			check{"delivered-is-acknowledged", "I19", "A callback that is recorded as delivered was answered with 2xx."}, `
			SELECT account_id, key, ride_id, type || ' is delivered, and its last answer is ' || coalesce(last_status::text, 'none')
			FROM callbacks
			WHERE status = 'delivered' AND (attempts > 0 AND last_status BETWEEN 200 AND 299) IS NOT TRUE`,
		},
		{
			check{"callback-is-true", "I20", "A callback tells its own address of a ride that is as the callback says."}, `
			SELECT c.account_id, c.key, r.id, c.type || ' of a ride that is ' || coalesce(r.status, 'missing')
			FROM ` + callbacks + ` c
			LEFT JOIN rides r ON r.account_id = c.account_id AND r.id = c.ride_id
			LEFT JOIN (
			  SELECT DISTINCT account_id, ride_id
			  FROM audit_records
			  WHERE action = 'ride.refund_failed') f ON f.account_id = r.account_id AND f.ride_id = r.id
			WHERE (c.url = r.callback_url
			  AND CASE c.type WHEN 'ride.charged' THEN r.status IN ('charged', 'canceled') WHEN 'ride.refund_failed' THEN f.ride_id IS NOT NULL
			        ELSE c.type = 'ride.' || r.status AND r.status <> 'pending' END
			  AND (c.ride = 'null' OR c.ride @> jsonb_build_object('id', r.id,
			        'status', CASE c.type WHEN 'ride.charged' THEN 'charged' ELSE r.status END,
			        'fare', jsonb_build_object('amount', r.fare_amount, 'currency', r.fare_currency)))) IS NOT TRUE`,
		},
	}
}

// ends are the ends of rides that owe a callback. An older one may have been
// deleted from the log, where callbacks stay for 30 days; a key that was reaped
// may have had an earlier life, and that one's callback.
const ends = `(
			  SELECT r.account_id, r.key, r.id AS ride_id, CASE r.status WHEN 'declined' THEN 'ride.declined' ELSE 'ride.charged' END AS type
			  FROM rides r JOIN idempotency_keys k USING (account_id, key)
			  WHERE r.callback_url IS NOT NULL AND r.status <> 'pending' AND k.flow = 'hail' AND k.reaped_at IS NULL AND k.finished_at > now() - interval '29 days'
			  UNION ALL
			  SELECT r.account_id, r.cancel_key, r.id, 'ride.canceled'
			  FROM rides r JOIN idempotency_keys k ON k.account_id = r.account_id AND k.key = r.cancel_key
			  WHERE r.callback_url IS NOT NULL AND r.status = 'canceled' AND k.reaped_at IS NULL AND k.finished_at > now() - interval '29 days'
			  UNION ALL
			  SELECT r.account_id, r.key, r.id, 'ride.refund_failed'
			  FROM rides r JOIN audit_records a ON a.account_id = r.account_id AND a.ride_id = r.id
			  WHERE r.callback_url IS NOT NULL AND a.action = 'ride.refund_failed' AND a.created_at > now() - interval '29 days')`

// callbacks are all that are known, wherever they are on their way. The ride is
// null in the job of one that is sent again: the log has it.
const callbacks = `(
			  SELECT account_id, key, args ->> 'ride_id' AS ride_id, args ->> 'type' AS type, args ->> 'url' AS url, (args ->> 'ride')::jsonb AS ride
			  FROM staged_jobs
			  WHERE kind = 'callback'
			  UNION ALL
			  SELECT args ->> 'account_id', args ->> 'key', args -> 'job' ->> 'ride_id', args -> 'job' ->> 'type', args -> 'job' ->> 'url',
			         (args -> 'job' ->> 'ride')::jsonb
			  FROM river.river_job
			  WHERE kind = 'callback/1' AND state <> 'completed'
			  UNION ALL
			  SELECT account_id, key, ride_id, type, url, convert_from(body, 'UTF8')::jsonb -> 'data'
			  FROM callbacks)`
