"""The timetable: each period once however many processes look, missed ones later, days one by one."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest

from domain.core import db as database
from domain.core import promises
from domain.core.ids import uuid7
from domain.fx.ports import feeds
from plugins.fx.ecb_snapshot import EcbSnapshot
from workers import cron
from workers.cron import Daily, Every, Timetable

YEAR_S = 366 * 86_400  # a period that does not end while the test runs


class Counter:
    """An entry that counts its runs and fails as often as told."""

    def __init__(self, *, fails: int = 0) -> None:
        self.runs = 0
        self.days: list[date] = []
        self.fails = fails

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self.fails:
            raise RuntimeError("no\0t yet")

    async def on(self, day: date) -> None:
        self.days.append(day)
        if len(self.days) <= self.fails:
            raise RuntimeError("not yet")


async def turn(*tables: Timetable) -> None:
    await asyncio.gather(*(table.turn() for table in tables))
    await asyncio.gather(*(table.idle() for table in tables))


async def leases_end() -> None:
    for table in ("timetable", "timetable_day"):
        await database.execute(
            f"UPDATE {table} SET lease_until = clock_timestamp() - interval '1 s'"
            " WHERE lease_until IS NOT NULL"
        )


async def test_k26_five_processes_run_a_period_once(db: None) -> None:
    count = Counter()
    tables = [Timetable([Every("job", YEAR_S, count)]) for _ in range(5)]

    for _ in range(5):
        await turn(*tables)

    assert count.runs == 1


async def test_a_period_missed_while_nobody_lived_runs_after_the_restart(db: None) -> None:
    count = Counter()
    await turn(Timetable([Every("job", YEAR_S, count)]))
    await database.execute("UPDATE timetable SET period = period - 3")

    await turn(Timetable([Every("job", YEAR_S, count)]))
    await turn(Timetable([Every("job", YEAR_S, count)]))

    assert count.runs == 2


async def test_a_period_whose_process_died_is_begun_again_after_its_lease(db: None) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.sleep(60)

    count = Counter()
    dying = Timetable([Every("job", YEAR_S, hang)])
    await dying.turn()
    await begun.wait()
    await dying.stop()

    await turn(Timetable([Every("job", YEAR_S, count)]))
    assert count.runs == 0
    await leases_end()
    await turn(Timetable([Every("job", YEAR_S, count)]))

    assert count.runs == 1


async def test_l20_who_dies_while_sweeping_keeps_nobody_from_it_for_long(db: None) -> None:
    dying = Timetable([one for one in cron.EVERY if one.every_s <= 15])
    assert {name for name, _ in await dying._claim()} == {
        "promises.sweep",
        "saga.sweep",
        "orders.expire",
        "stock.sweep",
        "alarms.reveals",
    }  # begun, and nobody lives to end them

    longest_s = await database.value(
        "SELECT extract(epoch FROM max(lease_until) - clock_timestamp())::float8 FROM timetable"
    )

    # A promise's own lease, its sweep by another process and the work itself fit into L20's two minutes.
    assert promises.LEASE_S + longest_s + 15 + 25 <= 120


async def test_an_entry_that_fails_is_written_down_and_stops_no_other(db: None) -> None:
    good, bad = Counter(), Counter(fails=1)
    table = Timetable([Every("bad", YEAR_S, bad), Every("good", YEAR_S, good)])

    await turn(table)

    rows = await database.fetch(
        "SELECT name, error, done_at IS NOT NULL AS is_done FROM timetable ORDER BY name"
    )
    assert [tuple(row) for row in rows] == [
        ("bad", "RuntimeError: not yet", True),
        ("good", None, True),
    ]
    await database.execute("UPDATE timetable SET period = period - 1")
    await turn(table)
    assert (good.runs, bad.runs) == (2, 2)
    assert await database.value("SELECT count(*) FROM timetable WHERE error IS NOT NULL") == 0


async def test_an_entry_that_hangs_is_cut(db: None) -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    await turn(Timetable([Every("job", YEAR_S, hang, timeout_s=0.05)]))

    error = await database.value("SELECT error FROM timetable")
    assert error.startswith("TimeoutError")


async def test_k26_each_day_runs_once_and_missed_days_in_order(db: None) -> None:
    count = Counter()
    tables = [Timetable([], [Daily("day", count.on)]) for _ in range(4)]
    await turn(*tables)
    today = count.days[0]
    assert today == datetime.now(UTC).date()
    await database.execute("UPDATE timetable_day SET day_on = day_on - 3")

    for _ in range(3):
        await turn(*tables)

    assert count.days == [today, *(today - timedelta(days=back) for back in (2, 1, 0))]


async def test_a_day_that_fails_is_done_before_the_later_ones(db: None) -> None:
    count = Counter()
    table = Timetable([], [Daily("day", count.on)])
    await turn(table)
    await database.execute("UPDATE timetable_day SET day_on = day_on - 2")
    today = count.days.pop()
    count.fails = 1

    await turn(table)
    await turn(table)
    assert count.days == [today - timedelta(days=1)]
    await leases_end()
    await turn(table)

    yesterday = today - timedelta(days=1)
    assert count.days == [yesterday, yesterday, today]
    open_days = await database.value("SELECT count(*) FROM timetable_day WHERE done_at IS NULL")
    assert open_days == 0


async def test_a_day_does_not_begin_before_its_hour(db: None) -> None:
    count = Counter()
    now = datetime.now(UTC)
    passed_s = (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).seconds
    table = Timetable([], [Daily("later", count.on, at_s=min(passed_s + 600, 86_399))])

    await turn(table)

    assert count.days == [now.date() - timedelta(days=1)]


async def test_a_night_of_many_years_is_not_made_up_for(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cron, "DAYS_MAX", 2)
    count = Counter()
    table = Timetable([], [Daily("day", count.on)])
    await turn(table)
    await database.execute("UPDATE timetable_day SET day_on = day_on - 400")

    await turn(table)

    assert len(count.days) == 1 + 3


async def test_the_sweeper_of_promises_rings(db: None) -> None:
    async with database.transaction():
        await promises.promise("general", "note", uuid7())
    await promises.lease(["general"])
    await database.execute("UPDATE promise SET lease_until = clock_timestamp() - interval '1 s'")

    await cron._sweep_promises()

    assert await database.value("SELECT state FROM promise") == "ready"


async def test_every_entry_of_the_real_timetable_runs_on_an_empty_database(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(feeds, "ecb_snapshot", EcbSnapshot(None))
    table = Timetable(cron.EVERY)

    await turn(table)

    rows = await database.fetch("SELECT name, error FROM timetable WHERE error IS NOT NULL")
    assert [tuple(row) for row in rows] == []
    assert await database.value("SELECT count(*) FROM timetable") == len(cron.EVERY)
    assert len({one.name for one in cron.EVERY}) == len(cron.EVERY)
    assert 0 < await table.turn() <= cron.LOOK_EVERY_S
    months = await database.value(
        "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event_log'::regclass"
    )
    assert months >= cron.MONTHS_AHEAD
