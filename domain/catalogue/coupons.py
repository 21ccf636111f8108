"""Coupons: issued by a merchant, used at most as often as allowed, given back when an order
lapses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.catalogue.rules import BPS, CouponInvalid, CouponKind, coupon_code
from domain.core import clock, db, ids
from domain.core.errors import DomainError, FieldInvalid, InputInvalid
from domain.core.money import Money

CODE_MAX = 64


@dataclass(frozen=True, slots=True)
class CouponTerms:
    """A coupon to be issued. `percent_bps` of a percentage, `amounts` of a fixed one (the first
    is the base of currencies without one); `min_totals` likewise; None limits nothing."""

    code: str
    kind: CouponKind
    percent_bps: int | None = None
    amounts: Sequence[Money] = ()
    min_totals: Sequence[Money] = ()
    use_limit: int | None = None
    buyer_limit: int | None = None
    shop_id: UUID | None = None
    product_ids: Sequence[UUID] = ()
    starts_at: datetime | None = None
    expires_at: datetime | None = None

    def check(self) -> None:
        """Errors: InputInvalid."""
        faults: list[DomainError] = []
        if not 1 <= len(coupon_code(self.code)) <= CODE_MAX or not self.code.isprintable():
            faults.append(FieldInvalid(path=("input", "code"), reason="length", max=CODE_MAX))
        is_percent = self.kind is CouponKind.PERCENT
        if is_percent != (self.percent_bps is not None) or not 1 <= (self.percent_bps or 1) <= BPS:
            faults.append(FieldInvalid(path=("input", "percentBps"), reason="range", max=BPS))
        if is_percent == bool(self.amounts) or any(one.minor <= 0 for one in self.amounts):
            faults.append(FieldInvalid(path=("input", "amounts"), reason="amount"))
        if any(one.minor < 0 for one in self.min_totals):
            faults.append(FieldInvalid(path=("input", "minTotals"), reason="amount"))
        for name, least, limit in (("use", 0, self.use_limit), ("buyer", 1, self.buyer_limit)):
            if limit is not None and limit < least:
                faults.append(FieldInvalid(path=("input", f"{name}Limit"), reason="range"))
        if self.starts_at and self.expires_at and self.starts_at >= self.expires_at:
            faults.append(FieldInvalid(path=("input", "expiresAt"), reason="before_start"))
        if faults:
            raise InputInvalid(*faults)


async def add_coupon(merchant_id: UUID, terms: CouponTerms) -> UUID:
    """Issue a coupon; its id. Errors: InputInvalid, also when the merchant has the code already."""
    terms.check()
    coupon_id = ids.uuid7()
    async with db.transaction():
        made = await db.execute(
            "INSERT INTO coupon (merchant_id, id, code, kind, percent_bps, use_limit, buyer_limit,"
            " shop_id, product_ids, starts_at, expires_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,"
            " coalesce($10, '-infinity'::timestamptz), coalesce($11, 'infinity'::timestamptz))"
            " ON CONFLICT (merchant_id, code) DO NOTHING",
            merchant_id,
            coupon_id,
            coupon_code(terms.code),
            terms.kind.value,
            terms.percent_bps,
            terms.use_limit,
            terms.buyer_limit,
            terms.shop_id,
            list(terms.product_ids),
            terms.starts_at,
            terms.expires_at,
        )
        if not made:
            raise InputInvalid(FieldInvalid(path=("input", "code"), reason="taken"))
        await _write_amounts(merchant_id, coupon_id, terms)
    return coupon_id


async def _write_amounts(merchant_id: UUID, coupon_id: UUID, terms: CouponTerms) -> None:
    off = {one.currency: one.minor for one in terms.amounts}
    least = {one.currency: one.minor for one in terms.min_totals}
    listed = list(off) or list(least)
    if off and set(least) - set(off):
        raise InputInvalid(FieldInvalid(path=("input", "minTotals"), reason="currencies"))
    await db.execute(
        "INSERT INTO coupon_amount"
        " (merchant_id, coupon_id, currency, minor, min_total_minor, is_base)"
        " SELECT $1, $2, c, m, t, n = 1 FROM unnest($3::text[], $4::bigint[], $5::bigint[])"
        " WITH ORDINALITY AS x(c, m, t, n)",
        merchant_id,
        coupon_id,
        listed,
        [off.get(currency, 0) for currency in listed],
        [least.get(currency, 0) for currency in listed],
    )


_REDEEM = """
UPDATE coupon SET used = used + 1
WHERE merchant_id = $1 AND id = $2 AND state = 'active' AND starts_at <= $3 AND expires_at > $3
    AND (use_limit IS NULL OR used < use_limit)
