"""The worked sale of MONEY.md section 8 as exact vectors: what every account holds after every event."""

from __future__ import annotations

from datetime import timedelta

from domain import ledger
from domain.core import clock
from tests.domain.ledger_books import Shop

SALE = (
    ("provider_clearing", "platform_commission", 600),
    ("provider_clearing", "affiliate_payable", 1_000),
    ("provider_clearing", "merchant_reserved", 420),
    ("provider_clearing", "credit_receivable", 798),
    ("provider_clearing", "merchant_available", 7_182),
    ("provider_fee", "provider_clearing", 320),
)
PURPOSES = (
    "provider_clearing",
    "provider_fee",
    "platform_commission",
    "affiliate_payable",
    "merchant_reserved",
    "credit_receivable",
    "merchant_available",
)
SOLD = [-9_680, -320, 600, 1_000, 420, -10_202, 7_182]
UNSOLD = [0, 0, 0, 0, 0, -11_000, 0]


async def _post(shop: Shop, key: str, *legs: tuple[str, str, int]) -> ledger.Journal:
    return await ledger.post(key, [shop.transfer(*leg) for leg in legs], kind="test")


async def _sold() -> Shop:
    """A merchant who owes a loan of 11,000, spent elsewhere, and has sold for 10,000."""
    shop = Shop()
    await _post(shop, f"draw:{shop.owner_id}", ("credit_receivable", "merchant_available", 11_000))
    await _post(shop, f"spent:{shop.owner_id}", ("merchant_available", "bank_cash", 11_000))
    await _post(shop, f"sale:{shop.owner_id}", *SALE)
    return shop


async def test_g03_l24_sale_then_settlement_empties_the_clearing_accounts(db: None) -> None:
    shop = await _sold()
    assert await shop.posted(*PURPOSES) == SOLD

    await _post(shop, "fee", ("provider_fee", "provider_clearing", 15))
    await _post(shop, "line", ("settlement_clearing", "provider_clearing", 9_665))
    await _post(shop, "bank", ("bank_cash", "settlement_clearing", 9_665))

    assert await shop.posted("provider_clearing", "settlement_clearing") == [0, 0]
    assert await shop.posted("provider_fee", "bank_cash") == [-335, 11_000 - 9_665]
    assert await ledger.check() == []


async def test_g21_full_refund_returns_every_leg_and_its_failure_restores_them(db: None) -> None:
    shop = await _sold()
    back = [(target, "refund_clearing", minor) for _, target, minor in SALE[:-1]]

    await _post(shop, "refund:1:ask", *back)
    assert await shop.posted(*PURPOSES) == [-9_680, -320, *UNSOLD[2:]]
    assert await shop.posted("refund_clearing") == [10_000]

    await ledger.reverse_key("refund:1:undo", "refund:1:ask")
    assert await shop.posted(*PURPOSES) == SOLD
    assert await shop.posted("refund_clearing") == [0]

    await _post(shop, "refund:2:ask", *back)
    await _post(shop, "refund:2:done", ("refund_clearing", "provider_clearing", 10_000))
    assert await shop.posted("provider_clearing", "provider_fee") == [320, -320]
    assert await shop.posted(*PURPOSES[2:]) == UNSOLD[2:]
    assert await ledger.check() == []


async def test_g20_partial_refunds_empty_every_leg(db: None) -> None:
    shop = await _sold()
    legs = [target for _, target, _ in SALE[:-1]]

    for key, parts in (
        ("2500", (150, 250, 105, 199, 1_796)),
        ("3333", (200, 333, 140, 266, 2_394)),
        ("4167", (250, 417, 175, 333, 2_992)),
    ):
        assert sum(parts) == int(key)
        back = [(leg, "refund_clearing", minor) for leg, minor in zip(legs, parts, strict=True)]
        await _post(shop, f"refund:{key}", *back)

    assert await shop.posted(*PURPOSES[2:]) == UNSOLD[2:]
    assert await shop.posted("refund_clearing") == [10_000]


