CREATE TABLE payment (
    id uuid PRIMARY KEY,
    merchant text NOT NULL,
    idempotency_key text NOT NULL,
    order_id text NOT NULL,
    user_id text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency varchar(3) NOT NULL,
    status text NOT NULL,
    description text NOT NULL,
    metadata jsonb NOT NULL,
    payment_method text NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    UNIQUE (merchant, idempotency_key),
    UNIQUE (merchant, order_id)
);
CREATE TABLE outbox (
    id bigserial PRIMARY KEY,
    payment_id uuid NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
