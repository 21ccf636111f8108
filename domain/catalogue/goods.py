"""The pivot: goods become plaintext for somebody, after the audit row that says so has been
committed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from domain.catalogue.models import Good
from domain.core import clock, db, vault
from domain.core.audit import Actor

# One statement, so one commit: first reveals marked, the viewer's session noted, one audit row
# for the batch, and the sealed goods. Whoever comes second with the same session finds nothing to
# write (D12). Goods taken back before anyone saw them stay unseen.
_REVEAL = """
WITH shown AS (
    UPDATE card_key SET revealed_at = $4
    WHERE order_id = $1 AND merchant_id = $2 AND state = 'sold' AND revealed_at IS NULL RETURNING id
), used AS (
    UPDATE reusable_use SET revealed_at = $4
    WHERE order_id = $1 AND merchant_id = $2 AND state = 'sold' AND revealed_at IS NULL
    RETURNING order_line_id
), theirs AS MATERIALIZED (
    SELECT order_line_id, id, 'card_key' AS place, id AS row_id, key_version, ciphertext,
        coalesce(revealed_at, $4) AS revealed_at, state <> 'sold' AS revoked,
        revealed_at IS NULL AS was_new
    FROM card_key WHERE order_id = $1 AND merchant_id = $2
        AND (state = 'sold' OR state IN ('revoked', 'replaced') AND revealed_at IS NOT NULL)
    UNION ALL
    SELECT u.order_line_id, u.order_line_id, 'reusable_key', r.id, r.key_version, r.ciphertext,
        coalesce(u.revealed_at, $4), u.state <> 'sold', u.revealed_at IS NULL
    FROM reusable_use u JOIN reusable_key r ON r.merchant_id = u.merchant_id AND r.id =
    u.reusable_key_id WHERE u.order_id = $1 AND u.merchant_id = $2
        AND (u.state = 'sold' OR u.state = 'revoked' AND u.revealed_at IS NOT NULL)
), seen AS (
    INSERT INTO reveal (merchant_id, order_id, session, revealed_at)
    SELECT $2, $1, $3, $4 WHERE EXISTS (SELECT FROM theirs)
    ON CONFLICT DO NOTHING RETURNING 1
), audited AS (
    INSERT INTO audit_log (merchant_id, actor_kind, actor_id, action, subject_id, facts_json,
    request_id) SELECT $2, $5, $6, 'goods.reveal', $1, jsonb_build_object(
        'goods', (SELECT count(*) FROM theirs),
        'first', (SELECT count(*) FROM shown) + (SELECT count(*) FROM used)), $7
    WHERE EXISTS (SELECT FROM seen) OR EXISTS (SELECT FROM shown) OR EXISTS (SELECT FROM used))
SELECT order_line_id, id, place, row_id, key_version, ciphertext, revealed_at, revoked,
    was_new AND NOT EXISTS (SELECT FROM shown WHERE shown.id = theirs.id)
        AND NOT EXISTS (SELECT FROM used WHERE used.order_line_id = theirs.id) AS is_lost
FROM theirs ORDER BY order_line_id, id
"""


async def goods(order_id: UUID, merchant_id: UUID, actor: Actor) -> list[Good]:
    """Reveal the goods of an order to `actor`: all that is sold, and what was taken back after it
    was seen.

    Writes one audit row per `actor.session`, and one more when goods have been added since; it is
    committed before anything is decrypted, so this never runs inside a transaction. The caller
    has checked the right.
    """
    assert not db.in_transaction(), "the audit row commits before the plaintext leaves"
    rows: list[Any] = await db.fetch(
        _REVEAL,
        order_id,
        merchant_id,
        actor.session or f"{actor.kind}:{actor.id}",
        clock.now(),
        actor.kind,
        actor.id,
        actor.request_id,
    )
    if not rows:
        return []
    if any(row["is_lost"] for row in rows):
        # Somebody else showed them first while we looked: their moment is the one to tell.
        return await goods(order_id, merchant_id, actor)
    newest = max(row["key_version"] for row in rows)
    keys = await vault.of_merchant(merchant_id, version=newest)
    return [
        Good(
            row["order_line_id"],
            keys.unseal(
                row["place"], row["row_id"], row["key_version"], row["ciphertext"]
            ).decode(),
            row["revealed_at"],
            row["revoked"],
            row["id"],
        )
        for row in rows
    ]


_OLD = """
WITH old AS MATERIALIZED (
    SELECT id, key_version, ciphertext FROM card_key WHERE merchant_id = $1 AND key_version < $2
    ORDER BY id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
SELECT * FROM old
"""


async def reseal(merchant_id: UUID, *, limit: int = 500) -> int:
    """Seal up to `limit` card keys anew under the merchant's newest data key; 0 when all are
    (H27)."""
    keys = await vault.of_merchant(merchant_id)
    async with db.transaction():
        rows: list[Any] = await db.fetch(_OLD, merchant_id, keys.version, limit)
        await db.execute(
            "UPDATE card_key c SET key_version = $2, ciphertext = t.ciphertext"
            " FROM unnest($3::uuid[], $4::bytea[]) AS t(id, ciphertext)"
            " WHERE c.merchant_id = $1 AND c.id = t.id",
            merchant_id,
            keys.version,
            [row["id"] for row in rows],
            [
                keys.seal(
                    "card_key",
                    row["id"],
                    keys.unseal("card_key", row["id"], row["key_version"], row["ciphertext"]),
                )
                for row in rows
            ],
        )
    return len(rows)
