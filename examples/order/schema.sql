-- What the flow stores. Every primary key begins with the account, as it must
-- where tables are distributed by account.
CREATE TABLE orders (
    account_id     text        NOT NULL,
    key            text        NOT NULL, -- the idempotency key that made the order
    id             text        NOT NULL,
    item           text        NOT NULL,
    quantity       bigint      NOT NULL,
    amount         bigint      NOT NULL DEFAULT 0, -- in cents; the inventory names the price
    status         text        NOT NULL DEFAULT 'pending',
    charge_id      text        NOT NULL DEFAULT '',
    failure        text        NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL DEFAULT now(),

    CONSTRAINT orders_pkey PRIMARY KEY (account_id, key),
    CONSTRAINT orders_status_known CHECK (status IN ('pending', 'out_of_stock', 'paid', 'not_paid'))
);

-- What leaves later, and only if the order was paid.
CREATE TABLE order_jobs (
    account_id text NOT NULL,
    key        text NOT NULL,
    kind       text NOT NULL,
    args       text NOT NULL,

    CONSTRAINT order_jobs_pkey PRIMARY KEY (account_id, key, kind),
    CONSTRAINT order_jobs_kind_known CHECK (kind IN ('warehouse', 'notification'))
);