RETURNING buyer_limit
"""
_USES = """
SELECT count(*) FROM coupon_use
WHERE merchant_id = $1 AND coupon_id = $2 AND buyer_hash = $3 AND state <> 'returned'
"""


async def redeem(
    merchant_id: UUID, coupon_id: UUID, order_id: UUID, *, buyer_hash: bytes | None = None
) -> None:
    """Take one use of a coupon for an order, inside the caller's transaction.

    The limit holds under any number of buyers: the conditional UPDATE is the check and the lock
    (B11).
    Errors: CouponInvalid when it is used up, over, or this buyer has had their uses.
    """
    assert db.in_transaction(), "a use commits with its order"
    path = ("input", "coupon")
    row: Any = await db.row(_REDEEM, merchant_id, coupon_id, clock.now())
    if row is None:
        raise CouponInvalid(path=path, reason="used_up")
    limit = row["buyer_limit"]
    if limit is not None and buyer_hash is not None:
        # Read after the coupon's row lock: whoever used it before us has committed.
        uses = await db.value(_USES, merchant_id, coupon_id, buyer_hash)
        if uses >= limit:
            raise CouponInvalid(path=path, reason="buyer_limit")
    await db.execute(
        "INSERT INTO coupon_use (merchant_id, order_id, coupon_id, buyer_hash)"
        " VALUES ($1, $2, $3, $4)",
        merchant_id,
        order_id,
        coupon_id,
        buyer_hash,
    )


_GIVE_BACK = """
WITH back AS (
    UPDATE coupon_use SET state = 'returned', at = clock_timestamp()
    WHERE order_id = ANY($1) AND state = 'held' RETURNING merchant_id, coupon_id),
counted AS (SELECT merchant_id, coupon_id, count(*) AS n FROM back GROUP BY 1, 2),
locked AS (
    SELECT c.merchant_id, c.id FROM coupon c JOIN counted n ON n.merchant_id = c.merchant_id
        AND n.coupon_id = c.id ORDER BY c.merchant_id, c.id FOR NO KEY UPDATE OF c)
UPDATE coupon c SET used = c.used - n.n FROM counted n JOIN locked l ON l.id = n.coupon_id
WHERE c.merchant_id = l.merchant_id AND c.id = l.id
"""


async def give_back_coupons(order_ids: Sequence[UUID]) -> None:
    """Return the uses of orders that expired or were cancelled unpaid; a use that was paid for
    stays."""
    assert db.in_transaction(), "a use is returned with its order"
    if order_ids:
        await db.execute(_GIVE_BACK, list(order_ids))


_KEEP = """
WITH late AS (
    UPDATE coupon_use SET state = 'extra', at = clock_timestamp()
    WHERE order_id = ANY($1) AND state = 'returned' RETURNING merchant_id, coupon_id),
paid AS (UPDATE coupon_use SET state = 'used' WHERE order_id = ANY($1) AND state = 'held'),
counted AS (SELECT merchant_id, coupon_id, count(*) AS n FROM late GROUP BY 1, 2),
locked AS (
    SELECT c.merchant_id, c.id FROM coupon c JOIN counted n ON n.merchant_id = c.merchant_id
        AND n.coupon_id = c.id ORDER BY c.merchant_id, c.id FOR NO KEY UPDATE OF c)
UPDATE coupon c SET used = c.used + n.n FROM counted n JOIN locked l ON l.id = n.coupon_id
WHERE c.merchant_id = l.merchant_id AND c.id = l.id
"""


async def keep_coupons(order_ids: Sequence[UUID]) -> None:
    """The orders are paid: their uses are final. One given back before a late payment counts
    again, past the limit if need be: the locked total is honoured and the extra use recorded
    (B11)."""
    assert db.in_transaction(), "a use is kept with its order"
    if order_ids:
        await db.execute(_KEEP, list(order_ids))
