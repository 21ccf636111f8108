"""Bulk work for the role × field matrix: a job that is done, and one that has failed."""

from __future__ import annotations

from dataclasses import replace

from domain import bulk
from domain.core import db, ids
from domain.core.audit import Actor
from domain.identity import Viewer
from server.graphql import bulk as contract
from tests import make


async def jobs_of(of: make.Shop, owner: Viewer) -> dict[str, str]:
    """Jobs of the owner; the id of the one that is done."""
    contract.install()
    made = []
    for document in ("{ orders(merchantId: $m) { nodes { id } } }", "{ nothing }"):
        draft = bulk.draft(
            of.merchant_id,
            bulk.Asker(owner.account_id),
            bulk.BulkKind.EXPORT,
            document=f"query ($merchantId: ID!) {document}".replace("$m)", "$merchantId)"),
            root="orders",
            country="HK",
            language="en",
        )
        async with db.transaction():
            wanted = replace(draft, event_cursor="here")
            made.append(await bulk.start(wanted, actor=Actor("merchant", "acc_matrix")))
        while await bulk.turn():
            pass
    return {"job": ids.encode("blk", made[0].id)}
