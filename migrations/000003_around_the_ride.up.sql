-- What comes around a ride: cancel and refund, deferred work, callbacks and
-- Stripe's events.
--
-- The version before ignores all of this, so it keeps running beside this one.
-- No row is rewritten: the columns are null or have a constant default, and the
-- CHECKs that replace older ones allow all that those allowed. Each CHECK is a
-- statement of its own, because Citus takes no other one beside it.

BEGIN;

ALTER TABLE idempotency_keys
    -- The request's trace, for logs, jobs and callbacks: X-Traceability-Id and
    -- traceparent, as internal/web encodes them.
    ADD COLUMN trace text,
    -- Whether the request that made the key asked not to wait for its end. It
    -- learns about a declined card by e-mail.
    ADD COLUMN async boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT idempotency_keys_point_of_flow;
ALTER TABLE idempotency_keys
    ADD CONSTRAINT idempotency_keys_point_of_flow CHECK (
        CASE flow || '/' || flow_version
            WHEN 'hail/1' THEN recovery_point IN ('started', 'ride_created', 'charge_created', 'finished')
            WHEN 'cancel/1' THEN recovery_point IN ('started', 'refund_created', 'finished')
            WHEN 'refund_late/1' THEN recovery_point IN ('started', 'refund_created', 'finished')
            ELSE recovery_point <> ''
        END) NOT VALID;

ALTER TABLE rides
    -- The key whose cancel may ask Stripe for a refund; null while none may.
    ADD COLUMN cancel_key text,
    -- The refund, once Stripe has one.
    ADD COLUMN refund_id text,
    ADD COLUMN refund_status text,
    ADD COLUMN refund_amount bigint,
    -- Whether the card's holder contests the charge, and whether Stripe refuses
    -- to refund it because of that. An inquiry contests and doesn't refuse.
    ADD COLUMN disputed boolean NOT NULL DEFAULT false,
    ADD COLUMN refund_blocked boolean NOT NULL DEFAULT false,
    -- Counts what Stripe's events have changed. What was read from Stripe is
    -- written only while the count is what it was before the reading began, so
    -- that nothing older overwrites something newer.
    ADD COLUMN stripe_epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE rides
    ADD CONSTRAINT rides_refund_whole CHECK (
        (refund_id IS NULL) = (refund_status IS NULL) AND (refund_id IS NULL) = (refund_amount IS NULL)) NOT VALID;
ALTER TABLE rides
    ADD CONSTRAINT rides_refund_status_known CHECK (
        refund_status IS NULL OR refund_status IN ('pending', 'succeeded', 'failed')) NOT VALID;
ALTER TABLE rides
    -- A ride is canceled only when its money is back. A refund that fails after
    -- that leaves it canceled.
    ADD CONSTRAINT rides_canceled_is_refunded CHECK (
        status <> 'canceled' OR refund_id IS NOT NULL) NOT VALID;

ALTER TABLE accounts
    -- The secrets before the last rotations, each of which signs callbacks
    -- beside the present one until its time is over.
    ADD COLUMN former_callback_secrets text[] NOT NULL DEFAULT '{}',
    ADD COLUMN former_callback_secrets_until timestamptz[] NOT NULL DEFAULT '{}';

ALTER TABLE staged_jobs
    -- The version of args, so that a deploy can change their form.
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    -- The trace of the request that caused the job.
    ADD COLUMN trace text;

-- Where callbacks go: one row per account and host that has failed. A host that
-- has failed for days is switched off.
CREATE TABLE callback_endpoints (
    account_id      text        NOT NULL,
    host            text        NOT NULL,
    -- The first and the last of the failures since the last success.
    failing_since   timestamptz,
    failed_at       timestamptz,
    failures        integer     NOT NULL DEFAULT 0,
    -- Nothing is sent before this time: the host asked for it, or is slow.
    paused_until    timestamptz,
    switched_off_at timestamptz,

    CONSTRAINT callback_endpoints_pkey PRIMARY KEY (account_id, host)
);

