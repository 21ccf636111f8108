"""Laws of fees and of the terms a merchant may have."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.core.errors import InputInvalid
from domain.core.money import Money
from domain.merchants import (
    FeeSchedule,
    FeeTerms,
    Payer,
    Plans,
    ReserveKind,
    Scope,
    Speed,
    SplitLeg,
    fee,
)
from domain.merchants.rules import (
    check_fee,
    check_merchant,
    check_reserve,
    check_settlement,
    check_shop,
    check_split,
)
from domain.settlement.rules import Leg, Owed, Terms, split

SIX = FeeSchedule(uuid4(), Scope.PLATFORM, 1, None, 600)
AMOUNTS = st.integers(0, 2**62)


@st.composite
def schedules(draw: st.DrawFn) -> FeeSchedule:
    low = draw(st.integers(0, 10**9))
    high = draw(st.none() | st.integers(low, 10**12))
    return FeeSchedule(
        uuid4(),
        draw(st.sampled_from(Scope)),
        1,
        "USD",
        draw(st.integers(0, 10_000)),
        draw(st.integers(0, 10**9)),
        low,
        high,
    )


@pytest.mark.parametrize(
    ("minor", "schedule", "expected"),
    [
        (10_000, SIX, 600),  # MONEY.md, the worked sale
        (1, SIX, 0),
        (16, SIX, 0),
        (17, SIX, 1),
        (0, SIX, 0),
        (1_990, replace(SIX, ccy="USD", pct_bps=290, fixed_minor=30), 87),
        (100, replace(SIX, ccy="USD", min_minor=50), 50),
        (30, replace(SIX, ccy="USD", min_minor=50), 30),
        (1_000_000, replace(SIX, ccy="USD", max_minor=999), 999),
        (2**62, replace(SIX, pct_bps=10_000), 2**62),
    ],
)
def test_fee_rounds_down_and_stays_within_its_bounds(
    minor: int, schedule: FeeSchedule, expected: int
) -> None:
    assert fee(Money(minor, "USD"), schedule) == expected


@given(minor=AMOUNTS, schedule=schedules())
def test_l12_i10_fee_is_between_nothing_and_the_amount(minor: int, schedule: FeeSchedule) -> None:
    taken = fee(Money(minor, "USD"), schedule)

    assert 0 <= taken <= minor
    assert taken >= min(schedule.min_minor, minor)
    if schedule.max_minor is not None:
        assert taken <= schedule.max_minor


@given(
    minor=st.integers(1, 2**62),
    schedule=schedules(),
    reserve_bps=st.integers(0, 10_000),
    owed=st.integers(0, 2**62),
)
def test_g04_a_fee_within_its_bounds_leaves_legs_that_add_up_and_none_negative(
    minor: int, schedule: FeeSchedule, reserve_bps: int, owed: int
) -> None:
    taken = fee(Money(minor, "USD"), schedule)
    legs = split(minor, Terms(taken, reserve_bps=reserve_bps), Owed(debt_minor=owed))

    assert sum(legs.values()) == minor
    assert all(part > 0 for part in legs.values())
    assert legs.get(Leg.COMMISSION, 0) == taken


def test_g04_one_minor_unit_over_three_parties_has_one_owner() -> None:
    bounds = replace(SIX, ccy="USD", fixed_minor=30, min_minor=50)  # more than there is

    assert split(1, Terms(fee(Money(1, "USD"), bounds), 1_000, reserve_bps=500)) == {
        Leg.COMMISSION: 1
    }
    assert split(1, Terms(fee(Money(1, "USD"), SIX), 1_000, reserve_bps=500)) == {Leg.MERCHANT: 1}


@given(one=AMOUNTS, two=AMOUNTS, schedule=schedules())
def test_l12_i10_fee_is_monotone(one: int, two: int, schedule: FeeSchedule) -> None:
    small, large = sorted((one, two))

    assert fee(Money(small, "USD"), schedule) <= fee(Money(large, "USD"), schedule)


@given(minor=AMOUNTS, bps=st.integers(0, 10_000))
def test_l12_fee_is_recomputable_and_never_above_its_share(minor: int, bps: int) -> None:
    schedule = replace(SIX, pct_bps=bps)
    taken = fee(Money(minor, "JPY"), schedule)

    assert taken == fee(Money(minor, "JPY"), schedule)
    assert taken * 10_000 <= minor * bps < (taken + 1) * 10_000


def test_a_fixed_fee_never_meets_another_currency() -> None:
    with pytest.raises(AssertionError):
        fee(Money(100, "JPY"), replace(SIX, ccy="USD", fixed_minor=30))


def test_the_merchants_own_schedule_comes_first_then_the_closer_currency() -> None:
    platform = SIX
    platform_usd = replace(SIX, id=uuid4(), ccy="USD", fixed_minor=30)
    own = replace(SIX, id=uuid4(), scope=Scope.MERCHANT, pct_bps=500)
    own_eur = replace(own, id=uuid4(), ccy="EUR")
    plans = Plans(uuid4(), "USD", fees=(platform, platform_usd, own_eur))

    assert plans.schedule("USD") is platform_usd
    assert plans.schedule("EUR") is own_eur
    assert plans.schedule("JPY") is platform
    assert replace(plans, fees=(platform_usd, own)).schedule("USD") is own
    assert replace(plans, fees=()).schedule("USD") is None
    assert replace(plans, fees=()).fee_minor(Money(100, "USD")) == 0
    assert plans.fee_minor(Money(10_000, "USD")) == 630


def paths(refused: pytest.ExceptionInfo[InputInvalid]) -> list[str]:
    return [".".join(problem.path) for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (FeeTerms(10_001), ["input.pctBps"]),
        (FeeTerms(-1), ["input.pctBps"]),
        (FeeTerms(0, "USD", min_minor=5, max_minor=4), ["input.maxMinor"]),
        (FeeTerms(0, "USD", fixed_minor=-1, min_minor=-1), ["input.fixedMinor", "input.minMinor"]),
        (FeeTerms(0, "USD", fixed_minor=2**63), ["input.fixedMinor"]),
        (FeeTerms(0, fixed_minor=30), ["input.ccy"]),
        (FeeTerms(0, "usd"), ["input.ccy"]),
        (FeeTerms(0, merchant_id=uuid4()), ["input.merchantId"]),
        (FeeTerms(0, scope=Scope.MERCHANT), ["input.merchantId"]),
        (FeeTerms(0, subject="card"), ["input.subject"]),
        # Nothing charges these yet: they are refused, not kept and ignored (G04).
        (FeeTerms(0, scope=Scope.METHOD, subject="card"), ["input.scope"]),
        (FeeTerms(0, scope=Scope.COUNTRY, subject="HK"), ["input.scope"]),
        *((FeeTerms(0, payer=payer), ["input.payer"]) for payer in Payer if payer != "merchant"),
    ],
)
def test_j37_g04_a_fee_schedule_is_refused_with_its_paths(
    terms: FeeTerms, expected: list[str]
) -> None:
    with pytest.raises(InputInvalid) as refused:
        check_fee(terms)

    assert paths(refused) == expected


def leg(name: str, pct_bps: int | None = None, **facts: object) -> SplitLeg:
    return SplitLeg(name, "purpose", "owner", pct_bps, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("legs", "expected"),
    [
        ([leg("a", 4_000), leg("b", 5_999)], ["input.legs"]),
        ([leg("a", 4_000), leg("b", 6_001)], ["input.legs"]),
        ([leg("a", 10_001), leg("rest", remainder=True)], ["input.legs.0.pctBps", "input.legs"]),
        ([leg("a", 10_000), leg("b", fixed_minor=1)], ["input.legs"]),
        ([leg("a", remainder=True), leg("b", remainder=True)], ["input.legs"]),
        ([leg("a", 100), leg("a", 100), leg("b", remainder=True)], ["input.legs.1.leg"]),
        ([leg("a"), leg("b", remainder=True)], ["input.legs.0"]),
        ([leg("a", 100, remainder=True)], ["input.legs.0"]),
        ([], ["input.legs"]),
    ],
)
def test_j37_a_split_that_does_not_add_up_is_refused(
    legs: list[SplitLeg], expected: list[str]
) -> None:
    with pytest.raises(InputInvalid) as refused:
        check_split(legs)

    assert paths(refused) == expected


def test_splits_that_add_up_are_taken() -> None:
    check_split([leg("a", 4_000), leg("b", 6_000)])
    check_split([leg("a", 600), leg("b", fixed_minor=30), leg("rest", remainder=True)])


@pytest.mark.parametrize(
    ("speed", "days", "fits"),
    [
        (Speed.T0, 0, True),
        (Speed.T0, 1, False),
        (Speed.T1, 1, True),
        (Speed.T1, 2, False),
        (Speed.TN, 90, True),
        (Speed.TN, 0, False),
        (Speed.TN, 91, False),
    ],
)
def test_a_speed_says_its_days(speed: Speed, days: int, fits: bool) -> None:
    if fits:
        check_settlement(speed, days)
        return
    with pytest.raises(InputInvalid):
        check_settlement(speed, days)


@pytest.mark.parametrize(
    ("kind", "bps", "days"),
    [
        (ReserveKind.ROLLING, 10_001, 30),
        (ReserveKind.ROLLING, 500, 181),
        (ReserveKind.ROLLING, 500, 0),
        (ReserveKind.FIXED, 0, 30),
    ],
)
def test_j37_a_reserve_is_at_most_all_of_it_for_180_days(
    kind: ReserveKind, bps: int, days: int
) -> None:
    with pytest.raises(InputInvalid):
        check_reserve(kind, bps, days)


@pytest.mark.parametrize(
    ("handle", "names"),
    [
        ("De-mo", {"en": "x"}),
        ("-demo", {"en": "x"}),
        ("demo-", {"en": "x"}),
        ("de--mo", {"en": "x"}),
        ("demo\n", {"en": "x"}),
        ("ab", {"en": "x"}),
        ("a" * 41, {"en": "x"}),
        ("demo", {}),
        ("demo", {"en": " "}),
        ("demo", {"en": "two\r\nlines"}),
    ],
)
def test_a_handle_is_a_plain_word_and_a_shop_has_a_name(handle: str, names: dict[str, str]) -> None:
    with pytest.raises(InputInvalid):
        check_shop(handle, names)


def test_j02_a_merchant_has_a_real_currency_and_country() -> None:
    with pytest.raises(InputInvalid) as refused:
        check_merchant("\x1b[31m", "usd", "Singapore")

    assert paths(refused) == ["input.name", "input.baseCurrency", "input.country"]
    check_merchant("点卡商店", "JPY", "JP")
