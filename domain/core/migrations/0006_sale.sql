-- The sale: orders, payments, captures, refunds, settlement rows. Machines: docs/ARCHITECTURE.md, MONEY 4 and 6.

CREATE TABLE orders (
    id             UUID PRIMARY KEY,
    number         VARCHAR(24) NOT NULL UNIQUE,
    merchant_id    UUID NOT NULL,
    shop_id        UUID NOT NULL,
    lane           SMALLINT NOT NULL,
    buyer_id       UUID,
    email          VARCHAR(320) NOT NULL,
    email_hash     BYTEA NOT NULL,
    address_hash   BYTEA NOT NULL,
    device_hash    BYTEA,
    country        VARCHAR(2) NOT NULL,
    locale         VARCHAR(12) NOT NULL,
    total_minor    BIGINT NOT NULL CHECK (total_minor > 0),
    discount_minor BIGINT NOT NULL DEFAULT 0 CHECK (discount_minor >= 0),
    tax_minor      BIGINT NOT NULL DEFAULT 0 CHECK (tax_minor >= 0),
    ccy            VARCHAR(12) NOT NULL,
    settle_ccy     VARCHAR(12) NOT NULL,
    quote_id       UUID,
    coupon_id      UUID,
    status         VARCHAR(32) NOT NULL DEFAULT 'awaiting_payment' CHECK (status IN (
                       'awaiting_payment', 'paid', 'delivering', 'delivered', 'held', 'short', 'refunded',
                       'cancelled', 'expired', 'disputed')),
    captured_minor BIGINT NOT NULL DEFAULT 0 CHECK (captured_minor >= 0),
    returned_minor BIGINT NOT NULL DEFAULT 0 CHECK (returned_minor >= 0 AND returned_minor <= captured_minor),
    disputes_open  SMALLINT NOT NULL DEFAULT 0 CHECK (disputes_open >= 0),
    risk_hold      BOOLEAN NOT NULL DEFAULT false,
    -- What delivery needs, so that a set of orders is fulfilled without reading their lines.
    key_units      INTEGER NOT NULL DEFAULT 0 CHECK (key_units >= 0),
    is_plain       BOOLEAN NOT NULL DEFAULT true,
    version        INTEGER NOT NULL DEFAULT 1,
    event_seq      INTEGER NOT NULL DEFAULT 1,
    expires_at     TIMESTAMPTZ NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    paid_at        TIMESTAMPTZ,
    delivered_at   TIMESTAMPTZ
) WITH (fillfactor = 70);
CREATE INDEX orders_merchant ON orders (merchant_id, id);
CREATE INDEX orders_open ON orders (expires_at) WHERE status = 'awaiting_payment';
CREATE INDEX orders_waiting ON orders (merchant_id, id) WHERE status IN ('held', 'short', 'delivering', 'paid');
CREATE INDEX orders_email ON orders (email_hash, id);

CREATE TABLE order_line (
    id             UUID PRIMARY KEY,
    order_id       UUID NOT NULL,
    merchant_id    UUID NOT NULL,
    position       SMALLINT NOT NULL,
    variant_id     UUID NOT NULL,
    delivery       VARCHAR(32) NOT NULL CHECK (delivery IN ('stock', 'reusable', 'manual', 'supplier')),
    title          VARCHAR(240) NOT NULL,
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    unit_minor     BIGINT NOT NULL CHECK (unit_minor >= 0),
    discount_minor BIGINT NOT NULL DEFAULT 0 CHECK (discount_minor >= 0),
    total_minor    BIGINT NOT NULL CHECK (total_minor >= 0),
    done           INTEGER NOT NULL DEFAULT 0 CHECK (done >= 0 AND done <= quantity),
    UNIQUE (order_id, position)
) WITH (fillfactor = 80);

CREATE TABLE payment_intent (
    id             UUID PRIMARY KEY,
    order_id       UUID NOT NULL UNIQUE,
    amount_minor   BIGINT NOT NULL CHECK (amount_minor > 0),
    ccy            VARCHAR(12) NOT NULL,
    capture_method VARCHAR(32) NOT NULL DEFAULT 'automatic' CHECK (capture_method IN ('automatic', 'manual')),
    state          VARCHAR(32) NOT NULL DEFAULT 'requires_method' CHECK (state IN (
                       'requires_method', 'requires_action', 'processing', 'authorized', 'succeeded',
                       'partially_captured', 'conflicted', 'cancelled', 'expired', 'failed'))
) WITH (fillfactor = 70);

