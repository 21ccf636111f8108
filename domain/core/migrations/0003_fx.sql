-- Exchange rates and the quotes that lock them. Laws: MONEY 5; arithmetic: domain/fx/rules.py.

-- One row each time a pair's rate changes; the newest row of a pair is in force, unless it is suspect: then
-- the pair has no rate until the feed comes back into range or a person accepts it (which adds a row).
CREATE TABLE fx_rate (
    no             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_ccy       VARCHAR(12) NOT NULL,
    to_ccy         VARCHAR(12) NOT NULL,
    reference_rate NUMERIC(24, 12) NOT NULL CHECK (reference_rate > 0 AND reference_rate <> 'NaN'),
    provider       VARCHAR(64) NOT NULL,
    taken_at       TIMESTAMPTZ NOT NULL,
    stale_at       TIMESTAMPTZ CHECK (stale_at > taken_at),  -- null: does not age
    state          VARCHAR(32) NOT NULL CHECK (state IN ('live', 'suspect')),
    set_by         UUID,  -- the person who set or accepted it, null for a feed
    recorded_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CHECK (from_ccy <> to_ccy)
);
CREATE INDEX fx_rate_newest ON fx_rate (from_ccy, to_ccy, state, no DESC);
CREATE TRIGGER fx_rate_append_only BEFORE UPDATE OR DELETE ON fx_rate
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- A locked rate: `from` is what somebody pays, `to` what the price is in or what they get. The amounts are
-- set when they are known at the lock (an exchange), and null for a rate that locks the prices of a cart.
CREATE TABLE fx_quote (
    id             UUID PRIMARY KEY,
    from_ccy       VARCHAR(12) NOT NULL,
    to_ccy         VARCHAR(12) NOT NULL,
    from_minor     BIGINT CHECK (from_minor > 0),
    to_minor       BIGINT CHECK (to_minor >= 0),
    reference_rate NUMERIC(24, 12) NOT NULL CHECK (reference_rate > 0 AND reference_rate <> 'NaN'),
    fee_bps        INTEGER NOT NULL CHECK (fee_bps BETWEEN 0 AND 29),
    exchange_rate  NUMERIC(24, 12) NOT NULL CHECK (exchange_rate > 0),
    source         VARCHAR(64) NOT NULL,
    lock_kind      VARCHAR(32) NOT NULL CHECK (lock_kind IN ('none', '15m', '1h', '24h')),
    expires_at     TIMESTAMPTZ NOT NULL,
    state          VARCHAR(32) NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'consumed', 'expired')),
    consumed_by    UUID UNIQUE,
    created_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CHECK (from_ccy <> to_ccy),
    CHECK (exchange_rate <= reference_rate),
    CHECK ((from_minor IS NULL) = (to_minor IS NULL)),
    CHECK (consumed_by IS NULL OR state = 'consumed')
) WITH (fillfactor = 80);
CREATE INDEX fx_quote_due ON fx_quote (expires_at) WHERE state = 'active';

-- The terms never change, and the end is the end: active → consumed / expired.
CREATE TRIGGER fx_quote_terms BEFORE UPDATE ON fx_quote FOR EACH ROW
    WHEN (OLD.state <> 'active'
          OR (OLD.id, OLD.from_ccy, OLD.to_ccy, OLD.reference_rate, OLD.fee_bps, OLD.exchange_rate,
              OLD.source, OLD.expires_at)
          IS DISTINCT FROM (NEW.id, NEW.from_ccy, NEW.to_ccy, NEW.reference_rate, NEW.fee_bps,
              NEW.exchange_rate, NEW.source, NEW.expires_at)
          OR (OLD.from_minor, OLD.to_minor) IS DISTINCT FROM (NEW.from_minor, NEW.to_minor))
    EXECUTE FUNCTION refuse_change();
