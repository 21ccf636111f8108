"""The audit log: who did what to which object, from where, written in the transaction that does it; append-only.

Rows are chained a few seconds later (`audit_chain`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.core import db

# The client address of the operation that runs; None where nobody asked: workers, the command line.
_address: ContextVar[str | None] = ContextVar("audit_address", default=None)


def comes_from(address: str | None) -> None:
    """Say from where the operation that begins here was asked for."""
    _address.set(address)


def address() -> str | None:
    """From where the running operation was asked for."""
    return _address.get()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who looks, exports or writes, as the audit log names them; `session` is one sign-in or page
    visit. `address` is that of the operation in which the actor was named."""

    kind: str
    id: str
    session: str = ""
    request_id: str | None = None
    address: str | None = field(default_factory=address)


_RECORD = """
INSERT INTO audit_log (merchant_id, actor_kind, actor_id, action, subject_id, facts_json,
request_id, address) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def record(
    merchant_id: UUID | None, actor: Actor, action: str, subject_id: UUID, **facts: Any
) -> None:
    """One row of the audit log, in the caller's transaction; `merchant_id` None for the platform's own."""
    assert db.in_transaction(), "an audit row commits with what it tells of"
    await db.execute(
        _RECORD,
        merchant_id,
        actor.kind,
        actor.id,
        action,
        subject_id,
        facts,
        actor.request_id,
        actor.address,
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


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the log; `is_sealed` once it is part of the chain."""

    no: int
    at: datetime
    actor_kind: str
    actor_id: str
    action: str
    subject_id: UUID
    facts: dict[str, Any]
    request_id: str | None
    address: str | None
    is_sealed: bool


async def entries(merchant_id: UUID, before: int | None, limit: int) -> Sequence[Entry]:
    """The rows about a merchant, the newest first, older than row `before`."""
    rows = await db.fetch(
        "SELECT no, recorded_at, actor_kind, actor_id, action, subject_id, facts_json, request_id, address,"
        " EXISTS (SELECT FROM audit_seal s WHERE s.audit_no = a.no) FROM audit_log a"
        " WHERE merchant_id = $1 AND ($2::bigint IS NULL OR no < $2) ORDER BY no DESC LIMIT $3",
        merchant_id,
        before,
        limit,
    )
    return [Entry(*row) for row in rows]
