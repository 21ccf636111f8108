"""Card keys outside the sale: locked, exported, revoked, replaced, put in one by one; and low
stock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain import alarms
from domain.catalogue import stock
from domain.catalogue.lines import csv_cell
from domain.catalogue.rules import Delivery, OutOfStock
from domain.core import audit, clock, db, ids, vault, versions
from domain.core.audit import Actor
from domain.core.errors import DomainError, FieldInvalid, InputInvalid, NotFound
from domain.core.four_eyes import ApprovalClosed
from domain.core.once import Once

EXPORT_MAX = 10_000
CONTENT_MAX = 4_000


class CodeKnown(DomainError):
    """These goods are, or were, in this merchant's stock already: a key is sold once, for ever."""

    code = "CODE_KNOWN"


@dataclass(frozen=True, slots=True)
class LowStock:
    """A variant whose stock has just fallen to its threshold."""

    merchant_id: UUID
    variant_id: UUID
    available: int
    low_stock_at: int


async def lock_keys(merchant_id: UUID, key_ids: Sequence[UUID], actor: Actor, reason: str) -> int:
    """Take available keys out of the shop; how many. What is reserved or sold stays its order's
    (D02)."""
    return await _move(merchant_id, key_ids, "available", "locked", actor, reason)


async def unlock_keys(merchant_id: UUID, key_ids: Sequence[UUID], actor: Actor, reason: str) -> int:
    """Put locked keys back; how many."""
    return await _move(merchant_id, key_ids, "locked", "available", actor, reason)


async def _move(
    merchant_id: UUID, key_ids: Sequence[UUID], source: str, target: str, actor: Actor, reason: str
) -> int:
    async with db.transaction():
        rows: list[Any] = await db.fetch(
            "WITH picked AS MATERIALIZED (SELECT id FROM card_key WHERE merchant_id = $1"
            " AND id = ANY($2) AND state = $3 ORDER BY id FOR UPDATE SKIP LOCKED)"
            " UPDATE card_key c SET state = $4 FROM picked"
            " WHERE c.merchant_id = $1 AND c.id = picked.id RETURNING c.variant_id",
            merchant_id,
            list(key_ids),
            source,
            target,
        )
        if rows:
            facts = {"keys": len(rows), "reason": reason[:200]}
            await audit.record(
                merchant_id, actor, f"stock.{target}", rows[0]["variant_id"], **facts
            )
    return len(rows)


@dataclass(frozen=True, slots=True)
class Exported:
    """A key that has left the house."""

    lot_no: int
    content: str


async def export_keys(
    merchant_id: UUID,
    variant_id: UUID,
    count: int,
    actor: Actor,
    *,
    once: Once | None = None,
    export_id: UUID | None = None,
) -> list[Exported]:
    """The plaintext of up to `count` available keys; they are locked, for they have left the house
    under the approval `export_id`.

    The audit row is committed before anything is decrypted. Errors: ApprovalClosed when it was done
    before under `once`, alarms.ExportsStopped.
    """
    assert not db.in_transaction(), "the audit row commits before the plaintext leaves"
    async with db.transaction():
        if once is not None and await once.claim({}) is not None:
            raise ApprovalClosed()
        rows: list[Any] = await db.fetch(
            "WITH picked AS MATERIALIZED (SELECT id FROM card_key WHERE merchant_id = $1"
            " AND variant_id = $2 AND open LIMIT $3 FOR UPDATE SKIP LOCKED)"
            " UPDATE card_key c SET state = 'locked', exported_at = $4, export_id = $5 FROM picked"
            " WHERE c.merchant_id = $1 AND c.id = picked.id"
            " RETURNING c.id, c.lot_no, c.key_version, c.ciphertext",
            merchant_id,
            variant_id,
            min(count, EXPORT_MAX),
            clock.now(),
            export_id,
        )
        await audit.record(merchant_id, actor, "stock.export", variant_id, keys=len(rows))
        await alarms.count_export(merchant_id, actor, len(rows))
    newest = max((row["key_version"] for row in rows), default=0)
    keys = await vault.of_merchant(merchant_id, version=newest)
    return [
        Exported(
            row["lot_no"],
            keys.unseal("card_key", row["id"], row["key_version"], row["ciphertext"]).decode(),
        )
        for row in rows
    ]


def as_csv(contents: Sequence[str]) -> str:
    """One line per key; cells that a spreadsheet would run are quoted."""
    return "".join(f"{csv_cell(content)}\r\n" for content in contents)


