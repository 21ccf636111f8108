"""What has been written stays: tables that refuse change, statements, day totals, the past as it was."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from domain import ledger
from domain.core import clock
from domain.core import db as core_db
from tests import horizon
from tests.database import as_owner
from tests.domain.ledger_books import Shop, books

ALWAYS = date(2000, 1, 1), date(2100, 1, 1)


def _partition() -> str:
    return f"ledger_transfer_{datetime.now(UTC):%Y%m}"


async def _some_books() -> Shop:
    shop = Shop()
    await shop.pay_in(100)
    leg = shop.transfer("merchant_available", "merchant_in_transit", 10)
    await ledger.hold("h", leg, kind="payout", expires_at=clock.now())
    await horizon.passed()
    await ledger.seal()
    await _age(1)
    await ledger.snapshot_day(datetime.now(UTC).date() - timedelta(days=1))
    return shop


async def _age(days: int) -> None:
    """Let everything recorded so far have been recorded `days` earlier (the books refuse it to us)."""
    async with core_db.transaction():
        await core_db.execute("SET LOCAL ROLE NONE; SET LOCAL session_replication_role = replica")
        first = datetime.now(UTC).date() - timedelta(days=days)
        await core_db.fetch("SELECT ensure_partitions('ledger_transfer', $1::date, 2)", first)
        await core_db.execute(
            "UPDATE ledger_transfer SET recorded_on = recorded_on - $1::int", days
        )
        await core_db.execute(
            "UPDATE ledger_journal SET recorded_at = recorded_at - make_interval(days => $1),"
            " effective_at = effective_at - make_interval(days => $1)",
            days,
        )


TABLES = ("ledger_journal", "ledger_transfer", "ledger_seal", "ledger_day")
STATES = ("ledger_account", "ledger_balance", "ledger_hold")


@pytest.mark.parametrize("table", [*TABLES, *STATES, "partition"])
async def test_h31_the_books_refuse_change_to_the_application_and_to_their_owner(
    db: None, table: str
) -> None:
    await _some_books()
    name = _partition() if table == "partition" else table
    if table == "partition":
        await Shop().pay_in(1)  # the aged rows may lie in the month before
    column = {"ledger_day": "day_on", "ledger_seal": "seq"}.get(table)
    change = f"UPDATE {name} SET {column} = {column}" if column else None
    if table in ("ledger_journal", "ledger_transfer", "partition"):
        change = f"UPDATE {name} SET {'kind = kind' if 'journal' in name else 'ccy = ccy'}"
    before = await books()
    assert await as_owner(f"SELECT FROM {name}") > 0

    for sql in (change, f"DELETE FROM {name}", f"TRUNCATE {name}", f"TRUNCATE {name} CASCADE"):
        if sql is None:
            continue
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await core_db.execute(sql)
        with pytest.raises(asyncpg.RestrictViolationError):
            await as_owner(sql)

    assert await books() == before


@pytest.mark.parametrize(
    "change",
    [
        "ledger_balance SET version = version + 2",
        "ledger_balance SET version = version + 1, debits_posted = debits_posted - 1"
        " WHERE debits_posted > 0",
        "ledger_balance SET shard = shard + 100, version = version + 1",
        "ledger_account SET ccy = 'EUR'",
        "ledger_account SET shards = shards - 1 WHERE shards > 1",
        "ledger_account SET purpose = 'suspense'",
        "ledger_hold SET amount_minor = 1",
        "ledger_hold SET expires_at = expires_at + interval '1 day'",
    ],
)
async def test_state_moves_by_the_rules_only(db: None, change: str) -> None:
    await _some_books()
    before = await books()

    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner(f"UPDATE {change}")

    assert await books() == before


@pytest.mark.parametrize(
    "change",
    [
        "debits_posted = debits_posted + 101",
        "debits_pending = debits_pending + 101",
        "credits_pending = credits_pending - 11",
        "debits_posted = debits_posted - 101",
    ],
)
async def test_l03_the_table_is_the_last_guard_of_floors_and_counters(
    db: None, change: str
) -> None:
    await _some_books()
    before = await books()

    with pytest.raises((asyncpg.CheckViolationError, asyncpg.RestrictViolationError)):
        await as_owner(
            f"UPDATE ledger_balance SET version = version + 1, {change} WHERE floor_minor = 0"
        )

    assert await books() == before


async def test_a_reopened_account_is_refused(db: None) -> None:
    shop = Shop()
    await ledger.accounts([shop["wallet"]])
    await ledger.close(shop["wallet"])

    with pytest.raises(asyncpg.RestrictViolationError):
        await core_db.execute("UPDATE ledger_account SET closed_at = NULL")


async def test_new_partitions_refuse_truncate_too(db: None) -> None:
    await core_db.fetch("SELECT ensure_partitions('ledger_transfer', DATE '2031-05-17', 2)")

    for name in ("ledger_transfer_203105", "ledger_transfer_203106"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await as_owner(f"TRUNCATE {name}")


async def test_the_purposes_of_the_table_are_those_of_the_rules(db: None) -> None:
    text = await core_db.value(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conname = 'ledger_account_purpose_check'"
    )

    assert {part for part in text.split("'") if part.isidentifier()} - {"CHECK"} == set(
        ledger.PURPOSES
    )


async def test_statement_runs_from_opening_to_balance_in_pages(db: None) -> None:
    shop = Shop()
    for minor in range(1, 8):
        await shop.pay_in(minor * 10)
    spend = [shop.transfer("merchant_available", "bank_cash", 25)]
    await ledger.post("payout:1", spend, kind="payout")
    leg = shop.transfer("merchant_available", "merchant_in_transit", 5)
    await ledger.hold("h", leg, kind="payout", expires_at=clock.now())
    account = shop["merchant_available"]

    whole = await ledger.statement(account, *ALWAYS)
    pages = [await ledger.statement(account, *ALWAYS, limit=3)]
    while pages[-1].has_more:
        after = pages[-1].entries[-1]
        pages.append(await ledger.statement(account, *ALWAYS, after=after, limit=3))

    amounts = [entry.amount_minor for entry in whole.entries]
    # The hold is not on it.
    assert amounts == [10, 20, 30, 40, 50, 60, 70, -25]
    assert [entry.balance_minor for entry in whole.entries][-2:] == [280, 255]
    assert (whole.opening_minor, whole.has_more) == (0, False)
    assert [entry for page in pages for entry in page.entries] == whole.entries
    assert [len(page.entries) for page in pages] == [3, 3, 2]
    assert whole.entries[-1].key == "payout:1"
    assert (
        whole.entries[-1].other_no
        == (await ledger.accounts([shop["bank_cash"]]))[shop["bank_cash"]]
    )


async def test_statement_of_an_unknown_account_is_empty(db: None) -> None:
    shop = Shop()

    found = await ledger.statement(shop["wallet"], *ALWAYS)

    assert (found.opening_minor, found.entries, found.has_more) == (0, [], False)
    assert (await ledger.balance(shop["wallet"])).posted == 0
    assert (await ledger.as_of(shop["wallet"], clock.now())).minor == 0
    assert await ledger.balances(shop.owner_id) == {}


async def test_day_totals_open_the_next_statement(db: None) -> None:
    shop = Shop()
    account = shop["merchant_available"]
    today = datetime.now(UTC).date()
    await shop.pay_in(100)
    await _age(2)
    await shop.pay_in(10)
    leg = [shop.transfer("merchant_available", "bank_cash", 30)]
    await ledger.post("payout:1", leg, kind="payout")
    await _age(1)
    await shop.pay_in(1)
    before = await ledger.statement(account, today - timedelta(days=1), today)

    # Out of order, late, and twice: the same totals.
    assert await ledger.snapshot_day(today - timedelta(days=1)) == 3
    assert await ledger.snapshot_day(today - timedelta(days=3)) == 2
    assert await ledger.snapshot_day(today - timedelta(days=1)) == 0

    assert before.opening_minor == 100
    assert [entry.amount_minor for entry in before.entries] == [10, -30, 1]
    assert await ledger.statement(account, today - timedelta(days=1), today) == before
    opening = (await ledger.statement(account, today, today)).opening_minor
    assert opening == 80
    rows = await core_db.fetch(
        "SELECT day_on, debits_posted, credits_posted FROM ledger_day"
        " WHERE account_no = $1 ORDER BY day_on",
        (await ledger.accounts([account]))[account],
    )
    assert [tuple(row) for row in rows] == [
        (today - timedelta(days=3), 0, 100),
        (today - timedelta(days=1), 30, 110),
    ]
    assert await ledger.check() == []


async def test_a_day_is_closed_only_when_no_transaction_of_it_can_be_open(db: None) -> None:
    shop = Shop()
    today = datetime.now(UTC).date()
    with pytest.raises(ledger.DayOpen):
        await ledger.snapshot_day(today)

    release = asyncio.Event()
    begun = asyncio.Event()

    async def slow() -> None:
        async with core_db.transaction():
            await shop.pay_in(5)
            begun.set()
            await release.wait()

    task = asyncio.create_task(slow())
    await begun.wait()
    with pytest.raises(ledger.DayOpen) as caught:
        await ledger.snapshot_day(today - timedelta(days=1), wait_s=0.2)
    assert caught.value.retryable
    release.set()
    await task

    assert await ledger.snapshot_day(today - timedelta(days=1)) == 0


async def test_l28_the_past_is_not_moved_by_what_takes_effect_later(db: None) -> None:
    shop = Shop()
    account = shop["merchant_available"]
    await shop.pay_in(100)
    await _age(40)
    await shop.pay_in(7)
    await _age(3)
    at = [clock.now() - timedelta(days=days) for days in (44, 20, 1)]
    before = [(await ledger.as_of(account, one)).minor for one in at]

    await shop.pay_in(1_000)
    leg = shop.transfer("merchant_available", "merchant_in_transit", 60)
    await ledger.hold("h", leg, kind="payout", expires_at=clock.now())

    assert before == [0, 100, 107]
    assert [(await ledger.as_of(account, one)).minor for one in at] == before
    assert (await ledger.as_of(account, clock.now())).minor == 1_107
    # Only a back-dated journal changes it, and only from its date on.
    legs = [shop.transfer("provider_clearing", "merchant_available", 3)]
    await ledger.post("late", legs, kind="sale", effective_at=at[1] - timedelta(days=1))
    assert [(await ledger.as_of(account, one)).minor for one in at] == [0, 103, 110]


@pytest.mark.parametrize(
    ("sabotage", "fault"),
    [
        ("UPDATE ledger_balance SET credits_posted = credits_posted + 1", "I1 balances"),
        ("UPDATE ledger_balance SET credits_posted = credits_posted + 1", "I2 balance is not"),
        ("UPDATE ledger_balance SET version = version + 9", "I2 version"),
        ("DELETE FROM ledger_journal WHERE kind = 'sale'", "I1 transfer without"),
        ("DELETE FROM ledger_transfer WHERE phase = 'posted'", "I1 journal without"),
        ("UPDATE ledger_transfer SET line_no = 2", "I1 lines"),
        ("UPDATE ledger_transfer SET ccy = 'EUR'", "I1 transfer in another currency"),
        ("UPDATE ledger_balance SET floor_minor = NULL", "I3 account is not"),
        ("DELETE FROM ledger_hold", "I5 hold and its"),
        ("UPDATE ledger_hold SET amount_minor = amount_minor + 1", "I5 open holds"),
        (
            "UPDATE ledger_hold SET state = 'voided', resolved_by = id",
            "I5 hold is not resolved",
        ),
        ("UPDATE ledger_day SET credits_posted = credits_posted + 1", "I2 day total"),
    ],
)
async def test_l01_l05_the_check_finds_every_kind_of_fault(
    db: None, sabotage: str, fault: str
) -> None:
    await _some_books()
    assert await ledger.check() == []

    async with core_db.transaction():
        await core_db.execute("SET LOCAL ROLE NONE; SET LOCAL session_replication_role = replica")
        await core_db.execute(sabotage)

    assert any(line.startswith(fault) for line in await ledger.check())


async def test_the_check_finds_a_crooked_reversal(db: None) -> None:
    shop = Shop()
    legs = [shop.transfer("provider_clearing", "merchant_available", 3)]
    journal = await ledger.post("sale:1", legs, kind="sale")
    reversal = await ledger.reverse("undo", journal.id)

    async with core_db.transaction():
        await core_db.execute("SET LOCAL ROLE NONE; SET LOCAL session_replication_role = replica")
        await core_db.execute(
            "UPDATE ledger_transfer SET amount_minor = 2 WHERE journal_id = $1", reversal.id
        )

    assert any(line.startswith("I7") for line in await ledger.check())


async def test_l26_balances_of_one_owner_only(db: None) -> None:
    mine, other = Shop(), Shop()
    await mine.pay_in(5)
    await other.pay_in(7)

    found = await ledger.balances(mine.owner_id)

    assert {key: balance.posted for key, balance in found.items()} == {
        mine["merchant_available"]: 5
    }
