-- The core: event log, promises, idempotency, the positions of those who follow the log.

-- What happened, once. `sequence` counts per order under the order row's lock, so it is a safe cursor;
-- (txid, no) is the commit-safe position of those who follow the whole log.
CREATE TABLE event_log (
    no          BIGINT GENERATED ALWAYS AS IDENTITY,
    txid        XID8 NOT NULL DEFAULT pg_current_xact_id(),
    order_id    UUID NOT NULL,
    merchant_id UUID NOT NULL,
    sequence    INTEGER NOT NULL,
    kind        VARCHAR(32) NOT NULL,
    facts_json  JSONB NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
) PARTITION BY RANGE (recorded_at);
CREATE INDEX event_log_order ON event_log (order_id, sequence);
CREATE INDEX event_log_position ON event_log (txid, no);

CREATE TABLE event_reader (
    name     VARCHAR(64) PRIMARY KEY,
    txid     XID8 NOT NULL,
    no       BIGINT NOT NULL,
    moved_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

-- Work owed. Redis only rings the bell; this row is the record.
CREATE TABLE promise (
    id          UUID PRIMARY KEY,
    queue       VARCHAR(32) NOT NULL CHECK (queue IN ('settlement', 'risk', 'delivery', 'general')),
    task        VARCHAR(64) NOT NULL,
    subject_id  UUID NOT NULL,
    key         VARCHAR(120) UNIQUE,
    state       VARCHAR(32) NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'leased', 'done', 'dead')),
    due_at      TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    fence       INTEGER NOT NULL DEFAULT 0,
    tries       INTEGER NOT NULL DEFAULT 0,
    lease_until TIMESTAMPTZ,
    error       TEXT,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    done_at     TIMESTAMPTZ
) WITH (fillfactor = 70);
CREATE INDEX promise_due ON promise (queue, due_at, id) WHERE state = 'ready';
CREATE INDEX promise_lease ON promise (lease_until) WHERE state = 'leased';
CREATE INDEX promise_dead ON promise (created_at) WHERE state = 'dead';
CREATE INDEX promise_done ON promise (done_at) WHERE state = 'done';

-- A key and its effect commit together; `result_json` rebuilds the answer, `response` is its exact bytes, sealed.
CREATE TABLE idempotency (
    scope        VARCHAR(120) NOT NULL,
    key          VARCHAR(120) NOT NULL,
    request_hash BYTEA NOT NULL,
    result_json  JSONB,
    response     BYTEA,
    response_for BYTEA,
    lease_until  TIMESTAMPTZ,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, key)
) WITH (fillfactor = 70);
CREATE INDEX idempotency_age ON idempotency USING brin (created_at);

-- Long work in steps with compensations; `fence` refuses the late write of a worker that lost its lease.
-- `step` is the step to run next (running) or to undo next (compensating); `facts_json` is what the steps told.
CREATE TABLE saga (
    id          UUID PRIMARY KEY,
    kind        VARCHAR(32) NOT NULL,
    subject_id  UUID NOT NULL,
    state       VARCHAR(32) NOT NULL DEFAULT 'running'
                CHECK (state IN ('running', 'compensating', 'done', 'compensated', 'stuck')),
    step        SMALLINT NOT NULL DEFAULT 0,
    facts_json  JSONB NOT NULL DEFAULT '{}',
    fence       INTEGER NOT NULL DEFAULT 0,
    lease_until TIMESTAMPTZ,
    tries       INTEGER NOT NULL DEFAULT 0,
    error       TEXT,
    due_at      TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    created_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    moved_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (kind, subject_id)
) WITH (fillfactor = 70);
CREATE INDEX saga_open ON saga (due_at) WHERE state IN ('running', 'compensating');
CREATE INDEX saga_stuck ON saga (moved_at) WHERE state = 'stuck';
CREATE TABLE saga_step (
    no          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    saga_id     UUID NOT NULL,
    name        VARCHAR(64) NOT NULL,
    phase       VARCHAR(32) NOT NULL CHECK (phase IN ('forward', 'compensate')),
    outcome     VARCHAR(32) NOT NULL CHECK (outcome IN ('done', 'failed')),
    facts_json  JSONB NOT NULL,
    at          TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (saga_id, name, phase, outcome)
);

-- Who looked at, exported or changed what; written before the plaintext leaves.
CREATE TABLE audit_log (
    no          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    merchant_id UUID,
    actor_kind  VARCHAR(32) NOT NULL,
    actor_id    VARCHAR(64) NOT NULL,
    action      VARCHAR(64) NOT NULL,
    subject_id  UUID NOT NULL,
    facts_json  JSONB NOT NULL,
    request_id  VARCHAR(64),
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_log_subject ON audit_log (subject_id, no);

-- Monthly partitions are made ahead by the timetable; `ensure_partitions` is idempotent.
CREATE FUNCTION ensure_partitions(parent TEXT, from_on DATE, months INTEGER) RETURNS INTEGER LANGUAGE plpgsql AS $$
DECLARE made INTEGER := 0; lower_on DATE; name TEXT;
BEGIN
    FOR i IN 0 .. months - 1 LOOP
        lower_on := (date_trunc('month', from_on) + make_interval(months => i))::date;
        name := format('%s_%s', parent, to_char(lower_on, 'YYYYMM'));
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                name, parent, lower_on, (lower_on + interval '1 month')::date);
            -- Row triggers are inherited, a TRUNCATE trigger is not.
            IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = parent::regclass
                       AND tgname = parent || '_no_truncate') THEN
                EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %I'
                    ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name || '_no_truncate', name);
            END IF;
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;
SELECT ensure_partitions('event_log', current_date, 4);

-- Facts are written once: the owner of the tables is stopped too.
CREATE FUNCTION refuse_change() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER event_log_append_only BEFORE UPDATE OR DELETE ON event_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
