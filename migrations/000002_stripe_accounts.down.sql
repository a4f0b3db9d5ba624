BEGIN;

DROP TABLE stripe_accounts;
ALTER TABLE rides DROP COLUMN failure;
ALTER TABLE accounts
    DROP COLUMN former_customers,
    DROP COLUMN disabled_at;

COMMIT;
