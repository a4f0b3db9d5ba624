BEGIN;

ALTER TABLE rides DROP CONSTRAINT rides_sound;
ALTER TABLE rides ADD CONSTRAINT rides_status_known CHECK (status IN ('pending', 'charged', 'declined', 'canceled'));
ALTER TABLE rides ADD CONSTRAINT rides_charge_agrees CHECK (
    CASE WHEN status IN ('charged', 'canceled') THEN charge_id IS NOT NULL AND payment_intent_id IS NOT NULL
         ELSE charge_id IS NULL END);
ALTER TABLE rides ADD CONSTRAINT rides_fare_positive CHECK (fare_amount > 0 AND fare_currency ~ '^[a-z]{3}$');
ALTER TABLE rides ADD CONSTRAINT rides_refund_whole CHECK (
    (refund_id IS NULL) = (refund_status IS NULL) AND (refund_id IS NULL) = (refund_amount IS NULL));
ALTER TABLE rides ADD CONSTRAINT rides_refund_status_known CHECK (
    refund_status IS NULL OR refund_status IN ('pending', 'succeeded', 'failed'));
ALTER TABLE rides ADD CONSTRAINT rides_canceled_is_refunded CHECK (status <> 'canceled' OR refund_id IS NOT NULL);

ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_sound;
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_key_length CHECK (octet_length(key) BETWEEN 1 AND 255);
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_finished_has_answer CHECK (
    finished_at IS NULL OR reaped_at IS NOT NULL
    OR (response_status IS NOT NULL AND response_headers IS NOT NULL AND response_body IS NOT NULL));
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_finished_is_a_point CHECK (
    (recovery_point = 'finished') = (finished_at IS NOT NULL));
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_reaped_is_finished CHECK (
    reaped_at IS NULL OR finished_at IS NOT NULL);
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_at_rest_has_no_owner CHECK (
    lease_token IS NULL OR (finished_at IS NULL AND parked_reason IS NULL AND leased_until IS NOT NULL));
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_parked_is_unfinished CHECK (
    parked_reason IS NULL OR finished_at IS NULL);
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_sent_is_frozen CHECK (
    first_sent_at IS NULL OR finished_at IS NOT NULL OR (foreign_key IS NOT NULL AND foreign_form IS NOT NULL));
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_point_of_flow CHECK (
    CASE flow || '/' || flow_version
        WHEN 'hail/1' THEN recovery_point IN ('started', 'ride_created', 'charge_created', 'finished')
        WHEN 'cancel/1' THEN recovery_point IN ('started', 'refund_created', 'finished')
        WHEN 'refund_late/1' THEN recovery_point IN ('started', 'refund_created', 'finished')
        ELSE recovery_point <> ''
    END);

COMMIT;
