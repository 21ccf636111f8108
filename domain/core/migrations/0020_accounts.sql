-- Accounts that people open themselves, the links that mails carry, devices that are known, mails to accounts.

-- When the holder proved to read the mailbox; null: never. Only then are orders placed with the address shown.
ALTER TABLE account ADD COLUMN email_verified_at TIMESTAMPTZ;

-- A link in a mail: what it may do once, until it expires. The token itself is in the mail only.
-- Writer: identity/links.py and identity/members.py.
CREATE TABLE account_link (
    id            UUID PRIMARY KEY,
    token_hash    BYTEA NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    kind          VARCHAR(32) NOT NULL CHECK (kind IN ('verify', 'reset', 'invitation')),
    email         VARCHAR(320) NOT NULL CHECK (email = lower(email)),
    account_id    UUID,                                  -- whose password; null on a reset nobody has an account for.
                                                         -- No reference: checking one takes time that tells (H11)
    password_hash VARCHAR(255),                          -- of the account to be opened
    locale        VARCHAR(12),
    merchant_id   UUID REFERENCES merchant,
    role          VARCHAR(32)
                  CHECK (role IN ('owner', 'catalogue', 'support', 'finance', 'developer', 'read_only')),
    made_by       UUID REFERENCES account,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at    TIMESTAMPTZ NOT NULL,
    used_at       TIMESTAMPTZ,
    CHECK ((kind = 'verify') = (password_hash IS NOT NULL)),
    CHECK ((kind = 'invitation') = (merchant_id IS NOT NULL AND role IS NOT NULL AND made_by IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX account_link_account ON account_link (account_id) WHERE used_at IS NULL;
CREATE INDEX account_link_invitation ON account_link (merchant_id, created_at) WHERE kind = 'invitation';
CREATE INDEX account_link_expiry ON account_link (expires_at);

-- A device that has signed in before: it keeps a budget of tries of its own, whoever else tries meanwhile.
CREATE TABLE known_device (
    account_id   UUID NOT NULL REFERENCES account,
    token_hash   BYTEA NOT NULL CHECK (octet_length(token_hash) = 32),
    created_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    last_used_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, token_hash)
) WITH (fillfactor = 80);
CREATE INDEX known_device_age ON known_device (last_used_at);

-- Mails to accounts are about no order. `secret` is the sealed token of the link, until the mail is sent.
ALTER TABLE notification
    ALTER COLUMN merchant_id DROP NOT NULL,
    ALTER COLUMN order_id DROP NOT NULL,
    ADD COLUMN secret BYTEA,
    DROP CONSTRAINT notification_audience_check,
    ADD CONSTRAINT notification_audience_check CHECK (audience IN ('buyer', 'merchant', 'account')),
    ADD CONSTRAINT notification_subject_check
        CHECK ((audience = 'account') = (order_id IS NULL) AND (order_id IS NULL) = (merchant_id IS NULL));
