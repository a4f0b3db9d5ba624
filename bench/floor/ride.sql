\set n random(100000000000, 999999999999)
SELECT account_id, key, flow, flow_version, realm, request_id, method, path,
	request_hash, canon_version, params, trace, async, recovery_point,
	foreign_key, foreign_form, foreign_ref, first_sent_at, find_reason, find_until,
	lease_token::text, lease_epoch, leased_until,
	attempts, failures, run_after, last_error, parked_reason,
	response_status, response_headers, response_body,
	created_at, finished_at, reaped_at, now()
			FROM idempotency_keys
			WHERE account_id = ('acct_WuEeN8CRxtploiWt')::text AND key = ('4PS64FEDFMNZUA6QBETZ7GC-' || :n || '')::text;
\startpipeline
BEGIN ISOLATION LEVEL READ COMMITTED;
INSERT INTO idempotency_keys (account_id, key, flow, flow_version, realm, request_id, method, path,
		       request_hash, canon_version, params, trace, async, recovery_point, foreign_key, foreign_form, first_sent_at,
		       lease_token, lease_epoch, leased_until, attempts)
		VALUES (('acct_WuEeN8CRxtploiWt')::text, ('4PS64FEDFMNZUA6QBETZ7GC-' || :n || '')::text, ('hail')::text, ('1')::int4, ('test')::text, ('req_01a218f3a2be74c9811b' || :n || '')::text, ('POST')::text, ('/v1/rides')::text, ('\x2e1fed52aa036e91070412444dbae688727cdcebbb9bd05800a1cf77dc7289ca')::bytea, ('1')::int4, ('{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}}')::text, (NULL)::text, ('f')::bool, ('ride_created')::text, ('87912ebcac994a3bd268a0eed2b2d8f06a6811eaa8b0420276a7' || :n || '')::text::text, ('amount=2350&confirm=true&currency=usd&customer=cus_bench&description=Ride+ride_bhp5j5rqg5licv' || :n || '&metadata[account_id]=acct_WuEeN8CRxtploiWt&metadata[operation]=87912ebcac994a3bd268a0eed2b2d8f06a6811eaa8b0420276a7' || :n || '&metadata[ride_id]=ride_bhp5j5rqg5licv' || :n || '&payment_method=pm_card_visa&payment_method_types[0]=card&off_session=true')::text::text, now(),
		        ('26ae5e0a-efc0-4991-817e-' || :n || '')::uuid, 1, now() + ('30')::float8 * interval '1 second', 1)
		RETURNING 1, created_at;
INSERT INTO rides (account_id, id, key, status, origin_lat, origin_lon, target_lat, target_lon,
		       fare_amount, fare_currency, callback_url, created_at)
		VALUES (('acct_WuEeN8CRxtploiWt')::text, ('ride_bhp5j5rqg5licv' || :n || '')::text, ('4PS64FEDFMNZUA6QBETZ7GC-' || :n || '')::text, 'pending', ('37.7749')::float8, ('-122.4194')::float8, ('37.8044')::float8, ('-122.2712')::float8, ('2350')::int8, ('usd')::text, (NULL)::text, now());
INSERT INTO audit_records (account_id, id, action, ride_id, data)
		VALUES (('acct_WuEeN8CRxtploiWt')::text, ('aud_68pjv38923370i' || :n || '')::text, 'ride.created', ('ride_bhp5j5rqg5licv' || :n || '')::text, ('{"key": "4PS64FEDFMNZUA6QBETZ7GC-' || :n || '", "fare": {"amount": 2350, "currency": "usd"}, "request_id": "req_01a218f3a2be74c9811b' || :n || '"}')::jsonb);
COMMIT;
\endpipeline
\startpipeline
BEGIN ISOLATION LEVEL READ COMMITTED;
WITH finished AS (
		  UPDATE idempotency_keys
		  SET recovery_point = 'finished', finished_at = now(), lease_token = NULL, leased_until = NULL, last_error = NULL,
		      response_status = ('201')::int4, response_headers = ('{"Content-Type":"application/json","Location":"/v1/rides/ride_bhp5j5rqg5licv' || :n || '"}')::text, response_body = ('\x7b226964223a22726964655f626870356a35727167356c696376646c706c31716b6876746630222c226f626a656374223a2272696465222c22637265617465645f6174223a22323032362d31312d32365431373a34323a32392e3832323735395a222c226c6976656d6f6465223a66616c73652c22737461747573223a2263686172676564222c226f726967696e223a7b226c6174223a33372e373734392c226c6f6e223a2d3132322e343139347d2c22746172676574223a7b226c6174223a33372e383034342c226c6f6e223a2d3132322e323731327d2c2266617265223a7b22616d6f756e74223a323335302c2263757272656e6379223a22757364227d2c22636861726765223a7b226964223a2263685f613862303432303237366137653432656334393732373637222c227061796d656e745f696e74656e74223a2270695f613862303432303237366137653432656334393732373637227d2c22726566756e64223a6e756c6c2c226469737075746564223a66616c73652c226661696c757265223a6e756c6c2c226964656d706f74656e63795f6b6579223a223450533634464544464d4e5a554136514245545a3747432d303030303030303030303032222c2263616c6c6261636b5f75726c223a' || :n || '')::bytea
		WHERE account_id = ('acct_WuEeN8CRxtploiWt')::text AND key = ('4PS64FEDFMNZUA6QBETZ7GC-' || :n || '')::text AND lease_token = ('26ae5e0a-efc0-4991-817e-' || :n || '')::uuid AND recovery_point = ('ride_created')::text
		  AND finished_at IS NULL AND parked_reason IS NULL
		  RETURNING 1)
		SELECT 1/count(*) FROM finished;
UPDATE rides
			SET status = 'charged', charge_id = ('ch_a8b0420276a7' || :n || '')::text, payment_intent_id = ('pi_a8b0420276a7' || :n || '')::text
			WHERE account_id = ('acct_WuEeN8CRxtploiWt')::text AND id = ('ride_bhp5j5rqg5licv' || :n || '')::text;
INSERT INTO staged_jobs (account_id, id, key, kind, version, args, trace)
		VALUES (('acct_WuEeN8CRxtploiWt')::text, ('job_0827c87bcacf76cb2fec' || :n || '')::text, ('4PS64FEDFMNZUA6QBETZ7GC-' || :n || '')::text, ('receipt')::text, ('1')::int4, ('{"event": "charged", "amount": 2350, "ride_id": "ride_bhp5j5rqg5licv' || :n || '", "currency": "usd", "charge_id": "ch_a8b0420276a7' || :n || '"}')::jsonb, nullif(('')::text, ''));
COMMIT;
\endpipeline
