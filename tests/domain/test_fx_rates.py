"""Rates in the database: what is stored, when a rate may not be used, who decides about a jump."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import asyncpg
import pytest
import structlog

from domain import fx
from domain.core import clock, db
from domain.core.money import CURRENCIES, Money, UnsupportedCurrency
from domain.fx import queries
from domain.fx.ports import FeedFailed, feeds
from domain.fx.rules import RateUnavailable
from tests.database import as_owner
from tests.domain.exchange import RATES, consume, feed, lock

pytestmark = pytest.mark.usefixtures("db", "fresh")

BY = UUID(int=7)


@pytest.fixture
def fresh() -> Iterator[None]:
    """No rates remembered from another test, and the clock back in its place."""
    fx.forget()
    yield
    fx.forget()
    clock.shift(timedelta())


async def test_a_refresh_stores_what_changed_and_nothing_twice() -> None:
    source = feed()

    first = await fx.refresh(source)
    again = await fx.refresh(source)
    source.rates["USD"] = "1.1200"
    source.taken_at += timedelta(minutes=1)
    third = await fx.refresh(source)

    assert first.stored == ("CNY", "HKD", "JPY", "USD")
    assert again.stored == again.suspect == ()
    assert third.stored == ("CNY", "HKD", "JPY", "USD")  # a new table: good for longer
    assert await db.value("SELECT count(*) FROM fx_rate") == 8
    assert (await fx.rates()).rates["EUR", "USD"].value == Decimal("1.12")


async def test_two_refreshes_at_once_store_once() -> None:
    source = feed()

    await asyncio.gather(*(fx.refresh(source) for _ in range(4)))

    assert await db.value("SELECT count(*) FROM fx_rate") == 4


async def test_b08_a_stale_feed_gives_no_new_quote_and_existing_ones_hold() -> None:
    source = feed()
    await fx.refresh(source)
    clock.shift(timedelta(days=5, hours=22, minutes=55))
    quote = await lock()

    source.is_dead = True
    with pytest.raises(FeedFailed):
        await fx.refresh(source)
    clock.shift(timedelta(days=5, hours=23, minutes=1))

    with pytest.raises(RateUnavailable) as refused:
        await lock()
    assert refused.value.facts["reason"] == "stale"
    with pytest.raises(RateUnavailable):
        await fx.convert_price(100, "CNY", "HKD")
    assert await fx.are_locked([quote.id])
    assert (await consume(quote.id)).done == {quote.id}
    health = await fx.health()
    assert health.stale == ("EUR/CNY", "EUR/HKD", "EUR/JPY", "EUR/USD")
    assert not health.is_good


async def test_b08_the_timetable_raises_the_alarm_while_a_rate_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = feed()
    monkeypatch.setitem(feeds, "ecb_snapshot", source)

    with structlog.testing.capture_logs() as calm:
        await fx.keep_current()
    source.is_dead = True
    clock.shift(timedelta(days=7))
    with structlog.testing.capture_logs() as alarmed, pytest.raises(FeedFailed):
        await fx.keep_current()

    assert [line["event"] for line in calm if line["log_level"] == "error"] == []
    assert [line["event"] for line in alarmed] == ["fx.rates_unusable"]
    assert alarmed[0]["stale"] == ["EUR/CNY", "EUR/HKD", "EUR/JPY", "EUR/USD"]


async def test_b08_before_the_first_refresh_there_is_no_rate() -> None:
    with pytest.raises(RateUnavailable) as refused:
        await lock()

    assert refused.value.facts["reason"] == "no_rates"
    assert not (await fx.health()).is_good
    assert await db.value("SELECT count(*) FROM fx_quote") == 0


async def test_b08_an_absurd_jump_stops_its_pair_until_the_feed_is_back_in_range() -> None:
    await fx.refresh(feed())
    quote = await lock()

    odd = feed(HKD="87.652")
    jumped = await fx.refresh(odd)

    assert (jumped.suspect, set(jumped.stored)) == (("HKD",), {"CNY", "JPY", "USD"})
    with pytest.raises(RateUnavailable) as refused:
        await lock()
    assert refused.value.facts == {"base": "CNY", "target": "HKD", "reason": "jump"}
    assert await fx.are_locked([quote.id])
    assert (await lock("CNY", "JPY")).target == "JPY"
    assert (await fx.health()).suspect == ("EUR/HKD",)
    assert await fx.refresh(odd) == fx.Refreshed("ecb", odd.taken_at, (), ())  # alerted once

    await fx.refresh(feed())

    assert (await lock()).convert(1_990) == 2_351
    assert (await fx.health()).is_good


async def test_b08_a_person_accepts_a_true_jump() -> None:
    await fx.refresh(feed())
    await fx.refresh(feed(HKD="17.5"))
    before = await db.value("SELECT count(*) FROM fx_rate")

    assert await fx.accept("EUR", "HKD", by=BY)

    assert (await lock()).convert(1_990) == 4_695
    assert not await fx.accept("EUR", "HKD", by=BY)
    assert not await fx.accept("EUR", "CNY", by=BY)
    assert await db.value("SELECT count(*) FROM fx_rate") == before + 1
    assert await db.value("SELECT set_by FROM fx_rate ORDER BY no DESC LIMIT 1") == BY


async def test_a_rate_set_by_hand_gives_way_to_a_newer_table_only() -> None:
    source = feed()
    await fx.refresh(source)

    await fx.set_rate("EUR", "HKD", Decimal("20"), by=BY)
    await fx.refresh(source)

    assert (await fx.rates()).rates["EUR", "HKD"].provider == "by-hand"
    source.taken_at = clock.now() + timedelta(minutes=1)
    source.rates["HKD"] = "20.5"
    await fx.refresh(source)
    assert (await fx.rates()).rates["EUR", "HKD"].value == Decimal("20.5")
    with pytest.raises(UnsupportedCurrency):
        await fx.set_rate("EUR", "XXX", Decimal(1), by=BY)


async def test_another_process_sees_a_new_rate_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fx.refresh(feed())
    await db.execute(
        "INSERT INTO fx_rate (from_ccy, to_ccy, reference_rate, provider, taken_at, state)"
        " VALUES ('EUR', 'HKD', 9, 'ecb', now(), 'live')"
    )

    async with db.statements() as seen:
        assert (await fx.rates()).rates["EUR", "HKD"].value == Decimal("8.7652")
    assert seen == []
    monkeypatch.setattr(queries, "TABLE_TTL_S", -1)
    assert (await fx.rates()).rates["EUR", "HKD"].value == Decimal(9)


async def test_risk_is_weighed_by_the_last_known_rate() -> None:
    with pytest.raises(RateUnavailable):
        fx.reference_minor(Money(1_000, "CNY"), "USD")
    await fx.refresh(feed())
    clock.shift(timedelta(days=400))

    assert fx.reference_minor(Money(100_000, "CNY"), "USD") == 15_031  # 1000 ÷ 7.4326 × 1.1172
    assert fx.reference_minor(Money(1_000, "JPY"), "USD") == 635
    assert fx.reference_minor(Money(5, "USD"), "USD") == 5


async def test_payable_is_what_can_be_converted_and_everything_while_nothing_can() -> None:
    assert fx.payable() == CURRENCIES
    await fx.refresh(feed())
    assert fx.payable() == {"EUR", *RATES}
    await fx.refresh(feed(HKD="99"))
    assert fx.payable() == {"EUR", *RATES} - {"HKD"}
    clock.shift(timedelta(days=400))
    assert fx.payable() == CURRENCIES


async def test_the_terms_of_a_quote_and_the_history_of_rates_cannot_be_changed() -> None:
    await fx.refresh(feed())
    quote = await lock()

    for sql in (
        "UPDATE fx_quote SET exchange_rate = exchange_rate / 2",
        "UPDATE fx_quote SET expires_at = expires_at + interval '1 day'",
        "UPDATE fx_rate SET reference_rate = 1",
        "DELETE FROM fx_rate",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await as_owner(sql)
    assert await fx.find(quote.id) == quote


async def test_p05_not_a_number_is_no_rate() -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(
            "INSERT INTO fx_rate (from_ccy, to_ccy, reference_rate, provider, taken_at, state)"
            " VALUES ('EUR', 'USD', 'NaN', 'x', $1, 'live')",
            datetime(2026, 1, 1, tzinfo=UTC),
        )
