"""Coupons as their merchant sees them: issued, changed while people use them, ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.catalogue.rules import BPS, CouponKind, coupon_code
from domain.catalogue.terms import INPUT, Keep
from domain.core import audit, db, ids, versions, words
from domain.core.audit import Actor
from domain.core.errors import DomainError, FieldInvalid, InputInvalid, NotFound
from domain.core.money import CURRENCIES, MINOR_MAX, Money, UnsupportedCurrency

CODE_MAX = 64
AMOUNTS_MAX = 60
PRODUCTS_MAX = 200
USES_MAX = 2**31 - 1


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

    def faults(self) -> list[DomainError]:
        """Every field at fault."""
        faults: list[DomainError] = []
        code = coupon_code(self.code)
        if not words.is_line(self.code, CODE_MAX) or not code or len(code) > CODE_MAX:
            faults.append(_wrong("code", reason="text", min=1, max=CODE_MAX))
        is_percent = self.kind is CouponKind.PERCENT
        share = self.percent_bps
        if is_percent != (share is not None) or not 1 <= (1 if share is None else share) <= BPS:
            faults.append(_wrong("percentBps", reason="range", min=1, max=BPS))
        if is_percent == bool(self.amounts):
            faults.append(_wrong("amounts", reason="kind"))
        faults += _money_faults("amounts", self.amounts, least=1)
        faults += _money_faults("minTotals", self.min_totals, least=0)
        listed = {one.currency for one in self.amounts}
        faults += [
            _wrong("minTotals", str(place), "currency", reason="not_listed")
            for place, one in enumerate(self.min_totals)
            if listed and one.currency not in listed
        ]
        if len(self.product_ids) > PRODUCTS_MAX:
            faults.append(_wrong("productIds", reason="count", max=PRODUCTS_MAX))
        limits = _limit_faults(self.use_limit, self.buyer_limit)
        return [*faults, *limits, *_period_faults(self.starts_at, self.expires_at)]


@dataclass(frozen=True, slots=True)
class CouponChange:
    """What changes of a coupon. What it takes off never does: whoever was promised it gets it."""

    use_limit: int | Keep | None = Keep.KEEP
    buyer_limit: int | Keep | None = Keep.KEEP
    starts_at: datetime | Keep | None = Keep.KEEP
    expires_at: datetime | Keep | None = Keep.KEEP


def _money_faults(name: str, amounts: Sequence[Money], *, least: int) -> list[DomainError]:
    faults: list[DomainError] = []
    if len(amounts) > AMOUNTS_MAX:
        faults.append(_wrong(name, reason="count", max=AMOUNTS_MAX))
    seen: set[str] = set()
    for place, one in enumerate(amounts):
        path = (*INPUT, name, str(place))
        if one.currency not in CURRENCIES:
            faults.append(UnsupportedCurrency(path=(*path, "currency"), currency=one.currency))
        elif one.currency in seen:
            faults.append(FieldInvalid(path=(*path, "currency"), reason="twice"))
        elif not least <= one.minor <= MINOR_MAX:
            faults.append(FieldInvalid(path=(*path, "amount"), reason="amount"))
        seen.add(one.currency)
    return faults


def _limit_faults(use_limit: int | None, buyer_limit: int | None) -> list[DomainError]:
    given = (("useLimit", 0, use_limit), ("buyerLimit", 1, buyer_limit))
    return [
        _wrong(name, reason="range", min=least, max=USES_MAX)
        for name, least, limit in given
        if limit is not None and not least <= limit <= USES_MAX
    ]


def _period_faults(starts_at: datetime | None, expires_at: datetime | None) -> list[DomainError]:
    if starts_at and expires_at and starts_at >= expires_at:
        return [_wrong("expiresAt", reason="before_start")]
    return []


def _wrong(*path: str, **facts: object) -> FieldInvalid:
    return FieldInvalid(path=(*INPUT, *path), **facts)


async def add_coupon(
    merchant_id: UUID,
    terms: CouponTerms,
    *,
    coupon_id: UUID | None = None,
    actor: Actor | None = None,
) -> UUID:
    """Issue a coupon; its id. Errors: InputInvalid, also when the merchant has the code already;
    NotFound (shop or product of somebody else)."""
    words.refuse(terms.faults())
    made = coupon_id or ids.uuid7()
    async with db.transaction():
        await _check_scope(merchant_id, terms)
        is_new = await db.execute(
            "INSERT INTO coupon (merchant_id, id, code, kind, percent_bps, use_limit, buyer_limit,"
            " shop_id, product_ids, starts_at, expires_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,"
            " coalesce($10, '-infinity'::timestamptz), coalesce($11, 'infinity'::timestamptz))"
            " ON CONFLICT (merchant_id, code) DO NOTHING",
            merchant_id,
            made,
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
        if not is_new:
            raise InputInvalid(_wrong("code", reason="taken"))
        await _write_amounts(merchant_id, made, terms)
        await audit.changed(merchant_id, actor, "coupon.create", made, {}, _spoken(terms))
    return made


async def _check_scope(merchant_id: UUID, terms: CouponTerms) -> None:
    if terms.shop_id is not None and not await db.value(
        "SELECT true FROM shop WHERE id = $1 AND merchant_id = $2", terms.shop_id, merchant_id
    ):
        raise NotFound(path=(*INPUT, "shopId"))
    wanted = set(terms.product_ids)
    rows: list[Any] = await db.fetch(
        "SELECT id FROM product WHERE merchant_id = $1 AND id = ANY($2)", merchant_id, list(wanted)
    )
    unknown = wanted - {row["id"] for row in rows}
    if unknown:
        place = next(no for no, one in enumerate(terms.product_ids) if one in unknown)
        raise NotFound(path=(*INPUT, "productIds", str(place)))


async def _write_amounts(merchant_id: UUID, coupon_id: UUID, terms: CouponTerms) -> None:
    off = {one.currency: one.minor for one in terms.amounts}
    least = {one.currency: one.minor for one in terms.min_totals}
    listed = list(off) or list(least)
    await db.insert(
        "coupon_amount",
        ("merchant_id", "coupon_id", "currency", "minor", "min_total_minor", "is_base"),
        [
            (merchant_id, coupon_id, ccy, off.get(ccy, 0), least.get(ccy, 0), place == 0)
            for place, ccy in enumerate(listed)
        ],
    )


def _spoken(terms: CouponTerms) -> dict[str, Any]:
    return {
        "code": coupon_code(terms.code),
        "kind": terms.kind.value,
        "percent_bps": terms.percent_bps,
        "amounts": [[one.currency, one.minor] for one in terms.amounts],
        "min_totals": [[one.currency, one.minor] for one in terms.min_totals],
        "use_limit": terms.use_limit,
        "buyer_limit": terms.buyer_limit,
        "shop_id": terms.shop_id and str(terms.shop_id),
        "product_ids": [str(one) for one in terms.product_ids],
        "starts_at": terms.starts_at,
        "expires_at": terms.expires_at,
    }


_TERMS = """
SELECT use_limit, buyer_limit, CASE WHEN isfinite(starts_at) THEN starts_at END AS starts_at,
    CASE WHEN isfinite(expires_at) THEN expires_at END AS expires_at, state
