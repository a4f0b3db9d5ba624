BEGIN;

DROP TABLE staged_jobs;
DROP TABLE audit_records;
DROP TABLE rides;
DROP TABLE idempotency_keys;
DROP TABLE api_keys;
DROP TABLE accounts;

COMMIT;