CREATE TABLE payment_attempt (
    id               UUID PRIMARY KEY,
    intent_id        UUID NOT NULL,
    order_id         UUID NOT NULL,
    merchant_id      UUID NOT NULL,
    lane             SMALLINT NOT NULL,
    seq              SMALLINT NOT NULL,
    provider         VARCHAR(64) NOT NULL,
    provider_account VARCHAR(64) NOT NULL,
    provider_ref     VARCHAR(120),
    method           VARCHAR(64) NOT NULL,
    requested_minor  BIGINT NOT NULL CHECK (requested_minor > 0),
    ccy              VARCHAR(12) NOT NULL,
    processed_minor  BIGINT,
    processed_ccy    VARCHAR(12),
    state            VARCHAR(32) NOT NULL DEFAULT 'started' CHECK (state IN (
                         'started', 'requires_action', 'processing', 'authorized', 'captured',
                         'declined', 'failed', 'voided', 'unknown')),
    action_json      JSONB,
    raw_code         VARCHAR(64) NOT NULL DEFAULT '',
    raw_message      TEXT NOT NULL DEFAULT '',
    next_check_at    TIMESTAMPTZ,
    checks           SMALLINT NOT NULL DEFAULT 0,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (provider, provider_account, provider_ref)
) WITH (fillfactor = 70);
-- At most one attempt of an order may still take money: `unknown` counts as live.
CREATE UNIQUE INDEX payment_attempt_live ON payment_attempt (order_id)
    WHERE state IN ('started', 'requires_action', 'processing', 'authorized', 'unknown');
CREATE INDEX payment_attempt_order ON payment_attempt (order_id, seq);
CREATE INDEX payment_attempt_check ON payment_attempt (next_check_at)
    WHERE state IN ('started', 'requires_action', 'processing', 'authorized', 'unknown');

CREATE TABLE capture (
    id             UUID PRIMARY KEY,
    attempt_id     UUID NOT NULL,
    order_id       UUID NOT NULL,
    merchant_id    UUID NOT NULL,
    lane           SMALLINT NOT NULL,
    provider       VARCHAR(64) NOT NULL,
    provider_account VARCHAR(64) NOT NULL,
    -- What the provider has taken on the attempt in all, this capture included: one row per step up.
    taken_minor    BIGINT NOT NULL,
    amount_minor   BIGINT NOT NULL CHECK (amount_minor > 0),
    returned_minor BIGINT NOT NULL DEFAULT 0,
    ccy            VARCHAR(12) NOT NULL,
    source_purpose VARCHAR(32) NOT NULL DEFAULT 'provider_clearing'
                   CHECK (source_purpose IN ('provider_clearing', 'buyer_held', 'suspense')),
    state          VARCHAR(32) NOT NULL DEFAULT 'captured' CHECK (state IN ('captured', 'settled', 'parked')),
    park_reason    VARCHAR(32) CHECK (park_reason IN (
                       'partial', 'short', 'held', 'delivering', 'surplus', 'conflicted', 'error')),
    error          TEXT,
    journal_id     UUID,
    captured_at    TIMESTAMPTZ NOT NULL,
    recorded_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CHECK (returned_minor >= 0 AND returned_minor <= amount_minor),
    CHECK ((state = 'parked') = (park_reason IS NOT NULL)),
    UNIQUE (attempt_id, taken_minor, ccy)
) WITH (fillfactor = 70);
CREATE INDEX capture_due ON capture (lane, id) WHERE state = 'captured';
CREATE INDEX capture_parked ON capture (merchant_id, id) WHERE state = 'parked';
CREATE INDEX capture_order ON capture (order_id);

