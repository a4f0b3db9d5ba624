-- Accounts, keys, rides and what hangs on them.
--
-- Every table begins its primary key with the account, and so does every
-- UNIQUE: a table can then be distributed by account over many machines
-- (Citus: create_distributed_table(…, 'account_id')), where a constraint that
-- lacks the account is impossible. For the same reason there are no triggers.
--
-- There are no foreign keys between the tables that a ride writes: measured on
-- two cores they cost a third of the throughput (3,900 rides/s with them,
-- 5,400 without), and what they would promise is promised already: a ride and
-- its key are inserted by one transaction, and nothing ever deletes a ride.

BEGIN;

-- Who pays. `livemode` is the mode of the Stripe key under which the account
-- was made; a process that holds a key of the other mode never acts for it.
CREATE TABLE accounts (
    id              text        NOT NULL,
    email           text        NOT NULL,
    stripe_customer text        NOT NULL,
    payment_method  text        NOT NULL,
    livemode        boolean     NOT NULL,
    callback_secret text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT accounts_pkey PRIMARY KEY (id)
);

-- API keys, as SHA-256 only: the key itself is shown once and never stored.
-- A key names its account in clear, so that the look-up is by (account, hash).
CREATE TABLE api_keys (
    account_id text        NOT NULL,
    id         text        NOT NULL,
    hash       bytea       NOT NULL,
    -- What a person may see of a key to tell it from another.
    hint       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,

    CONSTRAINT api_keys_pkey PRIMARY KEY (account_id, id),
    -- Authentication finds the key by its hash; two keys never share one.
    CONSTRAINT api_keys_account_id_hash_key UNIQUE (account_id, hash),
    -- Cold table: the foreign key costs nothing here, and a key of an account
    -- that doesn't exist would authenticate nobody in a puzzling way.
    CONSTRAINT api_keys_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts (id),
    CONSTRAINT api_keys_hash_is_sha256 CHECK (octet_length(hash) = 32)
);

-- One row per idempotency key: what was asked, where it stands, who works on
-- it, how often it failed and how it ended. internal/phases owns this table.
CREATE TABLE idempotency_keys (
    account_id    text        NOT NULL,
    key           text        NOT NULL,

    -- What was asked. `realm` separates worlds that share a database but not
    -- their foreign side: test and live mode.
    flow          text        NOT NULL,
    flow_version  integer     NOT NULL,
    realm         text        NOT NULL,
    -- The request that made the key: what a support ticket names, and what a
    -- stored problem shows for ever.
    request_id    text        NOT NULL,
    method        text        NOT NULL,
    path          text        NOT NULL,
    request_hash  bytea       NOT NULL,
    canon_version integer     NOT NULL,
    params        text        NOT NULL,

    -- Where it stands.
    recovery_point text       NOT NULL,

    -- The foreign call that is next, or was last: frozen before its first send.
    foreign_key   text,
    foreign_form  text,
    -- What the other side calls the thing it is still working on.
    foreign_ref   text,
    first_sent_at timestamptz,
    -- Why the call must be looked up instead of sent, and until when "nothing
    -- found" is answered by looking again.
    find_reason   text,
    find_until    timestamptz,

    -- Who works on it.
    lease_token   uuid,
    lease_epoch   bigint      NOT NULL,
    leased_until  timestamptz,

    -- How often it was claimed, and how many of the failures count towards
    -- parking. `run_after` binds the completer only.
    attempts      integer     NOT NULL,
    failures      integer     NOT NULL DEFAULT 0,
    run_after     timestamptz NOT NULL DEFAULT now(),
    last_error    text,
    parked_reason text,

    -- How it ended. The body is bytes: jsonb would reorder members, and a
    -- replay must be the first answer to the byte.
    response_status  integer,
    response_headers text,
    response_body    bytea,

    created_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    reaped_at     timestamptz,

    -- The promise itself: one life per (account, key). Claims race on it.
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (account_id, key),
    CONSTRAINT idempotency_keys_key_length CHECK (octet_length(key) BETWEEN 1 AND 255),
    -- A finished key has an answer to replay, until it is reaped.
    CONSTRAINT idempotency_keys_finished_has_answer CHECK (
        finished_at IS NULL OR reaped_at IS NOT NULL
        OR (response_status IS NOT NULL AND response_headers IS NOT NULL AND response_body IS NOT NULL)),
    CONSTRAINT idempotency_keys_finished_is_a_point CHECK ((recovery_point = 'finished') = (finished_at IS NOT NULL)),
    -- An unfinished key is never reaped.
    CONSTRAINT idempotency_keys_reaped_is_finished CHECK (reaped_at IS NULL OR finished_at IS NOT NULL),
    -- Nobody works on a key that is over or waits for a person. A parked key
    -- may keep `leased_until`: until then its last worker may still be calling.
    CONSTRAINT idempotency_keys_at_rest_has_no_owner CHECK (
        lease_token IS NULL OR (finished_at IS NULL AND parked_reason IS NULL AND leased_until IS NOT NULL)),
    CONSTRAINT idempotency_keys_parked_is_unfinished CHECK (parked_reason IS NULL OR finished_at IS NULL),
    -- Nothing is sent that is not frozen.
    CONSTRAINT idempotency_keys_sent_is_frozen CHECK (
        first_sent_at IS NULL OR reaped_at IS NOT NULL OR (foreign_key IS NOT NULL AND foreign_form IS NOT NULL)),
    -- Points are legal: one line per version of a flow. A version that this
    -- schema doesn't know is let through, so that a newer binary can be tried
    -- beside this one; the engine's fence still compares the point.
    CONSTRAINT idempotency_keys_point_of_flow CHECK (
        CASE flow || '/' || flow_version
            WHEN 'hail/1' THEN recovery_point IN ('started', 'ride_created', 'charge_created', 'finished')
            ELSE recovery_point <> ''
        END)
)
-- Half-full pages leave room for the second version of a row beside the first.
WITH (fillfactor = 70);

