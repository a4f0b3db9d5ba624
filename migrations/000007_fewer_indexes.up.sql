-- Drops what no promise and no query needs.
--
-- The version before keeps running beside this one. Until it is gone, its lists
-- of rides sort all rides of an account, and its `completer callbacks resend`
-- fails.

BEGIN;

-- Replaced by rides_one_per_key and rides_page_idx.
ALTER TABLE rides DROP CONSTRAINT rides_account_id_key_key;
DROP INDEX rides_newest_idx;

-- That a charge pays one ride is checked by `completer audit`, over all
-- accounts. The charge of a key is made under an idempotency key of its own,
-- and its metadata is compared with the ride before it is believed. Without
-- these two, no column that changes when a ride is charged is in an index: the
-- new version of the row needs no entries in any (HOT).
DROP INDEX rides_account_id_charge_id_key;
DROP INDEX rides_account_id_payment_intent_id_key;

-- A job's id is a function of account, key and kind, so one index does for
-- both. The table is as long as the relay's backlog, so this takes no time.
ALTER TABLE staged_jobs DROP CONSTRAINT staged_jobs_pkey;
ALTER TABLE staged_jobs DROP CONSTRAINT staged_jobs_account_id_key_kind_key;
ALTER TABLE staged_jobs ADD CONSTRAINT staged_jobs_pkey PRIMARY KEY (account_id, key, kind);

COMMIT;
