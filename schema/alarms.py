"""Alarms on goods in the contract: alerts, honey keys, where a key came from."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import alarms
from domain.alarms import AlertKind
from domain.catalogue import Origin, Trace
from domain.core import ids
from resolvers import alarms as resolve
from resolvers.alarms import PREFIX, Planted, Shown
from resolvers.stepup import FRESH
from schema.field import NEWEST_FIRST, Who, derived, field, mutation_field, object_type, query_field
from schema.page import Connection
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem
from schema.scalars import JSON

strawberry.enum(
    AlertKind,
    name="SecurityAlertKind",
    description="REVEAL_RATE: more orders were opened within an hour than usual; EXPORT_RATE: more keys were exported; "
    "HONEY_USED: a honey key was sold, shown or changed, which only happens past our code; HONEY_FOUND: one was found "
    "outside; STOCK_LEAKED: a key was found outside that nobody should have seen.",
)
strawberry.enum(
    Origin,
    name="KeyOrigin",
    description="SOLD to an order; EXPORTED; HONEY_EXPORT came with an export; HONEY_PLANTED was planted in a lot, so "
    "it was read from the storage; ON_SHELF is unsold, so it leaked; UNKNOWN is none of the merchant's.",
)


def _account(of: object) -> strawberry.ID | None:
    return strawberry.ID(ids.encode("acc", of)) if of is not None else None  # type: ignore[arg-type]


@object_type(name="SecurityAlert", description="Something an owner has to look at.", rows=(Shown,))
class Alarm:
    """Exports of the merchant stop until it is acknowledged. Without amounts and goods."""

    id: strawberry.ID = derived(
        lambda one: ids.encode(PREFIX, one.alert.id), description="Opaque id, `alr_…`."
    )
    merchant_id: strawberry.ID = derived(
        lambda one: ids.encode("mer", one.alert.merchant_id), description="Whose it is, `mer_…`."
    )
    kind: AlertKind = derived(lambda one: one.alert.kind, description="Why.")
    facts: JSON = derived(
        lambda one: one.alert.facts, description="What was seen: counts and limits, which key."
    )
    actor_id: strawberry.ID | None = derived(
        lambda one: one.actor_id,
        description="Whose doing it was: an account or a grant of an app; null when nobody's in particular, and a "
        "buyer's for owners.",
    )
    raised_at: datetime = derived(lambda one: one.alert.raised_at, description="When it rang.")
    acknowledged_at: datetime | None = derived(
        lambda one: one.alert.acknowledged_at,
        description="When an owner acknowledged it; null while none has.",
    )
    acknowledged_by: strawberry.ID | None = derived(
        lambda one: _account(one.alert.acknowledged_by),
        description="The owner, `acc_…`; null while none has.",
    )
    note: str | None = derived(
        lambda one: one.alert.note or None, description="What the owner said; null while none has."
    )


@object_type(name="HoneyPlanted", description="A lot with honey keys in it.", rows=(Planted,))
class PlantedHoney:
    """The keys themselves are shown to nobody."""

    lot_id: strawberry.ID = derived(
        lambda one: ids.encode("lot", one.lot.id), description="The lot, `lot_…`."
    )
    planted: int = field(description="How many were added.")


@object_type(name="TracedKey", description="Where a found key came from.", rows=(Trace,))
class FoundKey:
    """What is null does not apply."""

    origin: Origin = field(description="What it is.")
    variant_id: strawberry.ID | None = derived(
        lambda one: ids.encode("var", one.variant_id) if one.variant_id else None,
        description="Of which variant, `var_…`.",
    )
    order_id: strawberry.ID | None = derived(
        lambda one: ids.encode("ord", one.order_id) if one.order_id else None,
        description="The order it was sold to or is held for, `ord_…`.",
    )
    at: datetime | None = field(description="When it was sold, exported or planted.")
    by: strawberry.ID | None = derived(
        lambda one: _account(one.by),
        description="Who fetched the export or planted it, `acc_…`.",
    )
    asked_by: strawberry.ID | None = derived(
        lambda one: _account(one.asked_by), description="Who asked for the export, `acc_…`."
    )
    revealed_at: datetime | None = field(
        description="When its buyer first opened it; null on a sold key that nobody has opened: it leaked before."
    )
    alert_id: strawberry.ID | None = derived(
        lambda one: ids.encode(PREFIX, one.alert_id) if one.alert_id else None,
        description="The alert that this finding raised, `alr_…`; null when none, or raised today already.",
    )


@problem(
    alarms.ExportsStopped,
    description="A security alert waits for an owner; goods are exported again once it is acknowledged.",
)
class ExportsStopped(Problem):
    """Code EXPORTS_STOPPED."""


@problem(alarms.AlertClosed, description="Somebody has acknowledged it before.")
class AlertClosed(Problem):
    """Code ALERT_CLOSED."""


AcknowledgeAlertResult = Annotated[
    Alarm | AlertClosed | NotFound | InvalidInput | Unavailable,
    strawberry.union("AcknowledgeAlertResult", description="The alert, or why not."),
]
PlantHoneyKeysResult = Annotated[
    PlantedHoney | NotFound | InvalidInput | Unavailable,
    strawberry.union("PlantHoneyKeysResult", description="The lot, or why not."),
]
TraceKeyResult = Annotated[
    FoundKey | NotFound | InvalidInput | Unavailable,
    strawberry.union("TraceKeyResult", description="Where the key came from, or why not."),
]


@strawberry.type
class AlarmQuery:
    """Reads."""

    security_alerts: Connection[Alarm] = query_field(
        resolve.alerts,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="Security alerts, the newest first: a merchant's for its owners, with `merchantId` null "
        "everybody's for operators in risk. Somebody else's: NOT_FOUND; another role: FORBIDDEN.",
        args={"merchantId": "The merchant, `mer_…`; null for all.", **NEWEST_FIRST},
    )


@strawberry.type
class AlarmMutation:
    """Writes; each is a row of the audit log."""

    acknowledge_alert: AcknowledgeAlertResult = mutation_field(
        resolve.acknowledge,
        who=Who.MERCHANT,
        step_up=FRESH,
        description="Say that an owner has looked at an alert; when it was the last one, goods are exported again. "
        "Problems: ALERT_CLOSED, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The alert and what was found."},
    )
    plant_honey_keys: PlantHoneyKeysResult = mutation_field(
        resolve.plant,
        who=Who.MERCHANT,
        idempotent=True,
        step_up=FRESH,
        description="Put keys into a lot that look like its own, are never sold and never shown: one that turns up was "
        "read from the storage (`traceKey`). By an owner. Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "The lot and how many."},
    )
    trace_key: TraceKeyResult = mutation_field(
        resolve.trace,
        who=Who.MERCHANT,
        step_up=FRESH,
        cost=10,
        description="Say where a key that was found somewhere came from. By an owner; on the audit log, without the "
        "key. Raises an alert for a honey key and for one that nobody should have seen. Problems: NOT_FOUND, "
        "INVALID_INPUT.",
        args={"input": "The key."},
    )
