-- Checks the rows that were there before 000012. It locks out neither reads nor
-- writes.

BEGIN;

ALTER TABLE idempotency_keys VALIDATE CONSTRAINT idempotency_keys_sound;
ALTER TABLE rides VALIDATE CONSTRAINT rides_sound;

COMMIT;
