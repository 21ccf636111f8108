-- The timetable: what ran last, so that what was missed runs after a restart. Writer: workers/cron.py.

-- `period` counts intervals since 1970: moving it forward is the right to run, and only one process can.
CREATE TABLE timetable (
    name        VARCHAR(64) PRIMARY KEY,
    period      BIGINT NOT NULL DEFAULT -1,
    fence       INTEGER NOT NULL DEFAULT 0,
    lease_until TIMESTAMPTZ,
    begun_at    TIMESTAMPTZ,
    done_at     TIMESTAMPTZ,
    error       TEXT
) WITH (fillfactor = 50);

-- Daily work, one row per day for ever: a day is never done twice and never left out.
CREATE TABLE timetable_day (
    name        VARCHAR(64) NOT NULL,
    day_on      DATE NOT NULL,
    fence       INTEGER NOT NULL DEFAULT 1,
    lease_until TIMESTAMPTZ,
    begun_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    done_at     TIMESTAMPTZ,
    error       TEXT,
    PRIMARY KEY (name, day_on)
);
CREATE INDEX timetable_day_open ON timetable_day (name, day_on) WHERE done_at IS NULL;