async def test_g16_g19_refund_after_payout_becomes_debt_that_the_next_sale_repays(db: None) -> None:
    shop = await _sold()
    ends = clock.now() + timedelta(days=1)
    payout = shop.transfer("merchant_available", "merchant_in_transit", 7_182)
    hold = await ledger.hold("payout:1", payout, kind="payout", expires_at=ends)
    await ledger.resolve("payout:1:approve", hold.id, "post", kind="payout")
    await _post(
        shop,
        "payout:1:book",
        ("merchant_in_transit", "payout_clearing", 7_157),
        ("merchant_in_transit", "payout_fee", 25),
    )
    await _post(shop, "payout:1:bank", ("payout_clearing", "bank_cash", 7_157))
    assert await shop.posted("merchant_available", "merchant_in_transit", "payout_clearing") == [
        0,
        0,
        0,
    ]

    await _post(
        shop,
        "refund:1:ask",
        ("platform_commission", "refund_clearing", 600),
        ("affiliate_payable", "refund_clearing", 1_000),
        ("merchant_reserved", "refund_clearing", 420),
        ("credit_receivable", "refund_clearing", 798),
        ("merchant_debt", "refund_clearing", 7_182),
    )
    assert await shop.posted("merchant_debt", "refund_clearing") == [-7_182, 10_000]

    await _post(shop, "sale:2", ("provider_clearing", "merchant_debt", 7_182))
    assert await shop.posted("merchant_debt") == [0]
    assert await ledger.check() == []


async def test_l10_lost_and_won_dispute(db: None) -> None:
    shop = await _sold()
    legs = [(target, "merchant_disputed", minor) for _, target, minor in SALE[:-1]]
    opened = [
        ("dispute_clearing", "provider_clearing", 10_000),
        ("dispute_fee", "provider_clearing", 1_500),
        *legs,
    ]

    await _post(shop, "dispute:1:1:open", *opened)
    assert await shop.posted("merchant_disputed", "dispute_clearing", "dispute_fee") == [
        10_000,
        -10_000,
        -1_500,
    ]

    won = [(target, source, minor) for source, target, minor in legs]
    await _post(shop, "dispute:1:1:won", ("provider_clearing", "dispute_clearing", 10_000), *won)
    assert await shop.posted(*PURPOSES[2:]) == SOLD[2:]

    await _post(shop, "dispute:1:2:open", *opened[:1], *legs)
    await _post(shop, "dispute:1:2:lost", ("merchant_disputed", "dispute_clearing", 10_000))
    assert await shop.posted(*PURPOSES[2:]) == UNSOLD[2:]
    assert await shop.posted("merchant_disputed", "dispute_clearing") == [0, 0]
    assert await ledger.check() == []


async def test_loan_fee_is_earned_to_exactly_zero(db: None) -> None:
    shop = Shop()
    await _post(
        shop,
        "draw",
        ("credit_receivable", "merchant_available", 10_000),
        ("credit_receivable", "credit_fee_deferred", 1_000),
    )
    for number, (paid, income) in enumerate(((5_500, 660), (5_500, 340))):
        await _post(
            shop,
            f"pay:{number}",
            ("provider_clearing", "credit_receivable", paid),
            ("credit_fee_deferred", "credit_fee_income", income),
        )

    assert await shop.posted("credit_receivable", "credit_fee_deferred", "credit_fee_income") == [
        0,
        0,
        1_000,
    ]


async def test_fund_units_obey_the_same_laws(db: None) -> None:
    cash = Shop()
    units = Shop("FUND1", cash.owner_id)
    await cash.pay_in(5_000)
    await _post(cash, "in:1", ("merchant_available", "merchant_fund_pending", 5_000))
    await ledger.post(
        "in:2",
        [
            cash.transfer("merchant_fund_pending", "fund_clearing", 5_000),
            units.transfer("fund_units_held", "merchant_units", 50_000_000),
        ],
        kind="sweep",
    )
    ends = clock.now() + timedelta(days=1)
    exit_ = units.transfer("merchant_units", "fund_units_held", 20_000_000)
    hold = await ledger.hold("out:1", exit_, kind="sweep", expires_at=ends)
    await ledger.resolve(
        "out:1:confirmed",
        hold.id,
        "post",
        kind="sweep",
        also=[cash.transfer("fund_clearing", "merchant_fund_pending", 2_000)],
    )

    assert await units.posted("merchant_units", "fund_units_held") == [30_000_000, -30_000_000]
    assert await cash.posted("merchant_fund_pending", "fund_clearing") == [2_000, 3_000]
    assert await ledger.check() == []
