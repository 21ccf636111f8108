-- Saved payment methods: a provider's token (never card data), sealed, owned by the order it was saved with.

CREATE TABLE saved_method (
    id               UUID PRIMARY KEY,
    merchant_id      UUID NOT NULL,
    -- Who holds the order's access key is its buyer; an e-mail address is nobody (E19).
    owner_kind       VARCHAR(32) NOT NULL DEFAULT 'order' CHECK (owner_kind IN ('order')),
    owner_id         UUID NOT NULL,
    attempt_id       UUID NOT NULL UNIQUE,               -- whose capture brought it: one token per attempt
    provider         VARCHAR(64) NOT NULL,
    provider_account VARCHAR(64) NOT NULL,
    method           VARCHAR(64) NOT NULL,
    label            VARCHAR(64) NOT NULL,
    token_cipher     BYTEA,                              -- gone once the provider has forgotten it
    key_version      SMALLINT NOT NULL,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    last_used_at     TIMESTAMPTZ,
    revoked_at       TIMESTAMPTZ,
    CHECK (token_cipher IS NOT NULL OR revoked_at IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX saved_method_owner ON saved_method (owner_id, id) WHERE revoked_at IS NULL;

-- What an attempt has to do with saved methods; most have nothing to do with them and no row.
CREATE TABLE attempt_method (
    attempt_id      UUID PRIMARY KEY,
    saved_method_id UUID                                 -- charged by; NULL when the buyer asked to save
);

-- The first order of a chain bought again and again; an order without a row is its own.
CREATE TABLE order_root (
    order_id UUID PRIMARY KEY,
    root_id  UUID NOT NULL CHECK (root_id <> order_id)
);
