"""Laws of the split: nothing lost, nothing negative, and the worked sale of the money model to the cent."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.settlement import rules
from domain.settlement.rules import Leg, Owed, Part, RefundExceedsCaptured, Terms

WORKED = Terms(commission_minor=600, affiliate_bps=1_000, reserve_bps=500, withhold_bps=1_000)
bps = st.integers(0, 10_000)
terms = st.builds(
    Terms,
    commission_minor=st.integers(0, 10**9),
    affiliate_bps=bps,
    tax_minor=st.integers(0, 10**9),
    reserve_bps=bps,
    withhold_bps=bps,
)
owed = st.builds(Owed, debt_minor=st.integers(0, 10**10), credit_minor=st.integers(0, 10**10))


def test_g03_worked_sale_splits_as_the_money_model_says() -> None:
    legs = rules.split(10_000, WORKED, Owed(credit_minor=11_000))

    assert legs == {
        Leg.COMMISSION: 600,
        Leg.AFFILIATE: 1_000,
        Leg.RESERVE: 420,
        Leg.WITHHOLDING: 798,
        Leg.MERCHANT: 7_182,
    }


def test_debt_is_recovered_before_the_reserve() -> None:
    legs = rules.split(10_000, Terms(commission_minor=600, reserve_bps=500), Owed(debt_minor=400))

    assert legs == {Leg.COMMISSION: 600, Leg.DEBT: 400, Leg.RESERVE: 450, Leg.MERCHANT: 8_550}


@given(minor=st.integers(1, 10**12), terms=terms, owed=owed)
def test_l11_legs_add_up_and_none_is_negative(minor: int, terms: Terms, owed: Owed) -> None:
    legs = rules.split(minor, terms, owed)

    assert sum(legs.values()) == minor
    assert all(part > 0 for part in legs.values())
    assert legs.get(Leg.DEBT, 0) <= owed.debt_minor
    assert legs.get(Leg.WITHHOLDING, 0) <= owed.credit_minor


def test_g20_partial_refunds_of_the_worked_sale_end_at_zero() -> None:
    left = {str(leg): part for leg, part in rules.split(10_000, WORKED, Owed(0, 11_000)).items()}
    expected = [
        {
            "commission": 150,
            "affiliate": 250,
            "reserve": 105,
            "withholding": 199,
            "merchant": 1_796,
        },
        {
            "commission": 200,
            "affiliate": 333,
            "reserve": 140,
            "withholding": 266,
            "merchant": 2_394,
        },
        {
            "commission": 250,
            "affiliate": 417,
            "reserve": 175,
            "withholding": 333,
            "merchant": 2_992,
        },
    ]

    for amount, parts in zip((2_500, 3_333, 4_167), expected, strict=True):
        given_back = rules.give_back(amount, [Part(leg, free) for leg, free in left.items()])
        assert given_back == parts
        left = {leg: free - given_back[leg] for leg, free in left.items()}

    assert set(left.values()) == {0}


@given(
    minor=st.integers(1, 10**10),
    terms=terms,
    owed=owed,
    cuts=st.lists(st.integers(1, 10**10), max_size=6),
)
def test_l11_full_refund_by_any_steps_returns_each_leg_exactly(
    minor: int, terms: Terms, owed: Owed, cuts: list[int]
) -> None:
    left = {str(leg): part for leg, part in rules.split(minor, terms, owed).items()}
    rest = minor
    for cut in [*cuts, minor]:
        step = min(cut, rest)
        if not step:
            continue
        parts = rules.give_back(step, [Part(leg, free) for leg, free in left.items()])
        assert sum(parts.values()) == step
        assert all(0 < part <= left[leg] for leg, part in parts.items())
        left = {leg: free - parts.get(leg, 0) for leg, free in left.items()}
        rest -= step

    assert set(left.values()) == {0}


def test_e07_refund_above_what_is_left_is_refused() -> None:
    with pytest.raises(RefundExceedsCaptured) as refusal:
        rules.give_back(101, [Part("merchant", 90), Part("commission", 10)])

    assert refusal.value.facts == {"refundable_minor": 100}


def test_g15_less_than_a_minor_unit_makes_no_transfer() -> None:
    assert rules.split(1, Terms(commission_minor=0, affiliate_bps=1_000, reserve_bps=500)) == {
        Leg.MERCHANT: 1
    }


@given(minor=st.integers(1, 10**10), fee_bps=bps, fixed=st.integers(0, 10**4))
def test_provider_cost_is_never_estimated_too_low(minor: int, fee_bps: int, fixed: int) -> None:
    cost = rules.provider_cost(minor, fee_bps=fee_bps, fixed_minor=fixed)

    assert 0 <= (cost - fixed) * 10_000 - minor * fee_bps < 10_000


def test_cover_takes_accounts_in_order_and_leaves_the_missing_out() -> None:
    funds = {"reserved": 420, "pending": 0, "available": 1_000}

    assert rules.cover(1_200, funds, ("reserved", "pending", "available")) == {
        "reserved": 420,
        "available": 780,
    }
    assert sum(rules.cover(9_999, funds, tuple(funds)).values()) == 1_420


def test_available_day_counts_in_the_merchants_zone_and_after_the_cut_off() -> None:
    evening = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)  # 01:30 on the 23rd in Hong Kong

    assert rules.available_on(evening, days=1, cutoff_s=0, zone="UTC") == date(2026, 11, 23)
    assert rules.available_on(evening, days=1, cutoff_s=0, zone="Asia/Hong_Kong") == date(
        2026, 11, 24
    )
    assert rules.available_on(evening, days=1, cutoff_s=17 * 3600, zone="UTC") == date(2026, 11, 24)
