CREATE TABLE public.audit_records (
    account_id text NOT NULL,
    id text NOT NULL,
    action text NOT NULL,
    ride_id text,
    data jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.idempotency_keys (
    account_id text NOT NULL,
    key text NOT NULL,
    flow text NOT NULL,
    flow_version integer NOT NULL,
    realm text NOT NULL,
    request_id text NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    request_hash bytea NOT NULL,
    canon_version integer NOT NULL,
    params text NOT NULL,
    recovery_point text NOT NULL,
    foreign_key text,
    foreign_form text,
    foreign_ref text,
    first_sent_at timestamp with time zone,
    find_reason text,
    find_until timestamp with time zone,
    lease_token uuid,
    lease_epoch bigint NOT NULL,
    leased_until timestamp with time zone,
    attempts integer NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    run_after timestamp with time zone DEFAULT now() NOT NULL,
    last_error text,
    parked_reason text,
    response_status integer,
    response_headers text,
    response_body bytea,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    reaped_at timestamp with time zone,
    trace text,
    async boolean DEFAULT false NOT NULL,
    CONSTRAINT idempotency_keys_at_rest_has_no_owner CHECK (((lease_token IS NULL) OR ((finished_at IS NULL) AND (parked_reason IS NULL) AND (leased_until IS NOT NULL)))),
    CONSTRAINT idempotency_keys_finished_has_answer CHECK (((finished_at IS NULL) OR (reaped_at IS NOT NULL) OR ((response_status IS NOT NULL) AND (response_headers IS NOT NULL) AND (response_body IS NOT NULL)))),
    CONSTRAINT idempotency_keys_finished_is_a_point CHECK (((recovery_point = 'finished'::text) = (finished_at IS NOT NULL))),
    CONSTRAINT idempotency_keys_key_length CHECK (((octet_length(key) >= 1) AND (octet_length(key) <= 255))),
    CONSTRAINT idempotency_keys_parked_is_unfinished CHECK (((parked_reason IS NULL) OR (finished_at IS NULL))),
    CONSTRAINT idempotency_keys_point_of_flow CHECK (
CASE ((flow || '/'::text) || flow_version)
    WHEN 'hail/1'::text THEN (recovery_point = ANY (ARRAY['started'::text, 'ride_created'::text, 'charge_created'::text, 'finished'::text]))
    WHEN 'cancel/1'::text THEN (recovery_point = ANY (ARRAY['started'::text, 'refund_created'::text, 'finished'::text]))
    WHEN 'refund_late/1'::text THEN (recovery_point = ANY (ARRAY['started'::text, 'refund_created'::text, 'finished'::text]))
    ELSE (recovery_point <> ''::text)
END),
    CONSTRAINT idempotency_keys_reaped_is_finished CHECK (((reaped_at IS NULL) OR (finished_at IS NOT NULL))),
    CONSTRAINT idempotency_keys_sent_is_frozen CHECK (((first_sent_at IS NULL) OR (reaped_at IS NOT NULL) OR ((foreign_key IS NOT NULL) AND (foreign_form IS NOT NULL))))
)
WITH (fillfactor='70');
CREATE TABLE public.rides (
    account_id text NOT NULL,
    id text NOT NULL,
    key text NOT NULL,
    status text NOT NULL,
    origin_lat double precision NOT NULL,
    origin_lon double precision NOT NULL,
    target_lat double precision NOT NULL,
    target_lon double precision NOT NULL,
    fare_amount bigint NOT NULL,
    fare_currency text NOT NULL,
    charge_id text,
    payment_intent_id text,
    callback_url text,
    created_at timestamp with time zone NOT NULL,
    failure jsonb,
    cancel_key text,
    refund_id text,
    refund_status text,
    refund_amount bigint,
    disputed boolean DEFAULT false NOT NULL,
    refund_blocked boolean DEFAULT false NOT NULL,
    stripe_epoch bigint DEFAULT 0 NOT NULL,
    CONSTRAINT rides_canceled_is_refunded CHECK (((status <> 'canceled'::text) OR (refund_id IS NOT NULL))),
    CONSTRAINT rides_charge_agrees CHECK (
CASE
    WHEN (status = ANY (ARRAY['charged'::text, 'canceled'::text])) THEN ((charge_id IS NOT NULL) AND (payment_intent_id IS NOT NULL))
    ELSE (charge_id IS NULL)
END),
    CONSTRAINT rides_fare_positive CHECK (((fare_amount > 0) AND (fare_currency ~ '^[a-z]{3}$'::text))),
    CONSTRAINT rides_refund_status_known CHECK (((refund_status IS NULL) OR (refund_status = ANY (ARRAY['pending'::text, 'succeeded'::text, 'failed'::text])))),
    CONSTRAINT rides_refund_whole CHECK ((((refund_id IS NULL) = (refund_status IS NULL)) AND ((refund_id IS NULL) = (refund_amount IS NULL)))),
    CONSTRAINT rides_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'charged'::text, 'declined'::text, 'canceled'::text])))
)
WITH (fillfactor='70');
CREATE TABLE public.staged_jobs (
    account_id text NOT NULL,
    id text NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    args jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    trace text,
    CONSTRAINT staged_jobs_kind_known CHECK ((kind = ANY (ARRAY['receipt'::text, 'callback'::text])))
);
ALTER TABLE ONLY public.audit_records
    ADD CONSTRAINT audit_records_pkey PRIMARY KEY (account_id, id);
ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (account_id, key);
ALTER TABLE ONLY public.rides
    ADD CONSTRAINT rides_account_id_key_key UNIQUE (account_id, key);
ALTER TABLE ONLY public.rides
    ADD CONSTRAINT rides_pkey PRIMARY KEY (account_id, id);
ALTER TABLE ONLY public.staged_jobs
    ADD CONSTRAINT staged_jobs_account_id_key_kind_key UNIQUE (account_id, key, kind);
ALTER TABLE ONLY public.staged_jobs
    ADD CONSTRAINT staged_jobs_pkey PRIMARY KEY (account_id, id);
CREATE INDEX idempotency_keys_due_idx ON public.idempotency_keys USING btree (run_after) WHERE ((finished_at IS NULL) AND (parked_reason IS NULL));
CREATE INDEX idempotency_keys_parked_idx ON public.idempotency_keys USING btree (account_id, key) WHERE (parked_reason IS NOT NULL);
CREATE INDEX idempotency_keys_reapable_idx ON public.idempotency_keys USING btree (finished_at) WHERE ((finished_at IS NOT NULL) AND (reaped_at IS NULL));
CREATE INDEX idempotency_keys_tombstone_idx ON public.idempotency_keys USING btree (reaped_at) WHERE (reaped_at IS NOT NULL);
CREATE UNIQUE INDEX rides_account_id_charge_id_key ON public.rides USING btree (account_id, charge_id) WHERE (charge_id IS NOT NULL);
CREATE UNIQUE INDEX rides_account_id_payment_intent_id_key ON public.rides USING btree (account_id, payment_intent_id) WHERE (payment_intent_id IS NOT NULL);
CREATE INDEX rides_newest_idx ON public.rides USING btree (account_id, created_at DESC, id DESC);
