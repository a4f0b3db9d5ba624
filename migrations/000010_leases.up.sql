-- Leases that are shorter than a call.
--
-- Until now a lease outlasted the longest call, so its end said also that the
-- last call had ended. From here on a lease is short, and renewed while a call
-- lasts, and these columns say what it no longer does. The version before
-- ignores them, so it keeps running beside this one. Its calls end within its
-- leases, which this version looks at too. No row is rewritten.

BEGIN;

ALTER TABLE idempotency_keys
    -- When the present worker claimed the key. Null for the worker that
    -- inserted it.
    ADD COLUMN claimed_at timestamptz,
    -- Until when a call that has begun may last. It is committed before the call
    -- begins. Until then nobody decides that nothing was done.
    ADD COLUMN calling_until timestamptz;

COMMIT;
