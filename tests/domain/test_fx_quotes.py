"""Rates and quotes in the database: what is stored, what is locked, and that a lock is used up once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import asyncpg
import pytest

from domain import fx
from domain.core import clock, db, ids
from domain.core.money import CURRENCIES, Money, UnsupportedCurrency
from domain.fx import queries
from domain.fx.models import QuoteState
from domain.fx.ports import FeedFailed, Published
from domain.fx.rules import RateUnavailable

pytestmark = pytest.mark.usefixtures("db", "fresh")

RATES = {"USD": "1.1172", "CNY": "7.4326", "HKD": "8.7652", "JPY": "175.68"}
BY = UUID(int=7)


@dataclass
class Feed:
    """A feed whose next answer a test chooses."""

    rates: dict[str, str]
    taken_at: datetime
    stale_after: timedelta | None = None
    provider: str = "ecb"
    name: str = "ecb"
    is_dead: bool = False

    async def fetch(self) -> Published:
        assert not db.in_transaction()
        if self.is_dead:
            raise FeedFailed(provider=self.provider, reason="dead")
        given = {currency: Decimal(rate) for currency, rate in self.rates.items()}
        stale_at = self.taken_at + self.stale_after if self.stale_after else None
        return Published(self.provider, "EUR", self.taken_at, stale_at, given)


@pytest.fixture
def fresh() -> Iterator[None]:
    """No rates remembered from another test, and the clock back in its place."""
    fx.forget()
    yield
    fx.forget()
    clock.shift(timedelta())


def feed(**changed: str) -> Feed:
    return Feed({**RATES, **changed}, clock.now() - timedelta(hours=1), timedelta(days=6))


async def lock(base: str = "CNY", target: str = "HKD") -> fx.Quote:
    async with db.transaction():
        return await fx.quote(base, target)


async def consume(*quotes: UUID, by: UUID | None = None, at: datetime | None = None) -> fx.Consumed:
    async with db.transaction():
        return await fx.consume(
            quotes,
            [by or ids.uuid7() for _ in quotes],
            at=[at] * len(quotes) if at else None,
        )


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
    assert await fx.is_locked(quote.id)
    assert await fx.find(ids.uuid7()) is None
    assert not await fx.is_locked(ids.uuid7())


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
    assert await fx.is_locked(quote.id)


async def test_b07_after_the_lock_nothing_may_be_charged_at_it() -> None:
    await fx.refresh(feed())
    quote = await lock()

    clock.shift(timedelta(minutes=14, seconds=55))
    assert await fx.is_locked(quote.id)
    clock.shift(timedelta(minutes=15, seconds=1))

    assert not await fx.is_locked(quote.id)


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
    assert await fx.is_locked(quote.id)
    assert (await consume(quote.id)).done == {quote.id}
    health = await fx.health()
    assert health.stale == ("EUR/CNY", "EUR/HKD", "EUR/JPY", "EUR/USD")
    assert not health.is_good


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
    assert await fx.is_locked(quote.id)
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
    assert not await fx.is_locked(quote.id)


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

    assert await fx.is_locked(other.id)


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
    assert await fx.is_locked(quote.id)


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
            await db.execute(sql)
    assert await fx.find(quote.id) == quote


async def test_p05_not_a_number_is_no_rate() -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(
            "INSERT INTO fx_rate (from_ccy, to_ccy, reference_rate, provider, taken_at, state)"
            " VALUES ('EUR', 'USD', 'NaN', 'x', $1, 'live')",
            datetime(2026, 1, 1, tzinfo=UTC),
        )


async def test_a_currency_no_feed_knows_is_unsupported() -> None:
    await fx.refresh(feed())

    with pytest.raises(UnsupportedCurrency) as refused:
        await lock("CNY", "MRU")
    assert refused.value.facts == {"currency": "MRU"}
    assert not refused.value.retryable