_REVOKE = """
WITH keys AS (
    UPDATE card_key SET state = 'revoked'
    WHERE order_id = $1 AND state = 'sold' AND ($2::uuid IS NULL OR order_line_id = $2) RETURNING 1
), uses AS (
    UPDATE reusable_use SET state = 'revoked'
    WHERE order_id = $1 AND state = 'sold' AND ($2::uuid IS NULL OR order_line_id = $2) RETURNING 1
), owed AS (
    UPDATE supply SET state = 'cancelled', moved_at = clock_timestamp()
    WHERE order_id = $1 AND state IN ('owed', 'sent', 'pending') AND ($2::uuid IS NULL OR
    order_line_id = $2))
SELECT (SELECT count(*) FROM keys) + (SELECT count(*) FROM uses)
"""


async def revoke(order_id: UUID, line_id: UUID | None = None) -> int:
    """The buyer has no right to the goods any more: how many keys and uses were theirs. A sold
    key never returns to stock. What a supplier still owes is cancelled: if it comes after all it
    becomes stock (I04)."""
    assert db.in_transaction(), "the right ends with the refund"
    return int(await db.value(_REVOKE, order_id, line_id))


async def replace(
    merchant_id: UUID, order_id: UUID, key_ids: Sequence[UUID], actor: Actor, reason: str
) -> int:
    """Give an order other keys for these dead ones, once each; how many. Errors: OutOfStock, all
    or nothing."""
    async with db.transaction():
        rows: list[Any] = await db.fetch(
            "UPDATE card_key SET state = 'replaced' WHERE merchant_id = $1 AND order_id = $2"
            " AND id = ANY($3) AND state = 'sold' RETURNING order_line_id, variant_id",
            merchant_id,
            order_id,
            list(key_ids),
        )
        counts: dict[tuple[UUID, UUID], int] = {}
        for row in rows:
            counts[row["order_line_id"], row["variant_id"]] = (
                counts.get((row["order_line_id"], row["variant_id"]), 0) + 1
            )
        lines = [(line_id, variant_id, n) for (line_id, variant_id), n in counts.items()]
        if lines and not await stock.sell([stock.Ask(order_id, merchant_id, lines)]):
            raise OutOfStock(variant_id=lines[0][1], available=0)
        if rows:
            await audit.record(
                merchant_id, actor, "goods.replace", order_id, keys=len(rows), reason=reason[:200]
            )
    return len(rows)


_LOW = """
UPDATE variant v SET is_low = true
FROM (SELECT w.id, coalesce((SELECT sum(available) FROM variant_stock s
        WHERE s.merchant_id = w.merchant_id AND s.variant_id = w.id AND s.expires_at > $2),
        0)::int AS n
      FROM variant w WHERE w.id = ANY($1) AND w.low_stock_at IS NOT NULL AND NOT w.is_low) AS now
WHERE v.id = now.id AND now.n <= v.low_stock_at AND NOT v.is_low
RETURNING v.merchant_id, v.id AS variant_id, now.n AS available, v.low_stock_at
"""
_REFILLED = """
UPDATE variant v SET is_low = false
WHERE v.merchant_id = $1 AND v.id = $2 AND v.is_low AND v.low_stock_at < (
    SELECT coalesce(sum(available), 0) FROM variant_stock s
    WHERE s.merchant_id = $1 AND s.variant_id = $2 AND s.expires_at > $3)
"""


async def low_stock(variant_ids: Sequence[UUID]) -> list[LowStock]:
    """Those whose stock has fallen to their threshold since the last refill; each is told once."""
    rows: list[Any] = await db.fetch(_LOW, list(set(variant_ids)), clock.now())
    return [LowStock(**row) for row in rows]


async def refilled(merchant_id: UUID, variant_id: UUID) -> None:
    """After stock came in: the next fall below the threshold is told again."""
    await db.execute(_REFILLED, merchant_id, variant_id, clock.now())


