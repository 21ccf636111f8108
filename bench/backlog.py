"""Paid orders that wait: placed, reserved, attempted, their money's words in the inbox; written set-based, fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from domain import catalogue, merchants, orders
from domain.catalogue import Delivery, Limits, PriceList, Source, Text
from domain.core import db, ids
from domain.core.money import Money
from domain.merchants import FeeTerms, ReserveKind, Scope, Speed
from domain.orders.rules import lane

PRICE = Money(10_000, "USD")
PRICES = 8  # different amounts per merchant, upwards from PRICE


@dataclass(frozen=True, slots=True)
class Stand:
    """A merchant with one variant to sell."""

    merchant_id: UUID
    shop_id: UUID
    variant_id: UUID
    lane: int
    lot_no: int


async def stands(per_lane: int) -> list[Stand]:
    """`per_lane` merchants in every lane: 6 % commission, 5 % reserve, half of each lane paid the next day."""
    made: list[Stand] = []
    missing = dict.fromkeys(range(orders.LANES), per_lane)
    number = 0
    while any(missing.values()):
        number += 1
        found = await _stand(number, missing)
        if missing[found.lane]:
            missing[found.lane] -= 1
            made.append(found)
    merchants.forget()
    return made


async def _stand(number: int, missing: Mapping[int, int]) -> Stand:
    merchant_id = await merchants.open_merchant(
        f"Bench {number}",
        base_ccy=PRICE.currency,
        country="HK",
        contact_email=f"m{number}@example.com",
    )
    shop_id = await merchants.open_shop(merchant_id, f"bench-{number}", {"en": f"Bench {number}"})
    await merchants.set_fee(FeeTerms(pct_bps=600, scope=Scope.MERCHANT, merchant_id=merchant_id))
    # By the lane, which is a hash: a lane with one speed only would send other statements than the rest.
    speed = Speed.T1 if missing[lane(merchant_id)] % 2 else Speed.T0
    await merchants.set_settlement(merchant_id, speed, days=1 if speed is Speed.T1 else 0)
    await merchants.set_reserve(
        merchant_id, ReserveKind.ROLLING, pct_bps=500, days=30, reason="bench"
    )
    product_id = await catalogue.add_product(merchant_id, shop_id, {"en": Text("Game card")})
    variant_id = await catalogue.add_variant(
        merchant_id,
        product_id,
        {"en": "One"},
        Source(Delivery.STOCK),
        PriceList([PRICE], PRICE.currency),
        limits=Limits(max_quantity=5_000),
    )
    lot_no = await db.value(
        "INSERT INTO stock_lot (merchant_id, variant_id) VALUES ($1, $2) RETURNING no",
        merchant_id,
        variant_id,
    )
    return Stand(merchant_id, shop_id, variant_id, lane(merchant_id), lot_no)


# One row per order to be; every later statement is one INSERT … SELECT from it.
_PLAN = """
CREATE TEMP TABLE plan ON COMMIT DROP AS
SELECT i, uuidv7() AS order_id, uuidv7() AS line_id, uuidv7() AS attempt_id, uuidv7() AS key_id,
    s.merchant_id, s.shop_id, s.variant_id, s.lane, s.lot_no, $8::bigint + 500 * (i / $7::int % $9::int) AS minor
FROM generate_series(1, $1::int) AS i
JOIN unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::smallint[], $6::bigint[]) WITH ORDINALITY
    AS s(merchant_id, shop_id, variant_id, lane, lot_no, place) ON s.place = 1 + i % $7::int
"""
_FILL = (
    """
INSERT INTO orders (id, number, merchant_id, shop_id, lane, email, email_hash, address_hash, country, locale,
    total_minor, ccy, settle_ccy, expires_at, key_units, is_plain, event_seq, version)
SELECT order_id, 'B' || $1 || '-' || i, merchant_id, shop_id, lane, 'buyer' || i || '@example.com',
    decode(md5('mail' || i), 'hex'), decode(md5('address' || i % 5000), 'hex'), 'HK', 'en',
    minor, $2, $2, clock_timestamp() + interval '30 min', 1, true, 1, 1
FROM plan ORDER BY order_id""",
    """
