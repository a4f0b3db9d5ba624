-- The tables of the peers: what their designs need for a ride, and no more.
CREATE TABLE rides (
    id                text             NOT NULL PRIMARY KEY,
    account_id        text             NOT NULL,
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
    created_at        timestamptz      NOT NULL DEFAULT now(),
    UNIQUE (account_id, key)
);
CREATE TABLE audit_records (
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id text        NOT NULL,
    action     text        NOT NULL,
    ride_id    text        NOT NULL,
    data       jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE staged_jobs (
    id   bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text   NOT NULL,
    args jsonb  NOT NULL
);
-- Only the SERIALIZABLE design keeps its keys here; DBOS has tables of its own.
CREATE TABLE idempotency_keys (
    id              bigint      NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id      text        NOT NULL,
    key             text        NOT NULL,
    params          jsonb       NOT NULL,
    recovery_point  text        NOT NULL,
    locked_at       timestamptz,
    response_status integer,
    response_body   jsonb,
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, key)
);
