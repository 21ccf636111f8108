"""The pivot: goods become plaintext for somebody, after the audit row that says so has been
committed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag

from domain.catalogue.models import Good
from domain.core import clock, db, vault
from domain.core.audit import Actor

REVEAL_MAX = 100

# One statement, so one commit: first reveals marked, each viewer's session noted, one audit row
# per order, and the sealed goods. Whoever comes second with the same session finds nothing to
# write (D12). Goods taken back before anyone saw them stay unseen. Rows are locked in the order of
# their ids, so that two sets which share orders never wait for each other.
_REVEAL = """
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
        $8::text[])
    AS a(order_id, merchant_id, session, actor_kind, actor_id, request_id, address)
), new_keys AS MATERIALIZED (
    SELECT c.merchant_id, c.id FROM asked a
    JOIN card_key c ON c.order_id = a.order_id AND c.merchant_id = a.merchant_id
    WHERE c.state = 'sold' AND c.revealed_at IS NULL ORDER BY c.id FOR NO KEY UPDATE OF c
), new_uses AS MATERIALIZED (
    SELECT u.merchant_id, u.order_line_id FROM asked a
    JOIN reusable_use u ON u.order_id = a.order_id AND u.merchant_id = a.merchant_id
    WHERE u.state = 'sold' AND u.revealed_at IS NULL
    ORDER BY u.order_line_id FOR NO KEY UPDATE OF u
), shown AS (
    UPDATE card_key c SET revealed_at = $7 FROM new_keys n
    WHERE c.merchant_id = n.merchant_id AND c.id = n.id RETURNING c.order_id, c.id
), used AS (
    UPDATE reusable_use u SET revealed_at = $7 FROM new_uses n
    WHERE u.merchant_id = n.merchant_id AND u.order_line_id = n.order_line_id
    RETURNING u.order_id, u.order_line_id AS id
), first AS MATERIALIZED (
    SELECT order_id, id FROM shown UNION ALL SELECT order_id, id FROM used
), theirs AS MATERIALIZED (
    SELECT c.order_id, c.order_line_id, c.id, 'card_key' AS place, c.id AS row_id, c.key_version,
        c.ciphertext, c.revealed_at, c.state <> 'sold' AS revoked
    FROM asked a JOIN card_key c ON c.order_id = a.order_id AND c.merchant_id = a.merchant_id
    WHERE c.state = 'sold' OR c.state IN ('revoked', 'replaced') AND c.revealed_at IS NOT NULL
    UNION ALL
    SELECT u.order_id, u.order_line_id, u.order_line_id, 'reusable_key', r.id, r.key_version,
        r.ciphertext, u.revealed_at, u.state <> 'sold'
    FROM asked a JOIN reusable_use u ON u.order_id = a.order_id AND u.merchant_id = a.merchant_id
    JOIN reusable_key r ON r.merchant_id = u.merchant_id AND r.id = u.reusable_key_id
    WHERE u.state = 'sold' OR u.state = 'revoked' AND u.revealed_at IS NOT NULL
), seen AS (
    INSERT INTO reveal (merchant_id, order_id, session, revealed_at)
    SELECT merchant_id, order_id, session, $7 FROM asked
    WHERE order_id IN (SELECT order_id FROM theirs) ORDER BY order_id
    ON CONFLICT DO NOTHING RETURNING order_id
), audited AS (
    INSERT INTO audit_log (merchant_id, actor_kind, actor_id, action, subject_id, facts_json,
    request_id, address) SELECT merchant_id, actor_kind, actor_id, 'goods.reveal', order_id,
        jsonb_build_object('goods', t.goods, 'first', coalesce(f.goods, 0)), request_id, address
    FROM asked
    JOIN (SELECT order_id, count(*) AS goods FROM theirs GROUP BY 1) t USING (order_id)
    LEFT JOIN (SELECT order_id, count(*) AS goods FROM first GROUP BY 1) f USING (order_id)
    WHERE f.goods > 0 OR order_id IN (SELECT order_id FROM seen) ORDER BY order_id)
