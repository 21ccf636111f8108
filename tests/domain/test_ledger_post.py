"""Posting one journal: once per key, all or nothing, floors and ceilings under concurrency, reversals."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from domain import ledger
from domain.core import clock
from domain.core import db as core_db
from domain.core.money import Money
from domain.ledger import AccountKey, Transfer
from tests.domain.ledger_books import Shop, books


async def test_g06_200_debits_of_1_on_99_accept_exactly_99(db: None) -> None:
    shop = Shop()
    await shop.pay_in(99)

    legs = [shop.transfer("merchant_available", "bank_cash", 1)]

    done = await asyncio.gather(
        *(ledger.post(f"debit:{number}", legs, kind="payout") for number in range(200)),
        return_exceptions=True,
    )

    refused = [one for one in done if isinstance(one, ledger.InsufficientFunds)]
    assert sum(isinstance(one, ledger.Journal) for one in done) == 99
    assert len(refused) == 101
    assert refused[0].facts == {
        "purpose": "merchant_available",
        "owner_id": str(shop.owner_id),
        "sub": "",
        "ccy": "USD",
        "available_minor": 0,
        "asked_minor": 1,
    }
    assert await shop.posted("merchant_available", "bank_cash") == [0, 99]
    assert await ledger.check() == []


async def test_g07_400_opposing_transfers_do_not_deadlock(db: None) -> None:
    shop = Shop()
    await shop.pay_in(10_000)
    await shop.pay_in(10_000, purpose="merchant_pending")
    sides = ("merchant_available", "merchant_pending")

    async def swing(number: int) -> None:
        source, target = sides if number % 2 else sides[::-1]
        # Two legs: the second account is met first by half of the posters.
        legs = [
            shop.transfer(source, target, number + 1),
            shop.transfer(source, "bank_cash", 1),
        ]
        await ledger.post(f"swing:{number}", legs, kind="test")

    await asyncio.gather(*(swing(number) for number in range(400)))

    # Odd numbers (even amounts) go one way, even ones the other; each side also pays 200 out.
    odd, even = sum(range(2, 401, 2)), sum(range(1, 400, 2))
    assert await shop.posted(*sides) == [10_000 - odd + even - 200, 10_000 + odd - even - 200]
    assert await ledger.check() == []


@pytest.mark.parametrize("inside", [False, True])
async def test_g08_l04_a_refused_posting_leaves_every_row_as_it_was(db: None, inside: bool) -> None:
    shop = Shop()
    await shop.pay_in(100)
    legs = [
        shop.transfer("provider_clearing", "platform_commission", 5),
        shop.transfer("merchant_available", "bank_cash", 101),
    ]
    await ledger.accounts(key for leg in legs for key in (leg.source, leg.target))
    before = await books()

    async def refused() -> None:
        with pytest.raises(ledger.InsufficientFunds) as caught:
            await ledger.post("too:much", legs, kind="payout")
        assert caught.value.facts["available_minor"] == 100
        assert caught.value.facts["asked_minor"] == 101

    if inside:
        # Caught inside a larger transaction that goes on and commits.
        async with core_db.transaction():
            await refused()
    else:
        await refused()

    assert await books() == before
    assert (await ledger.post("too:much", legs[:1], kind="payout")).is_new


async def test_l06_same_key_posts_once_also_in_parallel(db: None) -> None:
    shop = Shop()
    legs = [shop.transfer("provider_clearing", "merchant_available", 10)]

    journals = await asyncio.gather(
        *(ledger.post("sale:1", legs, kind="sale", lane=lane % 3) for lane in range(30))
    )

    assert len({journal.id for journal in journals}) == 1
    assert sum(journal.is_new for journal in journals) == 1
    assert await shop.posted("merchant_available") == [10]
    assert await ledger.check() == []


async def test_l06_same_key_with_other_content_is_refused(db: None) -> None:
    shop = Shop()
    legs = [shop.transfer("provider_clearing", "merchant_available", 10)]
    await ledger.post("sale:1", legs, kind="sale")
    before = await books()

    for other, kind in (([*legs, *legs], "sale"), (legs, "refund")):
        with pytest.raises(ledger.KeyReused):
            await ledger.post("sale:1", other, kind=kind)

    assert await books() == before


async def test_a_replay_is_answered_although_the_money_has_gone(db: None) -> None:
    shop = Shop()
    await shop.pay_in(10)
    legs = [shop.transfer("merchant_available", "bank_cash", 10)]
    first = await ledger.post("payout:1", legs, kind="payout")

    again = await ledger.post("payout:1", legs, kind="payout")

    assert (again.id, again.is_new, again.recorded_at) == (first.id, False, first.recorded_at)
    assert await shop.posted("merchant_available") == [0]


async def test_a_rolled_back_posting_has_never_been(db: None) -> None:
    shop = Shop()
    legs = [shop.transfer("provider_clearing", "merchant_available", 10)]

    async def undone() -> None:
        async with core_db.transaction():
            assert (await ledger.post("sale:1", legs, kind="sale")).is_new
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await undone()

    assert await shop.posted("merchant_available") == [0]
    assert (await ledger.post("sale:1", legs, kind="sale")).is_new
    assert await shop.posted("merchant_available") == [10]


async def test_a_debt_is_not_overpaid(db: None) -> None:
    shop = Shop()
    await ledger.post(
        "owe", [shop.transfer("merchant_debt", "refund_clearing", 100)], kind="refund"
    )
    await ledger.accounts([shop["provider_clearing"]])
    before = await books()

    legs = [shop.transfer("provider_clearing", "merchant_debt", 101)]
    with pytest.raises(ledger.CeilingExceeded) as caught:
        await ledger.post("over", legs, kind="sale")

    assert caught.value.facts["room_minor"] == 100
    assert await books() == before
    await ledger.post(
        "full", [shop.transfer("provider_clearing", "merchant_debt", 100)], kind="sale"
    )
    assert await shop.posted("merchant_debt") == [0]


async def test_g33_a_closed_account_takes_nothing(db: None) -> None:
    shop = Shop()
    await shop.pay_in(10)
    with pytest.raises(ledger.AccountInUse):
        await ledger.close(shop["merchant_available"])
    legs = [shop.transfer("merchant_available", "bank_cash", 10)]
    paid = await ledger.post("payout:1", legs, kind="payout")

    await ledger.close(shop["merchant_available"])
    await ledger.close(shop["merchant_available"])
    before = await books()

    with pytest.raises(ledger.AccountClosed) as caught:
        await shop.pay_in(1)
    assert caught.value.facts["owner_id"] == str(shop.owner_id)
    with pytest.raises(ledger.AccountClosed):
        await ledger.reverse("undo", paid.id)
    # What was posted before is still answered.
    assert not (await ledger.post("payout:1", legs, kind="payout")).is_new
    assert await books() == before


async def test_closing_and_posting_race_to_one_winner(db: None) -> None:
    for number in range(10):
        shop = Shop()
        await ledger.accounts([shop["merchant_available"], shop["provider_clearing"]])

        done = await asyncio.gather(
            ledger.close(shop["merchant_available"]), shop.pay_in(1), return_exceptions=True
        )

        kinds = {type(one) for one in done if one is not None}
        assert kinds in ({ledger.AccountInUse}, {ledger.AccountClosed}), (number, done)
    assert await ledger.check() == []


async def test_closing_what_does_not_exist_is_refused(db: None) -> None:
    with pytest.raises(ledger.AccountInvalid):
        await ledger.close(Shop()["wallet"])


@pytest.mark.parametrize(
    "change",
    ["amount_minor = 0", "amount_minor = -1", "target_no = source_no", "phase = 'maybe'"],
)
async def test_g33_the_table_itself_refuses(db: None, change: str) -> None:
    shop = Shop()
    await shop.pay_in(10)
    column, _, value = change.partition(" = ")
    columns = (
        "journal_id source_no target_no amount_minor line_no source_shard target_shard ccy phase"
    )
    values = [value if name == column else name for name in columns.split()]
    values[4] = "2"

    with pytest.raises(asyncpg.CheckViolationError):
        await core_db.execute(
            f"INSERT INTO ledger_transfer ({', '.join(columns.split())})"
            f" SELECT {', '.join(values)} FROM ledger_transfer"
        )


async def test_g32_l22_a_reversal_restores_every_balance_once(db: None) -> None:
    shop = Shop()
    await shop.pay_in(1_000)
    before = {key: vars_of(one) for key, one in (await ledger.balances(shop.owner_id)).items()}
    legs = [
        shop.transfer("merchant_available", "bank_cash", 300),
        shop.transfer("provider_fee", "provider_clearing", 7),
    ]
    journal = await ledger.post("payout:1", legs, kind="payout", lane=5)

    reversal = await ledger.reverse("payout:1:undo", journal.id)
    again = await ledger.reverse("payout:1:undo", journal.id)

    after = {key: vars_of(one) for key, one in (await ledger.balances(shop.owner_id)).items()}
    assert after == before
    assert await shop.posted("bank_cash", "provider_fee") == [0, 0]
    assert (again.id, again.is_new) == (reversal.id, False)
    for target, key, reason in (
        (journal.id, "second", "reversed"),
        (reversal.id, "third", "reversal"),
        (uuid4(), "fourth", "unknown"),
    ):
        with pytest.raises(ledger.NotReversible) as caught:
            await ledger.reverse(key, target)
        assert caught.value.facts["reason"] == reason
    assert await ledger.check() == []


def vars_of(balance: ledger.Balance) -> tuple[int, int, int]:
    """What a reversal must restore."""
    return balance.posted, balance.available, balance.credits_pending


async def test_g32_two_reversals_race_to_one_winner(db: None) -> None:
    shop = Shop()
    journal = await ledger.post(
        "sale:1", [shop.transfer("provider_clearing", "merchant_available", 10)], kind="sale"
    )

    done = await asyncio.gather(
        *(ledger.reverse(f"undo:{number}", journal.id) for number in range(8)),
        return_exceptions=True,
    )

    assert sum(isinstance(one, ledger.Journal) for one in done) == 1
    assert sum(isinstance(one, ledger.NotReversible) for one in done) == 7
    assert await shop.posted("merchant_available") == [0]


async def test_a_reversal_stops_at_a_floor(db: None) -> None:
    shop = Shop()
    legs = [shop.transfer("provider_clearing", "merchant_available", 10)]
    await ledger.post("sale:1", legs, kind="sale")
    await ledger.post("p", [shop.transfer("merchant_available", "bank_cash", 1)], kind="payout")
    before = await books()

    with pytest.raises(ledger.InsufficientFunds):
        await ledger.reverse_key("undo", "sale:1")

    assert await books() == before


async def test_g31_back_dating_moves_the_past_and_nothing_is_post_dated(db: None) -> None:
    shop = Shop()
    now = clock.now()
    legs = [shop.transfer("provider_clearing", "merchant_available", 10)]
    dated = [now - timedelta(days=3), now - timedelta(days=1), now + timedelta(days=1), None]

    journals = [
        await ledger.post(f"sale:{number}", legs, kind="sale", effective_at=at)
        for number, at in enumerate(dated)
    ]

    assert [one.effective_at for one in journals[:2]] == dated[:2]
    assert [one.effective_at for one in journals[2:]] == [one.recorded_at for one in journals[2:]]
    available = shop["merchant_available"]
    seen = [
        (await ledger.as_of(available, now + timedelta(days=days))).minor
        for days in (-4, -3, -2, -1, 1)
    ]
    assert seen == [0, 10, 10, 20, 40]


async def test_every_currency_keeps_its_own_zero(db: None) -> None:
    usd, eur = Shop("USD"), Shop("EUR")
    legs = [
        usd.transfer("provider_clearing", "fx_liquidity", 10_000),
        eur.transfer("fx_liquidity", "merchant_available", 9_108),
        eur.transfer("fx_liquidity", "fx_spread", 92),
    ]

    await ledger.post("fx:1", legs, kind="fx")

    assert await eur.posted("fx_liquidity", "merchant_available", "fx_spread") == [
        -9_200,
        9_108,
        92,
    ]
    assert await usd.posted("fx_liquidity", "provider_clearing") == [10_000, -10_000]
    assert await ledger.check() == []


async def test_accounts_with_and_without_owner_or_sub_are_different(db: None) -> None:
    owner = uuid4()
    keys = [
        AccountKey("buyer_held", None, "", "USD"),
        AccountKey("buyer_held", owner, "", "USD"),
        AccountKey("buyer_held", owner, "a", "USD"),
        AccountKey("buyer_held", owner, "", "EUR"),
    ]

    first = await ledger.accounts(keys)
    ledger.forget()

    assert len(set(first.values())) == 4
    assert await ledger.accounts(keys) == first
    await ledger.post("x", [Transfer(keys[0], keys[1], Money(3, "USD"))], kind="test")
    assert [(await ledger.balance(key)).posted for key in keys] == [-3, 3, 0, 0]
