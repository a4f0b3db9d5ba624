BEGIN;

ALTER TABLE idempotency_keys
    DROP COLUMN claimed_at,
    DROP COLUMN calling_until;

COMMIT;