async def set_reusable(
    merchant_id: UUID,
    variant_id: UUID,
    content: str,
    *,
    use_limit: int | None = None,
    expected_version: int | None = None,
    actor: Actor | None = None,
) -> UUID:
    """The content every buyer of this variant gets from now on; None is unlimited for ever (D03).

    Orders keep the content they were sold; the audit log never has it. Errors: NotFound, InputInvalid, Conflict.
    """
    check_content(content)
    if use_limit is not None and use_limit < 0:
        raise InputInvalid(FieldInvalid(path=("input", "useLimit"), reason="range", min=0))
    kinds = await stock.kinds(merchant_id, [variant_id])
    if kinds.get(variant_id) is not Delivery.REUSABLE:
        raise NotFound()
    key_id = ids.uuid7()
    keys = await vault.of_merchant(merchant_id)
    async with db.transaction():
        if expected_version is not None:
            await versions.bump("var", merchant_id, variant_id, expected_version)
        await db.execute(
            "UPDATE reusable_key SET state = 'retired'"
            " WHERE merchant_id = $1 AND variant_id = $2 AND state = 'active'",
            merchant_id,
            variant_id,
        )
        await db.execute(
            "INSERT INTO reusable_key"
            " (merchant_id, id, variant_id, use_limit, key_version, ciphertext)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            merchant_id,
            key_id,
            variant_id,
            use_limit,
            keys.version,
            keys.seal("reusable_key", key_id, content.encode()),
        )
        after = {"use_limit": use_limit, "reusable_key": str(key_id)}
        await audit.changed(merchant_id, actor, "variant.content", variant_id, {}, after)
    return key_id


def check_content(content: str, path: tuple[str, ...] = ("input", "content")) -> None:
    """Errors: InputInvalid for goods that are empty, too long or not storable text."""
    try:
        size = len(content.encode())
    except UnicodeEncodeError:
        size = 0
    if not content.strip() or not 0 < size <= CONTENT_MAX or "\0" in content:
        raise InputInvalid(FieldInvalid(path=path, reason="length", max=CONTENT_MAX))


async def put(
    merchant_id: UUID,
    variant_id: UUID,
    lot_no: int,
    codes: Sequence[str],
    *,
    order: tuple[UUID, UUID] | None = None,
    is_unique: bool = True,
) -> int:
    """Put a few codes into a lot: into stock, or as sold to `order` (order id, line id); how many
    are new.

    Codes already this line's are left out, so the same answer twice is one delivery (I03).
    `is_unique` False is for words a person wrote, which may be the same for every buyer. Errors:
    CodeKnown.
    """
    assert db.in_transaction(), "goods come in with what they are for"
    await db.execute("SELECT pg_advisory_xact_lock($1)", import_lock(merchant_id))
    keys = await vault.of_merchant(merchant_id)
    new = [(ids.uuid7(), code.encode()) for code in codes]
    hashes = [keys.fingerprint(code if is_unique else one.bytes + code) for one, code in new]
    rows: list[Any] = await db.fetch(
        "SELECT hash, order_line_id FROM card_key WHERE merchant_id = $1 AND hash = ANY($2)",
        merchant_id,
        hashes,
    )
    known = {row["hash"]: row["order_line_id"] for row in rows}
    if len(set(hashes)) < len(hashes) or any(
        line is None or order is None or line != order[1] for line in known.values()
    ):
        raise CodeKnown()
    fresh = [(*one, mark) for one, mark in zip(new, hashes, strict=True) if mark not in known]
    await db.execute(
        "INSERT INTO card_key (merchant_id, id, variant_id, lot_no, expires_at, bucket, state,"
        " key_version, ciphertext, hash, order_id, order_line_id, sold_at)"
        " SELECT $1, x.id, $2, l.no, l.expires_at, x.bucket, $4, $5, x.ciphertext, x.hash,"
        " $6, $7, $8"
        " FROM unnest($9::uuid[], $10::smallint[], $11::bytea[], $12::bytea[])"
        " AS x(id, bucket, ciphertext, hash), stock_lot l WHERE l.merchant_id = $1 AND l.no = $3",
        merchant_id,
        variant_id,
        lot_no,
        "available" if order is None else "sold",
        keys.version,
        order and order[0],
        order and order[1],
        order and clock.now(),
        [key_id for key_id, _, _ in fresh],
        [random.randrange(stock.BUCKETS) for _ in fresh],
        [keys.seal("card_key", key_id, code) for key_id, code, _ in fresh],
        [mark for _, _, mark in fresh],
    )
    return len(fresh)


def import_lock(merchant_id: UUID) -> int:
    """The advisory lock under which keys come into one merchant's stock: one writer, no
    deadlocks."""
    return int.from_bytes(merchant_id.bytes[8:], "big", signed=True)
