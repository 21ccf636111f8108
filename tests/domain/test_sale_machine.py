"""One shop, a few keys, and everything that can happen to its orders in random order; the laws after every step.

CASES L07 to L09, L11, L14, L16, L19 to L21, L33, C02, C03, C09, E02, E06, E07, E11, D09,
N02. The provider is the machine: it says what it likes, when it likes, as often as it likes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from domain import catalogue, checkout, orders, payments, settlement
from domain.catalogue import OutOfStock
from domain.checkout import closing, refunds
from domain.checkout.manual import PAYABLE
from domain.core import clock
from domain.core import db as core
from domain.core.money import Money
from domain.ledger import InsufficientFunds
from domain.merchants import Speed
from domain.orders import LANES, OrderStateConflict
from domain.orders.models import Order
from domain.payments.models import Attempt
from domain.payments.ports import RefundAnswer, RefundState
from domain.settlement import RefundExceedsCaptured
from tests import make
from tests.database import as_owner
from tests.journeys import checker

T = TypeVar("T")
TURN = st.integers(0, 1_000)
SAID = st.sampled_from(
    (
        "right",
        "right",
        "right",
        "again",
        "half",
        "over",
        "euro",
        "declined",
        "processing",
        "voided",
        "foreign",
    )
)
HEARD = st.sampled_from((RefundState.PENDING, RefundState.SUCCEEDED, RefundState.FAILED))
PROMISED: dict[str, Callable[[UUID], Awaitable[object]]] = {
    "refund.surplus": checkout.return_surplus,
    "refund.partial": checkout.return_partial,
    "stock.arrived": checkout.restock,
}


class Sales(RuleBasedStateMachine):
    """Operations on one shop with three keys."""

    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` in the loop that owns the pool."""
        return self.loop.run_until_complete(work)

    @initialize(reserve_bps=st.sampled_from((0, 500)), speed=st.sampled_from(("t0", "t1")))
    def begin(self, reserve_bps: int, speed: str) -> None:
        self.shop = self.run(make.shop(keys=3, reserve_bps=reserve_bps, speed=Speed(speed)))
        self.orders: list[Order] = []
        self.attempts: list[Attempt] = []
        self.said: dict[UUID, tuple[str, Money, str]] = {}

    def one(self, things: list[T], turn: int) -> T:
        """Any of `things`, the younger the likelier."""
        return things[-1 - turn % len(things)]

    @rule(quantity=st.integers(1, 2), is_held=st.sampled_from((False, False, False, True)))
    def place(self, quantity: int, is_held: bool) -> None:
        order = self.run(make.order(self.shop, quantity=quantity))
        self.orders.append(order)
        if is_held:
            self.run(orders.hold(order.id, is_held=True))

    @precondition(lambda self: self.orders)
    @rule(turn=TURN, reserve=st.booleans(), is_asked=st.sampled_from((False, False, True)))
    def attempt(self, turn: int, reserve: bool, is_asked: bool) -> None:
        self.run(self._attempt(self.one(self.orders, turn), reserve, is_asked))

    async def _attempt(self, placed: Order, reserve: bool, is_asked: bool) -> None:
        order = (await orders.views([placed.id]))[placed.id].order
        left = order.total_minor - (await payments.kept_of([order.id])).get(order.id, 0)
        if order.status != "awaiting_payment" or left <= 0:
            return
        try:
            made = await make.attempt(
                order,
                amount=Money(left, order.ccy),
                reserve=reserve,
                must_authenticate=is_asked,
            )
        except (payments.AttemptLive, OutOfStock):
            return
        self.attempts.append(made)

    @precondition(lambda self: self.attempts)
    @rule(
        turn=TURN,
        what=SAID,
        is_late=st.sampled_from((False, False, True)),
        is_proved=st.booleans(),
    )
    def word(self, turn: int, what: str, is_late: bool, is_proved: bool) -> None:
        attempt = self.one(self.attempts, turn)
        asked, at = attempt.requested, clock.now() + timedelta(hours=2 * is_late)
        states = {
            "right": ("captured", asked),
            "half": ("partially_captured", Money(max(1, asked.minor // 2), asked.currency)),
            "over": ("captured", Money(asked.minor + 100, asked.currency)),
            "euro": ("captured", Money(asked.minor, "EUR")),
            "foreign": ("captured", asked),
        }
        if what == "again" and attempt.id not in self.said:
            return
        event_id = None
        if what == "again":
            state, amount, event_id = self.said[attempt.id]
        else:
            state, amount = states.get(what, (what, Money(0, asked.currency)))
        account = "other" if what == "foreign" else None
        number = f"machine-{next(_numbers)}"
        self.run(
            make.word(
                attempt,
                state,
                amount=amount,
                event_id=event_id or number,
                at=at,
                account=account,
                is_authenticated=is_proved,
            )
        )
        if what not in ("again", "foreign"):
            self.said[attempt.id] = (state, amount, number)

    @precondition(lambda self: self.orders)
    @rule(turn=TURN)
    def paid_by_hand(self, turn: int) -> None:
        """E06: two people have approved it; the order may have been paid since."""
        with _expected(payments.AttemptLive):
            self.run(self._paid_by_hand(self.one(self.orders, turn)))

    async def _paid_by_hand(self, placed: Order) -> None:
        async with core.transaction():
            order = await orders.lock_one(placed.id)
            left = order.total_minor - (await payments.kept_of([order.id])).get(order.id, 0)
            if order.status in PAYABLE and left > 0:
                await payments.put_manual(
                    payments.new_id(),
                    order_id=order.id,
                    merchant_id=order.merchant_id,
                    lane=order.lane,
                    amount=Money(left, order.ccy),
                    evidence=f"line {next(_numbers)}",
                )

    @rule()
    def fulfil(self) -> None:
        self.run(self._fulfil())

    async def _fulfil(self) -> None:
        for lane in range(LANES):
            for _ in range(20):
                if not await checkout.fulfil(lane):
                    break
            else:
                raise AssertionError("a lane does not come to rest")

    @precondition(lambda self: self.orders)
    @rule(turn=TURN)
    def expire(self, turn: int) -> None:
        order = self.one(self.orders, turn)
        past = "UPDATE orders SET expires_at = clock_timestamp() - interval '1 h' WHERE id = $1"
        self.run(core.execute(past, order.id))
        self.run(closing.expire_due())

    @precondition(lambda self: self.orders)
    @rule(turn=TURN)
    def cancel(self, turn: int) -> None:
        with _expected(OrderStateConflict):
            self.run(checkout.cancel(self.one(self.orders, turn).id))

    @precondition(lambda self: self.orders)
    @rule(turn=TURN, minor=st.one_of(st.none(), st.integers(1, 12_000)))
    def refund(self, turn: int, minor: int | None) -> None:
        order = self.one(self.orders, turn)
        with _expected(RefundExceedsCaptured, InsufficientFunds):
            self.run(refunds.ask(order.id, minor, reason="test", asked_by="machine"))

    @rule(turn=TURN, state=HEARD)
    def provider_says_of_a_refund(self, turn: int, state: RefundState) -> None:
        rows = self.run(
            core.fetch(
                "SELECT id FROM refund WHERE merchant_id = $1 ORDER BY id", self.shop.merchant_id
            )
        )
        if rows:
            self.run(checkout.hear(self.one(rows, turn)["id"], RefundAnswer(state)))

    @precondition(lambda self: self.orders)
    @rule(turn=TURN, is_good=st.booleans())
    def review(self, turn: int, is_good: bool) -> None:
        order = self.one(self.orders, turn)
        with _expected(OrderStateConflict, RefundExceedsCaptured):
            if is_good:
                self.run(checkout.clear(order.id, asked_by="machine", reason="test"))
            else:
                self.run(checkout.decline(order.id, asked_by="machine", reason="test"))

    @rule()
    def restock(self) -> None:
        self.run(make.stock(self.shop.merchant_id, self.shop.variant_id, 1))
        self.run(checkout.restock(self.shop.variant_id))

    @rule()
    def keep_promises(self) -> None:
        self.run(self._keep_promises())

    async def _keep_promises(self) -> int:
        rows = await core.fetch(
            "UPDATE promise SET state = 'done' WHERE state = 'ready' AND task = ANY($1) RETURNING task, subject_id",
            list(PROMISED),
        )
        for row in rows:
            await PROMISED[row["task"]](row["subject_id"])
        return len(rows)

    @rule()
    def release(self) -> None:
        self.run(
            as_owner("UPDATE reserve_hold SET releases_on = current_date WHERE state = 'held'")
        )
        self.run(as_owner("UPDATE settlement_item SET available_on = current_date"))
        self.run(settlement.release_reserves())
        self.run(settlement.release_due())

    @rule()
    def sweep(self) -> None:
        self.run(
            core.execute("UPDATE stock_hold SET held_until = clock_timestamp() - interval '1 s'")
        )
        self.run(catalogue.sweep())

    @invariant()
    def laws(self) -> None:
        assert self.run(core.fetch(_UNPROVED, self.shop.merchant_id)) == []
        assert self.run(checker.faults(at_rest=False, but=("L20",))) == []

    def teardown(self) -> None:
        """Everybody has their turn, every refund succeeds: at rest nothing is left over."""
        if not hasattr(self, "shop"):
            return
        self.run(self._rest())
        assert self.run(checker.faults(but=("L20",))) == []

    async def _rest(self) -> None:
        for _ in range(10):
            await self._fulfil()
            open_refunds = await core.fetch(
                "SELECT id FROM refund WHERE state IN ('created', 'submitted', 'pending')"
            )
            for row in open_refunds:
                await checkout.hear(row["id"], RefundAnswer(RefundState.SUCCEEDED))
            if not await self._keep_promises() and not open_refunds:
                return
        raise AssertionError("it does not come to rest")


_numbers = itertools.count(1)
# N02: nobody gets goods after money that came without the challenge risk had asked for, unless a person said so.
_UNPROVED = """
SELECT d.order_id FROM event_log u JOIN event_log d USING (order_id)
WHERE u.merchant_id = $1 AND u.kind = 'payment.unauthenticated' AND d.kind = 'order.delivered'
    AND d.sequence > u.sequence
    AND NOT EXISTS (SELECT FROM event_log r WHERE r.order_id = u.order_id AND r.kind = 'risk.released'
        AND r.sequence BETWEEN u.sequence AND d.sequence)
"""


class _expected:
    """Refusals that are part of the play."""

    def __init__(self, *errors: type[Exception]) -> None:
        self.errors = errors

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self.errors)


@pytest.fixture
async def loop(db: None) -> asyncio.AbstractEventLoop:
    """The loop of the open pool; it stands still while a synchronous test runs, which may turn it."""
    return asyncio.get_running_loop()


@pytest.mark.timeout(300)
def test_l07_l08_l09_l11_l14_l19_l21_l33_any_order_of_what_happens_to_sales_keeps_the_laws(
    loop: asyncio.AbstractEventLoop,
) -> None:
    machine = type("Machine", (Sales,), {"loop": loop})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
