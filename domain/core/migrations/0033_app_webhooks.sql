-- Webhooks of apps: one endpoint per webhook of an app, one delivery per event and grant (decision 15).
ALTER TABLE webhook_endpoint
    ADD COLUMN app_id UUID REFERENCES partner_app,        -- null: the merchant's own; else merchant_id is the developers'
    ADD COLUMN scopes TEXT[] NOT NULL DEFAULT '{}';       -- what its payload takes of a grant
CREATE UNIQUE INDEX webhook_endpoint_app ON webhook_endpoint (app_id, url)
    WHERE app_id IS NOT NULL AND deleted_at IS NULL;

ALTER TABLE webhook_delivery
    ADD COLUMN grant_id UUID REFERENCES app_grant,        -- under which it is told; merchant_id is the grant's
    ADD COLUMN sees_split BOOLEAN,                        -- whether the body was made for who may read the money
    DROP CONSTRAINT webhook_delivery_endpoint_id_order_id_sequence_key,
    ADD CONSTRAINT webhook_delivery_once UNIQUE NULLS NOT DISTINCT (endpoint_id, order_id, sequence, grant_id);
CREATE INDEX webhook_delivery_grant ON webhook_delivery (grant_id) WHERE grant_id IS NOT NULL AND state = 'ready';

-- Orders that an app placed, under which grant.
CREATE TABLE app_sale (
    order_id   UUID PRIMARY KEY REFERENCES orders,
    app_id     UUID NOT NULL REFERENCES partner_app,
    grant_id   UUID NOT NULL REFERENCES app_grant,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
