-- Risk: rules as versions, entries about pivots, counters, decisions that replay. Machine of a rule: CASES M22.

CREATE TABLE risk_rule (
    id          UUID PRIMARY KEY,
    name        VARCHAR(64) NOT NULL,
    version     INTEGER NOT NULL CHECK (version > 0),
    kind        VARCHAR(32) NOT NULL CHECK (kind IN (
                    'velocity', 'amount', 'listed', 'country_mismatch', 'disposable_email')),
    outcome     VARCHAR(32) NOT NULL CHECK (outcome IN ('allow', 'challenge', 'hold', 'decline')),
    score_bps   INTEGER NOT NULL CHECK (score_bps BETWEEN 0 AND 10000),
    is_floor    BOOLEAN NOT NULL DEFAULT false,
    params_json JSONB NOT NULL,
    state       VARCHAR(32) NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'shadow', 'live', 'retired')),
    made_by     VARCHAR(64) NOT NULL,
    made_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    moved_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (name, version)
);
CREATE UNIQUE INDEX risk_rule_live ON risk_rule (name) WHERE state = 'live';
CREATE UNIQUE INDEX risk_rule_shadow ON risk_rule (name) WHERE state = 'shadow';

-- A version says the same for ever: a change is a new version. Only its state moves.
CREATE TRIGGER risk_rule_fixed BEFORE UPDATE ON risk_rule FOR EACH ROW
    WHEN ((OLD.id, OLD.name, OLD.version, OLD.kind, OLD.outcome, OLD.score_bps, OLD.is_floor, OLD.params_json)
        IS DISTINCT FROM
          (NEW.id, NEW.name, NEW.version, NEW.kind, NEW.outcome, NEW.score_bps, NEW.is_floor, NEW.params_json))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER risk_rule_kept BEFORE DELETE ON risk_rule FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- What was in force at a time: one row per change, named by every decision, so that each can be replayed.
CREATE TABLE risk_ruleset (
    no         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rules_json JSONB NOT NULL,
    sealed_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER risk_ruleset_append_only BEFORE UPDATE OR DELETE ON risk_ruleset
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION risk_seal() RETURNS BIGINT LANGUAGE sql AS $$
    INSERT INTO risk_ruleset (rules_json)
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'name', name, 'version', version, 'kind', kind, 'outcome', outcome, 'score_bps', score_bps,
        'is_floor', is_floor, 'state', state, 'params', params_json) ORDER BY name, version), '[]')
    FROM risk_rule WHERE state IN ('live', 'shadow') RETURNING no
$$;

-- What people (or later tiers) said about one e-mail, address, device or payer. Every entry ends.
CREATE TABLE risk_entry (
    id         UUID PRIMARY KEY,
    list       VARCHAR(32) NOT NULL CHECK (list IN (
                   'block', 'sanctions', 'stolen_card', 'watch', 'allow', 'snooze')),
    pivot      VARCHAR(32) NOT NULL CHECK (pivot IN ('email', 'address', 'device', 'payer')),
    pivot_hash BYTEA NOT NULL,
    rule       VARCHAR(64),
    until_at   TIMESTAMPTZ NOT NULL,
    reason     VARCHAR(240) NOT NULL CHECK (reason <> ''),
    made_by    VARCHAR(64) NOT NULL,
    made_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    lifted_by  VARCHAR(64),
    lifted_at  TIMESTAMPTZ,
    CHECK (until_at > made_at),
    CHECK ((list = 'snooze') = (rule IS NOT NULL))
);
CREATE INDEX risk_entry_pivot ON risk_entry (pivot_hash) WHERE lifted_at IS NULL;

-- Velocity: five-minute buckets, written with the decision. Shards keep one busy address off one row lock;
-- counts are in no index and the pages are half empty, so an update stays on its page.
CREATE TABLE risk_counter (
    pivot_hash BYTEA NOT NULL,
    pivot      VARCHAR(32) NOT NULL,
    bucket_at  TIMESTAMPTZ NOT NULL,
    shard      SMALLINT NOT NULL,
    decisions  INTEGER NOT NULL,
    orders     INTEGER NOT NULL,
    usd_minor  BIGINT NOT NULL,
    PRIMARY KEY (pivot_hash, pivot, bucket_at, shard)
) WITH (fillfactor = 50);
CREATE INDEX risk_counter_age ON risk_counter USING brin (bucket_at);

CREATE TABLE risk_decision (
    id               UUID PRIMARY KEY,
    order_id         UUID NOT NULL,
    merchant_id      UUID NOT NULL,
    outcome          VARCHAR(32) NOT NULL CHECK (outcome IN ('allow', 'challenge', 'hold', 'decline')),
    score_bps        INTEGER NOT NULL,
    reasons          TEXT[] NOT NULL,
    phantom          VARCHAR(32) CHECK (phantom IN ('allow', 'challenge', 'hold', 'decline')),
    ruleset_no       BIGINT NOT NULL,
    email_hash       BYTEA NOT NULL,
    address_hash     BYTEA NOT NULL,
    device_hash      BYTEA,
    payer_hash       BYTEA,
    facts_json       JSONB NOT NULL,
    verdict_json     JSONB NOT NULL,
    verdict_hash     BYTEA NOT NULL,
    decided_at       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    resolved_outcome VARCHAR(32) CHECK (resolved_outcome IN ('allow', 'decline')),
    resolved_by      VARCHAR(64),
    resolved_reason  VARCHAR(240),
    resolved_at      TIMESTAMPTZ,
    CHECK ((resolved_outcome IS NULL) = (resolved_at IS NULL))
) WITH (fillfactor = 95);
CREATE INDEX risk_decision_order ON risk_decision (order_id, id);
CREATE INDEX risk_decision_open ON risk_decision (merchant_id, id)
    WHERE outcome IN ('challenge', 'hold') AND resolved_outcome IS NULL;

