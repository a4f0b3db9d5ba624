package audit

// eventQueries returns the checks of Stripe's events, and of payments that
// succeeded after their ride was declined. What is known of events has no
// account on its rows, so that is read first and then compared.
func eventQueries() []query {
	return []query{
		{
			check{"events-are-worked", "I16", "An event is worked soon after it is due, and within a day unless its key is parked for a person."}, `
			SELECT owner_id, NULL, ride_id, id || ' about ' || object_id || ' waits since ' || to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
			       || ', after ' || attempts || ' attempts'
			FROM stripe_events
			WHERE account_id = '' AND worked_at IS NULL
			  AND (run_after < now() - @overdue * interval '1 second' OR received_at < now() - interval '1 day' AND last_error IS DISTINCT FROM 'for_a_person')`,
		},
		{
			check{"event-has-its-effect", "I21", "What came of an event is on record."}, `
			WITH e AS MATERIALIZED (
			  SELECT id, outcome, owner_id, ride_id, CASE outcome WHEN 'late_success' THEN 'ride.charged_late' WHEN 'refund_failed' THEN 'ride.refund_failed'
			           ELSE 'stripe.orphan' END AS action
			  FROM stripe_events
			  WHERE account_id = '' AND outcome IN ('late_success', 'refund_failed', 'orphan')
			), a AS MATERIALIZED (
			  SELECT account_id, action, ride_id
			  FROM audit_records
			  WHERE action IN ('ride.charged_late', 'ride.refund_failed', 'stripe.orphan')
			)
			SELECT e.owner_id, NULL, e.ride_id, e.id || ' came to ' || e.outcome || ' without an audit record'
			FROM e LEFT JOIN a ON a.account_id = e.owner_id AND a.action = e.action AND coalesce(a.ride_id, e.ride_id) = e.ride_id
			WHERE a.account_id IS NULL`,
		},
		{
			check{"parked-behind-an-event", "I21", "No key was parked for what passes by itself after an event was done that tells of its success."}, `
			WITH e AS MATERIALIZED (
			  SELECT id, owner_id, ride_id, worked_at
			  FROM stripe_events
			  WHERE account_id = '' AND type = 'payment_intent.succeeded' AND outcome IN ('nothing_new', 'hastened')
			), k AS MATERIALIZED (
			  SELECT k.account_id, k.key, k.parked_reason, r.id AS ride_id, max(a.created_at) AS parked_at
			  FROM idempotency_keys k JOIN rides r USING (account_id, key)
			  JOIN audit_records a ON a.account_id = k.account_id AND a.action = 'key.parked' AND a.data ->> 'key' = k.key
			  WHERE k.flow = 'hail' AND k.parked_reason IN ('stripe_500', 'window_over', 'max_attempts')
			  GROUP BY 1, 2, 3, 4
			)
			SELECT k.account_id, k.key, k.ride_id, 'parked for ' || k.parked_reason || ', and ' || e.id || ' had been done'
			FROM k JOIN e ON e.owner_id = k.account_id AND e.ride_id = k.ride_id AND e.worked_at < k.parked_at`,
		},
		{
			check{"late-success-is-given-back", "I3", "A payment that succeeded after its ride was declined has a late refund."}, `
			SELECT a.account_id, NULL, a.ride_id, (a.data ->> 'payment_intent') || ' succeeded after the 402, and nothing gives it back'
			FROM audit_records a
			LEFT JOIN idempotency_keys k ON k.account_id = a.account_id AND k.key = 'refund_late→' || (a.data ->> 'payment_intent')
			LEFT JOIN audit_records done ON done.account_id = a.account_id AND done.action IN ('ride.refunded_late', 'key.resolved')
			     AND done.data ->> 'key' = 'refund_late→' || (a.data ->> 'payment_intent')
			WHERE a.action = 'ride.charged_late' AND a.created_at < now() - @overdue * interval '1 second'
			  AND k.key IS NULL AND done.id IS NULL`,
		},
		{
			check{"late-refund-has-its-ride", "I12", "A late refund is of a declined ride, and when it is done the ride shows it."}, `
			SELECT k.account_id, k.key, r.id, CASE
			         WHEN r.id IS NULL THEN 'there is no such ride'
			         ELSE 'the ride is ' || r.status || ', its refund is ' || coalesce(r.refund_status, 'missing') END
			FROM idempotency_keys k LEFT JOIN rides r ON r.account_id = k.account_id AND r.id = k.params::jsonb ->> 'id'
			WHERE k.flow = 'refund_late' AND k.reaped_at IS NULL
			  AND (r.status = 'declined' AND (k.response_status IS DISTINCT FROM 200 OR r.refund_status IN ('succeeded', 'failed'))) IS NOT TRUE`,
		},
		{
			check{"declined-payment-is-closed", "I3", "The payment intent of a declined ride is closed soon after it is due, and within a day."}, `
			SELECT account_id, NULL, ride_id, intent_id || ' could still be confirmed, after ' || attempts || ' attempts to cancel it'
			FROM open_intents
			WHERE run_after < now() - @overdue * interval '1 second' OR created_at < now() - interval '1 day'`,
		},
	}
}
