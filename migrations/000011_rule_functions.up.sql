-- The rules of keys and rides, unchanged, each table's in one function. Their
-- CHECKs come with the next file: Citus drops no function in a transaction that
-- has changed a table.
--
-- Postgres reads and plans every CHECK anew in every statement that writes. The
-- fourteen of these two tables took a third of its processor time: 69 µs of a
-- ride. A function is read once by each session, and its CHECK is short: 18 µs.
--
-- A rule is added with CREATE OR REPLACE FUNCTION. It holds for what is written
-- from then on, and nothing looks at the rows that are there.

BEGIN;

CREATE FUNCTION idempotency_key_is_sound(
    key text, flow text, flow_version integer, recovery_point text,
    foreign_key text, foreign_form text, first_sent_at timestamptz,
    lease_token uuid, leased_until timestamptz, parked_reason text,
    response_status integer, response_headers text, response_body bytea,
    finished_at timestamptz, reaped_at timestamptz)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN octet_length(key) BETWEEN 1 AND 255
        AND (recovery_point = 'finished') = (finished_at IS NOT NULL)
        -- A finished key has an answer to replay, until it is reaped.
        AND (finished_at IS NULL OR reaped_at IS NOT NULL
            OR response_status IS NOT NULL AND response_headers IS NOT NULL AND response_body IS NOT NULL)
        -- An unfinished key is never reaped.
        AND (reaped_at IS NULL OR finished_at IS NOT NULL)
        -- Nobody works on a key that is over or waits for a person. A parked
        -- key may keep leased_until: until then its last worker may still be
        -- calling.
        AND (lease_token IS NULL OR finished_at IS NULL AND parked_reason IS NULL AND leased_until IS NOT NULL)
        AND (parked_reason IS NULL OR finished_at IS NULL)
        -- Nothing is sent that is not frozen.
        AND (first_sent_at IS NULL OR finished_at IS NOT NULL OR foreign_key IS NOT NULL AND foreign_form IS NOT NULL)
        -- Points are legal: one line per version of a flow. A version that this
        -- schema doesn't know is let through, so that a newer binary can be
        -- tried beside this one; the engine's fence still compares the point.
        AND CASE flow || '/' || flow_version
            WHEN 'hail/1' THEN recovery_point IN ('started', 'ride_created', 'charge_created', 'finished')
            WHEN 'cancel/1' THEN recovery_point IN ('started', 'refund_created', 'finished')
            WHEN 'refund_late/1' THEN recovery_point IN ('started', 'refund_created', 'finished')
            ELSE recovery_point <> ''
            END; END $$;

CREATE FUNCTION ride_is_sound(
    status text, fare_amount bigint, fare_currency text, charge_id text, payment_intent_id text,
    refund_id text, refund_status text, refund_amount bigint)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN fare_amount > 0 AND fare_currency ~ '^[a-z]{3}$'
        -- A ride and its charge never disagree: money was taken exactly when
        -- the ride says so (a canceled ride keeps the charge that was refunded).
        -- A ride is canceled only when its money is back. A refund that fails
        -- after that leaves it canceled.
        AND CASE status
            WHEN 'pending' THEN charge_id IS NULL
            WHEN 'declined' THEN charge_id IS NULL
            WHEN 'charged' THEN charge_id IS NOT NULL AND payment_intent_id IS NOT NULL
            WHEN 'canceled' THEN charge_id IS NOT NULL AND payment_intent_id IS NOT NULL AND refund_id IS NOT NULL
            ELSE false -- no such status
            END
        AND num_nonnulls(refund_id, refund_status, refund_amount) IN (0, 3)
        AND (refund_status IS NULL OR refund_status IN ('pending', 'succeeded', 'failed')); END $$;

COMMIT;
