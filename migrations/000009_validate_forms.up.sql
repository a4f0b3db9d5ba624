-- Checks the rows that were there before 000008. It locks out neither reads nor
-- writes.

BEGIN;

ALTER TABLE idempotency_keys VALIDATE CONSTRAINT idempotency_keys_sent_is_frozen;

COMMIT;
