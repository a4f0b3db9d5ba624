-- Which Stripe account charges go to, which customers our accounts had before,
-- and why a ride was declined.
--
-- The version before ignores all of this, so it keeps running beside this one.
-- No row is rewritten: the columns are null or have a constant default.

BEGIN;

ALTER TABLE accounts
    -- The Stripe customers that the account had before its present one. A
    -- charge is looked for under all of them: a row that was lost in a
    -- fail-over and made again may have charged under an earlier one.
    ADD COLUMN former_customers text[] NOT NULL DEFAULT '{}',
    -- When an operator disabled the account; null while it is enabled. The API
    -- keys of a disabled account are refused; what it has begun still ends.
    ADD COLUMN disabled_at timestamptz;

ALTER TABLE rides
    -- Why a declined ride was declined, in the words of its 402. The ride
    -- outlives that answer, which is reaped with the key.
    ADD COLUMN failure jsonb;

-- The Stripe accounts that charges went to: the present one of each mode, and
-- those that an operator moved away from. A Stripe key of another account is
-- refused, because under it every customer would seem to be missing.
--
-- `account_id` is Stripe's id of its account, and not one of ours, so this table
-- is never distributed. Processes read it at start and once an hour.
CREATE TABLE stripe_accounts (
    account_id text        NOT NULL,
    livemode   boolean     NOT NULL,
    -- The value of idempotency_keys.realm for keys made under this account.
    realm      text        NOT NULL,
    pinned_at  timestamptz NOT NULL DEFAULT now(),
    -- When an operator moved on to another account; null for the present one.
    left_at    timestamptz,

    CONSTRAINT stripe_accounts_pkey PRIMARY KEY (account_id, livemode)
);

-- Each mode has one present account. Of two processes that start with keys of
-- different accounts, one pins its account and the other is refused.
CREATE UNIQUE INDEX stripe_accounts_present_key ON stripe_accounts (livemode)
    WHERE left_at IS NULL;

COMMIT;
