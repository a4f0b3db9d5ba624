BEGIN;

ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_sent_is_frozen;
UPDATE idempotency_keys
    SET foreign_form = ''
    WHERE foreign_form IS NULL AND first_sent_at IS NOT NULL AND finished_at IS NOT NULL AND reaped_at IS NULL;
ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_sent_is_frozen CHECK (
    first_sent_at IS NULL OR reaped_at IS NOT NULL OR (foreign_key IS NOT NULL AND foreign_form IS NOT NULL));

COMMIT;
