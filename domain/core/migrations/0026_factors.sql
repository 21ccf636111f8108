-- Second factors and step-up: what a session has proved and when, codes of an authenticator app, recovery codes,
-- passkeys, and the half of a sign-in that waits for one of them.

-- acr: 'pwd' a password, 'mfa' two factors, 'phr' a passkey that verified its user (phishing-resistant).
ALTER TABLE session
    ADD COLUMN acr VARCHAR(32) NOT NULL DEFAULT 'pwd' CHECK (acr IN ('pwd', 'mfa', 'phr')),
    ADD COLUMN auth_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp();
UPDATE session SET auth_at = created_at;

-- One authenticator app per account (TOTP, RFC 6238). The secret is sealed for this row; `last_timecode` makes each
-- code work once. Writer: identity/mfa.py.
CREATE TABLE mfa (
    id            UUID PRIMARY KEY,
    account_id    UUID NOT NULL UNIQUE REFERENCES account,
    secret        BYTEA NOT NULL,
    last_timecode BIGINT,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    confirmed_at  TIMESTAMPTZ,
    CHECK (confirmed_at IS NULL OR last_timecode IS NOT NULL)   -- the code of the enrolment counts as used
) WITH (fillfactor = 70);

-- Ten codes on paper, each once. Stored as a keyed hash.
CREATE TABLE recovery_code (
    account_id UUID NOT NULL REFERENCES account,
    code_hash  BYTEA NOT NULL CHECK (octet_length(code_hash) = 16),
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    used_at    TIMESTAMPTZ,
    PRIMARY KEY (account_id, code_hash)
) WITH (fillfactor = 80);

-- A passkey (WebAuthn). One whose counter went back was copied: it is put out of use, not removed.
CREATE TABLE passkey (
    id            UUID PRIMARY KEY,
    account_id    UUID NOT NULL REFERENCES account,
    credential_id BYTEA NOT NULL UNIQUE CHECK (octet_length(credential_id) BETWEEN 1 AND 1023),
    public_key    BYTEA NOT NULL,                        -- COSE
    sign_count    BIGINT NOT NULL CHECK (sign_count >= 0),
    name          VARCHAR(64) NOT NULL,
    is_synced     BOOLEAN NOT NULL,                      -- backed up by its maker, so it may be on several devices
    created_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    last_used_at  TIMESTAMPTZ,
    cloned_at     TIMESTAMPTZ
) WITH (fillfactor = 70);
CREATE INDEX passkey_account ON passkey (account_id, created_at);

-- A question to an authenticator, answered once, right or wrong. `account_id` is null when it opens a session.
CREATE TABLE passkey_challenge (
    challenge  BYTEA PRIMARY KEY CHECK (octet_length(challenge) = 32),
    kind       VARCHAR(32) NOT NULL CHECK (kind IN ('register', 'prove', 'sign_in')),
    account_id UUID REFERENCES account,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ,
    CHECK ((kind = 'sign_in') = (account_id IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX passkey_challenge_expiry ON passkey_challenge (expires_at);

-- The password was right and a factor is missing. Over with the next password: `password_hash` is SHA-256 of the
-- stored one.
CREATE TABLE half_sign_in (
    token_hash    BYTEA PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    account_id    UUID NOT NULL REFERENCES account,
    password_hash BYTEA NOT NULL,
    expires_at    TIMESTAMPTZ NOT NULL,
    used_at       TIMESTAMPTZ
) WITH (fillfactor = 80);
CREATE INDEX half_sign_in_expiry ON half_sign_in (expires_at);
