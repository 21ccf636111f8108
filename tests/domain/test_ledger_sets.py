"""The set form: N journals in a handful of statements, inside the caller's transaction."""

from __future__ import annotations

import asyncio
import contextvars
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from domain import ledger
from domain.core import db as core_db
from domain.core import ids
from domain.core.errors import DomainError
from domain.ledger import AccountKey, JournalDraft, TransferLines, batch
from tests.database import as_owner
from tests.domain.ledger_books import Shop, books


def _draft(key: str, content: int = 0) -> JournalDraft:
    return JournalDraft(ids.uuid7(), key, bytes([content] * 32), "sale")


async def _set(
    shop: Shop, drafts: list[JournalDraft], legs: list[tuple[str, str, int]], *, lane: int = 0
) -> ledger.Opened:
    """One journal per draft, each with all `legs`."""
    async with core_db.transaction():
        opened = await ledger.open_many(drafts)
        keys = [shop[purpose] for leg in legs for purpose in leg[:2]]
        numbers = await ledger.accounts(keys)
        await ledger.lock(list(numbers.values()), lane)
        lines = TransferLines()
        for draft in drafts:
            if draft.id not in opened.new:
                continue
            for source, target, minor in legs:
                lines.add(draft.id, numbers[shop[source]], numbers[shop[target]], minor, shop.ccy)
        await ledger.write(lines, lane=lane)
    return opened


SALE = [
    ("provider_clearing", "merchant_available", 94),
    ("provider_clearing", "platform_commission", 6),
    ("provider_fee", "provider_clearing", 3),
]


async def test_a_set_posts_each_key_once(db: None) -> None:
    shop = Shop()
    drafts = [_draft(f"sale:{number}") for number in range(5)]
    first = await _set(shop, drafts[:3], SALE)

    again = [_draft(f"sale:{number}") for number in range(4)]
    second = await _set(shop, [*again, _draft("sale:4", content=1), drafts[4]], SALE)

    assert first == ledger.Opened({draft.id for draft in drafts[:3]}, set(), set(), {})
    assert second.done == {"sale:0", "sale:1", "sale:2"}
    assert second.found["sale:0"] == drafts[0].id
    # Twice in one set: the first of them is written, the other is refused for its content.
    assert len(second.new) == 2
    assert again[3].id in second.new
    assert await shop.posted("merchant_available", "platform_commission", "provider_fee") == [
        5 * 94,
        5 * 6,
        -15,
    ]
    assert await ledger.check() == []


async def test_a_set_takes_few_statements_whatever_its_size(db: None) -> None:
    shop = Shop()
    await _set(shop, [_draft("warm")], SALE)

    counts = []
    for size in (1, 50):
        drafts = [_draft(f"sale:{size}:{number}") for number in range(size)]
        async with core_db.statements() as seen:
            await _set(shop, drafts, SALE)
        counts.append(len(seen))

    # BEGIN, journals, lock, transfers, balances, COMMIT.
    assert counts == [6, 6]
    balance = await ledger.balance(shop["merchant_available"])
    assert (balance.posted, balance.version) == (52 * 94, 3)


async def _new_set(shop: Shop, drafts: list[JournalDraft]) -> datetime:
    """One posted transfer per draft, all keys taken to be new; the time of the locks."""
    async with core_db.transaction():
        numbers = await ledger.accounts([shop["provider_clearing"], shop["merchant_available"]])
        source, target = numbers[shop["provider_clearing"]], numbers[shop["merchant_available"]]
        _, at = await ledger.lock_now([source, target])
        await ledger.open_new(drafts, at)
        lines = TransferLines()
        for draft in drafts:
            lines.add(draft.id, source, target, 94, shop.ccy)
        await ledger.write(lines)
    return at


