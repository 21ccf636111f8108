-- Mails owed and sent: one row per event, template and recipient, however often a job runs.

CREATE TABLE notification (
    id          UUID PRIMARY KEY,
    merchant_id UUID NOT NULL,
    order_id    UUID NOT NULL,
    sequence    INTEGER NOT NULL,                        -- of the event it tells of
    template    VARCHAR(32) NOT NULL,
    audience    VARCHAR(32) NOT NULL CHECK (audience IN ('buyer', 'merchant')),
    recipient   VARCHAR(320) NOT NULL,
    locale      VARCHAR(12) NOT NULL,
    facts_json  JSONB NOT NULL,
    state       VARCHAR(32) NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'leased', 'sent', 'failed')),
    round       SMALLINT NOT NULL DEFAULT 1,             -- grows when somebody asks for it again
    fence       INTEGER NOT NULL DEFAULT 0,
    tries       INTEGER NOT NULL DEFAULT 0,
    due_at      TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    lease_until TIMESTAMPTZ,
    error       VARCHAR(500),
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    sent_at     TIMESTAMPTZ,
    UNIQUE (order_id, sequence, template, recipient)
) WITH (fillfactor = 70);
CREATE INDEX notification_due ON notification (due_at, id) WHERE state = 'ready';
CREATE INDEX notification_lease ON notification (lease_until) WHERE state = 'leased';
CREATE INDEX notification_failed ON notification (created_at) WHERE state = 'failed';
CREATE INDEX notification_low_stock ON notification (merchant_id, (facts_json ->> 'variant'), created_at)
    WHERE template = 'stock_low';
