"""Quotes in the database: what is locked stays, and a lock is used up once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import asyncpg
import pytest

from domain import fx
from domain.core import clock, db, ids
from domain.core.money import UnsupportedCurrency
from domain.fx.models import QuoteState
from tests.domain.exchange import consume, feed, lock

pytestmark = pytest.mark.usefixtures("db", "fresh")


@pytest.fixture
def fresh() -> Iterator[None]:
    """No rates remembered from another test, and the clock back in its place."""
    fx.forget()
    yield
    fx.forget()
    clock.shift(timedelta())


async def test_a_quote_locks_a_rate_and_is_stored() -> None:
    await fx.refresh(feed())

    quote = await lock()
    stored = await fx.find(quote.id)

    assert stored == quote
    assert (quote.base, quote.target, quote.spread_bps) == ("CNY", "HKD", 20)
    assert round(quote.reference_rate, 11) == Decimal("1.17929123053")  # 8.7652 / 7.4326
    assert round(quote.rate, 10) == Decimal("1.1816545396")  # the same ÷ 0.998
    assert quote.source == f"ecb:{clock.now() - timedelta(hours=1):%Y-%m-%d}"
    assert timedelta(minutes=10) <= quote.locked_until - clock.now() <= timedelta(minutes=15)
    assert quote.convert(1_990) == 2_351  # 19.90 CNY
    assert await fx.are_locked([quote.id])
    assert await fx.find(ids.uuid7()) is None
    assert not await fx.are_locked([ids.uuid7()])


async def test_shelf_and_till_agree() -> None:
    await fx.refresh(feed())

    quote = await lock("USD", "JPY")

    for minor in (1, 99, 1_990, 123_456_789):
        assert await fx.convert_price(minor, "USD", "JPY") == quote.convert(minor)
    assert await fx.convert_price(1_990, "USD", "USD") == 1_990


async def test_an_exchange_knows_its_amounts() -> None:
    await fx.refresh(feed())

    async with db.transaction():
        quote = await fx.exchange("USD", "EUR", 10_000)

    assert (quote.from_minor, quote.to_minor) == (10_000, 8_933)  # 100 USD = 89.509… − 0.2 %
    assert quote.terms.exchange(10_000).spread_minor == 17  # 8950 at the reference
    assert await fx.find(quote.id) == quote


async def test_a_quote_costs_one_statement() -> None:
    await fx.refresh(feed())

    async with db.transaction(), db.statements() as seen:
        await fx.quote("CNY", "HKD")

    assert len(seen) == 1
    assert seen[0].startswith("INSERT INTO fx_quote")


async def test_b07_inside_the_lock_the_locked_rate_holds() -> None:
    await fx.refresh(feed())
    quote = await lock()

    await fx.refresh(feed(HKD="9.0"))

    held, new = await fx.find(quote.id), await lock()
    assert held is not None
    assert held.convert(1_990) == 2_351
    assert new.convert(1_990) > 2_351
    assert await fx.are_locked([quote.id])


async def test_b07_after_the_lock_nothing_may_be_charged_at_it() -> None:
    await fx.refresh(feed())
    quote = await lock()

    clock.shift(timedelta(minutes=14, seconds=55))
    assert await fx.are_locked([quote.id])
    clock.shift(timedelta(minutes=15, seconds=1))

    assert not await fx.are_locked([quote.id])


async def test_b15_i11_a_quote_is_consumed_once_among_twenty() -> None:
    await fx.refresh(feed())
    quote = await lock()
    consumers = [ids.uuid7() for _ in range(20)]

    answers = await asyncio.gather(*(consume(quote.id, by=one) for one in consumers))

    won = [one for one, said in zip(consumers, answers, strict=True) if said.done]
    assert len(won) == 1
    assert sum(said.refused == {quote.id} for said in answers) == 19
    stored = await fx.find(quote.id)
    assert stored is not None
    assert (stored.state, stored.consumed_by) == (QuoteState.CONSUMED, won[0])
    assert not await fx.are_locked([quote.id])


async def test_b15_the_same_consumer_may_ask_again_and_another_may_not() -> None:
    await fx.refresh(feed())
    quote, mine = await lock(), ids.uuid7()

    assert (await consume(quote.id, by=mine)).done == {quote.id}
    assert (await consume(quote.id, by=mine)).done == {quote.id}
    assert (await consume(quote.id)).refused == {quote.id}


async def test_b15_one_consumer_takes_one_quote() -> None:
    await fx.refresh(feed())
    one, other, mine = await lock(), await lock(), ids.uuid7()
    await consume(one.id, by=mine)

    with pytest.raises(asyncpg.UniqueViolationError):
        await consume(other.id, by=mine)

    assert await fx.are_locked([other.id])


async def test_g24_an_expired_or_unknown_quote_is_reported_and_not_consumed() -> None:
    await fx.refresh(feed())
    quote, unknown = await lock(), ids.uuid7()

    clock.shift(timedelta(minutes=16))
    said = await consume(quote.id, unknown)

    assert not said.done
    assert said.expired == {quote.id}
    assert said.refused == {unknown}
    stored = await fx.find(quote.id)
    assert stored is not None
    assert (stored.state, stored.consumed_by) == (QuoteState.EXPIRED, None)
    clock.shift(timedelta())
    assert (await consume(quote.id)).expired == {quote.id}  # the end is the end


async def test_b07_money_taken_inside_the_lock_keeps_its_rate_when_it_is_posted_later() -> None:
    await fx.refresh(feed())
    quote = await lock()
    taken_at = clock.now() + timedelta(minutes=5)

    clock.shift(timedelta(hours=2))

    assert (await consume(quote.id, at=taken_at)).done == {quote.id}


async def test_a_rolled_back_consumer_consumes_nothing() -> None:
    await fx.refresh(feed())
    quote = await lock()

    async def crash() -> None:
        async with db.transaction():
            assert (await fx.consume([quote.id])).done == {quote.id}
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await crash()
    assert await fx.are_locked([quote.id])


async def test_many_quotes_are_consumed_by_one_statement() -> None:
    await fx.refresh(feed())
    async with db.transaction():
        quotes = [(await fx.quote("CNY", "HKD")).id for _ in range(30)]

    async with db.transaction(), db.statements() as seen:
        said = await fx.consume(quotes[:25], quotes[:25])

    assert said.done == set(quotes[:25])
    assert len(seen) == 1
    found = await fx.find_many(quotes)
    assert [quote.state for quote in found if quote] == ["consumed"] * 25 + ["active"] * 5


async def test_m13_active_quotes_end_consumed_or_expired_and_never_change_again() -> None:
    await fx.refresh(feed())
    used, left = await lock(), await lock()
    await consume(used.id)

    assert await fx.expire_due() == 0
    clock.shift(timedelta(days=2))
    assert await fx.expire_due() == 1

    for quote, state in ((used, "consumed"), (left, "expired")):
        found = await fx.find(quote.id)
        assert found is not None
        assert found.state == state
        with pytest.raises(asyncpg.RestrictViolationError):
            await db.execute("UPDATE fx_quote SET state = 'active' WHERE id = $1", quote.id)


async def test_a_currency_no_feed_knows_is_unsupported() -> None:
    await fx.refresh(feed())

    with pytest.raises(UnsupportedCurrency) as refused:
        await lock("CNY", "MRU")
    assert refused.value.facts == {"currency": "MRU"}
    assert not refused.value.retryable