SELECT t.order_id, t.order_line_id, t.id, t.place, t.row_id, t.key_version, t.ciphertext, t.revoked,
    coalesce(t.revealed_at, $7) AS revealed_at, t.revealed_at IS NULL AND f.id IS NULL AS is_lost,
    (SELECT r.state FROM good_report r WHERE r.good_id = t.id) AS report
FROM theirs t LEFT JOIN first f USING (order_id, id) ORDER BY t.order_id, t.order_line_id, t.id
"""


_Look = tuple[UUID, UUID, str, str, str]


@dataclass(frozen=True, slots=True)
class Reveal:
    """One look at the goods of an order; whoever asks has checked that `actor` may."""

    order_id: UUID
    merchant_id: UUID
    actor: Actor

    @property
    def session(self) -> str:
        """What counts as one look, however often it is repeated."""
        return self.actor.session or f"{self.actor.kind}:{self.actor.id}"


async def goods(order_id: UUID, merchant_id: UUID, actor: Actor) -> list[Good]:
    """Reveal the goods of one order: see `reveal`. Errors: InvalidTag, KeyMissing."""
    [found] = await reveal([Reveal(order_id, merchant_id, actor)])
    if isinstance(found, Exception):
        raise found
    return found


async def reveal(asked: Sequence[Reveal]) -> list[list[Good] | Exception]:
    """Reveal goods to those who ask: all that is sold, and what was taken back after it was seen.

    Writes one audit row per order and session, and one more when goods have been added since. They
    are committed before anything is decrypted, so this never runs inside a transaction. The
    answers are in the order of `asked`; goods that do not open are an error of their order alone
    (cryptography's InvalidTag, KeyMissing). One statement for up to `REVEAL_MAX` orders.
    """
    assert not db.in_transaction(), "the audit row commits before the plaintext leaves"
    found: dict[_Look, list[Good] | Exception] = {}
    left = {_key(one): one for one in reversed(asked)}
    while left:
        # A statement looks at an order once; another session of the same order is the next one's.
        some = {one.order_id: one for one in left.values()}
        batch = [some[order_id] for order_id in sorted(some)][:REVEAL_MAX]
        rows = await db.retried(partial(_commit, batch))
        for one in batch:
            if any(row["is_lost"] for row in rows[one.order_id]):
                continue  # Somebody else was first while we looked: their moment is the one to tell.
            found[_key(one)] = await _open(one, rows[one.order_id])
            del left[_key(one)]
    return [found[_key(one)] for one in asked]


def _key(one: Reveal) -> _Look:
    return one.order_id, one.merchant_id, one.session, one.actor.kind, one.actor.id


async def _commit(batch: list[Reveal]) -> dict[UUID, list[Any]]:
    rows = await db.fetch(
        _REVEAL,
        [one.order_id for one in batch],
        [one.merchant_id for one in batch],
        [one.session for one in batch],
        [one.actor.kind for one in batch],
        [one.actor.id for one in batch],
        [one.actor.request_id for one in batch],
        clock.now(),
        [one.actor.address for one in batch],
    )
    found: dict[UUID, list[Any]] = defaultdict(list)
    for row in rows:
        found[row["order_id"]].append(row)
    return found


async def _open(one: Reveal, rows: list[Any]) -> list[Good] | Exception:
    if not rows:
        return []
    newest = max(row["key_version"] for row in rows)
    try:
        keys = await vault.of_merchant(one.merchant_id, version=newest)
        return [
            Good(
                row["order_line_id"],
                keys.unseal(
                    row["place"], row["row_id"], row["key_version"], row["ciphertext"]
                ).decode(),
                row["revealed_at"],
                row["revoked"],
                row["id"],
                row["report"],
            )
            for row in rows
        ]
    except (InvalidTag, vault.KeyMissing) as error:
        return error


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
