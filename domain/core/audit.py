"""The audit log: who did what to which object, written in the transaction that does it; append-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.core import db


@dataclass(frozen=True, slots=True)
class Actor:
    """Who looks, exports or writes, as the audit log names them; `session` is one sign-in or page
    visit."""

    kind: str
    id: str
    session: str = ""
    request_id: str | None = None


_RECORD = """
INSERT INTO audit_log (merchant_id, actor_kind, actor_id, action, subject_id, facts_json,
request_id) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def record(
    merchant_id: UUID | None, actor: Actor, action: str, subject_id: UUID, **facts: Any
) -> None:
    """One row of the audit log, in the caller's transaction; `merchant_id` None for the platform's own."""
    assert db.in_transaction(), "an audit row commits with what it tells of"
    await db.execute(
        _RECORD, merchant_id, actor.kind, actor.id, action, subject_id, facts, actor.request_id
    )


async def changed(
    merchant_id: UUID,
    actor: Actor | None,
    action: str,
    subject_id: UUID,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    """One row with what differs between two states; nothing without an actor: a shop that is being set up by us
    has no past."""
    if actor is None:
        return
    names = [name for name in after if before.get(name) != after[name]]
    await record(
        merchant_id,
        actor,
        action,
        subject_id,
        before={name: before[name] for name in names if name in before},
        after={name: after[name] for name in names},
    )
