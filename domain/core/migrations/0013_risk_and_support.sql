-- What risk and support decide around the sale: two people for what one must not do alone, dead goods, challenges.

-- One person asks, another approves exactly that, once, in time. Writer: core/four_eyes.py.
CREATE TABLE approval (
    id           UUID PRIMARY KEY,
    kind         VARCHAR(32) NOT NULL,
    subject_id   UUID NOT NULL,
    merchant_id  UUID,
    request_json JSONB NOT NULL,
    request_hash BYTEA NOT NULL CHECK (octet_length(request_hash) = 32),
    asked_by     UUID NOT NULL,
    approved_by  UUID,
    state        VARCHAR(32) NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved')),
    asked_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at   TIMESTAMPTZ NOT NULL,
    approved_at  TIMESTAMPTZ,
    CHECK (approved_by <> asked_by),
    CHECK ((state = 'approved') = (approved_by IS NOT NULL AND approved_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX approval_open ON approval (asked_at, id) WHERE state = 'open';
CREATE INDEX approval_subject ON approval (subject_id, id);

-- What was asked never changes, and what was approved stays approved, whoever writes the SQL.
CREATE TRIGGER approval_request BEFORE UPDATE ON approval FOR EACH ROW
    WHEN (OLD.state <> 'open'
          OR (OLD.kind, OLD.subject_id, OLD.request_json, OLD.request_hash, OLD.asked_by, OLD.asked_at, OLD.expires_at)
          IS DISTINCT FROM (NEW.kind, NEW.subject_id, NEW.request_json, NEW.request_hash, NEW.asked_by, NEW.asked_at,
                            NEW.expires_at))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER approval_kept BEFORE DELETE ON approval FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- A buyer says that a delivered good does not work; `good_id` is a card key, or the line of a reusable one.
-- open → confirmed → replaced; open → replaced; open → refused. Writer: checkout/claims.py.
CREATE TABLE good_report (
    id            UUID PRIMARY KEY,
    merchant_id   UUID NOT NULL,
    order_id      UUID NOT NULL,
    order_line_id UUID NOT NULL,
    good_id       UUID NOT NULL UNIQUE,
    reason        VARCHAR(500) NOT NULL,
    state         VARCHAR(32) NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'confirmed', 'replaced', 'refused')),
    note          VARCHAR(200) NOT NULL DEFAULT '',
    reported_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    decided_by    VARCHAR(64),
    decided_at    TIMESTAMPTZ
) WITH (fillfactor = 80);
CREATE INDEX good_report_open ON good_report (merchant_id, reported_at, id) WHERE state IN ('open', 'confirmed');
CREATE INDEX good_report_order ON good_report (order_id, id);

-- Risk asked for proof of the payer: money that comes without it is held, never delivered.
ALTER TABLE payment_attempt ADD COLUMN must_authenticate BOOLEAN NOT NULL DEFAULT false;

-- The timetable looks through what risk holds once a minute.
CREATE INDEX orders_held ON orders (id) WHERE status = 'held';
