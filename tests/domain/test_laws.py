"""Laws of CASES L that a machine does not name: folds, refusals without a trace, one capture, one live attempt.

The machines (test_ledger_machine, test_sale_machine) meet the same laws in random order.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest

from domain import catalogue, checkout, fx, ledger, orders, payments, settlement
from domain.checkout import refunds
from domain.core import clock, db
from domain.core.errors import DomainError
from domain.core.money import Money
from domain.ledger import AccountKey, Transfer
from domain.orders.models import Order
from domain.payments.ports import RefundAnswer, RefundState
from tests import make
from tests.domain.exchange import consume, feed, lock
from tests.domain.ledger_books import Shop, books
from tests.journeys import checker
from tests.rows import changed, everything

USD = "USD"


@pytest.fixture(autouse=True)
async def _books(db: None) -> AsyncIterator[None]:
    yield
    assert await ledger.check() == []


async def fulfil(order: Order) -> None:
    while await checkout.fulfil(order.lane):
        pass


async def test_g23_money_changes_currency_by_a_quote_only_and_both_legs_or_none() -> None:
    usd, eur = Shop(USD), Shop("EUR")
    await usd.pay_in(10_000)
    await eur.pay_in(1, purpose="merchant_pending")
    across = Transfer(usd["merchant_available"], eur["merchant_available"], Money(10_000, USD))
    legs = [
        usd.transfer("merchant_available", "fx_liquidity", 10_000),
        eur.transfer("fx_liquidity", "merchant_available", 9_108),
        eur.transfer("fx_liquidity", "fx_spread", 92),
    ]
    await ledger.accounts(key for leg in legs for key in (leg.source, leg.target))
    before = await books()

    with pytest.raises(ledger.CurrencyMismatch):
        await ledger.post("fx:1", [across], kind="fx")
    with pytest.raises(ledger.InsufficientFunds):  # the last leg breaks a floor: none is written
        await ledger.post(
            "fx:1", [*legs, eur.transfer("merchant_pending", "fx_liquidity", 2)], kind="fx"
        )
    assert await books() == before

    fx.forget()
    await fx.refresh(feed())
    quote = await lock(USD, "EUR")
    async with db.transaction():
        journal = await ledger.post(f"fx:{quote.id}", legs, kind="fx")
        assert quote.id in (await fx.consume([quote.id], [journal.id])).done
    assert await usd.posted("merchant_available", "fx_liquidity") == [0, 10_000]
    assert await eur.posted("merchant_available", "fx_spread", "fx_liquidity") == [
        9_108,
        92,
        -9_200,
    ]
    assert not (await consume(quote.id)).done  # another effect finds it used up


async def test_l02_a_balance_is_the_fold_of_its_transfers_per_account_and_row() -> None:
    chance = random.Random(2)
    shop = Shop()
    names = ("provider_clearing", "merchant_available", "platform_commission", "suspense")

    async def post(number: int) -> None:
        legs = []
        for _ in range(chance.randint(1, 4)):
            source, target = chance.sample(names, 2)
            legs.append(shop.transfer(source, target, chance.randint(1, 50)))
        try:
            await ledger.post(f"l02:{number}", legs, kind="test", lane=number % 5)
        except ledger.InsufficientFunds:
            pass

    await shop.pay_in(500)
    await asyncio.gather(*(post(number) for number in range(60)))

    fold: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    moves: dict[tuple[int, int], set[object]] = defaultdict(set)
    for row in await db.fetch("SELECT * FROM ledger_transfer"):
        source = row["source_no"], row["source_shard"]
        target = row["target_no"], row["target_shard"]
        fold[source][0] += row["amount_minor"]
        fold[target][1] += row["amount_minor"]
        moves[source].add(row["journal_id"])
        moves[target].add(row["journal_id"])
    balances = {
        (row["account_no"], row["shard"]): row
        for row in await db.fetch("SELECT * FROM ledger_balance WHERE version > 0")
    }
    assert set(balances) == set(fold)
    for key, row in balances.items():
        assert [row["debits_posted"], row["credits_posted"]] == fold[key]
        assert row["version"] == len(moves[key])  # one step per journal that moved the row
    assert len({shard for _, shard in balances}) > 1  # several rows of one account were written


Refusal = tuple[type[Exception], Callable[[], Awaitable[object]]]


async def refusals() -> dict[str, Refusal]:
    """What must be refused, by which error, after a little trade that makes it so."""
    of = await make.shop(keys=3)
    sold, open_order, many, closed = (
        await make.paid(of),
        await make.order(of),
        await make.order(of, quantity=9),
        await make.order(of),
    )
    await fulfil(sold)
    await make.attempt(open_order)
    await checkout.cancel(closed.id)
    books_of = Shop()
    await books_of.pay_in(100)
    ends = clock.now() + timedelta(hours=1)
    move = books_of.transfer("merchant_available", "merchant_in_transit", 60)
    held = await ledger.hold("hold:1", move, kind="payout", expires_at=ends)
    await ledger.resolve("hold:1:post", held.id, "post", kind="payout")
    too_much = books_of.transfer("merchant_available", "merchant_in_transit", 41)

    async def ask(order: Order, minor: int | None) -> None:
        await refunds.ask(order.id, minor, reason="test", asked_by="test")

    return {
        "cancel what is delivered": (orders.OrderStateConflict, lambda: checkout.cancel(sold.id)),
        "cancel again": (orders.OrderStateConflict, lambda: checkout.cancel(closed.id)),
        "refund above": (settlement.RefundExceedsCaptured, lambda: ask(sold, 10_001)),
        "refund unpaid": (settlement.RefundExceedsCaptured, lambda: ask(open_order, None)),
        "clear what is not held": (
            orders.OrderStateConflict,
            lambda: checkout.clear(sold.id, asked_by="test", reason="test"),
        ),
        "decline what is not held": (
            orders.OrderStateConflict,
            lambda: checkout.decline(sold.id, asked_by="test", reason="test"),
        ),
        "a second live attempt": (payments.AttemptLive, lambda: make.attempt(open_order)),
        "more keys than there are": (catalogue.OutOfStock, lambda: make.attempt(many)),
        "post below the floor": (
            ledger.InsufficientFunds,
            lambda: ledger.post("over:1", [too_much], kind="test"),
        ),
        "hold below the floor": (
            ledger.InsufficientFunds,
            lambda: ledger.hold("over:2", too_much, kind="test", expires_at=ends),
        ),
        "resolve again": (
            ledger.HoldNotOpen,
            lambda: ledger.resolve("hold:1:void", held.id, "void", kind="payout"),
        ),
        "reverse a hold": (
            ledger.NotReversible,
            lambda: ledger.reverse_key("undo:1", "hold:1"),
        ),
        "the same key with other legs": (
            ledger.KeyReused,
            lambda: ledger.post("hold:1", [too_much], kind="payout"),
        ),
    }


async def test_l04_a_refused_operation_leaves_every_row_as_it_was() -> None:
    for name, (error, refused) in (await refusals()).items():
        before = await everything()

        with pytest.raises(error):
            await refused()

        assert changed(before, await everything()) == set(), name


async def test_l08_a_word_is_applied_once_and_one_payment_is_kept() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    first = await make.attempt(order)
    await db.execute("UPDATE payment_attempt SET state = 'declined' WHERE id = $1", first.id)
    second = await make.attempt(order, reserve=False)

    # Two payments, each told many times by callback and by query, in parallel with two workers.
    told = [
        make.word(attempt, event_id=f"{attempt.id}-{number % 3}")
        for number in range(30)
        for attempt in (first, second)
    ]
    await asyncio.gather(*told, checkout.fulfil(order.lane), checkout.fulfil(order.lane))
    await fulfil(order)

    verdicts = Counter(
        row["verdict"] for row in await db.fetch("SELECT verdict FROM inbox_event ORDER BY no")
    )
    assert verdicts == {"applied": 2, "duplicate": 4}
    captures = await db.fetch("SELECT state, park_reason FROM capture ORDER BY state")
    settled = [tuple(row) for row in captures if row["state"] == "settled"]
    assert len(captures) == 2 and len(settled) <= 2
    kept = await db.value("SELECT sum(amount_minor) FROM capture_leg WHERE leg <> 'surplus'")
    assert kept == order.total_minor
    suspense = AccountKey("suspense", None, "sandbox:main", USD)
    assert (await ledger.balance(suspense)).posted == 10_000  # the other one, on its way back
    assert await db.value("SELECT count(*) FROM promise WHERE task = 'refund.surplus'") >= 1
    await checkout.return_surplus(order.id)
    assert await db.value("SELECT sum(amount_minor) FROM refund") == 10_000
    assert await checker.faults(but=("L20",)) == []


async def test_l09_racing_refunds_never_exceed_what_was_captured() -> None:
    chance = random.Random(9)
    shop = await make.shop(reserve_bps=500)
    order = await make.paid(shop)
    await fulfil(order)
    asked = [chance.randint(1, 4_000) for _ in range(20)]

    async def ask(minor: int) -> int:
        try:
            made = await refunds.ask(order.id, minor, reason="test", asked_by="test")
        except settlement.RefundExceedsCaptured:
            return 0
        return sum(one.amount_minor for one in made)

    given = sum(await asyncio.gather(*(ask(minor) for minor in asked)))
    rest = await refunds.ask(order.id, None, reason="test", asked_by="test")

    assert given + sum(one.amount_minor for one in rest) == 10_000
    assert await ask(1) == 0
    row = await db.row(
        "SELECT sum(returned_minor)::int, sum(amount_minor)::int, max(returned_minor + locked_minor"
        " - amount_minor) FROM capture_leg"
    )
    assert row is not None and tuple(row) == (10_000, 10_000, 0)
    for minor in (1, -1):
        with pytest.raises(asyncpg.CheckViolationError):  # the table is the last guard
            await db.execute(
                "UPDATE capture SET returned_minor = CASE WHEN $1 > 0 THEN amount_minor + 1 ELSE -1 END",
                minor,
            )


async def test_l10_what_a_dispute_has_locked_is_not_refunded_as_well() -> None:
    shop = await make.shop(reserve_bps=500)
    order = await make.paid(shop)
    await fulfil(order)
    capture_id = await db.value("SELECT id FROM capture")
    (part,) = await refunds.ask(order.id, 2_500, reason="test", asked_by="test")
    await checkout.hear(part.id, RefundAnswer(RefundState.SUCCEEDED))
    # An open dispute locks whatever is not returned yet.
    await db.execute("UPDATE capture_leg SET locked_minor = amount_minor - returned_minor")
    before = await everything()

    with pytest.raises(settlement.RefundExceedsCaptured):
        await refunds.ask(order.id, 1, reason="test", asked_by="test")
    assert changed(before, await everything()) == set()
    with pytest.raises(asyncpg.CheckViolationError):
        await settlement.return_legs(capture_id, {"merchant": 1})

    await db.execute("UPDATE capture_leg SET locked_minor = 0")  # won: it may go back again
    (rest,) = await refunds.ask(order.id, None, reason="test", asked_by="test")
    assert rest.amount_minor == 7_500


@pytest.mark.parametrize(
    "state", ["started", "unknown", "requires_action", "processing", "authorized"]
)
async def test_l15_a_live_or_unclear_attempt_blocks_another_and_one_of_many_is_opened(
    state: str,
) -> None:
    shop = await make.shop(keys=30)
    order = await make.order(shop)

    opened = await asyncio.gather(*(make.attempt(order) for _ in range(9)), return_exceptions=True)
    assert Counter(type(one).__name__ for one in opened) == {"Attempt": 1, "AttemptLive": 8}
    await db.execute("UPDATE payment_attempt SET state = $1", state)
    before = await everything()

    with pytest.raises(payments.AttemptLive):
        await make.attempt(order)

    assert changed(before, await everything()) == set()
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'reserved'") == 1


async def test_l16_what_a_refused_word_says_changes_nothing_but_its_own_verdict() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    attempt = await make.attempt(order)
    before = await everything()

    for account in ("other", "Main", "main2"):
        await make.word(attempt, account=account)
    await fulfil(order)

    assert changed(before, await everything()) == {"inbox_event"}
    verdicts = [row["verdict"] for row in await db.fetch("SELECT verdict FROM inbox_event")]
    assert verdicts == ["refused"] * 3
    await make.word(attempt)  # and the true one still works
    await fulfil(order)
    assert await make.status([order.id]) == ["delivered"]


async def test_l22_a_journal_reversed_by_many_at_once_is_reversed_once() -> None:
    shop = Shop()
    await shop.pay_in(50)
    legs = [
        shop.transfer("provider_clearing", "merchant_available", 30),
        shop.transfer("merchant_available", "merchant_pending", 20),
        shop.transfer("provider_clearing", "platform_commission", 5),
    ]
    names = ("provider_clearing", "merchant_available", "merchant_pending", "platform_commission")
    before = await shop.posted(*names)
    journal = await ledger.post("sale:1", legs, kind="sale")

    done: list[ledger.Journal | BaseException] = await asyncio.gather(
        *(ledger.reverse(f"undo:{number % 4}", journal.id) for number in range(12)),
        return_exceptions=True,
    )

    assert await shop.posted(*names) == before
    assert {type(one) for one in done if isinstance(one, DomainError)} == {ledger.NotReversible}
    assert len({one.id for one in done if isinstance(one, ledger.Journal)}) == 1
    assert await db.value("SELECT count(*) FROM ledger_journal WHERE reverses_id IS NOT NULL") == 1
