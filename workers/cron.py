"""The one timetable: what runs how often, once in all processes, later when it was missed.

Every worker process looks; an advisory lock and a conditional update give each period to one of
them. A period that was begun and not ended (the process died) is begun again when its lease is
over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

import structlog

from domain import (
    alarms,
    bulk,
    catalogue,
    checkout,
    fx,
    identity,
    ledger,
    notifications,
    partners,
    payouts,
    risk,
    settlement,
    webhooks,
)
from domain.core import bell, db, four_eyes, once, promises, saga, trace
from workers import books
from workers.loops import Loop, end

LOOK_EVERY_S = 5.0
TIMEOUT_S = 60.0
SWEEP_S = 10.0  # who dies while sweeping keeps the others from it no longer than this
AGAIN_S = 60.0
DAYS_MAX = 31
MONTHS_AHEAD = 4
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
PARTITIONED = ("event_log", "ledger_transfer")
_LOCK = 0x6B616D6974696D65  # "kamitime"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Every:
    """`run()` once in each period of `every_s` seconds, counted from 1970.

    A period that nobody lived through is not made up for: only the latest counts.
    """

    name: str
    every_s: int
    run: Callable[[], Awaitable[object]]
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Daily:
    """`run(day)` once for each UTC day, from `at_s` past midnight on; missed days too."""

    name: str
    run: Callable[[date], Awaitable[object]]
    at_s: int = 0
    timeout_s: float = TIMEOUT_S


async def _sweep_promises() -> None:
    if await promises.sweep():
        await bell.ring(bell.PROMISES)


async def _watch_reveals() -> None:
    while await alarms.watch_reveals() >= alarms.REVEALS_MAX:
        pass


async def _make_partitions() -> None:
    for table in PARTITIONED:
        await db.execute("SELECT ensure_partitions($1, current_date, $2)", table, MONTHS_AHEAD)


EVERY: list[Every] = [
    Every("promises.sweep", 5, _sweep_promises, timeout_s=SWEEP_S),
    Every("saga.sweep", 10, saga.sweep, timeout_s=SWEEP_S),
    Every("orders.expire", 5, checkout.expire_due, timeout_s=SWEEP_S),
    Every("stock.sweep", 15, catalogue.sweep, timeout_s=SWEEP_S),
    Every("settlement.release", MINUTE_S, settlement.release_due),
    Every("exceptions.close", MINUTE_S, settlement.close_explained),
    Every("reserves.release", HOUR_S, settlement.release_reserves),
    Every("holds.expire", MINUTE_S, ledger.expire),
    Every("ledger.check", HOUR_S, books.check),
    Every("stock.fold", HOUR_S, catalogue.fold),
    Every("stock.prune", HOUR_S, catalogue.prune),
    Every("promises.prune", HOUR_S, promises.prune),
    Every("once.prune", HOUR_S, once.prune),
    Every("risk.overdue", MINUTE_S, checkout.decline_overdue),
    Every("risk.prune", HOUR_S, risk.prune),
    Every("identity.prune", HOUR_S, identity.prune),
    Every("partners.prune", HOUR_S, partners.prune),
    Every("fx.refresh", HOUR_S, fx.keep_current),
    Every("fx.expire", HOUR_S, fx.expire_due),
    Every("approvals.expire", MINUTE_S, four_eyes.expire),
    Every("payouts.methods", MINUTE_S, payouts.settle_methods),
    Every("alarms.reveals", 5, _watch_reveals, timeout_s=SWEEP_S),
    Every("alarms.honey", MINUTE_S, catalogue.ring_for_used_honey),
    Every("alarms.prune", HOUR_S, alarms.prune),
    Every("mails.sweep", MINUTE_S, notifications.sweep),
    Every("mails.prune", HOUR_S, notifications.prune),
    Every("webhooks.sweep", MINUTE_S, webhooks.sweep),
    Every("webhooks.prune", HOUR_S, webhooks.prune),
    Every("bulk.prune", HOUR_S, bulk.prune),
    Every("partitions", 6 * HOUR_S, _make_partitions),
]
DAILY: list[Daily] = [Daily("ledger.snapshot", books.snapshot, at_s=HOUR_S)]


_CLAIM = """
WITH leader AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS is_ours),
due AS (
    SELECT e.name, e.period, e.lease_s FROM (
        SELECT name, floor(extract(epoch FROM clock_timestamp()) / every_s)::bigint AS period,
        lease_s FROM unnest($2::text[], $3::int[], $4::float8[]) AS u(name, every_s, lease_s)) e
        CROSS JOIN leader LEFT JOIN timetable t ON t.name = e.name WHERE leader.is_ours AND (t.name
        IS NULL OR ((t.period < e.period OR t.done_at IS NULL) AND (t.lease_until IS NULL OR
        t.lease_until < clock_timestamp())))) INSERT INTO timetable AS t (name, period, fence,
        lease_until, begun_at) SELECT name, period, 1, clock_timestamp() + make_interval(secs =>
        lease_s), clock_timestamp() FROM due ON CONFLICT (name) DO UPDATE SET period =
        excluded.period, fence = t.fence + 1, lease_until = excluded.lease_until, begun_at =
        excluded.begun_at, done_at = NULL RETURNING name, fence
