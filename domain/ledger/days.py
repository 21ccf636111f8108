"""Closing a day: the totals of every account that moved, taken once no transaction of that day can
be open.
"""

from __future__ import annotations

import asyncio
from datetime import date

from domain.core import clock, db
from domain.ledger.rules import DayOpen

WAIT_S = 15.0
_POLL_S = 0.05

# A number drawn after the day ended is above that of every transaction that recorded anything on
# that day.
_HORIZON = """
SELECT pg_current_xact_id()::text AS txid,
    (statement_timestamp() AT TIME ZONE 'UTC')::date AS today_on
"""
_IS_PAST = "SELECT pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8"
# Every day up to the last one taken is in some snapshot, so only the entries since then are read.
_TAKE = """
WITH last AS (
    SELECT coalesce(max(day_on), '-infinity') AS day_on FROM ledger_day WHERE day_on < $1),
fresh AS (
    SELECT t.* FROM ledger_transfer t
    WHERE t.phase IN ('posted', 'post')
        AND t.recorded_on <= $1 AND t.recorded_on > (SELECT day_on FROM last)),
moved AS (
    SELECT account_no, sum(debit) AS debits, sum(credit) AS credits
    FROM (SELECT source_no AS account_no, amount_minor AS debit, 0 AS credit FROM fresh
          UNION ALL SELECT target_no, 0, amount_minor FROM fresh) AS side GROUP BY account_no)
INSERT INTO ledger_day (account_no, day_on, debits_posted, credits_posted)
SELECT m.account_no, $1,
    coalesce(d.debits_posted, 0) + m.debits, coalesce(d.credits_posted, 0) + m.credits
FROM moved m LEFT JOIN LATERAL (
    SELECT debits_posted, credits_posted FROM ledger_day
    WHERE account_no = m.account_no AND day_on < $1 ORDER BY day_on DESC LIMIT 1) AS d ON true
ON CONFLICT DO NOTHING
"""


async def snapshot_day(day_on: date, *, wait_s: float = WAIT_S) -> int:
    """Write the totals at the end of the UTC day `day_on`; the number of accounts, 0 when it was
    done before.

    Waits up to `wait_s` for transactions that began before. Errors: DayOpen (retryable) when the
    day is not over by the database clock or such a transaction still runs.
    """
    assert not db.in_transaction(), "a transaction cannot wait for itself"
    horizon = await db.row(_HORIZON)
    assert horizon is not None
    if horizon["today_on"] <= day_on:
        raise DayOpen(day_on=day_on.isoformat(), reason="not over")
    deadline = clock.monotonic() + wait_s
    while not await db.value(_IS_PAST, horizon["txid"]):
        if clock.monotonic() >= deadline:
            raise DayOpen(day_on=day_on.isoformat(), reason="a transaction still runs")
        await asyncio.sleep(_POLL_S)
    return await db.execute(_TAKE, day_on)
