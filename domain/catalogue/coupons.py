"""The uses of coupons: at most as many as allowed, given back when an order lapses unpaid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from domain.catalogue.rules import CouponInvalid
from domain.core import clock, db

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