-- What the completer polls: unfinished, unparked keys by the time they fall
-- due. Finished keys leave it, so it stays as small as the backlog.
CREATE INDEX idempotency_keys_due_idx ON idempotency_keys (run_after)
    WHERE finished_at IS NULL AND parked_reason IS NULL;

-- What the reaper polls: finished keys that still hold their answer, by age.
CREATE INDEX idempotency_keys_reapable_idx ON idempotency_keys (finished_at)
    WHERE finished_at IS NOT NULL AND reaped_at IS NULL;

-- And the tombstones, whose own time comes later.
CREATE INDEX idempotency_keys_tombstone_idx ON idempotency_keys (reaped_at)
    WHERE reaped_at IS NOT NULL;

-- What waits for a person.
CREATE INDEX idempotency_keys_parked_idx ON idempotency_keys (account_id, key)
    WHERE parked_reason IS NOT NULL;

CREATE TABLE rides (
    account_id        text             NOT NULL,
    id                text             NOT NULL,
    key               text             NOT NULL,
    status            text             NOT NULL,
    origin_lat        double precision NOT NULL,
    origin_lon        double precision NOT NULL,
    target_lat        double precision NOT NULL,
    target_lon        double precision NOT NULL,
    fare_amount       bigint           NOT NULL,
    fare_currency     text             NOT NULL,
    charge_id         text,
    payment_intent_id text,
    callback_url      text,
    created_at        timestamptz      NOT NULL,

    CONSTRAINT rides_pkey PRIMARY KEY (account_id, id),
    -- One ride per key, also after the key's tombstone is gone: this is what
    -- refuses a second life of the key.
    CONSTRAINT rides_account_id_key_key UNIQUE (account_id, key),
    CONSTRAINT rides_status_known CHECK (status IN ('pending', 'charged', 'declined', 'canceled')),
    -- A ride and its charge never disagree: money was taken exactly when the
    -- ride says so (a canceled ride keeps the charge that was refunded).
    CONSTRAINT rides_charge_agrees CHECK (
        CASE WHEN status IN ('charged', 'canceled') THEN charge_id IS NOT NULL AND payment_intent_id IS NOT NULL
             ELSE charge_id IS NULL END),
    CONSTRAINT rides_fare_positive CHECK (fare_amount > 0 AND fare_currency ~ '^[a-z]{3}$')
)
WITH (fillfactor = 70);

-- One charge pays one ride. Partial, so that a ride costs no entry before it
-- is charged.
CREATE UNIQUE INDEX rides_account_id_charge_id_key ON rides (account_id, charge_id)
    WHERE charge_id IS NOT NULL;
CREATE UNIQUE INDEX rides_account_id_payment_intent_id_key ON rides (account_id, payment_intent_id)
    WHERE payment_intent_id IS NOT NULL;

-- GET /v1/rides: newest first.
CREATE INDEX rides_newest_idx ON rides (account_id, created_at DESC, id DESC);

-- What happened, for people: one row per ride made, and one for every change
-- that the engine or an operator makes to a key out of the ordinary.
CREATE TABLE audit_records (
    account_id text        NOT NULL,
    id         text        NOT NULL,
    action     text        NOT NULL,
    ride_id    text,
    data       jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT audit_records_pkey PRIMARY KEY (account_id, id)
);

-- Deferred writes, staged by the phase that causes them.
CREATE TABLE staged_jobs (
    account_id text        NOT NULL,
    id         text        NOT NULL,
    key        text        NOT NULL,
    kind       text        NOT NULL,
    args       jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT staged_jobs_pkey PRIMARY KEY (account_id, id),
    -- A key causes one receipt and one callback.
    CONSTRAINT staged_jobs_account_id_key_kind_key UNIQUE (account_id, key, kind),
    CONSTRAINT staged_jobs_kind_known CHECK (kind IN ('receipt', 'callback'))
);

COMMIT;
