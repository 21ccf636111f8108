-- Bulk work: an export pages through one list, an import runs one mutation per line; results lie in sealed pieces.

CREATE TABLE bulk_job (
    id           UUID PRIMARY KEY,
    merchant_id  UUID NOT NULL,
    account_id   UUID NOT NULL,                           -- who asked, or let the app
    app_id       UUID,                                    -- the app that asked, under this grant, with these scopes
    grant_id     UUID,
    scopes       VARCHAR(32)[] NOT NULL,
    kind         VARCHAR(32) NOT NULL CHECK (kind IN ('export', 'import')),
    document     TEXT NOT NULL,                           -- the query or mutation as it was sent
    root         VARCHAR(64) NOT NULL,                    -- its one field
    country      VARCHAR(2) NOT NULL,                     -- as whom it is asked: the market of whoever asked
    language     VARCHAR(35) NOT NULL,
    state        VARCHAR(32) NOT NULL DEFAULT 'waiting'
                 CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    problem      VARCHAR(64),                             -- why it failed
    total        INTEGER,                                 -- rows there are, as far as that is known
    done         INTEGER NOT NULL DEFAULT 0,              -- rows whose result is in a piece
    failed       INTEGER NOT NULL DEFAULT 0,              -- of them, those with an error or a problem
    size         BIGINT NOT NULL DEFAULT 0,               -- bytes of the result
    pieces       INTEGER NOT NULL DEFAULT 0,
    position     VARCHAR(1000),                           -- of an export: the cursor behind the last row
    event_cursor VARCHAR(1000),                           -- of an export: the stream goes on from here
    cancelled_at TIMESTAMPTZ,                             -- asked for
    fence        INTEGER NOT NULL DEFAULT 0,
    tries        INTEGER NOT NULL DEFAULT 0,              -- since something was last done
    due_at       TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    lease_until  TIMESTAMPTZ,
    turn_at      TIMESTAMPTZ,                             -- of its last turn, for fairness between merchants
    created_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    started_at   TIMESTAMPTZ,
    finished_at  TIMESTAMPTZ,
    expires_at   TIMESTAMPTZ,                             -- of the result
    CHECK ((app_id IS NULL) = (grant_id IS NULL)),
    CHECK ((state = 'failed') = (problem IS NOT NULL)),
    CHECK ((state IN ('waiting', 'running')) = (finished_at IS NULL)),
    CHECK ((finished_at IS NULL) = (expires_at IS NULL)),
    CHECK (failed <= done)
) WITH (fillfactor = 70);
CREATE INDEX bulk_job_open ON bulk_job (due_at) WHERE state IN ('waiting', 'running');
CREATE INDEX bulk_job_list ON bulk_job (merchant_id, account_id, id);
CREATE INDEX bulk_job_turn ON bulk_job (merchant_id, turn_at);
CREATE INDEX bulk_job_expiry ON bulk_job (expires_at);

-- Lines of the result, compressed and sealed for exactly this place.
CREATE TABLE bulk_piece (
    job_id UUID NOT NULL,
    no     INTEGER NOT NULL,
    body   BYTEA NOT NULL,
    PRIMARY KEY (job_id, no)
);

-- Lines of an import, until it is over.
CREATE TABLE bulk_input (
    job_id    UUID NOT NULL,
    first_row INTEGER NOT NULL,                           -- counts from 1
    rows      INTEGER NOT NULL,
    body      BYTEA NOT NULL,
    PRIMARY KEY (job_id, first_row)
);
ALTER TABLE bulk_piece ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE bulk_input ALTER COLUMN body SET STORAGE EXTERNAL;