INSERT INTO order_line (id, order_id, merchant_id, position, variant_id, delivery, title, quantity, unit_minor,
    total_minor)
SELECT line_id, order_id, merchant_id, 0, variant_id, 'stock', 'Game card', 1, minor, minor FROM plan
WHERE $1::text IS NOT NULL AND $2::text IS NOT NULL ORDER BY order_id""",
    """
INSERT INTO payment_intent (id, order_id, amount_minor, ccy)
SELECT order_id, order_id, minor, $2 FROM plan WHERE $1::text IS NOT NULL ORDER BY order_id""",
    """
INSERT INTO event_log (order_id, merchant_id, sequence, kind, facts_json)
SELECT order_id, merchant_id, 1, 'order.placed', jsonb_build_object('total_minor', minor, 'ccy', $2::text)
FROM plan WHERE $1::text IS NOT NULL ORDER BY order_id""",
    """
INSERT INTO payment_attempt (id, intent_id, order_id, merchant_id, lane, seq, provider, provider_account,
    provider_ref, method, requested_minor, ccy, state, action_json, next_check_at)
SELECT attempt_id, order_id, order_id, merchant_id, lane, 1, 'sandbox', 'main', 'sbx_' || attempt_id, 'sandbox',
    minor, $2, 'requires_action', '{"kind": "redirect", "url": "https://pay.example/confirm/1"}',
    clock_timestamp() + interval '45 s'
FROM plan WHERE $1::text IS NOT NULL ORDER BY order_id""",
    """
INSERT INTO card_key (merchant_id, id, variant_id, lot_no, bucket, state, key_version, ciphertext, hash,
    order_id, order_line_id)
SELECT merchant_id, key_id, variant_id, lot_no, i % 64, 'reserved', 1,
    decode(md5('a' || key_id) || md5('b' || key_id), 'hex'), decode(md5('h' || key_id), 'hex'), order_id, line_id
FROM plan WHERE $1::text IS NOT NULL AND $2::text IS NOT NULL ORDER BY order_id""",
    """
INSERT INTO stock_hold (order_id, merchant_id, quantity, held_until, address_hash, email_hash)
SELECT order_id, merchant_id, 1, clock_timestamp() + interval '35 min', decode(md5('address' || i % 5000), 'hex'),
    decode(md5('mail' || i), 'hex')
FROM plan WHERE $1::text IS NOT NULL AND $2::text IS NOT NULL ORDER BY order_id""",
)
_WORDS = """
INSERT INTO inbox_event (provider, provider_account, event_id, lane, reference_id, body_hash, facts_json)
SELECT 'sandbox', 'main', 'evt_' || attempt_id, lane, attempt_id, decode(md5('c' || i) || md5('d' || i), 'hex'),
    jsonb_build_object('subject', 'attempt', 'reference', 'pay_' || attempt_id, 'provider_ref',
        'sbx_' || attempt_id, 'state', 'captured', 'minor', minor, 'ccy', $1::text,
        'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'))
FROM plan ORDER BY order_id
"""


async def pile_up(count: int, of: list[Stand], *, tag: str, paid: bool = True) -> None:
    """Write `count` orders, spread evenly over the merchants and PRICES amounts; `tag` keeps their numbers apart.

    `paid` puts the word of the provider into the inbox as well.
    """
    async with db.transaction():
        await db.execute(
            _PLAN,
            count,
            [one.merchant_id for one in of],
            [one.shop_id for one in of],
            [one.variant_id for one in of],
            [one.lane for one in of],
            [one.lot_no for one in of],
            len(of),
            PRICE.minor,
            PRICES,
        )
        for sql in _FILL:
            await db.execute(sql, tag, PRICE.currency)
        if paid:
            await db.execute(_WORDS, PRICE.currency)


async def settle_statistics() -> None:
    """What autovacuum would have done meanwhile: plans should not depend on when it woke up."""
    async with db.pool().acquire() as connection:
        await connection.execute("VACUUM (ANALYZE)")


def tag() -> str:
    """A short mark for one pile of orders."""
    return ids.base32(ids.uuid7().int & (1 << 30) - 1, 6)
