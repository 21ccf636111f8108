"""The audit log as a merchant reads its own part: who did what, from where, before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import strawberry

from domain import identity
from domain.core import audit, ids
from domain.core.audit import Entry
from domain.core.errors import NotFound
from domain.identity import Role
from resolvers import access
from resolvers.context import Asked
from resolvers.page import Listing, Page

AUDIT = Listing("merchant.audit", int)
_STATES = ("before", "after")


@dataclass(frozen=True, slots=True)
class Audited:
    """One row of the log; `email` is that of a person who works or worked here."""

    entry: Entry
    email: str | None
    is_shown: bool

    @property
    def actor_id(self) -> str | None:
        """The account, when the actor is one of the merchant's own."""
        account = _account(self.entry)
        return ids.encode("acc", account) if account is not None and self.is_shown else None

    @property
    def address(self) -> str | None:
        """From where; buyers' and operators' addresses are not the merchant's to know."""
        return self.entry.address if self.is_shown else None

    def state(self, name: str) -> Any:
        """What was `before` or is `after`, None when the row tells neither."""
        return self.entry.facts.get(name)

    @property
    def facts(self) -> dict[str, Any]:
        """What else the row tells."""
        return {name: fact for name, fact in self.entry.facts.items() if name not in _STATES}


async def log(
    info: Asked, merchant_id: strawberry.ID, first: int | None = None, after: str | None = None
) -> Page[Audited]:
    """The rows about one merchant, the newest first; for its owners."""
    access.require_viewer(info.context)
    try:
        merchant = ids.decode(merchant_id, "mer")
    except ids.IdInvalid:
        raise NotFound() from None
    access.require_merchant(info.context, merchant, Role.OWNER)
    window = AUDIT.window(merchant, first=first, after=after)
    rows = await audit.entries(merchant, window.key[0] if window.key else None, window.limit + 1)
    people = await identity.people(_accounts(rows))
    return window.page([_shown(row, people) for row in rows], key=lambda one: (one.entry.no,))


def _shown(row: Entry, people: dict[UUID, tuple[str, bool]]) -> Audited:
    """Operators stay nameless, and so do buyers, who open their own goods."""
    account = _account(row)
    email, is_operator = people.get(account, (None, False)) if account else (None, False)
    is_buyer = row.actor_kind == "buyer" or (
        row.actor_kind == "account" and row.action == "goods.reveal"
    )
    is_shown = account is not None and not (is_operator or is_buyer or row.actor_kind == "operator")
    return Audited(row, email if is_shown else None, is_shown)


def _accounts(rows: Iterable[Entry]) -> set[UUID]:
    return {account for row in rows if (account := _account(row)) is not None}


def _account(row: Entry) -> UUID | None:
    """The account behind an actor, in either spelling."""
    try:
        return ids.decode(row.actor_id, "acc")
    except ids.IdInvalid:
        pass
    try:
        return UUID(row.actor_id)
    except ValueError:
        return None
