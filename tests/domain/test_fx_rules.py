"""Exchange arithmetic: exact values, floors, and that nobody profits by going round."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.core.money import UnsupportedCurrency, exponent
from domain.fx import rules
from domain.fx.ports import FeedFailed, Published
from domain.fx.rules import Rate, RateState, RateUnavailable, Table, Terms

AT = datetime(2026, 10, 30, 15, tzinfo=UTC)
ECB = {
    "USD": "1.1172",
    "JPY": "175.68",
    "GBP": "0.8338",
    "CNY": "7.4326",
    "HKD": "8.7652",
    "SGD": "1.4282",
    "THB": "37.683",
    "IDR": "20275.17",
    "KRW": "1491.76",
    "ISK": "136",
}
CURRENCIES = ["EUR", *ECB]


def published(**rates: str) -> Published:
    """A euro table taken at AT."""
    given = {currency: Decimal(rate) for currency, rate in (rates or ECB).items()}
    return Published("ecb", "EUR", AT, AT + timedelta(days=5), given)


def table(**rates: str) -> Table:
    """The same, in force."""
    return Table(rules.sift(published(**rates), {}, {}, 1_000), newest_no=1)


TABLE = table()
pairs = st.permutations(CURRENCIES).map(lambda shuffled: (shuffled[0], shuffled[1]))
fees = st.integers(0, rules.FEE_BPS_MAX)


def terms(from_ccy: str, to_ccy: str, fee_bps: int = 20) -> Terms:
    return rules.terms(from_ccy, to_ccy, TABLE.reference(from_ccy, to_ccy, AT).value, fee_bps)


def test_the_worked_example_of_the_money_model() -> None:
    worked = Terms("USD", "EUR", Decimal("0.92"), 100, Decimal("0.9108"))

    assert worked.exchange(10_000) == rules.Exchange(to_minor=9_108, spread_minor=92)


def test_exchange_rate_is_the_reference_less_the_fee() -> None:
    assert rules.terms("EUR", "USD", Decimal("1.1172"), 20).exchange_rate == Decimal("1.1149656")
    assert rules.terms("EUR", "USD", Decimal("1.1172"), 0).exchange_rate == Decimal("1.1172")
    assert rules.terms("USD", "EUR", Decimal("0.895094880057"), 25).exchange_rate == Decimal(
        "0.892857142856"  # …857.8…: down
    )


def test_direct_reverse_and_crossed_rates_are_exact_to_twelve_digits_and_rounded_down() -> None:
    def value(from_ccy: str, to_ccy: str) -> Decimal:
        return TABLE.reference(from_ccy, to_ccy, AT).value

    assert value("EUR", "USD") == Decimal("1.1172")
    assert value("USD", "EUR") == Decimal("0.895094880057")  # 0.8950948800572…
    assert value("USD", "HKD") == Decimal("7.845685642678")  # 8.7652 / 1.1172 = 7.8456856426781…
    assert value("IDR", "EUR") == Decimal("0.000049321411")
    assert value("CNY", "JPY") == Decimal("23.636412560880")


def test_b12_exponents_move_the_point() -> None:
    to_yen = Terms("USD", "JPY", Decimal("150"), 0, Decimal("150"))
    from_yen = Terms("JPY", "USD", Decimal("0.006666666666"), 0, Decimal("0.006666666666"))
    to_dinar = Terms("USD", "KWD", Decimal("0.3"), 0, Decimal("0.3"))

    assert to_yen.exchange(1_999).to_minor == 2_998  # 19.99 USD = 2998.5 JPY
    assert from_yen.exchange(1_000).to_minor == 666  # 1000 JPY = 6.66 USD
    assert to_dinar.exchange(1_000).to_minor == 3_000  # 10.00 USD = 3.000 KWD
    assert to_yen.price(3_000) == 2_000  # 3000 JPY cost 20.00 USD


def test_prices_round_half_up_and_are_never_free() -> None:
    worked = Terms("USD", "JPY", Decimal("200"), 0, Decimal("200"))

    assert [worked.price(yen) for yen in (0, 1, 2, 3, 5)] == [0, 1, 1, 2, 3]  # 0.5 → 1, 2.5 → 3
    assert Terms("USD", "IDR", Decimal("16000"), 0, Decimal("16000")).price(1) == 1


@given(pairs, fees)
def test_the_charged_rate_is_within_three_per_mille_from_either_side(
    pair: tuple[str, str], fee_bps: int
) -> None:
    made = terms(*pair, fee_bps)
    charged = Fraction(made.exchange_rate) / Fraction(made.reference_rate)

    assert 1 - charged <= Fraction(3, 1000)
    assert 1 / charged - 1 <= Fraction(3, 1000)


@given(pairs, st.integers(1_000, 10**12))
def test_an_amount_of_a_thousand_minor_units_is_within_three_per_mille(
    pair: tuple[str, str], minor: int
) -> None:
    made = terms(*pair)
    fair = Fraction(made.reference_rate) * minor * _power(pair)
    found = made.exchange(minor)

    assert found.to_minor <= fair
    assert found.to_minor + found.spread_minor <= fair
    if found.to_minor >= 1_000:
        assert found.to_minor >= fair * Fraction(997, 1000)


@given(pairs, st.integers(1_000, 10**12))
def test_a_price_of_a_thousand_minor_units_is_within_three_per_mille(
    pair: tuple[str, str], minor: int
) -> None:
    base, target = pair
    made = terms(target, base)
    fair = Fraction(minor) / (Fraction(made.reference_rate) * _power((target, base)))
    found = made.price(minor)

    if found >= 1_000:
        assert abs(found - fair) <= fair * Fraction(3, 1000)
    assert abs(found - fair) <= fair * Fraction(3, 1000) + 1


def _power(pair: tuple[str, str]) -> Fraction:
    return Fraction(10) ** (exponent(pair[1]) - exponent(pair[0]))


@given(pairs, fees, st.integers(0, 10**15))
def test_g24_l13_a_round_trip_never_profits(
    pair: tuple[str, str], fee_bps: int, minor: int
) -> None:
    there, back = terms(*pair, fee_bps), terms(*pair[::-1], fee_bps)

    assert back.exchange(there.exchange(minor).to_minor).to_minor <= minor


@given(st.permutations(CURRENCIES).map(lambda shuffled: shuffled[:3]), st.integers(0, 10**15))
def test_l13_a_triangle_never_profits_even_without_a_fee(path: list[str], minor: int) -> None:
    left = minor
    for from_ccy, to_ccy in zip(path, [*path[1:], path[0]], strict=True):
        left = terms(from_ccy, to_ccy, 0).exchange(left).to_minor

    assert left <= minor


@given(pairs, st.integers(0, 10**12), st.integers(0, 10**12))
def test_exchange_and_price_are_monotone(pair: tuple[str, str], one: int, other: int) -> None:
    small, large = sorted((one, other))
    made = terms(*pair)

    assert made.exchange(small).to_minor <= made.exchange(large).to_minor
    assert made.price(small) <= made.price(large)


@given(pairs, st.integers(1, 10**12))
def test_what_a_price_brings_covers_it_but_for_half_a_minor_unit(
    pair: tuple[str, str], minor: int
) -> None:
    made = terms(*pair)
    brought = made.exchange(made.price(minor)).to_minor
    half_unit = Fraction(made.exchange_rate) * _power(pair) / 2

    assert brought >= minor - half_unit - 1


def test_an_inverse_is_the_nearest_twelfth_digit() -> None:
    assert rules.inverse(Decimal("1.1172")) == Decimal("0.895094880057")
    assert rules.inverse(Decimal("0.000049321411")) == Decimal("20275.170148721009")
    assert rules.inverse(Decimal(3)) == Decimal("0.333333333333")


def test_a_price_beyond_the_books_is_refused() -> None:
    with pytest.raises(UnsupportedCurrency):
        terms("IDR", "USD").price(9 * 10**18)


def test_a_fee_above_the_bound_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        rules.terms("EUR", "USD", Decimal("1.1"), 30)


@pytest.mark.parametrize(
    ("lock_s", "kind"), [(0, "none"), (600, "15m"), (900, "15m"), (901, "1h"), (86_400, "24h")]
)
def test_locks_have_names(lock_s: int, kind: str) -> None:
    assert rules.lock_kind(lock_s) == kind


def test_b08_a_stale_rate_gives_no_reference_but_is_still_known() -> None:
    late = AT + timedelta(days=5)

    TABLE.reference("USD", "HKD", late - timedelta(seconds=1))
    with pytest.raises(RateUnavailable) as refused:
        TABLE.reference("USD", "HKD", late)
    assert refused.value.facts == {"base": "HKD", "target": "USD", "reason": "stale"}
    assert refused.value.retryable
    assert TABLE.last_known("USD", "HKD").value == Decimal("7.845685642678")
    assert TABLE.usable(late) == {"EUR"}


def test_b08_a_suspect_leg_stops_its_currency_only() -> None:
    odd = Rate("EUR", "HKD", Decimal("99"), "ecb", AT, None, RateState.SUSPECT)
    mixed = Table([*TABLE.rates.values(), odd])

    with pytest.raises(RateUnavailable) as refused:
        mixed.reference("USD", "HKD", AT)
    assert refused.value.facts["reason"] == "jump"
    assert mixed.reference("USD", "CNY", AT).source == "ecb:2026-10-30"
    assert mixed.usable(AT) == {*CURRENCIES} - {"HKD"}


def test_b08_no_rates_at_all_is_unavailable_and_an_unknown_currency_unsupported() -> None:
    with pytest.raises(RateUnavailable) as refused:
        Table([]).reference("USD", "EUR", AT)
    assert refused.value.facts["reason"] == "no_rates"
    with pytest.raises(UnsupportedCurrency):
        TABLE.reference("USD", "MRU", AT)


def test_a_direct_rate_is_used_before_a_crossed_one_and_both_sources_are_named() -> None:
    own = Rate("USD", "HKD", Decimal("7.8"), "manual", AT)
    mixed = Table([*TABLE.rates.values(), own, Rate("EUR", "KWD", Decimal("0.34"), "manual", AT)])

    assert mixed.reference("USD", "HKD", AT) == rules.Reference(
        Decimal("7.800000000000"), "manual:2026-10-30"
    )
    assert mixed.reference("KWD", "USD", AT).source == "manual:2026-10-30+ecb:2026-10-30"


@pytest.mark.parametrize(
    "rates",
    [
        {},
        {"XXX": "1"},
        {"USD": "NaN"},
        {"USD": "Infinity"},
        {"USD": "0"},
        {"USD": "-1"},
        {"USD": "1e13"},
        {"USD": "1.1", "JPY": "1e-10"},
    ],
)
def test_b08_an_answer_that_makes_no_sense_is_refused_whole(rates: dict[str, str]) -> None:
    given = {currency: Decimal(rate) for currency, rate in rates.items()}

    with pytest.raises(FeedFailed):
        rules.checked(Published("ecb", "EUR", AT, None, given))


def test_an_unknown_base_is_refused_and_unknown_currencies_are_left_out() -> None:
    with pytest.raises(FeedFailed):
        rules.checked(Published("ecb", "XXX", AT, None, {"USD": Decimal(1)}))
    assert set(rules.checked(published(USD="1.1", XXX="5", EUR="1"))) == {"USD"}


@pytest.mark.parametrize(
    ("new", "jumped"), [("1.10", False), ("0.90", False), ("1.1001", True), ("0.8999", True)]
)
def test_b08_a_jump_is_more_than_the_bound(new: str, jumped: bool) -> None:
    assert rules.is_jump(Decimal(1), Decimal(new), 1_000) is jumped


def test_sift_stores_what_changed_and_leaves_out_what_is_known() -> None:
    first = {("EUR", rate.to_ccy): rate for rate in rules.sift(published(), {}, {}, 1_000)}
    older = Published("ecb", "EUR", AT - timedelta(days=1), None, {"USD": Decimal("1.12")})
    newer = Published(
        "ecb", "EUR", AT + timedelta(days=1), None, {"USD": Decimal("1.2"), "JPY": Decimal("17.5")}
    )

    assert rules.sift(published(), first, first, 1_000) == []
    assert rules.sift(older, first, first, 1_000) == []
    assert [(row.to_ccy, row.state) for row in rules.sift(newer, first, first, 1_000)] == [
        ("JPY", RateState.SUSPECT),
        ("USD", RateState.LIVE),
    ]
