"""Holds: money promised, then posted in part or whole, voided or expired; once, whoever comes first."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from domain import ledger
from domain.core import clock
from domain.core import db as core_db
from domain.core.money import Money
from domain.ledger import HoldState
from tests.domain.ledger_books import Shop, books

LATER = timedelta(hours=1)


async def _hold(shop: Shop, minor: int, *, key: str = "", ends_in: timedelta = LATER) -> UUID:
    hold = await ledger.hold(
        key or f"hold:{uuid4()}",
        shop.transfer("merchant_available", "merchant_in_transit", minor),
        kind="payout",
        expires_at=clock.now() + ends_in,
    )
    return hold.id


async def _state(hold_id: UUID) -> HoldState:
    hold = await ledger.read_hold(hold_id)
    assert hold is not None
    return hold.state


async def test_a_hold_lowers_available_and_nothing_else(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)

    await _hold(shop, 60)

    source = await ledger.balance(shop["merchant_available"])
    target = await ledger.balance(shop["merchant_in_transit"])
    assert (source.posted, source.available) == (100, 40)
    assert (target.posted, target.available, target.credits_pending) == (0, 0, 60)
    assert await ledger.available(shop["merchant_available"]) == 40
    with pytest.raises(ledger.InsufficientFunds):
        await _hold(shop, 41)
    # What is held for the transit account is not there yet.
    early = [shop.transfer("merchant_in_transit", "bank_cash", 1)]
    with pytest.raises(ledger.InsufficientFunds):
        await ledger.post("early", early, kind="payout")
    assert await ledger.check() == []


@pytest.mark.parametrize(("minor", "left"), [(None, 40), (60, 40), (25, 75), (1, 99)])
async def test_m12_posting_a_part_returns_the_rest(db: None, minor: int | None, left: int) -> None:
    shop = Shop()
    await shop.pay_in(100)
    hold_id = await _hold(shop, 60)

    journal = await ledger.resolve("r", hold_id, "post", kind="payout", minor=minor)
    again = await ledger.resolve("r", hold_id, "post", kind="payout", minor=minor)

    source = await ledger.balance(shop["merchant_available"])
    assert (source.posted, source.available, source.debits_pending) == (left, left, 0)
    assert await shop.posted("merchant_in_transit") == [100 - left]
    assert (journal.is_new, again.is_new, again.id) == (True, False, journal.id)
    assert await _state(hold_id) is HoldState.POSTED
    assert await ledger.check() == []


async def test_m12_voiding_frees_all(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)
    hold_id = await _hold(shop, 60)

    await ledger.resolve("r", hold_id, "void", kind="payout")

    source = await ledger.balance(shop["merchant_available"])
    assert (source.posted, source.available) == (100, 100)
    assert await _state(hold_id) is HoldState.VOIDED
    assert await ledger.check() == []


async def test_m12_an_ended_hold_stays_as_it_is(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)
    hold_id = await _hold(shop, 60)
    await ledger.resolve("r", hold_id, "post", kind="payout", minor=10)
    before = await books()

    for number, phase in enumerate(("post", "void")):
        with pytest.raises(ledger.HoldNotOpen) as caught:
            await ledger.resolve(f"other:{number}", hold_id, phase, kind="payout")
        assert caught.value.facts["state"] == "posted"
    with pytest.raises(ledger.KeyReused):
        await ledger.resolve("r", hold_id, "post", kind="payout", minor=11)
    with pytest.raises(ledger.HoldNotOpen):
        await ledger.resolve("unknown", uuid4(), "void", kind="payout")

    assert await books() == before
    with pytest.raises(asyncpg.RestrictViolationError):
        await core_db.execute("UPDATE ledger_hold SET state = 'open', resolved_by = NULL")


async def test_more_than_the_hold_is_refused(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)
    hold_id = await _hold(shop, 60)
    before = await books()

    for minor in (61, 0, -1):
        with pytest.raises(ledger.TransferInvalid):
            await ledger.resolve(f"r:{minor}", hold_id, "post", kind="payout", minor=minor)

    assert await books() == before
    assert await _state(hold_id) is HoldState.OPEN


async def test_the_same_key_holds_once_with_its_first_end(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)
    first = await _hold(shop, 60, key="wallet:1")

    again = await _hold(shop, 60, key="wallet:1", ends_in=2 * LATER)

    assert again == first
    assert await ledger.available(shop["merchant_available"]) == 40
    with pytest.raises(ledger.KeyReused):
        await _hold(shop, 61, key="wallet:1")
    # A posting is not a hold, even with the same legs.
    legs = [shop.transfer("merchant_available", "merchant_in_transit", 60)]
    with pytest.raises(ledger.KeyReused):
        await ledger.post("wallet:1", legs, kind="payout")


async def test_a_lapsed_hold_is_not_posted_and_expires_once(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)
    lapsed = [await _hold(shop, 10, ends_in=-LATER) for _ in range(3)]
    lasting = await _hold(shop, 10)
    voided = await _hold(shop, 10, ends_in=-LATER)

    with pytest.raises(ledger.HoldNotOpen):
        await ledger.resolve("late", lapsed[0], "post", kind="payout")
    await ledger.resolve("void", voided, "void", kind="payout")
    assert await ledger.expire(limit=2) == 2
    assert await ledger.expire() == 1
    assert await ledger.expire() == 0

    assert {await _state(one) for one in lapsed} == {HoldState.EXPIRED}
    assert (await _state(lasting), await _state(voided)) == (HoldState.OPEN, HoldState.VOIDED)
    assert await ledger.available(shop["merchant_available"]) == 90
    assert await ledger.check() == []


async def test_g22_post_void_and_expiry_race_to_one_winner(db: None) -> None:
    winners = []
    for number in range(12):
        shop = Shop()
        await shop.pay_in(100)
        hold_id = await _hold(shop, 60, ends_in=timedelta(milliseconds=25))

        async def post(hold_id: UUID = hold_id, number: int = number) -> None:
            await asyncio.sleep(0.002 * number)
            key = f"post:{hold_id}"
            await ledger.resolve(key, hold_id, "post", kind="payout", minor=20)

        async def void(hold_id: UUID = hold_id, number: int = number) -> None:
            await asyncio.sleep(0.02 + 0.001 * (number % 3))
            await ledger.resolve(f"void:{hold_id}", hold_id, "void", kind="payout")

        async def lapse() -> None:
            for _ in range(10):
                await asyncio.sleep(0.004)
                await ledger.expire()

        done = await asyncio.gather(post(), void(), lapse(), lapse(), return_exceptions=True)

        assert {type(one) for one in done} <= {type(None), ledger.HoldNotOpen}
        state = await _state(hold_id)
        winners.append(state)
        posted = 20 if state is HoldState.POSTED else 0
        source = await ledger.balance(shop["merchant_available"])
        assert (source.posted, source.available) == (100 - posted, 100 - posted)

    assert HoldState.OPEN not in winners
    assert await ledger.check() == []


async def test_many_resolvers_of_one_hold_have_one_winner(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)
    hold_id = await _hold(shop, 60)

    done = await asyncio.gather(
        *(
            ledger.resolve(f"r:{number}", hold_id, "post", kind="payout", minor=number + 1)
            for number in range(20)
        ),
        return_exceptions=True,
    )

    winners = [number for number, one in enumerate(done) if isinstance(one, ledger.Journal)]
    assert len(winners) == 1
    assert sum(isinstance(one, ledger.HoldNotOpen) for one in done) == 19
    assert await shop.posted("merchant_in_transit") == [winners[0] + 1]


async def test_holds_and_postings_share_one_floor(db: None) -> None:
    shop = Shop()
    await shop.pay_in(50)

    async def take(number: int) -> None:
        if number % 2:
            await _hold(shop, 1)
        else:
            legs = [shop.transfer("merchant_available", "bank_cash", 1)]
            await ledger.post(f"debit:{number}", legs, kind="payout")

    done = await asyncio.gather(*(take(number) for number in range(80)), return_exceptions=True)

    assert sum(one is None for one in done) == 50
    assert sum(isinstance(one, ledger.InsufficientFunds) for one in done) == 30
    assert await ledger.available(shop["merchant_available"]) == 0


async def test_a_wallet_is_spent_in_two_holds(db: None) -> None:
    shop = Shop()
    await shop.pay_in(1_000, purpose="wallet")
    await ledger.post("bonus", [shop.transfer("promo_expense", "wallet_bonus", 200)], kind="top_up")
    held = [
        await ledger.hold(
            f"spend:{source}",
            shop.transfer(source, "sale_clearing", minor),
            kind="spend",
            expires_at=clock.now() + LATER,
            lane=3,
        )
        for source, minor in (("wallet_bonus", 200), ("wallet", 1_000))
    ]
    for hold in held:
        # Another lane resolves: the rows of the hold are the ones that move.
        await ledger.resolve(f"post:{hold.id}", hold.id, "post", kind="spend", lane=1)
    assert await shop.posted("wallet", "wallet_bonus", "sale_clearing") == [0, 0, 1_200]

    await ledger.post(
        "sale", [shop.transfer("sale_clearing", "merchant_available", 1_200)], kind="sale"
    )
    assert await shop.posted("sale_clearing", "merchant_available") == [0, 1_200]
    assert await ledger.check() == []


async def test_a_hold_is_not_reversed_but_its_posting_is(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)
    hold_id = await _hold(shop, 60)
    with pytest.raises(ledger.NotReversible):
        await ledger.reverse("undo:hold", hold_id)

    posted = await ledger.resolve("r", hold_id, "post", kind="payout", minor=30)
    await ledger.reverse("undo:post", posted.id)

    assert await shop.posted("merchant_available", "merchant_in_transit") == [100, 0]
    assert await _state(hold_id) is HoldState.POSTED
    assert await ledger.check() == []


async def test_what_is_posted_along_is_refused_with_the_hold(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)
    hold_id = await _hold(shop, 60)
    await ledger.accounts([shop["bank_cash"]])
    before = await books()

    with pytest.raises(ledger.InsufficientFunds):
        await ledger.resolve(
            "r",
            hold_id,
            "post",
            kind="payout",
            also=[shop.transfer("merchant_available", "bank_cash", 41)],
        )
    assert await books() == before

    await ledger.resolve(
        "r",
        hold_id,
        "post",
        kind="payout",
        minor=50,
        also=[shop.transfer("merchant_available", "bank_cash", 50)],
    )
    assert await shop.posted("merchant_available", "merchant_in_transit", "bank_cash") == [
        0,
        50,
        50,
    ]
    assert await ledger.check() == []


async def test_reading_a_hold(db: None) -> None:
    shop = Shop()
    await shop.pay_in(100)
    ends = clock.now() + LATER
    leg = shop.transfer("merchant_available", "merchant_in_transit", 60)

    hold = await ledger.hold("h", leg, kind="payout", expires_at=ends)

    assert hold == ledger.Hold(hold.id, Money(60, "USD"), ends, HoldState.OPEN)
    assert await ledger.read_hold(hold.id) == hold
    assert await ledger.read_hold(uuid4()) is None
