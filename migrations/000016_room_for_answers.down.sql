BEGIN;

ALTER TABLE idempotency_keys SET (fillfactor = 70);

COMMIT;
