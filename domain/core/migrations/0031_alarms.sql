-- Alarms on goods (CASES H28): how much is read, keys that nobody may ever sell, where a key came from.

-- Something a merchant's owner has to look at; exports stop until one has. No amounts, no goods. `subject` makes each
-- cause ring once. Writer: alarms/actions.py.
CREATE TABLE security_alert (
    id              UUID PRIMARY KEY,
    merchant_id     UUID NOT NULL REFERENCES merchant,
    kind            VARCHAR(32) NOT NULL
                    CHECK (kind IN ('reveal_rate', 'export_rate', 'honey_used', 'honey_found', 'stock_leaked')),
    subject         VARCHAR(120) NOT NULL,
    actor_kind      VARCHAR(32),
    actor_id        VARCHAR(64),
    facts_json      JSONB NOT NULL,
    raised_at       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    acknowledged_at TIMESTAMPTZ,
    acknowledged_by UUID,
    note            VARCHAR(200) NOT NULL DEFAULT '',
    UNIQUE (merchant_id, kind, subject),
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL)),
    CHECK ((actor_kind IS NULL) = (actor_id IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX security_alert_newest ON security_alert (merchant_id, raised_at, id);
CREATE INDEX security_alert_all ON security_alert (raised_at, id);
CREATE INDEX security_alert_open ON security_alert (merchant_id) WHERE acknowledged_at IS NULL;
CREATE TRIGGER security_alert_facts BEFORE UPDATE ON security_alert FOR EACH ROW
    WHEN (OLD.acknowledged_at IS NOT NULL
          OR (OLD.id, OLD.merchant_id, OLD.kind, OLD.subject, OLD.actor_kind, OLD.actor_id, OLD.facts_json, OLD.raised_at)
          IS DISTINCT FROM (NEW.id, NEW.merchant_id, NEW.kind, NEW.subject, NEW.actor_kind, NEW.actor_id,
                            NEW.facts_json, NEW.raised_at))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER security_alert_kept BEFORE DELETE ON security_alert FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER security_alert_no_truncate BEFORE TRUNCATE ON security_alert
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- How often goods were read in ten minutes, by whom ('' is everybody together); forgotten after two days.
CREATE TABLE read_count (
    merchant_id UUID NOT NULL,
    action      VARCHAR(32) NOT NULL,
    actor       VARCHAR(100) NOT NULL,
    bucket_at   TIMESTAMPTZ NOT NULL,
    n           BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, action, actor, bucket_at)
) WITH (fillfactor = 70);
CREATE INDEX read_count_age ON read_count (bucket_at);

-- A honey key looks like the others and is nobody's: never on the shelf, in no order, never revealed. No transition
-- leads out of the state (card_key_transitions). `export_id` is the approval under which a key left the house.
ALTER TABLE card_key
    ADD COLUMN export_id UUID,
    DROP CONSTRAINT card_key_state_check,
    ADD CONSTRAINT card_key_state_check
        CHECK (state IN ('available', 'reserved', 'sold', 'locked', 'revoked', 'replaced', 'honey')),
    DROP CONSTRAINT card_key_check,
    ADD CONSTRAINT card_key_order_check CHECK ((state IN ('available', 'locked', 'honey')) = (order_id IS NULL)),
    ADD CONSTRAINT card_key_honey_check
        CHECK (state <> 'honey' OR sold_at IS NULL AND revealed_at IS NULL AND order_line_id IS NULL);

-- Which keys are honey, beside the stock: whatever somebody does to `card_key`, this still says so.
CREATE TABLE honey_key (
    merchant_id UUID NOT NULL,
    key_id      UUID NOT NULL,
    kind        VARCHAR(32) NOT NULL CHECK (kind IN ('export', 'planted')),
    export_id   UUID,
    made_by     UUID NOT NULL,
    made_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, key_id),
    CHECK ((kind = 'export') = (export_id IS NOT NULL))
);
CREATE UNIQUE INDEX honey_key_export ON honey_key (export_id) WHERE export_id IS NOT NULL;
CREATE TRIGGER honey_key_append_only BEFORE UPDATE OR DELETE ON honey_key
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER honey_key_no_truncate BEFORE TRUNCATE ON honey_key
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
