"""What was acknowledged is picked up without a person, whatever died meanwhile (CASES B04, C04, C06, C15, K27)."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from domain import catalogue, checkout, ledger, orders
from domain.checkout import refunds
from domain.core import bell, clock, db, ids
from domain.core.errors import Unavailable
from domain.core.money import Money
from domain.ledger import AccountKey
from domain.orders.models import Line, Order, Placement
from domain.orders.rules import LANES
from domain.payments.ports import RefundAnswer, RefundState
from tests import make
from tests.database import as_owner
from tests.journeys import checker
from tests.rows import changed, everything
from tests.workers.running import until_true
from workers import cron, loops, sale

USD = "USD"
fulfilling = importlib.import_module(
    "domain.checkout.fulfil"
)  # the door has a function of that name


@pytest.fixture(autouse=True)
async def _books(db: None) -> AsyncIterator[None]:
    yield
    assert await ledger.check() == []


async def fulfil(order: Order) -> None:
    while await checkout.fulfil(order.lane):
        pass


async def priced(of: make.Shop, *, price_minor: int, payable_minor: int) -> Order:
    """An order whose list price and payable differ."""
    order_id = orders.new_id()
    off = price_minor - payable_minor
    line = Line(
        ids.uuid7(),
        order_id,
        0,
        of.variant_id,
        "stock",
        "One",
        1,
        price_minor,
        off,
        payable_minor,
        0,
    )
    placement = Placement(
        order_id,
        merchant_id=of.merchant_id,
        shop_id=of.shop_id,
        buyer=make.buyer(),
        total=Money(payable_minor, USD),
        discount_minor=off,
        lines=[line],
        expires_at=clock.now() + timedelta(minutes=30),
    )
    async with db.transaction():
        return (await orders.place([placement]))[order_id]


@pytest.mark.parametrize(
    ("said_minor", "fits"),
    [
        (9_000, True),  # the payable
        (10_000, False),  # the price before the discount
        (9_320, False),  # the payable and the gateway's fee on top
        (8_680, False),  # the payable less the gateway's fee
    ],
)
async def test_b04_the_amount_is_compared_with_the_payable_not_with_the_price(
    said_minor: int, fits: bool
) -> None:
    shop = await make.shop()
    order = await priced(shop, price_minor=10_000, payable_minor=9_000)
    attempt = await make.attempt(order)

    await make.word(attempt, amount=Money(said_minor, USD))
    await fulfil(order)

    sold = await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'")
    kinds = [row["kind"] for row in await db.fetch("SELECT kind FROM money_exception")]
    assert await make.status([order.id]) == ["delivered" if fits else "awaiting_payment"]
    assert (sold, kinds) == ((1, []) if fits else (0, ["conflicted"]))
    assert await db.value("SELECT captured_minor FROM orders") == (9_000 if fits else 0)


async def test_b04_a_second_attempt_is_compared_with_what_was_left_to_pay() -> None:
    shop = await make.shop()
    order = await priced(shop, price_minor=10_000, payable_minor=9_000)
    await make.word(await make.attempt(order), "partially_captured", amount=Money(4_000, USD))
    await fulfil(order)

    await make.word(await make.attempt(order, amount=Money(5_000, USD), reserve=False))
    await fulfil(order)

    assert await make.status([order.id]) == ["delivered"]
    assert await db.value("SELECT count(*) FROM money_exception") == 0


async def test_c04_acknowledged_while_the_queue_is_down_it_is_delivered_without_a_person(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = await make.shop()
    await bell.close()
    bell.open("unix:///nowhere/valkey.sock?db=0")  # as after a crash of the queue: no ring arrives
    placed = [await make.paid(shop) for _ in range(3)]
    assert await db.value("SELECT count(*) FROM inbox_event WHERE verdict IS NULL") == 3

    until = asyncio.Event()
    lanes = [sale.lane_loop(lane) for lane in range(LANES)]
    running = asyncio.create_task(loops.keep_running(lanes, until))

    async def are_delivered() -> bool:
        return set(await make.status([order.id for order in placed])) == {"delivered"}

    await until_true(are_delivered)
    # And what comes while they wait: found by the loop's own look.
    placed.append(await make.paid(shop))
    await until_true(are_delivered)
    until.set()
    await running

    assert await db.value("SELECT count(*) FROM ledger_journal") == 4
    assert await checker.faults() == []


async def test_c04_a_set_that_dies_before_its_commit_is_done_by_the_next_one() -> None:
    shop = await make.shop(reserve_bps=500)
    placed = [await make.paid(shop) for _ in range(3)]
    before = await everything()

    async def dies() -> None:
        async with db.transaction():
            # Everything the set does, and then its connection is gone instead of its COMMIT.
            assert await checkout.fulfil(placed[0].lane) == 3
            await db.execute("SET LOCAL ROLE NONE; SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Unavailable):
        await dies()
    assert changed(before, await everything()) <= {"ledger_account", "ledger_balance"}

    await fulfil(placed[0])
    assert set(await make.status([order.id for order in placed])) == {"delivered"}
    assert await db.value("SELECT count(*) FROM ledger_journal") == 3
    assert await checker.faults() == []


async def test_c06_a_word_about_a_purged_order_is_parked_and_spoils_nobody() -> None:
    shop = await make.shop()
    gone = await make.order(shop)
    attempt = await make.attempt(gone)
    # As if somebody had cleaned up by hand: the attempt is still there, its order is not.
    await as_owner("DELETE FROM orders WHERE id = $1", gone.id)
    await make.word(attempt)
    other = await make.paid(shop)

    await fulfil(other)

    rows = await db.fetch("SELECT verdict, note FROM inbox_event ORDER BY no")
    assert [tuple(row) for row in rows] == [("parked", "unknown order"), ("applied", None)]
    assert await make.status([other.id]) == ["delivered"]
    assert await db.value("SELECT count(*) FROM capture") == 1
    assert await db.value("SELECT kind FROM money_exception") == "unknown_payment"


async def test_c06_no_pruner_forgets_an_order_with_an_attempt() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    await make.attempt(order)
    await as_owner(
        "UPDATE orders SET expires_at = '2020-01-01', created_at = '2020-01-01', status = 'expired'"
    )
    for entry in cron.EVERY:
        if entry.name.endswith((".prune", ".sweep", ".expire")):
            await entry.run()

    assert await db.value("SELECT count(*) FROM orders") == 1
    assert await db.value("SELECT count(*) FROM payment_attempt") == 1
    assert await db.value("SELECT count(*) FROM order_line") == 1


@pytest.mark.parametrize(
    "facts", [{}, {"subject": "attempt", "state": "captured", "minor": "x", "ccy": "USD"}]
)
async def test_k27_a_word_that_nobody_can_read_is_set_aside_and_the_lane_goes_on(
    facts: dict[str, str],
) -> None:
    shop = await make.shop()
    poisoned = await make.attempt(await make.order(shop))
    await db.execute(
        "INSERT INTO inbox_event (provider, provider_account, event_id, lane, reference_id, body_hash, facts_json)"
        " VALUES ('sandbox', 'main', 'poison', $1, $2, $3, $4)",
        poisoned.lane,
        poisoned.id,
        b"h" * 32,
        facts,
    )
    placed = [await make.paid(shop) for _ in range(4)]

    await fulfil(placed[0])

    assert set(await make.status([order.id for order in placed])) == {"delivered"}
    rows = await db.fetch("SELECT event_id FROM inbox_event WHERE verdict = 'parked'")
    assert [row["event_id"] for row in rows] == ["poison"]
    assert await db.value("SELECT kind FROM money_exception") == "unfulfillable"


async def test_k27_another_worker_at_the_culprit_parks_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = await make.shop()
    placed = [await make.paid(shop) for _ in range(2)]
    first = await db.value("SELECT min(no) FROM inbox_event")
    taken, let_go = asyncio.Event(), asyncio.Event()

    async def another() -> None:
        async with db.transaction():
            await db.execute("SELECT FROM inbox_event WHERE no = $1 FOR NO KEY UPDATE", first)
            taken.set()
            await let_go.wait()

    elsewhere: list[asyncio.Task[None]] = []
    allocate = catalogue.allocate

    async def fails(order_ids: list[object]) -> object:
        if placed[0].id in order_ids:
            raise AssertionError("this one")
        return await allocate(order_ids)  # type: ignore[arg-type]

    park = fulfilling._park

    async def later(*asked: object) -> None:
        # Between the rollback and the parking another worker has taken the culprit.
        elsewhere.append(asyncio.create_task(another()))
        await taken.wait()
        asyncio.get_running_loop().call_later(0.2, let_go.set)
        await park(*asked)

    monkeypatch.setattr(catalogue, "allocate", fails)
    monkeypatch.setattr(fulfilling, "_park", later)

    await checkout.fulfil(placed[0].lane)
    await asyncio.gather(*elsewhere)
    await fulfil(placed[1])

    assert await make.status([order.id for order in placed]) == ["awaiting_payment", "delivered"]
    rows = await db.fetch("SELECT no FROM inbox_event WHERE verdict = 'parked'")
    assert [row["no"] for row in rows] == [first]


async def test_c15_a_job_that_runs_again_finds_its_effect_by_its_key() -> None:
    shop = await make.shop()
    order = await make.paid(shop)
    await fulfil(order)
    (refund,) = await refunds.ask(order.id, 4_000, reason="test", asked_by="test")
    said = RefundAnswer(RefundState.SUCCEEDED, provider_ref="re-1")

    # The same job from several queues at once, and again much later.
    await asyncio.gather(*(checkout.hear(refund.id, said) for _ in range(6)))
    await checkout.hear(refund.id, said)
    await asyncio.gather(*(checkout.fulfil(order.lane) for _ in range(4)))

    keys = [row["key"] for row in await db.fetch("SELECT key FROM ledger_journal ORDER BY no")]
    capture_id = await db.value("SELECT id FROM capture")
    assert keys == [f"sale:{capture_id}", f"refund:{refund.id}:ask", f"refund:{refund.id}:done"]
    available = AccountKey("merchant_available", shop.merchant_id, "", USD)
    assert (await ledger.balance(available)).posted == 9_400 - 3_760
    assert await db.value("SELECT returned_minor FROM orders") == 4_000
    assert await checker.faults() == []
