BEGIN;

ALTER TABLE idempotency_keys
    DROP CONSTRAINT idempotency_keys_point_of_flow;
ALTER TABLE idempotency_keys
    ADD CONSTRAINT idempotency_keys_point_of_flow CHECK (
        CASE flow || '/' || flow_version
            WHEN 'hail/1' THEN recovery_point IN ('started', 'ride_created', 'charge_created', 'finished')
            WHEN 'cancel/1' THEN recovery_point IN ('started', 'refund_created', 'finished')
            WHEN 'refund_late/1' THEN recovery_point IN ('started', 'refund_created', 'finished')
            ELSE recovery_point <> ''
        END) NOT VALID;
ALTER TABLE rides
    DROP CONSTRAINT rides_refund_whole;
ALTER TABLE rides
    ADD CONSTRAINT rides_refund_whole CHECK (
        (refund_id IS NULL) = (refund_status IS NULL) AND (refund_id IS NULL) = (refund_amount IS NULL)) NOT VALID;
ALTER TABLE rides
    DROP CONSTRAINT rides_refund_status_known;
ALTER TABLE rides
    ADD CONSTRAINT rides_refund_status_known CHECK (
        refund_status IS NULL OR refund_status IN ('pending', 'succeeded', 'failed')) NOT VALID;
ALTER TABLE rides
    DROP CONSTRAINT rides_canceled_is_refunded;
ALTER TABLE rides
    ADD CONSTRAINT rides_canceled_is_refunded CHECK (
        status <> 'canceled' OR refund_id IS NOT NULL) NOT VALID;

COMMIT;
