-- People and merchants: who may come in, whose shop it is, and on which terms it sells.

CREATE TABLE account (
    id            UUID PRIMARY KEY,
    email         VARCHAR(320) NOT NULL UNIQUE,          -- lower case, domain in punycode
    password_hash VARCHAR(255) NOT NULL,                 -- argon2id, PHC string
    kind          VARCHAR(32) NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'operator')),
    locale        VARCHAR(12),
    state         VARCHAR(32) NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    created_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CHECK (email = lower(email))
);

-- What an operator may do; `admin` may all of it.
CREATE TABLE operator_role (
    account_id UUID NOT NULL REFERENCES account,
    role       VARCHAR(32) NOT NULL CHECK (role IN ('risk', 'finance', 'support', 'admin')),
    granted_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, role)
);

-- A signed-in device. The token itself is known to the device only.
CREATE TABLE session (
    id           UUID PRIMARY KEY,
    token_hash   BYTEA NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    account_id   UUID NOT NULL REFERENCES account,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at   TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    address      VARCHAR(45),
    user_agent   VARCHAR(200)
) WITH (fillfactor = 80);
CREATE INDEX session_account ON session (account_id, created_at);
CREATE INDEX session_expiry ON session (expires_at);

-- Failed sign-ins per account and address, and per address; counted before the password is looked at.
CREATE TABLE sign_in_try (
    key_hash  BYTEA PRIMARY KEY CHECK (octet_length(key_hash) = 32),
    tries     INTEGER NOT NULL,
    resets_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX sign_in_try_age ON sign_in_try (resets_at);

CREATE TABLE merchant (
    id            UUID PRIMARY KEY,
    name          VARCHAR(120) NOT NULL,
    base_ccy      VARCHAR(12) NOT NULL,                  -- what it is settled in
    country       VARCHAR(2) NOT NULL,
    contact_email VARCHAR(320) NOT NULL,
    locale        VARCHAR(12) NOT NULL,
    zone          VARCHAR(64) NOT NULL DEFAULT 'UTC',
    state         VARCHAR(32) NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    version       INTEGER NOT NULL DEFAULT 1,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    closed_at     TIMESTAMPTZ,
    CHECK ((state = 'closed') = (closed_at IS NOT NULL))
);

CREATE TABLE shop (
    id          UUID PRIMARY KEY,
    merchant_id UUID NOT NULL REFERENCES merchant,
    handle      VARCHAR(40) NOT NULL UNIQUE CHECK (handle ~ '^[a-z0-9](-?[a-z0-9])*$'),
    name_json   JSONB NOT NULL,                          -- {"en": "…", "zh": "…"}
    theme_json  JSONB NOT NULL DEFAULT '{}',
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (merchant_id, id)
);

-- One role per person and merchant; `owner` may all of it.
CREATE TABLE membership (
    no          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    merchant_id UUID NOT NULL REFERENCES merchant,
    account_id  UUID NOT NULL REFERENCES account,
    role        VARCHAR(32) NOT NULL
                CHECK (role IN ('owner', 'catalogue', 'support', 'finance', 'developer', 'read_only')),
    granted_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (merchant_id, account_id)
);
CREATE INDEX membership_account ON membership (account_id);

-- What a sale costs (MONEY 5). Each row is a version: valid from its moment until the next one of the same
-- subject begins, so two can never overlap. A row without `ccy` has no fixed parts and serves every currency.
CREATE TABLE fee_schedule (
    id            UUID PRIMARY KEY,
    scope         VARCHAR(32) NOT NULL CHECK (scope IN ('platform', 'merchant', 'method', 'country')),
    merchant_id   UUID REFERENCES merchant,
    subject       VARCHAR(64),                           -- method code or country
    payer         VARCHAR(32) NOT NULL CHECK (payer IN ('buyer', 'merchant', 'platform', 'affiliate')),
    ccy           VARCHAR(12),
    version       INTEGER NOT NULL CHECK (version > 0),
    pct_bps       INTEGER NOT NULL CHECK (pct_bps BETWEEN 0 AND 10000),
    fixed_minor   BIGINT NOT NULL DEFAULT 0 CHECK (fixed_minor >= 0),
    min_minor     BIGINT NOT NULL DEFAULT 0 CHECK (min_minor >= 0),
    max_minor     BIGINT CHECK (max_minor >= min_minor),
    formula_json  JSONB,
    valid_from_at TIMESTAMPTZ NOT NULL,
    recorded_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CHECK ((scope = 'merchant') = (merchant_id IS NOT NULL)),
    CHECK ((scope IN ('method', 'country')) = (subject IS NOT NULL)),
    CHECK (ccy IS NOT NULL OR (fixed_minor = 0 AND min_minor = 0 AND max_minor IS NULL)),
    UNIQUE NULLS NOT DISTINCT (scope, merchant_id, subject, payer, ccy, version),
    UNIQUE NULLS NOT DISTINCT (scope, merchant_id, subject, payer, ccy, valid_from_at)
);
CREATE TRIGGER fee_schedule_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON fee_schedule
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- When the merchant's part becomes available (MONEY 6). No row: the next day.
CREATE TABLE settlement_plan (
    merchant_id       UUID PRIMARY KEY REFERENCES merchant,
    speed             VARCHAR(32) NOT NULL CHECK (speed IN ('t0', 't1', 'tn')),
    days              SMALLINT NOT NULL CHECK (days BETWEEN 0 AND 90),
    cutoff            TIME NOT NULL DEFAULT '00:00',
    zone              VARCHAR(64) NOT NULL DEFAULT 'UTC',
    float_limit_minor BIGINT NOT NULL DEFAULT 0 CHECK (float_limit_minor >= 0),
    CHECK ((speed = 't0') = (days = 0)),
    CHECK (speed <> 't1' OR days = 1)
);

-- What is kept back against refunds and disputes; the newest valid row holds for new sales only.
CREATE TABLE reserve_plan (
    id            UUID PRIMARY KEY,
    merchant_id   UUID NOT NULL REFERENCES merchant,
    kind          VARCHAR(32) NOT NULL CHECK (kind IN ('rolling', 'fixed', 'full')),
    pct_bps       INTEGER NOT NULL CHECK (pct_bps BETWEEN 0 AND 10000),
    fixed_minor   BIGINT NOT NULL DEFAULT 0 CHECK (fixed_minor >= 0),
    days          SMALLINT NOT NULL CHECK (days BETWEEN 1 AND 180),
    reason        VARCHAR(64) NOT NULL,
    valid_from_at TIMESTAMPTZ NOT NULL,
    recorded_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (merchant_id, valid_from_at)
);

-- Who gets which part, and who bears a refund or chargeback; versions like fee schedules.
CREATE TABLE split_rule (
    id            UUID PRIMARY KEY,
    merchant_id   UUID REFERENCES merchant,
    version       INTEGER NOT NULL CHECK (version > 0),
    applies_to    VARCHAR(32) NOT NULL CHECK (applies_to IN (
                      'payment', 'refund', 'chargeback', 'chargeback_cost', 'fee', 'fx_remainder')),
    allocation    VARCHAR(32) NOT NULL CHECK (allocation IN ('ratio', 'one_account', 'liable_account')),
    legs_json     JSONB NOT NULL,
    valid_from_at TIMESTAMPTZ NOT NULL,
    recorded_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (merchant_id, applies_to, version),
    UNIQUE NULLS NOT DISTINCT (merchant_id, applies_to, valid_from_at)
);
CREATE TRIGGER split_rule_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON split_rule
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