FROM coupon WHERE merchant_id = $1 AND id = $2
"""


async def change_coupon(
    merchant_id: UUID,
    coupon_id: UUID,
    change: CouponChange,
    *,
    expected_version: int,
    actor: Actor | None = None,
) -> int:
    """Change limits and period of a coupon; its new version. Sales do not move the version.

    A limit below what is used already ends it for new orders; uses that were given stay. Holds
    under any number of buyers: who redeems waits for the row and looks at the new limit (B11).
    Errors: InputInvalid, also when it has ended; NotFound, Conflict.
    """
    asked = {
        "use_limit": change.use_limit,
        "buyer_limit": change.buyer_limit,
        "starts_at": change.starts_at,
        "expires_at": change.expires_at,
    }
    async with db.transaction():
        version = await versions.bump("cpn", merchant_id, coupon_id, expected_version)
        row: Any = await db.row(_TERMS, merchant_id, coupon_id)
        before = dict(row)
        if before.pop("state") != "active":
            raise InputInvalid(_wrong("couponId", reason="ended"))
        after = {
            **before,
            **{name: value for name, value in asked.items() if value is not Keep.KEEP},
        }
        limits = _limit_faults(after["use_limit"], after["buyer_limit"])
        words.refuse([*limits, *_period_faults(after["starts_at"], after["expires_at"])])
        await db.execute(
            "UPDATE coupon SET use_limit = $3, buyer_limit = $4,"
            " starts_at = coalesce($5, '-infinity'::timestamptz),"
            " expires_at = coalesce($6, 'infinity'::timestamptz)"
            " WHERE merchant_id = $1 AND id = $2",
            merchant_id,
            coupon_id,
            *after.values(),
        )
        await audit.changed(merchant_id, actor, "coupon.change", coupon_id, before, after)
    return version


async def end_coupon(
    merchant_id: UUID, coupon_id: UUID, *, expected_version: int, actor: Actor | None = None
) -> int:
    """No new order takes the coupon from now on, for good; its new version. Orders that have it
    keep it. Errors: NotFound, Conflict."""
    async with db.transaction():
        version = await versions.bump("cpn", merchant_id, coupon_id, expected_version)
        row: Any = await db.row(_TERMS, merchant_id, coupon_id)
        await db.execute(
            "UPDATE coupon SET state = 'disabled' WHERE merchant_id = $1 AND id = $2",
            merchant_id,
            coupon_id,
        )
        before, after = {"state": row["state"]}, {"state": "disabled"}
        await audit.changed(merchant_id, actor, "coupon.end", coupon_id, before, after)
    return version


@dataclass(frozen=True, slots=True)
class ManagedCoupon:
    """A coupon with all it says. `amounts` and `min_totals` as in CouponTerms, the base first; None limits
    nothing."""

    id: UUID
    merchant_id: UUID
    code: str
    kind: str
    percent_bps: int | None
    use_limit: int | None
    buyer_limit: int | None
    used: int
    shop_id: UUID | None
    product_ids: list[UUID]
    starts_at: datetime | None
    expires_at: datetime | None
    state: str
    version: int
    created_at: datetime
    amounts: tuple[Money, ...]
    min_totals: tuple[Money, ...]


_COUPONS = """
SELECT c.id, c.merchant_id, c.code, c.kind, c.percent_bps, c.use_limit, c.buyer_limit, c.used,
    c.shop_id, c.product_ids, CASE WHEN isfinite(c.starts_at) THEN c.starts_at END AS starts_at,
    CASE WHEN isfinite(c.expires_at) THEN c.expires_at END AS expires_at, c.state, c.version,
    c.created_at, (
    SELECT json_agg(json_build_array(a.currency, a.minor, a.min_total_minor)
        ORDER BY NOT a.is_base, a.currency)
    FROM coupon_amount a WHERE a.merchant_id = c.merchant_id AND a.coupon_id = c.id) AS listed