-- The inputs and the verdict are facts; the resolution is written once.
CREATE TRIGGER risk_decision_fixed BEFORE UPDATE ON risk_decision FOR EACH ROW
    WHEN (OLD.resolved_outcome IS NOT NULL
        OR (OLD.id, OLD.order_id, OLD.merchant_id, OLD.outcome, OLD.score_bps, OLD.reasons, OLD.phantom,
            OLD.ruleset_no, OLD.email_hash, OLD.address_hash, OLD.device_hash, OLD.payer_hash, OLD.facts_json, OLD.verdict_json, OLD.verdict_hash, OLD.decided_at)
        IS DISTINCT FROM
           (NEW.id, NEW.order_id, NEW.merchant_id, NEW.outcome, NEW.score_bps, NEW.reasons, NEW.phantom,
            NEW.ruleset_no, NEW.email_hash, NEW.address_hash, NEW.device_hash, NEW.payer_hash, NEW.facts_json, NEW.verdict_json, NEW.verdict_hash, NEW.decided_at))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER risk_decision_kept BEFORE DELETE ON risk_decision FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- The first rules. `limit` holds in production, `limit_development` wherever a load test or a demo may run from one
-- address; amounts are US cents at the reference rate. docs/risk.md explains them.
INSERT INTO risk_rule (id, name, version, kind, outcome, score_bps, is_floor, params_json, state, made_by)
SELECT gen_random_uuid(), name, 1, kind, outcome, score_bps, is_floor, params::jsonb, 'live', 'kami'
FROM (VALUES
    ('block_list', 'listed', 'decline', 10000, false, '{"list": "block"}'),
    ('sanctions_list', 'listed', 'decline', 10000, false, '{"list": "sanctions"}'),
    ('stolen_card_list', 'listed', 'decline', 10000, false, '{"list": "stolen_card"}'),
    ('watch_list', 'listed', 'challenge', 4000, false, '{"list": "watch"}'),
    ('address_hour', 'velocity', 'challenge', 4000, false,
        '{"pivot": "address", "measure": "decisions", "window_s": 3600, "limit": 60, "limit_development": 2000000}'),
    ('address_floor', 'velocity', 'decline', 9000, true,
        '{"pivot": "address", "measure": "decisions", "window_s": 3600, "limit": 2000, "limit_development": 20000000}'),
    ('email_hour', 'velocity', 'challenge', 4000, false,
        '{"pivot": "email", "measure": "decisions", "window_s": 3600, "limit": 20, "limit_development": 2000000}'),
    ('device_hour', 'velocity', 'challenge', 4000, false,
        '{"pivot": "device", "measure": "decisions", "window_s": 3600, "limit": 20, "limit_development": 2000000}'),
    ('payer_hour', 'velocity', 'challenge', 5000, false,
        '{"pivot": "payer", "measure": "decisions", "window_s": 3600, "limit": 10, "limit_development": 2000000}'),
    ('payer_floor', 'velocity', 'decline', 9000, true,
        '{"pivot": "payer", "measure": "decisions", "window_s": 86400, "limit": 60, "limit_development": 20000000}'),
    ('email_day_amount', 'velocity', 'hold', 6000, false,
        '{"pivot": "email", "measure": "usd_minor", "window_s": 86400, "limit": 1000000, "limit_development": 1000000000000}'),
    ('payer_day_amount', 'velocity', 'hold', 6000, false,
        '{"pivot": "payer", "measure": "usd_minor", "window_s": 86400, "limit": 1000000, "limit_development": 1000000000000}'),
    ('amount_hold', 'amount', 'hold', 6000, false, '{"above_usd_minor": 500000}'),
    ('card_country', 'country_mismatch', 'challenge', 5000, false,
        '{"left": "card_country", "right": "country", "above_usd_minor": 0}'),
    ('geo_country', 'country_mismatch', 'challenge', 3000, false,
        '{"left": "geo_country", "right": "country", "above_usd_minor": 20000}'),
    ('disposable_email', 'disposable_email', 'challenge', 3000, false, '{"above_usd_minor": 5000, "domains": [
        "10minutemail.com", "20minutemail.com", "33mail.com", "burnermail.io", "discard.email", "dispostable.com",
        "emailondeck.com", "fakeinbox.com", "getairmail.com", "getnada.com", "grr.la", "guerrillamail.com",
        "guerrillamail.info", "harakirimail.com", "inboxkitten.com", "mail.tm", "mail7.io", "maildrop.cc",
        "mailcatch.com", "mailinator.com", "mailnesia.com", "mailsac.com", "mintemail.com", "mohmal.com",
        "moakt.com", "sharklasers.com", "spamgourmet.com", "temp-mail.org", "tempail.com", "tempmail.plus",
        "throwawaymail.com", "trashmail.com", "yopmail.com"]}')
) AS seed(name, kind, outcome, score_bps, is_floor, params);
SELECT risk_seal();
