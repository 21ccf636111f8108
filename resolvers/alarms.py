"""Alarms on goods: read and acknowledged by owners, honey keys planted, found keys traced."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

import strawberry

from domain import alarms, catalogue
from domain.alarms import Alert
from domain.catalogue import Lot, Trace
from domain.core import ids
from domain.core.audit import Actor
from domain.core.errors import NotFound
from domain.identity import OperatorRole, Role
from resolvers import access, once
from resolvers.context import Asked
from resolvers.inputs import decode
from resolvers.page import Listing, Page

ALERTS = Listing("alerts", datetime, UUID)
PREFIX = "alr"
# Whose account an owner may know: their own people and apps, not buyers.
_OURS = {"merchant", "app"}


@strawberry.input(description="Say that you have looked at a security alert.")
class AcknowledgeAlertInput:
    """By an owner."""

    alert_id: strawberry.ID = strawberry.field(description="The alert, `alr_…`.")
    note: str = strawberry.field(
        description="What it was and what was done, for the records; 1 to 200 characters."
    )


@strawberry.input(description="Honey keys for a lot.")
class PlantHoneyKeysInput:
    """They look like its keys, are never sold and never shown."""

    lot_id: strawberry.ID = strawberry.field(description="The lot, `lot_…`; it has keys.")
    count: int = strawberry.field(description="How many, 1 to 20.")


@strawberry.input(description="A key that was found somewhere.")
class TraceKeyInput:
    """It is compared by its fingerprint and written down nowhere."""

    merchant_id: strawberry.ID = strawberry.field(description="Whose key it may be, `mer_…`.")
    content: str = strawberry.field(description="The key as it was found, up to 4,000 characters.")


@dataclass(frozen=True, slots=True)
class Shown:
    """An alert for one viewer; `actor_id` only where they may know it."""

    alert: Alert
    actor_id: str | None


@dataclass(frozen=True, slots=True)
class Planted:
    """A lot with honey keys in it, and how many were added."""

    lot: Lot
    planted: int


async def alerts(
    info: Asked,
    merchant_id: strawberry.ID | None = None,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[Shown]:
    """The alerts of a merchant for its owners; of one or all for operators in risk."""
    viewer = access.require_viewer(info.context)
    merchant: UUID | None = None
    if merchant_id is None:
        access.require_operator(info.context, OperatorRole.RISK)
    else:
        try:
            merchant = ids.decode(merchant_id, "mer")
        except ids.IdInvalid:
            raise NotFound() from None
        access.require_merchant(info.context, merchant, Role.OWNER, OperatorRole.RISK)
    window = ALERTS.window(
        viewer.account_id, merchant, first=first, last=last, after=after, before=before
    )
    rows = await alarms.alerts(
        merchant,
        cast("tuple[datetime, UUID] | None", window.key),
        window.limit + 1,
        backward=window.is_backward,
    )
    shown = [_shown(one, is_operator=viewer.operator) for one in rows]
    return window.page(shown, key=lambda one: (one.alert.raised_at, one.alert.id))


def _shown(one: Alert, *, is_operator: bool) -> Shown:
    return Shown(one, one.actor_id if is_operator or one.actor_kind in _OURS else None)


async def acknowledge(info: Asked, input: AcknowledgeAlertInput) -> Shown:
    """Let exports go on."""
    alert_id = decode(input.alert_id, PREFIX, "alertId")
    found = await alarms.find_alert(alert_id)
    actor, account_id = _owner(info, found.merchant_id if found else None, "alertId")
    done = await alarms.acknowledge(alert_id, by=account_id, note=input.note, actor=actor)
    return _shown(done, is_operator=False)


async def plant(info: Asked, input: PlantHoneyKeysInput) -> Planted:
    """Put honey keys into a lot."""
    viewer = access.require_viewer(info.context)
    lot_id = decode(input.lot_id, "lot", "lotId")
    lot = await catalogue.find_lot(list(viewer.roles), lot_id)
    actor, account_id = _owner(info, lot.merchant_id if lot else None, "lotId")
    assert lot is not None

    async def act() -> dict[str, object]:
        planted = await catalogue.plant_honey(lot, input.count, made_by=account_id, actor=actor)
        return {"planted": planted}

    done = await once.do(info, {"lot": lot.no}, act)
    return Planted(lot, done["planted"])


async def trace(info: Asked, input: TraceKeyInput) -> Trace:
    """Say where a key came from."""
    merchant_id = decode(input.merchant_id, "mer", "merchantId")
    actor, _ = _owner(info, merchant_id, "merchantId")
    return await catalogue.trace(merchant_id, input.content, actor)


def _owner(info: Asked, merchant_id: UUID | None, *path: str) -> tuple[Actor, UUID]:
    """An owner of the merchant. Errors: Unauthenticated, NotFound at `path`, Forbidden."""
    viewer = access.require_viewer(info.context)
    if merchant_id is None or merchant_id not in viewer.roles:
        raise NotFound(path=("input", *path))
    access.require_merchant(info.context, merchant_id, Role.OWNER)
    return access.actor(info.context, viewer), viewer.account_id
