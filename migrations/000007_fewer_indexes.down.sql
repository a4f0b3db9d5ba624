BEGIN;

ALTER TABLE staged_jobs DROP CONSTRAINT staged_jobs_pkey;
ALTER TABLE staged_jobs ADD CONSTRAINT staged_jobs_pkey PRIMARY KEY (account_id, id);
ALTER TABLE staged_jobs ADD CONSTRAINT staged_jobs_account_id_key_kind_key UNIQUE (account_id, key, kind);
CREATE UNIQUE INDEX rides_account_id_payment_intent_id_key ON rides (account_id, payment_intent_id)
    WHERE payment_intent_id IS NOT NULL;
CREATE UNIQUE INDEX rides_account_id_charge_id_key ON rides (account_id, charge_id)
    WHERE charge_id IS NOT NULL;
CREATE INDEX rides_newest_idx ON rides (account_id, created_at DESC, id DESC);
ALTER TABLE rides ADD CONSTRAINT rides_account_id_key_key UNIQUE (account_id, key);

COMMIT;
