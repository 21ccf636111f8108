"""Exports by two people, honey keys, and what has rung."""

from __future__ import annotations

from datetime import timedelta

from domain import catalogue
from domain.catalogue import Trace
from domain.core import clock, db, ids, vault
from domain.core.audit import Actor
from domain.core.four_eyes import Approver
from domain.core.once import Once, request_hash
from tests import make

ANN, BEN = ids.uuid7(), ids.uuid7()
WHO = Actor("merchant", ids.encode("acc", BEN))


def once() -> Once:
    key = ids.uuid7().hex
    return Once("test", key, request_hash(key))


async def export(of: make.Shop, count: int, actor: Actor = WHO) -> list[str]:
    """An export asked for, approved and fetched: its lines."""
    asked = await catalogue.propose_export(
        of.merchant_id, of.variant_id, count, "audit", asked_by=ANN, once=once()
    )
    eyes = Approver(BEN, clock.now() - timedelta(days=9))
    await catalogue.approve_export(asked.id, asked.request_hash, approved_by=eyes, once=once())
    return (await catalogue.fetch_export(asked.id, BEN, actor)).split()


async def honey(of: make.Shop) -> list[str]:
    """The plaintext of the honey keys, as only this test knows how to get it."""
    rows = await db.fetch("SELECT * FROM card_key WHERE state = 'honey' ORDER BY id")
    keys = await vault.of_merchant(of.merchant_id)
    return [
        keys.unseal("card_key", row["id"], row["key_version"], row["ciphertext"]).decode()
        for row in rows
    ]


async def rung() -> list[tuple[str, str | None]]:
    rows = await db.fetch("SELECT kind, actor_id FROM security_alert ORDER BY raised_at, id")
    return [(row["kind"], row["actor_id"]) for row in rows]


async def states() -> dict[str, int]:
    rows = await db.fetch("SELECT state, count(*) AS n FROM card_key GROUP BY 1")
    return {row["state"]: row["n"] for row in rows}


async def trace(of: make.Shop, content: str) -> Trace:
    return await catalogue.trace(of.merchant_id, content, Actor("merchant", "acc_owner"))
