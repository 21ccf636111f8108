-- Partner apps: who they are, what a person let them do in a merchant, and the tokens that prove it. Of codes, tokens and
-- secrets only the SHA-256 is kept: what leaks from here opens nothing.

CREATE TABLE partner_app (
    id                UUID PRIMARY KEY,
    merchant_id       UUID REFERENCES merchant,          -- whose developers made it; null when it registered itself
    name              VARCHAR(80) NOT NULL,
    redirect_uris     TEXT[] NOT NULL,
    scopes            TEXT[] NOT NULL,
    grant_types       TEXT[] NOT NULL,
    auth_method       VARCHAR(32) NOT NULL CHECK (auth_method IN ('none', 'client_secret_basic', 'private_key_jwt')),
    secret_hash       BYTEA CHECK (octet_length(secret_hash) = 32),
    old_secret_hash   BYTEA CHECK (octet_length(old_secret_hash) = 32),
    old_secret_until  TIMESTAMPTZ,
    jwks_json         JSONB,
    requires_par      BOOLEAN NOT NULL,
    dpop_bound        BOOLEAN NOT NULL,
    manifest_json     JSONB NOT NULL,                    -- homepage, webhooks and pages as the developer describes them
    registration_hash BYTEA CHECK (octet_length(registration_hash) = 32),
    state             VARCHAR(32) NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'deleted')),
    version           INTEGER NOT NULL DEFAULT 1,
    created_by        UUID REFERENCES account,
    created_at        TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CHECK ((auth_method = 'private_key_jwt') = (jwks_json IS NOT NULL)),
    CHECK ((merchant_id IS NULL) = (registration_hash IS NOT NULL)),
    CHECK ((merchant_id IS NULL) = (created_by IS NULL))
);
CREATE INDEX partner_app_merchant ON partner_app (merchant_id, id);

-- What a person lets an app do in a merchant. Everything an app holds hangs on one of these and dies with it.
CREATE TABLE app_grant (
    id          UUID PRIMARY KEY,
    merchant_id UUID NOT NULL REFERENCES merchant,
    app_id      UUID NOT NULL REFERENCES partner_app,
    account_id  UUID NOT NULL REFERENCES account,        -- never may the app do more than this person
    kind        VARCHAR(32) NOT NULL CHECK (kind IN ('code', 'device', 'client')),
    scopes      TEXT[] NOT NULL,
    acr         VARCHAR(32) NOT NULL CHECK (acr IN ('pwd', 'mfa', 'phr')),
    auth_at     TIMESTAMPTZ NOT NULL,                    -- what the person had proved, and when
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at  TIMESTAMPTZ,
    revoked_at  TIMESTAMPTZ,
    revoked_for VARCHAR(32),
    CHECK ((revoked_at IS NULL) = (revoked_for IS NULL))
);
CREATE INDEX app_grant_merchant ON app_grant (merchant_id, id) WHERE revoked_at IS NULL;
CREATE UNIQUE INDEX app_grant_client ON app_grant (app_id) WHERE kind = 'client' AND revoked_at IS NULL;
CREATE INDEX app_grant_person ON app_grant (account_id);

-- How much money an app may move under a grant, and how much it has (RFC 9396).
CREATE TABLE app_limit (
    grant_id   UUID NOT NULL REFERENCES app_grant,
    scope      VARCHAR(32) NOT NULL,
    ccy        VARCHAR(12) NOT NULL,
    max_minor  BIGINT NOT NULL CHECK (max_minor >= 0),
    used_minor BIGINT NOT NULL DEFAULT 0 CHECK (used_minor BETWEEN 0 AND max_minor),
    PRIMARY KEY (grant_id, scope, ccy)
);

-- What an app asks for, pushed (RFC 9126) or come with the browser; `opened` when a browser has taken it up.
CREATE TABLE app_request (
    handle_hash BYTEA PRIMARY KEY CHECK (octet_length(handle_hash) = 32),
    app_id      UUID NOT NULL REFERENCES partner_app,
    state       VARCHAR(32) NOT NULL CHECK (state IN ('pushed', 'opened', 'used')),
    asked_json  JSONB NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL
);
CREATE INDEX app_request_expiry ON app_request (expires_at);

CREATE TABLE app_code (
    code_hash    BYTEA PRIMARY KEY CHECK (octet_length(code_hash) = 32),
    app_id       UUID NOT NULL REFERENCES partner_app,
    grant_id     UUID NOT NULL REFERENCES app_grant,
    redirect_uri TEXT NOT NULL,
    challenge    VARCHAR(43) NOT NULL,
    jkt          VARCHAR(43),
    expires_at   TIMESTAMPTZ NOT NULL,
    used_at      TIMESTAMPTZ
);
CREATE INDEX app_code_expiry ON app_code (expires_at);

-- A device that shows a code for a person to enter elsewhere (RFC 8628).
CREATE TABLE app_device (
    device_hash BYTEA PRIMARY KEY CHECK (octet_length(device_hash) = 32),
    user_hash   BYTEA NOT NULL UNIQUE CHECK (octet_length(user_hash) = 32),
    app_id      UUID NOT NULL REFERENCES partner_app,
    state       VARCHAR(32) NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'approved', 'denied', 'used')),
    asked_json  JSONB NOT NULL,
    grant_id    UUID REFERENCES app_grant,
    interval_s  SMALLINT NOT NULL,
    polled_at   TIMESTAMPTZ,
    expires_at  TIMESTAMPTZ NOT NULL,
    CHECK ((state IN ('approved', 'used')) = (grant_id IS NOT NULL))
);
CREATE INDEX app_device_expiry ON app_device (expires_at);

-- All refresh tokens that came of one exchange. Public apps rotate: a token used twice ends the family.
CREATE TABLE app_family (
    id          UUID PRIMARY KEY,
    grant_id    UUID NOT NULL REFERENCES app_grant,
    jkt         VARCHAR(43),
    rotates     BOOLEAN NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at  TIMESTAMPTZ NOT NULL,
    revoked_at  TIMESTAMPTZ,
    revoked_for VARCHAR(32),
    CHECK ((revoked_at IS NULL) = (revoked_for IS NULL))
);
CREATE INDEX app_family_grant ON app_family (grant_id);

CREATE TABLE app_refresh (
    token_hash BYTEA PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    family_id  UUID NOT NULL REFERENCES app_family,
    replaces   BYTEA REFERENCES app_refresh,             -- its direct predecessor
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    used_at    TIMESTAMPTZ                               -- rotated away
);
CREATE INDEX app_refresh_family ON app_refresh (family_id);

CREATE TABLE app_token (
    token_hash BYTEA PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    grant_id   UUID NOT NULL REFERENCES app_grant,
    family_id  UUID REFERENCES app_family,
    scopes     TEXT[] NOT NULL,
    jkt        VARCHAR(43),
    issued_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ
) WITH (fillfactor = 90);
CREATE INDEX app_token_expiry ON app_token (expires_at);

-- Proofs and assertions that were used: each one counts once.
CREATE TABLE app_proof (
    proof_hash BYTEA PRIMARY KEY CHECK (octet_length(proof_hash) = 32),
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX app_proof_expiry ON app_proof (expires_at);