"""

_CLAIM_DAYS = """
WITH leader AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS is_ours),
entry AS (
    SELECT name, lease_s, (clock_timestamp() - make_interval(secs => at_s))::date AS today
    FROM unnest($2::text[], $3::int[], $4::float8[]) AS u(name, at_s, lease_s)),
wanted AS (
    SELECT e.name, e.lease_s, day::date AS day_on FROM entry e
    CROSS JOIN LATERAL generate_series(greatest(e.today - $5::int,
        coalesce((SELECT max(day_on) + 1 FROM timetable_day d WHERE d.name = e.name), e.today)),
        e.today, interval '1 day') AS day),
fresh AS (
    INSERT INTO timetable_day (name, day_on, lease_until)
    SELECT name, day_on, clock_timestamp() + make_interval(secs => lease_s) FROM wanted, leader
    WHERE is_ours ON CONFLICT DO NOTHING RETURNING name, day_on, fence),
again AS (
    UPDATE timetable_day d SET fence = d.fence + 1, begun_at = clock_timestamp(),
        lease_until = clock_timestamp() + make_interval(secs => e.lease_s)
    FROM entry e, leader WHERE is_ours AND d.name = e.name AND d.done_at IS NULL
        AND d.lease_until < clock_timestamp() RETURNING d.name, d.day_on, d.fence)
SELECT name, day_on, fence FROM fresh UNION ALL SELECT name, day_on, fence FROM again
ORDER BY name, day_on
"""


class Timetable:
    """The entries of this process and those of them that run in it now."""

    def __init__(self, every: Sequence[Every], daily: Sequence[Daily] = ()) -> None:
        self._every = {one.name: one for one in every}
        self._daily = {one.name: one for one in daily}
        self._running: set[asyncio.Task[None]] = set()
        self.loop = Loop("timetable", self.turn, LOOK_EVERY_S)

    async def turn(self) -> float:
        """Begin what is due and not begun by another process; the seconds until the next look."""
        for name, fence in await self._claim():
            self._begin(self._run(self._every[name], fence))
        days: dict[str, list[tuple[date, int]]] = {}
        for name, day_on, fence in await self._claim_days():
            days.setdefault(name, []).append((day_on, fence))
        for name, claimed in days.items():
            self._begin(self._run_days(self._daily[name], claimed))
        now = time.time()
        steps = [one.every_s for one in self._every.values()]
        return min(LOOK_EVERY_S, *(step - now % step + 0.02 for step in steps), LOOK_EVERY_S)

    async def stop(self) -> None:
        """Cancel what runs; it is begun again elsewhere when its lease is over."""
        await end(*self._running)

    async def idle(self) -> None:
        """Wait until nothing runs; for tests."""
        await asyncio.gather(*self._running)

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _claim(self) -> list[tuple[str, int]]:
        if not self._every:
            return []
        entries = list(self._every.values())
        rows = await db.fetch(
            _CLAIM,
            _LOCK,
            [one.name for one in entries],
            [one.every_s for one in entries],
            [one.timeout_s + 5 for one in entries],
        )
        return [(row["name"], row["fence"]) for row in rows]

    async def _claim_days(self) -> list[tuple[str, date, int]]:
        if not self._daily:
            return []
        entries = list(self._daily.values())
        rows = await db.fetch(
            _CLAIM_DAYS,
            _LOCK,
            [one.name for one in entries],
            [one.at_s for one in entries],
            [one.timeout_s + 5 for one in entries],
            DAYS_MAX,
        )
        return [(row["name"], row["day_on"], row["fence"]) for row in rows]

    async def _run(self, entry: Every, fence: int) -> None:
        error = await _attempt(entry.name, entry.run, entry.timeout_s)
        await db.execute(
            "UPDATE timetable SET done_at = clock_timestamp(), lease_until = NULL, error = $3"
            " WHERE name = $1 AND fence = $2",
            entry.name,
            fence,
            error,
        )

    async def _run_days(self, entry: Daily, claimed: list[tuple[date, int]]) -> None:
        """Day after day; when one fails it and the later ones are tried again in a minute."""
        failed = False
        for day_on, fence in claimed:
            error = None
            if not failed:
                run = partial(entry.run, day_on)
                error = await _attempt(entry.name, run, entry.timeout_s)
                failed = error is not None
            await db.execute(
                "UPDATE timetable_day SET error = $4,"
                " done_at = CASE WHEN $5 THEN NULL ELSE clock_timestamp() END,"
                " lease_until = clock_timestamp() + make_interval(secs => $6)"
                " WHERE name = $1 AND day_on = $2 AND fence = $3",
                entry.name,
                day_on,
                fence,
                error,
                failed,
                AGAIN_S,
            )


async def _attempt(name: str, run: Callable[[], Awaitable[object]], timeout_s: float) -> str | None:
    """Run an entry; None when it went well, else the words of its error."""
    try:
        with trace.span("job", f"cron.{name}"):
            async with asyncio.timeout(timeout_s):
                await run()
    except Exception as error:  # one entry that fails must not stop the timetable
        _log.error("cron.failed", entry=name, exc_info=error)
        return f"{type(error).__name__}: {error}".replace("\0", "")[:2000]
    return None