-- A provider's word, once. The facts never change; the verdict is what we made of them.
CREATE TABLE inbox_event (
    no               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider         VARCHAR(64) NOT NULL,
    provider_account VARCHAR(64) NOT NULL,
    event_id         VARCHAR(120) NOT NULL,
    lane             SMALLINT NOT NULL,
    reference_id     UUID,
    body_hash        BYTEA NOT NULL,
    facts_json       JSONB NOT NULL,
    received_at      TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    verdict          VARCHAR(32) CHECK (verdict IN ('applied', 'duplicate', 'parked', 'refused')),
    note             VARCHAR(120),
    UNIQUE (provider, provider_account, event_id)
) WITH (fillfactor = 80);
CREATE INDEX inbox_event_due ON inbox_event (lane, no) WHERE verdict IS NULL;
CREATE INDEX inbox_event_parked ON inbox_event (reference_id) WHERE verdict = 'parked';
CREATE TRIGGER inbox_event_facts BEFORE UPDATE ON inbox_event FOR EACH ROW
    WHEN ((OLD.provider, OLD.provider_account, OLD.event_id, OLD.body_hash, OLD.received_at)
          IS DISTINCT FROM (NEW.provider, NEW.provider_account, NEW.event_id, NEW.body_hash, NEW.received_at)
          OR OLD.facts_json IS DISTINCT FROM NEW.facts_json)
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER inbox_event_kept BEFORE DELETE ON inbox_event
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE refund (
    id           UUID PRIMARY KEY,
    capture_id   UUID NOT NULL,
    order_id     UUID NOT NULL,
    merchant_id  UUID NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    ccy          VARCHAR(12) NOT NULL,
    reason       VARCHAR(64) NOT NULL,
    asked_by     VARCHAR(64) NOT NULL,
    state        VARCHAR(32) NOT NULL DEFAULT 'created' CHECK (state IN (
                     'created', 'submitted', 'pending', 'succeeded', 'failed', 'cancelled', 'review')),
    provider_ref VARCHAR(120),
    cover_json   JSONB NOT NULL,
    raw_code     VARCHAR(64) NOT NULL DEFAULT '',
    created_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    done_at      TIMESTAMPTZ
) WITH (fillfactor = 80);
CREATE INDEX refund_order ON refund (order_id, id);
CREATE INDEX refund_open ON refund (created_at) WHERE state IN ('created', 'submitted', 'pending', 'review');

-- Who got which part of a capture; a refund or an open dispute consumes it, so no sale is debited twice.
CREATE TABLE capture_leg (
    no             BIGINT GENERATED ALWAYS AS IDENTITY,
    capture_id     UUID NOT NULL,
    leg            VARCHAR(32) NOT NULL,
    account_no     BIGINT NOT NULL,
    amount_minor   BIGINT NOT NULL CHECK (amount_minor > 0),
    returned_minor BIGINT NOT NULL DEFAULT 0 CHECK (returned_minor >= 0),
    locked_minor   BIGINT NOT NULL DEFAULT 0 CHECK (locked_minor >= 0),
    rule_id        UUID,
    PRIMARY KEY (capture_id, leg),
    CHECK (returned_minor + locked_minor <= amount_minor)
) WITH (fillfactor = 90);

CREATE TABLE settlement_item (
    capture_id      UUID PRIMARY KEY,
    merchant_id     UUID NOT NULL,
    amount_minor    BIGINT NOT NULL CHECK (amount_minor >= 0),
    ccy             VARCHAR(12) NOT NULL,
    available_on    DATE NOT NULL,
    released_run_id UUID
) WITH (fillfactor = 80);
CREATE INDEX settlement_item_due ON settlement_item (available_on, merchant_id) WHERE released_run_id IS NULL;

CREATE TABLE reserve_hold (
    id           UUID PRIMARY KEY,
    plan_id      UUID NOT NULL,
    capture_id   UUID NOT NULL UNIQUE,
    merchant_id  UUID NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    drawn_minor  BIGINT NOT NULL DEFAULT 0 CHECK (drawn_minor >= 0 AND drawn_minor <= amount_minor),
    ccy          VARCHAR(12) NOT NULL,
    releases_on  DATE NOT NULL,
    state        VARCHAR(32) NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'drawn', 'released'))
) WITH (fillfactor = 80);
CREATE INDEX reserve_hold_due ON reserve_hold (releases_on, merchant_id) WHERE state = 'held';

-- Something about money that a person must see; it never blocks anyone else.
CREATE TABLE money_exception (
    id           UUID PRIMARY KEY,
    kind         VARCHAR(32) NOT NULL,
    merchant_id  UUID,
    order_id     UUID,
    capture_id   UUID,
    amount_minor BIGINT,
    ccy          VARCHAR(12),
    facts_json   JSONB NOT NULL,
    state        VARCHAR(32) NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved', 'accepted')),
    opened_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    closed_at    TIMESTAMPTZ,
    closed_by    VARCHAR(64),
    -- The facts too: two refunds that fail, two payments that belong to nobody, are two things to look at.
    UNIQUE NULLS NOT DISTINCT (kind, order_id, capture_id, facts_json)
);
CREATE INDEX money_exception_open ON money_exception (opened_at) WHERE state = 'open';
