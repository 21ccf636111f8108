-- Documents that an app has registered: found by their hash, by this app alone.

CREATE TABLE app_document (
    app_id        UUID NOT NULL REFERENCES partner_app,
    document_hash BYTEA NOT NULL CHECK (octet_length(document_hash) = 32),
    text          TEXT NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (app_id, document_hash)
);

-- Whether the app runs these alone.
ALTER TABLE partner_app ADD COLUMN documents_only BOOLEAN NOT NULL DEFAULT false;
