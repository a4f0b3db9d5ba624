BEGIN;

DROP TABLE open_intents;
DROP TABLE stripe_events;
DROP TABLE callbacks;
DROP TABLE callback_endpoints;
ALTER TABLE staged_jobs
    DROP COLUMN version,
    DROP COLUMN trace;
ALTER TABLE accounts
    DROP COLUMN former_callback_secrets,
    DROP COLUMN former_callback_secrets_until;
ALTER TABLE rides
    DROP CONSTRAINT rides_refund_whole,
    DROP CONSTRAINT rides_refund_status_known,
    DROP CONSTRAINT rides_canceled_is_refunded,
    DROP COLUMN cancel_key,
    DROP COLUMN refund_id,
    DROP COLUMN refund_status,
    DROP COLUMN refund_amount,
    DROP COLUMN disputed,
    DROP COLUMN refund_blocked,
    DROP COLUMN stripe_epoch;
ALTER TABLE idempotency_keys
    DROP CONSTRAINT idempotency_keys_point_of_flow;
ALTER TABLE idempotency_keys
    ADD CONSTRAINT idempotency_keys_point_of_flow CHECK (
        CASE flow || '/' || flow_version
            WHEN 'hail/1' THEN recovery_point IN ('started', 'ride_created', 'charge_created', 'finished')
            ELSE recovery_point <> ''
        END);
ALTER TABLE idempotency_keys
    DROP COLUMN trace,
    DROP COLUMN async;

COMMIT;
