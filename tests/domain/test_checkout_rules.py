"""The rule of the sale: in time, late, short, over, held, closed; and the machines it may never leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.checkout import rules
from domain.checkout.rules import Arrival, Outcome
from domain.orders.rules import NEXT, OrderPaymentState, OrderStatus, may, payment_state

PAID_IN_TIME = Arrival(
    status=OrderStatus.AWAITING_PAYMENT,
    total_minor=1000,
    kept_before_minor=0,
    arrived_minor=1000,
    is_expired=False,
    is_held_by_risk=False,
    is_plain=True,
)
arrivals = st.builds(
    Arrival,
    status=st.sampled_from(OrderStatus),
    total_minor=st.integers(1, 2000),
    kept_before_minor=st.integers(0, 3000),
    arrived_minor=st.integers(0, 3000),
    is_expired=st.booleans(),
    is_held_by_risk=st.booleans(),
    is_plain=st.booleans(),
)


def but(**changes: object) -> Arrival:
    return PAID_IN_TIME._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arrival", "has_stock", "expected"),
    [
        (but(), True, Outcome.DELIVER),
        (but(is_plain=False), True, Outcome.START_DELIVERY),
        (but(), False, Outcome.SHORT),  # D06
        (but(is_expired=True), True, Outcome.DELIVER),  # E01: late, stock there
        (but(is_expired=True), False, Outcome.RETURN),  # E01: late, stock gone
        (but(status=OrderStatus.EXPIRED), True, Outcome.DELIVER),
        (but(status=OrderStatus.CANCELLED), False, Outcome.RETURN),  # E02
        (but(is_held_by_risk=True), True, Outcome.HOLD),  # E15, N02
        (but(arrived_minor=999), True, Outcome.WAIT),  # B01
        (but(kept_before_minor=999, arrived_minor=1), True, Outcome.DELIVER),
        (but(arrived_minor=1001), True, Outcome.DELIVER),  # B01: surplus goes back
        (but(status=OrderStatus.DELIVERED, kept_before_minor=1000), True, Outcome.SURPLUS),  # E03
        (but(status=OrderStatus.REFUNDED), True, Outcome.SURPLUS),
        (
            but(status=OrderStatus.DELIVERING, kept_before_minor=1000, arrived_minor=0),
            True,
            Outcome.DELIVER,
        ),
    ],
)
def test_e01_b01_every_arrival_has_its_outcome(
    arrival: Arrival, has_stock: bool, expected: Outcome
) -> None:
    assert rules.outcome(arrival, has_stock=has_stock) is expected


@given(arrival=arrivals, has_stock=st.booleans())
def test_l07_nothing_is_delivered_unpaid_unstocked_or_held(
    arrival: Arrival, has_stock: bool
) -> None:
    outcome = rules.outcome(arrival, has_stock=has_stock)

    if (
        outcome in (Outcome.DELIVER, Outcome.START_DELIVERY)
        and arrival.status is not OrderStatus.DELIVERING
    ):
        assert arrival.kept_before_minor + arrival.arrived_minor >= arrival.total_minor
        assert has_stock
        assert not arrival.is_held_by_risk
    if outcome is Outcome.NOTHING:
        assert arrival.arrived_minor == 0


@given(arrival=arrivals, has_stock=st.booleans())
def test_l21_m05_every_outcome_is_a_step_of_the_table(arrival: Arrival, has_stock: bool) -> None:
    target = rules.STATUS.get(rules.outcome(arrival, has_stock=has_stock))

    assert target is None or target is arrival.status or may(arrival.status, target)


@given(arrival=arrivals)
def test_e03_surplus_is_what_is_above_the_total(arrival: Arrival) -> None:
    surplus = rules.surplus_minor(arrival)
    used = arrival.arrived_minor - surplus

    assert 0 <= surplus <= arrival.arrived_minor
    assert surplus == 0 or arrival.kept_before_minor + used >= arrival.total_minor
    assert used == 0 or arrival.kept_before_minor + used <= arrival.total_minor


def test_m05_refunded_is_the_end() -> None:
    assert NEXT[OrderStatus.REFUNDED] == frozenset()


def test_m05_only_money_leaves_expired_and_cancelled() -> None:
    for closed in (OrderStatus.EXPIRED, OrderStatus.CANCELLED):
        assert OrderStatus.AWAITING_PAYMENT not in NEXT[closed]
        assert OrderStatus.PAID in NEXT[closed]


@pytest.mark.parametrize(
    ("captured", "returned", "disputes", "expected"),
    [
        (0, 0, 0, OrderPaymentState.NOT_CHARGED),
        (999, 0, 0, OrderPaymentState.PARTIALLY_CHARGED),
        (1000, 0, 0, OrderPaymentState.FULLY_CHARGED),
        (1001, 0, 0, OrderPaymentState.OVERPAID),
        (2000, 1000, 0, OrderPaymentState.FULLY_CHARGED),
        (1000, 1, 0, OrderPaymentState.PARTIALLY_REFUNDED),
        (1000, 1000, 0, OrderPaymentState.FULLY_REFUNDED),
        (999, 999, 0, OrderPaymentState.FULLY_REFUNDED),
        (1000, 1000, 1, OrderPaymentState.DISPUTED),
        (2000, 0, 1, OrderPaymentState.DISPUTED),
    ],
)
def test_m06_payment_state_follows_from_the_facts(
    captured: int, returned: int, disputes: int, expected: OrderPaymentState
) -> None:
    state = payment_state(
        total_minor=1000, captured_minor=captured, returned_minor=returned, disputes_open=disputes
    )

    assert state is expected
