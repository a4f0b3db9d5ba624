-- The functions of 000011 instead of the CHECKs whose rules they have.

BEGIN;

ALTER TABLE idempotency_keys
    DROP CONSTRAINT idempotency_keys_key_length,
    DROP CONSTRAINT idempotency_keys_finished_has_answer,
    DROP CONSTRAINT idempotency_keys_finished_is_a_point,
    DROP CONSTRAINT idempotency_keys_reaped_is_finished,
    DROP CONSTRAINT idempotency_keys_at_rest_has_no_owner,
    DROP CONSTRAINT idempotency_keys_parked_is_unfinished,
    DROP CONSTRAINT idempotency_keys_sent_is_frozen,
    DROP CONSTRAINT idempotency_keys_point_of_flow;
ALTER TABLE idempotency_keys
    ADD CONSTRAINT idempotency_keys_sound CHECK (idempotency_key_is_sound(
        key, flow, flow_version, recovery_point, foreign_key, foreign_form, first_sent_at, lease_token, leased_until,
        parked_reason, response_status, response_headers, response_body, finished_at, reaped_at)) NOT VALID;

ALTER TABLE rides
    DROP CONSTRAINT rides_status_known,
    DROP CONSTRAINT rides_charge_agrees,
    DROP CONSTRAINT rides_fare_positive,
    DROP CONSTRAINT rides_refund_whole,
    DROP CONSTRAINT rides_refund_status_known,
    DROP CONSTRAINT rides_canceled_is_refunded;
ALTER TABLE rides
    ADD CONSTRAINT rides_sound CHECK (ride_is_sound(
        status, fare_amount, fare_currency, charge_id, payment_intent_id, refund_id, refund_status, refund_amount)) NOT VALID;

COMMIT;