-- The callbacks, and how their delivery went. `id` is the webhook-id, which
-- stays the same over retries.
CREATE TABLE callbacks (
    account_id   text        NOT NULL,
    id           text        NOT NULL,
    -- The key whose phase caused the callback, the job that delivers it, and the
    -- trace of the request.
    key          text        NOT NULL,
    job_id       text        NOT NULL,
    trace        text,
    ride_id      text        NOT NULL,
    type         text        NOT NULL,
    url          text        NOT NULL,
    -- The body as it is sent: the ride as it was when the callback was made.
    body         bytea       NOT NULL,
    status       text        NOT NULL DEFAULT 'pending',
    attempts     integer     NOT NULL DEFAULT 0,
    -- What the last attempt came to: an HTTP status, or else an error.
    last_status  integer,
    last_error   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    attempted_at timestamptz,
    -- A failure after this time is the last one.
    retry_until  timestamptz NOT NULL,
    ended_at     timestamptz,

    CONSTRAINT callbacks_pkey PRIMARY KEY (account_id, id),
    -- delivered: the receiver acknowledged it. refused: the address isn't
    -- allowed. gone: the receiver answered 410. given_up: its time is over, or
    -- its endpoint was switched off.
    CONSTRAINT callbacks_status_known CHECK (status IN ('pending', 'delivered', 'refused', 'gone', 'given_up')),
    CONSTRAINT callbacks_ended_has_time CHECK ((status = 'pending') = (ended_at IS NULL))
);

-- The newest, those that are old enough to go, and those that were not
-- delivered.
CREATE INDEX callbacks_created_idx ON callbacks (created_at);
CREATE INDEX callbacks_undelivered_idx ON callbacks (created_at)
    WHERE status <> 'delivered';

-- Stripe's events, committed before they are acknowledged. An event names no
-- account of ours before its object was read, so account_id is empty: all of
-- them are on one shard.
CREATE TABLE stripe_events (
    account_id  text        NOT NULL DEFAULT '',
    -- Stripe's id of the event, or one that a sweep made up.
    id          text        NOT NULL,
    type        text        NOT NULL,
    -- The object that the event is about. Nothing else of it is believed.
    object      text        NOT NULL,
    object_id   text        NOT NULL,
    livemode    boolean     NOT NULL,
    -- When Stripe made the event, by its own clock. Null if it doesn't say.
    created_at  timestamptz,
    received_at timestamptz NOT NULL DEFAULT now(),
    -- How often it came. Each delivery is a write, so that each is acknowledged
    -- only after a commit.
    deliveries  integer     NOT NULL DEFAULT 1,
    attempts    integer     NOT NULL DEFAULT 0,
    run_after   timestamptz NOT NULL DEFAULT now(),
    last_error  text,
    -- What came of it, in one word, whose ride it was about, and when.
    outcome     text,
    owner_id    text,
    ride_id     text,
    worked_at   timestamptz,

    CONSTRAINT stripe_events_pkey PRIMARY KEY (account_id, id),
    CONSTRAINT stripe_events_worked_has_outcome CHECK ((worked_at IS NULL) = (outcome IS NULL))
);

-- What the completer polls: events that are to be worked. All that are about
-- one object are worked together.
CREATE INDEX stripe_events_due_idx ON stripe_events (run_after)
    WHERE worked_at IS NULL;
CREATE INDEX stripe_events_object_idx ON stripe_events (object_id)
    WHERE worked_at IS NULL;
-- The newest, and those that are old enough to go.
CREATE INDEX stripe_events_received_idx ON stripe_events (received_at);

-- The payment intents of declined rides, until it is certain that they never
-- succeed. Somebody with access to Stripe could confirm one that is open.
CREATE TABLE open_intents (
    account_id text        NOT NULL,
    intent_id  text        NOT NULL,
    ride_id    text        NOT NULL,
    -- The idempotency key of the charge, which the intent carries.
    operation  text        NOT NULL,
    livemode   boolean     NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts   integer     NOT NULL DEFAULT 0,
    run_after  timestamptz NOT NULL DEFAULT now(),
    last_error text,

    CONSTRAINT open_intents_pkey PRIMARY KEY (account_id, intent_id)
);

CREATE INDEX open_intents_due_idx ON open_intents (run_after);

COMMIT;
