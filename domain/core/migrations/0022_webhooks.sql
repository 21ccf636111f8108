-- Webhooks: who wants to be told, what is owed to them, and every try. One delivery per endpoint and event.

CREATE TABLE webhook_endpoint (
    id           UUID PRIMARY KEY,
    merchant_id  UUID NOT NULL,
    url          VARCHAR(2048) NOT NULL,
    kinds        VARCHAR(32)[] NOT NULL,                  -- of events; empty is all of them
    selection    VARCHAR(4000),                           -- on OrderEvent; null is the usual payload
    triggers     VARCHAR(200)[] NOT NULL,                 -- "order.status": told only when one of these changed
    sees_split   BOOLEAN NOT NULL,                        -- whether who set it may read the merchant's money
    note         VARCHAR(200) NOT NULL DEFAULT '',
    keys_cipher  BYTEA NOT NULL,                          -- secret and signing seed, sealed
    old_cipher   BYTEA,                                   -- those before the last rotation
    old_until    TIMESTAMPTZ,
    state        VARCHAR(32) NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'failing', 'disabled')),
    reason       VARCHAR(32) CHECK (reason IN ('gone', 'failures', 'owner')),
    dead_in_row  INTEGER NOT NULL DEFAULT 0,
    paused_until TIMESTAMPTZ,                             -- asked for by a 429 or 503
    version      INTEGER NOT NULL DEFAULT 1,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    changed_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(), -- of state
    deleted_at   TIMESTAMPTZ,
    CHECK ((state = 'disabled') = (reason IS NOT NULL)),
    CHECK ((old_cipher IS NULL) = (old_until IS NULL))
);
CREATE INDEX webhook_endpoint_merchant ON webhook_endpoint (merchant_id, id) WHERE deleted_at IS NULL;

CREATE TABLE webhook_delivery (
    id           UUID PRIMARY KEY,
    endpoint_id  UUID NOT NULL,
    merchant_id  UUID NOT NULL,
    order_id     UUID NOT NULL,
    sequence     INTEGER NOT NULL,                        -- of the event, in its order
    kind         VARCHAR(32) NOT NULL,
    occurred_at  TIMESTAMPTZ NOT NULL,
    state        VARCHAR(32) NOT NULL DEFAULT 'ready'
                 CHECK (state IN ('ready', 'leased', 'delivered', 'skipped', 'dead')),
    round        SMALLINT NOT NULL DEFAULT 1,             -- grows when somebody asks for it again
    tries        SMALLINT NOT NULL DEFAULT 0,             -- of this round
    fence        INTEGER NOT NULL DEFAULT 0,
    due_at       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    lease_until  TIMESTAMPTZ,
    code         SMALLINT,                                -- of the last answer
    error        VARCHAR(64),
    body         TEXT,                                    -- as it was signed; the same on every try of a round
    watched      BYTEA,                                   -- hash of the values of the triggers
    created_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    done_at      TIMESTAMPTZ,
    UNIQUE (endpoint_id, order_id, sequence)
) WITH (fillfactor = 70);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, due_at, id) WHERE state = 'ready';
CREATE INDEX webhook_delivery_lease ON webhook_delivery (lease_until) WHERE state = 'leased';
-- What an event of the same order waits for.
CREATE INDEX webhook_delivery_open ON webhook_delivery (endpoint_id, order_id, sequence)
    WHERE state IN ('ready', 'leased');
CREATE INDEX webhook_delivery_list ON webhook_delivery (endpoint_id, id);
CREATE INDEX webhook_delivery_age ON webhook_delivery (created_at);

CREATE TABLE webhook_attempt (
    no           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id  UUID NOT NULL,
    delivery_id  UUID,                                    -- null for a test
    round        SMALLINT NOT NULL,
    try          SMALLINT NOT NULL,
    code         SMALLINT,
    error        VARCHAR(64) NOT NULL,
    answer       VARCHAR(2000) NOT NULL,                  -- the beginning of it
    took_ms      INTEGER NOT NULL,
    at           TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX webhook_attempt_delivery ON webhook_attempt (delivery_id, no);
CREATE INDEX webhook_attempt_age ON webhook_attempt (at);