FROM coupon c WHERE
"""


def _coupon(row: Any) -> ManagedCoupon:
    facts = dict(row)
    listed = facts.pop("listed") or ()
    return ManagedCoupon(
        **facts,
        amounts=tuple(Money(off, currency) for currency, off, _ in listed if off),
        min_totals=tuple(Money(least, currency) for currency, _, least in listed if least),
    )


async def coupons_of(
    merchant_id: UUID, *, beyond: UUID | None = None, limit: int, backward: bool = False
) -> list[ManagedCoupon]:
    """A stretch of a merchant's coupons, newest first, from the id `beyond` on, or back from it."""
    order, sign = ("ASC", ">") if backward else ("DESC", "<")
    rows = await db.fetch(
        f"{_COUPONS} c.merchant_id = $1 AND ($2::uuid IS NULL OR c.id {sign} $2)"
        f" ORDER BY c.id {order} LIMIT $3",
        merchant_id,
        beyond,
        limit,
    )
    return [_coupon(row) for row in rows]


async def count_coupons(merchant_id: UUID) -> int:
    """How many coupons a merchant has ever issued."""
    sql = "SELECT count(*) FROM coupon WHERE merchant_id = $1"
    return int(await db.value(sql, merchant_id))


async def coupons_by_id(coupon_ids: Sequence[UUID]) -> dict[UUID, ManagedCoupon]:
    """Coupons of whatever merchant by id; unknown ones are left out."""
    rows = await db.fetch(f"{_COUPONS} c.id = ANY($1)", list(coupon_ids))
    return {row["id"]: _coupon(row) for row in rows}
