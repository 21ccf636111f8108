"""Honey keys: goods that look like the others and are nobody's, so that one that turns up says where it came from.

Every approved export carries one, and a merchant may plant some in a lot, where only who reads the storage finds them.
They are stored and sealed like keys, in a state that no sale, hold or reveal takes. Source: CASES H28.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain import alarms
from domain.alarms import AlertKind
from domain.catalogue import shapes, stock
from domain.catalogue.keys import import_lock
from domain.catalogue.lots import Lot
from domain.core import audit, db, ids, vault
from domain.core.audit import Actor
from domain.core.errors import FieldInvalid

PLANT_MAX = 20
SAMPLES_MAX = 200
TRIES_MAX = 32
TOUCHED_MAX = 100
_draw = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Maker:
    """Whose honey key it is: of the export `export_id`, or planted when that is None."""

    made_by: UUID
    export_id: UUID | None = None


async def add(merchant_id: UUID, lot_no: int, samples: Sequence[str], maker: Maker) -> str:
    """Make one honey key of the shape of `samples` and store it in a lot; its content is no key that is, or was, in
    the merchant's stock."""
    assert db.in_transaction(), "a honey key is stored before it leaves"
    keys = await vault.of_merchant(merchant_id)
    await db.execute("SELECT pg_advisory_xact_lock($1)", import_lock(merchant_id))
    for freed in range(TRIES_MAX):
        content = shapes.like(samples, _draw, freed=freed)
        if freed == TRIES_MAX - 1:  # nothing in these that could differ
            content += secrets.token_hex(4).upper()
        key_id = ids.uuid7()
        row: Any = await db.row(
            "INSERT INTO card_key (merchant_id, id, variant_id, lot_no, expires_at, bucket, state, key_version,"
            " ciphertext, hash) SELECT $1, $2, l.variant_id, l.no, l.expires_at, $4, 'honey', $5, $6, $7"
            " FROM stock_lot l WHERE l.merchant_id = $1 AND l.no = $3"
            " ON CONFLICT (merchant_id, hash) DO NOTHING RETURNING id",
            merchant_id,
            key_id,
            lot_no,
            _draw.randrange(stock.BUCKETS),
            keys.version,
            keys.seal("card_key", key_id, content.encode()),
            keys.fingerprint(content.encode()),
        )
        if row is not None:
            break
    await db.execute(
        "INSERT INTO honey_key (merchant_id, key_id, kind, export_id, made_by) VALUES ($1, $2, $3, $4, $5)",
        merchant_id,
        key_id,
        "planted" if maker.export_id is None else "export",
        maker.export_id,
        maker.made_by,
    )
    return content


async def plant(lot: Lot, count: int, *, made_by: UUID, actor: Actor) -> int:
    """Put `count` honey keys of the shape of its keys into a lot; how many. Nobody is ever shown them. Audited.

    Errors: FieldInvalid (count of 1 to 20, a lot without keys).
    """
    assert db.in_transaction(), "planted with the key of the call"
    if not 1 <= count <= PLANT_MAX:
        raise FieldInvalid(path=("input", "count"), reason="range", max=PLANT_MAX)
    samples = await _samples(lot)
    if not samples:
        raise FieldInvalid(path=("input", "lotId"), reason="empty")
    for _ in range(count):
        await add(lot.merchant_id, lot.no, samples, Maker(made_by))
    await audit.record(
        lot.merchant_id, actor, "stock.honey", lot.variant_id, keys=count, lot=lot.no
    )
    return count


async def _samples(lot: Lot) -> list[str]:
    """Keys of the lot, whatever became of them; they stay in this process."""
    rows: list[Any] = await db.fetch(
        "SELECT id, key_version, ciphertext FROM card_key WHERE merchant_id = $1 AND lot_no = $2"
        " AND state <> 'honey' ORDER BY id LIMIT $3",
        lot.merchant_id,
        lot.no,
        SAMPLES_MAX,
    )
    newest = max((row["key_version"] for row in rows), default=0)
    keys = await vault.of_merchant(lot.merchant_id, version=newest)
    return [
        keys.unseal("card_key", row["id"], row["key_version"], row["ciphertext"]).decode()
        for row in rows
    ]


_TOUCHED = """
SELECT h.merchant_id, h.key_id, c.state, c.order_id, c.lot_no FROM honey_key h
LEFT JOIN card_key c ON c.merchant_id = h.merchant_id AND c.id = h.key_id
WHERE (c.id IS NULL OR c.state <> 'honey' OR c.order_id IS NOT NULL OR c.sold_at IS NOT NULL
        OR c.revealed_at IS NOT NULL)
    AND NOT EXISTS (SELECT FROM security_alert a WHERE a.merchant_id = h.merchant_id AND a.kind = 'honey_used'
        AND a.subject = h.key_id::text) LIMIT $1
"""


async def ring_for_used(*, limit: int = TOUCHED_MAX) -> int:
    """Ring for honey keys that are not as they were made; how many. The timetable calls it every minute.

    No code does that and the table refuses it: whoever did it writes to the database past both.
    """
    rows = await db.fetch(_TOUCHED, limit)
    for row in rows:
        facts = {
            "keyId": str(row["key_id"]),
            "state": row["state"] or "gone",
            "orderId": row["order_id"] and ids.encode("ord", row["order_id"]),
            "lot": row["lot_no"],
        }
        await alarms.ring(row["merchant_id"], AlertKind.HONEY_USED, str(row["key_id"]), facts)
    return len(rows)
