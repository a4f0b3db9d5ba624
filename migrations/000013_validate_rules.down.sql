BEGIN;

ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_sound;
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_sound CHECK (idempotency_key_is_sound(
    key, flow, flow_version, recovery_point, foreign_key, foreign_form, first_sent_at, lease_token, leased_until,
    parked_reason, response_status, response_headers, response_body, finished_at, reaped_at)) NOT VALID;
ALTER TABLE rides DROP CONSTRAINT rides_sound;
ALTER TABLE rides ADD CONSTRAINT rides_sound CHECK (ride_is_sound(
    status, fare_amount, fare_currency, charge_id, payment_intent_id, refund_id, refund_status, refund_amount)) NOT VALID;

COMMIT;
