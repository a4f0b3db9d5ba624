-- Room for a second version beside each row, so that a key's answer goes to the
-- page of its row: then the log needs only what differs. Keys that are inserted
-- in one transaction get their answers in one, too, and until that ends no
-- first version makes room. Pages that are there stay as they are.

BEGIN;

ALTER TABLE idempotency_keys SET (fillfactor = 45);

COMMIT;
