-- A finished key needs no frozen form: nothing is sent any more. What was sent
-- follows from the ride. The version before keeps forms, which is fine.

BEGIN;

ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_sent_is_frozen;
-- Nothing is sent that is not frozen.
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_sent_is_frozen CHECK (
    first_sent_at IS NULL OR finished_at IS NOT NULL OR (foreign_key IS NOT NULL AND foreign_form IS NOT NULL)) NOT VALID;

COMMIT;
