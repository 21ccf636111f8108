"""Prices, coupons and limits as laws: nothing lost, nothing below zero, the best for the buyer."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalogue import lines, rules
from domain.catalogue.lines import Fault, FileUnreadable, Format
from domain.catalogue.rules import (
    Cart,
    CartLine,
    Coupon,
    CouponInvalid,
    CouponKind,
    Delivery,
    Holding,
    HoldLimit,
    HoldLimits,
    OutOfStock,
    PriceChanged,
    Tier,
)
from domain.core.errors import InputInvalid
from domain.core.money import Money

USD = st.integers(0, 10**9)
PRODUCT = UUID(int=1)


def line(
    minor: int = 1_000,
    quantity: int = 1,
    *,
    tiers: tuple[tuple[int, int], ...] = (),
    currency: str = "USD",
    product: UUID = PRODUCT,
    available: int | None = None,
    limits: tuple[int, int] = (1, 10_000),
) -> CartLine:
    return CartLine(
        uuid4(),
        product,
        "Card",
        quantity,
        Money(minor, currency),
        tuple(Tier(from_quantity, Money(unit, currency)) for from_quantity, unit in tiers),
        available,
        Delivery.STOCK,
        *limits,
    )


def cart(*of: CartLine, coupon: Coupon | None = None, currency: str = "USD") -> Cart:
    return Cart(uuid4(), uuid4(), currency, of, coupon)


def percent(bps: int, **more: object) -> Coupon:
    return Coupon(uuid4(), "TEN", CouponKind.PERCENT, percent_bps=bps, **more)  # type: ignore[arg-type]


def fixed(minor: int, currency: str = "USD", **more: object) -> Coupon:
    amount = Money(minor, currency)
    return Coupon(uuid4(), "OFF", CouponKind.FIXED, amount=amount, **more)  # type: ignore[arg-type]


def same(amount: Money) -> Money:
    raise AssertionError(f"{amount} needs no conversion")


cart_lines = st.lists(
    st.builds(
        line,
        USD,
        st.integers(1, 10_000),
        tiers=st.lists(st.tuples(st.integers(2, 500), USD), max_size=4).map(tuple),
        product=st.sampled_from([PRODUCT, UUID(int=2)]),
    ),
    min_size=1,
    max_size=8,
)
coupons = st.one_of(
    st.builds(percent, st.integers(1, 10_000)), st.builds(fixed, st.integers(1, 10**12))
)


@given(cart_lines, coupons)
def test_b10_total_is_never_below_zero_and_line_discounts_add_up(
    of: list[CartLine], coupon: Coupon
) -> None:
    priced = rules.price(cart(*of, coupon=coupon), same)

    assert priced.total.minor >= 0
    assert priced.total == priced.subtotal - priced.discount
    assert sum(one.discount.minor for one in priced.lines) == priced.discount.minor
    assert sum(one.total.minor for one in priced.lines) == priced.total.minor
    for one in priced.lines:
        assert 0 <= one.discount.minor <= one.unit.minor * one.line.quantity
        assert one.total.minor == one.unit.minor * one.line.quantity - one.discount.minor


@given(cart_lines, coupons)
def test_b14_nobody_pays_more_than_any_single_offer(of: list[CartLine], coupon: Coupon) -> None:
    bare = rules.price(cart(*of), same)
    with_coupon = rules.price(cart(*of, coupon=coupon), same)

    assert with_coupon.total.minor <= bare.total.minor
    for one in bare.lines:
        reached = [tier.unit for tier in one.line.tiers if tier.from_quantity <= one.line.quantity]
        assert one.unit == min([one.line.unit, *reached])


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20), st.integers(0, 10_000))
def test_b10_a_spread_adds_up_and_no_part_exceeds_its_weight(weights: list[int], bps: int) -> None:
    total = sum(weights) * bps // 10_000

    parts = rules.spread(total, weights)

    assert sum(parts) == total
    assert all(0 <= part <= weight for part, weight in zip(parts, weights, strict=True))
    base = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * base - total * weight) < base or base == 0


def test_b14_the_worked_example_of_the_precedence() -> None:
    of = [line(1_000, 10, tiers=((5, 900), (10, 850), (20, 100))), line(333, 3)]

    priced = rules.price(cart(*of, coupon=percent(1_000)), same)

    assert [one.unit.minor for one in priced.lines] == [850, 333]
    assert priced.subtotal == Money(9_499, "USD")
    assert priced.discount == Money(949, "USD")
    assert [one.discount.minor for one in priced.lines] == [849, 100]
    assert priced.total == Money(8_550, "USD")


def test_b14_a_tier_that_costs_more_than_the_list_is_never_taken() -> None:
    priced = rules.price(cart(line(1_000, 10, tiers=((5, 1_200),))), same)

    assert priced.lines[0].unit == Money(1_000, "USD")


def test_b10_a_coupon_larger_than_the_total_takes_all_and_no_more() -> None:
    priced = rules.price(cart(line(700), line(300), coupon=fixed(5_000)), same)

    assert (priced.discount, priced.total) == (Money(1_000, "USD"), Money(0, "USD"))


def test_b10_a_coupon_for_one_product_leaves_the_others() -> None:
    other = line(1_000, product=UUID(int=2))
    coupon = percent(5_000, product_ids=frozenset({PRODUCT}))

    priced = rules.price(cart(line(1_000), other, coupon=coupon), same)

    assert [one.discount.minor for one in priced.lines] == [500, 0]
    with pytest.raises(CouponInvalid) as caught:
        rules.price(cart(other, coupon=coupon), same)
    assert caught.value.path == ("input", "coupon")


def test_j05_a_coupon_below_its_minimum_is_refused() -> None:
    coupon = percent(1_000, min_total=Money(2_000, "USD"))

    assert rules.price(cart(line(2_000), coupon=coupon), same).total == Money(1_800, "USD")
    with pytest.raises(CouponInvalid):
        rules.price(cart(line(1_999), coupon=coupon), same)


def test_b09_j04_every_line_whose_price_is_not_the_shown_one_is_named_with_the_new_one() -> None:
    same_price = replace(line(1_000), shown=Money(1_000, "USD"))
    unsaid = line(1_000)
    cheaper = replace(line(1_000, 10, tiers=((10, 900),)), shown=Money(1_000, "USD"))
    foreign = replace(line(1_000), shown=Money(1_000, "EUR"))

    rules.price(cart(same_price, unsaid), same)
    with pytest.raises(PriceChanged) as caught:
        rules.price(cart(same_price, unsaid, cheaper, foreign), same)

    assert caught.value.path == ("input", "lines", "2", "unitPrice")
    assert caught.value.facts["unit_price"] == Money(900, "USD")
    assert [(one.place, one.unit) for one in caught.value.facts["changes"]] == [
        (2, Money(900, "USD")),
        (3, Money(1_000, "USD")),
    ]


def test_prices_of_a_base_currency_are_converted_unit_by_unit() -> None:
    of = [line(1_000, 3, tiers=((3, 900),), currency="CNY"), line(500)]
    found = cart(*of, coupon=fixed(100, "CNY"))

    priced = rules.price(found, lambda amount: Money(amount.minor // 7, "USD"))

    assert found.foreign == {"CNY"}
    assert [one.unit for one in priced.lines] == [Money(128, "USD"), Money(500, "USD")]
    assert priced.discount == Money(14, "USD")
    assert priced.total == Money(3 * 128 + 500 - 14, "USD")


def test_j01_a_total_beyond_what_can_be_booked_is_refused() -> None:
    with pytest.raises(InputInvalid):
        rules.price(cart(line(9 * 10**18, 2)), same)


def test_j28_every_faulty_line_is_named() -> None:
    twice = uuid4()

    with pytest.raises(InputInvalid) as caught:
        rules.check_lines([(twice, 1), (uuid4(), 0), (twice, -3), (uuid4(), 10_001)])

    assert [problem.path for problem in caught.value.problems] == [
        ("input", "lines", "1", "quantity"),
        ("input", "lines", "2", "variantId"),
        ("input", "lines", "2", "quantity"),
        ("input", "lines", "3", "quantity"),
    ]
    for count in (0, 101):
        with pytest.raises(InputInvalid) as caught:
            rules.check_lines([(uuid4(), 1)] * count)
        assert [problem.path for problem in caught.value.problems] == [("input", "lines")]


def test_j03_limits_of_a_variant_come_before_its_stock() -> None:
    with pytest.raises(InputInvalid) as caught:
        rules.check_limits([line(quantity=1, limits=(2, 5)), line(quantity=6, limits=(2, 5))])
    assert [problem.path[2] for problem in caught.value.problems] == ["0", "1"]

    with pytest.raises(OutOfStock) as short:
        rules.check_limits([line(quantity=2, available=2), line(quantity=3, available=2)])
    assert short.value.path == ("input", "lines", "1", "quantity")
    assert short.value.facts["available"] == 2
    rules.check_limits([line(quantity=9_999, available=None)])


def test_d05_hold_limits() -> None:
    rules.check_hold({"email": Holding()}, 10_000)
    rules.check_hold({"email": Holding(orders=4, units=10)}, 1)
    for held in (
        Holding(orders=5, units=5),
        Holding(orders=1, units=2_500),
        Holding(lapsed=10),
    ):
        with pytest.raises(HoldLimit):
            rules.check_hold({"email": held}, 1)
    one = HoldLimits(orders={"address": 1}, units={"address": 9}, lapsed={"address": 9})
    with pytest.raises(HoldLimit):
        rules.check_hold({"address": Holding(orders=1, units=1)}, 1, one)


def test_languages_are_asked_in_order_without_doubles() -> None:
    assert rules.languages("zh-Hans", "ja") == ["zh-Hans", "zh", "ja", "en"]
    assert rules.languages("en", "en") == ["en"]


def test_j13_formulas_are_quoted_on_export() -> None:
    assert lines.csv_cell("=cmd()") == "'=cmd()"
    assert lines.csv_cell('@SUM(A1,"x")') == '"\'@SUM(A1,""x"")"'
    assert lines.csv_cell("PLAIN-1") == "PLAIN-1"
    assert lines.csv_cell("a,b") == '"a,b"'


def read(data: bytes | str, format: Format = Format.AUTO) -> list[tuple[int, bytes | Fault]]:
    return [
        (one.number, one.fault or one.content) for one in lines.read(lines.decode(data), format)
    ]


@pytest.mark.parametrize(
    "data",
    [
        "A-1\r\n\r\nB-2\rC-3\n  \n\tD-4 ",
        b"\xef\xbb\xbfA-1\r\n\r\nB-2\rC-3\n  \n\tD-4\n",
        "A-1\r\n\r\nB-2\rC-3\n  \n\tD-4".encode("utf-16"),
        "A-1\r\n\r\nB-2\rC-3\n  \n\tD-4".encode("utf-16-be"),
        "A-1\r\n\r\nB-2\rC-3\n  \n\tD-4".encode("utf-16-le"),
    ],
)
def test_d07_j13_line_ends_byte_order_marks_and_blanks(data: bytes | str) -> None:
    assert read(data) == [(1, b"A-1"), (3, b"B-2"), (4, b"C-3"), (6, b"D-4")]


def test_j13_j14_bad_lines_are_named() -> None:
    assert read(
        "ok\nN\0L\nrtl\u202e\nzero\u200bwidth\n\ud800\n" + "x" * 4_001 + "\n=cmd()|x\n卡密"
    ) == [
        (1, b"ok"),
        (2, Fault.CONTROL_CHARACTER),
        (3, Fault.INVISIBLE_CHARACTER),
        (4, Fault.INVISIBLE_CHARACTER),
        (5, Fault.NOT_TEXT),
        (6, Fault.TOO_LONG),
        (7, b"=cmd()|x"),
        (8, "卡密".encode()),
    ]


def test_d07_csv_takes_the_named_column_and_text_takes_the_line() -> None:
    table = 'serial,Card Key\n1,"A,1"\n2\n3,"B""2"\n4,"torn\n5,C-3'

    assert read(table) == [
        (2, b"A,1"),
        (3, Fault.COLUMN_MISSING),
        (4, b'B"2'),
        (5, Fault.COLUMN_MISSING),
        (6, b"C-3"),
    ]
    assert read("user,secret1\nuser2,pw", Format.TXT) == [(1, b"user,secret1"), (2, b"user2,pw")]
    assert read("user,pass1\nuser2,pass2") == [(1, b"user,pass1"), (2, b"user2,pass2")]
    assert read("A-1,x\nB-2,y", Format.CSV) == [(1, b"A-1"), (2, b"B-2")]


def test_j13_more_lines_than_allowed_or_no_encoding_is_refused_whole() -> None:
    with pytest.raises(FileUnreadable):
        read("K\n" * (lines.LINES_MAX + 1))
    with pytest.raises(FileUnreadable):
        lines.decode("ключ".encode("cp1251"))
    with pytest.raises(FileUnreadable):
        lines.decode(b"\xff\xfea")


@given(st.text(max_size=300))
def test_any_text_is_read_and_every_line_is_good_or_named(text: str) -> None:
    for one in lines.read(lines.decode(text)):
        assert (one.fault is None) == bool(one.content)
        assert b"\n" not in one.content
        assert b"\0" not in one.content