@pytest.mark.parametrize("size", [1, 30])
async def test_new_journals_are_stored_as_drafted_and_never_post_dated(db: None, size: int) -> None:
    shop, of = Shop(), uuid4()
    past, ahead = datetime(2026, 1, 2, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    times = [past, ahead, None] * size
    drafts = [
        _draft(f"sale:{number}", content=7)._replace(effective_at=when, correlation_id=of)
        for number, when in enumerate(times)
    ]

    at = await _new_set(shop, drafts)

    rows = await core_db.fetch("SELECT * FROM ledger_journal ORDER BY no")
    assert [(row["id"], row["key"]) for row in rows] == [(one.id, one.key) for one in drafts]
    assert [row["effective_at"] for row in rows] == [past, at, at] * size
    assert {row["recorded_at"] for row in rows} == {at}
    assert {(row["input_hash"], row["kind"], row["correlation_id"]) for row in rows} == {
        (bytes([7] * 32), "sale", of)
    }
    assert len({row["batch_id"] for row in rows}) == 1 and rows[0]["batch_id"] is not None
    assert await shop.posted("merchant_available") == [94 * 3 * size]
    assert await ledger.check() == []


@pytest.mark.parametrize("content", [0, 1])
@pytest.mark.parametrize("others", [0, 20])
async def test_a_taken_key_among_new_journals_rolls_the_set_back(
    db: None, content: int, others: int
) -> None:
    shop = Shop()
    await _new_set(shop, [_draft("sale:1")])
    before = await books()
    drafts = [_draft(f"other:{number}") for number in range(others)]

    with pytest.raises(ledger.KeyReused):
        await _new_set(shop, [*drafts, _draft("sale:1", content)])

    assert await books() == before


async def test_lanes_write_their_own_rows_of_shared_accounts(db: None) -> None:
    shops = [Shop(), Shop()]
    for lane, shop in enumerate(shops):
        await _set(shop, [_draft(f"sale:{lane}")], SALE, lane=lane)
    await _set(shops[0], [_draft("sale:far")], SALE, lane=ledger.PURPOSES["provider_fee"].shards)

    rows = await core_db.fetch(
        "SELECT shard, credits_posted FROM ledger_balance JOIN ledger_account a ON a.no = account_no"
        " WHERE a.purpose = 'platform_commission' AND credits_posted > 0 ORDER BY shard"
    )
    assert [tuple(row) for row in rows] == [(0, 12), (1, 6)]
    assert await shops[0].posted("platform_commission") == [18]
    assert await ledger.check() == []


async def test_lanes_do_not_wait_for_each_other(db: None) -> None:
    shops = [Shop(), Shop()]
    for lane, shop in enumerate(shops):
        await _set(shop, [_draft(f"warm:{lane}")], SALE, lane=lane)

    outside = contextvars.copy_context()
    async with core_db.transaction():
        numbers = await ledger.accounts([shops[0]["platform_commission"]])
        await ledger.lock(list(numbers.values()), 0)
        # Another connection, another lane: it is done while our row is locked.
        other = _set(shops[1], [_draft("other")], SALE, lane=1)
        await asyncio.wait_for(asyncio.create_task(other, context=outside), 5)

    assert await shops[1].posted("merchant_available") == [188]


@pytest.mark.parametrize(
    ("leg", "error"),
    [
        (("merchant_available", "bank_cash", 95), ledger.InsufficientFunds),
        (("provider_clearing", "merchant_debt", 1), ledger.CeilingExceeded),
    ],
)
async def test_a_set_that_breaks_a_limit_is_rolled_back_whole(
    db: None, leg: tuple[str, str, int], error: type[DomainError]
) -> None:
    shop = Shop()
    await _set(shop, [_draft("sale:1")], SALE)
    await ledger.accounts([shop["bank_cash"], shop["merchant_debt"]])
    before = await books()

    with pytest.raises(error) as caught:
        await _set(shop, [_draft("sale:2")], [leg])

    assert caught.value.facts["purpose"] in leg
    assert await books() == before


async def test_a_set_in_the_wrong_currency_or_on_a_closed_account_is_refused(db: None) -> None:
    shop = Shop()
    await _set(shop, [_draft("sale:1")], SALE)
    numbers = await ledger.accounts([shop["provider_clearing"], shop["merchant_pending"]])
    await ledger.close(shop["merchant_pending"])
    before = await books()

    async def wrong(ccy: str) -> None:
        async with core_db.transaction():
            draft = _draft("sale:2")
            await ledger.open_many([draft])
            await ledger.lock(list(numbers.values()))
            lines = TransferLines()
            source, target = numbers.values()
            lines.add(draft.id, source, target, 5, ccy)
            await ledger.write(lines)

    with pytest.raises(ledger.CurrencyMismatch):
        await wrong("EUR")
    with pytest.raises(ledger.AccountClosed):
        await wrong("USD")
    assert await books() == before


async def test_one_account_in_two_currencies_within_a_set_is_refused(db: None) -> None:
    shop = Shop()
    await _set(shop, [_draft("sale:1")], SALE)
    purposes = ("provider_clearing", "merchant_available")
    source, target = (await ledger.accounts([shop[name] for name in purposes])).values()
    lines = TransferLines()
    lines.add(uuid4(), source, target, 5, "USD")
    lines.add(uuid4(), source, target, 5, "EUR")

    with pytest.raises(ledger.CurrencyMismatch):
        await ledger.write(lines)


async def test_lines_are_numbered_per_journal_also_when_mixed() -> None:
    lines = TransferLines()
    one, two = UUID(int=1), UUID(int=2)

    for journal in (one, two, one, one, two):
        lines.add(journal, 1, 2, 5, "USD")

    assert lines.line_nos == [1, 1, 2, 3, 2]
    assert len(lines) == 5


async def test_accounts_opened_in_a_rolled_back_transaction_are_not_remembered(db: None) -> None:
    shop = Shop()
    key = shop["merchant_available"]
    assert (await ledger.available(key)) == 0

    lost = []

    async def undone() -> None:
        async with core_db.transaction():
            lost.append((await ledger.accounts([key]))[key])
            assert (await ledger.accounts([key]))[key] == lost[0]
            await ledger.lock(lost)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await undone()

    kept = (await ledger.accounts([key]))[key]
    assert kept != lost[0]
    await shop.pay_in(5)
    assert await shop.posted("merchant_available") == [5]


async def test_accounts_are_opened_once_by_whoever_comes_first(db: None) -> None:
    shops = [Shop() for _ in range(4)]
    keys = [shop[purpose] for shop in shops for purpose in ("wallet", "merchant_available")]

    async def open_some(start: int) -> dict[AccountKey, int]:
        ledger.forget()
        if start % 2:
            async with core_db.transaction():
                return await ledger.accounts(keys[start % 8 :] + keys[: start % 8])
        return await ledger.accounts(keys)

    found = await asyncio.gather(*(open_some(start) for start in range(16)))

    assert all(one == found[0] for one in found)
    rows = await core_db.value("SELECT count(*) FROM ledger_account")
    assert rows == len(keys) == await core_db.value("SELECT count(*) FROM ledger_balance")


async def test_known_accounts_cost_no_statement(db: None) -> None:
    shop = Shop()
    keys = [shop["merchant_available"], shop["provider_clearing"]]
    await ledger.accounts(keys)

    async with core_db.statements() as seen:
        await ledger.accounts(keys * 100)

    assert seen == []


async def test_an_account_has_all_its_rows_and_limits_from_the_start(db: None) -> None:
    shop = Shop()
    numbers = await ledger.accounts([shop["merchant_debt"], shop["provider_clearing"]])

    rows = await core_db.fetch(
        "SELECT account_no, count(*), max(floor_minor), max(ceiling_minor) FROM ledger_balance"
        " GROUP BY account_no ORDER BY account_no"
    )

    debt, clearing = numbers.values()
    assert {row[0]: tuple(row[1:]) for row in rows} == {
        debt: (1, None, 0),
        clearing: (ledger.PURPOSES["provider_clearing"].shards, None, None),
    }


async def test_rows_of_a_raised_number_of_shards_appear_on_demand(db: None) -> None:
    shop = Shop()
    numbers = await ledger.accounts([shop["provider_fee"]])
    await as_owner("UPDATE ledger_account SET shards = shards + 4")
    ledger.forget()
    last = ledger.PURPOSES["provider_fee"].shards + 3

    async with core_db.transaction():
        held = await ledger.lock(list(numbers.values()), last)

    assert [balance.shard for balance in held.values()] == [last]
    assert await ledger.check() == []


async def test_two_sets_with_the_same_keys_in_other_order_do_not_deadlock(db: None) -> None:
    shop = Shop()
    await _set(shop, [_draft("warm")], SALE)

    async def one(reverse: bool) -> int:
        drafts = [_draft(f"sale:{number}") for number in range(40)]
        opened = await _set(shop, drafts[::-1] if reverse else drafts, SALE)
        return len(opened.new)

    new = await asyncio.gather(*(one(bool(number % 2)) for number in range(6)))

    assert sorted(new) == [0, 0, 0, 0, 0, 40]
    assert await shop.posted("merchant_available") == [41 * 94]
    assert await ledger.check() == []


async def test_locks_are_taken_in_sorted_order(db: None) -> None:
    shops = [Shop() for _ in range(3)]
    numbers = await ledger.accounts([shop["wallet"] for shop in shops])

    async with core_db.transaction():
        held = await batch.lock_rows((no, 0) for no in reversed(numbers.values()))

    assert list(held) == sorted(held)
