"""Webhooks: what happens to orders, told to their merchants; made from the event log, signed, tried again."""

from domain.core.addresses import UrlNotAllowed
from domain.webhooks.actions import (
    CARRIER,
    Wish,
    add,
    again,
    again_between,
    again_of_order,
    change,
    check_selection,
    checked,
    dry_run,
    remove,
    rotate,
    test,
)
from domain.webhooks.apps import Hook, of_apps
from domain.webhooks.apps import change as change_app
from domain.webhooks.apps import delete as delete_app
from domain.webhooks.apps import register as register_app
from domain.webhooks.collecting import collect
from domain.webhooks.finishing import DISABLED_TASK, finish, prune, release, sweep
from domain.webhooks.granted import may_go
from domain.webhooks.models import Attempt, Claimed, Delivery, Endpoint, Result
from domain.webhooks.queries import (
    attempts,
    by_id,
    deliveries,
    endpoints,
    event,
    of_merchant,
)
from domain.webhooks.rules import (
    DeliveryState,
    DisabledReason,
    EndpointLimit,
    EndpointState,
    SelectionInvalid,
    Terms,
)
from domain.webhooks.sending import CONTRACT, claim, message, shaper, write

__all__ = [
    "CARRIER",
    "CONTRACT",
    "DISABLED_TASK",
    "Attempt",
    "Claimed",
    "Delivery",
    "DeliveryState",
    "DisabledReason",
    "Endpoint",
    "EndpointLimit",
    "EndpointState",
    "Hook",
    "Result",
    "SelectionInvalid",
    "Terms",
    "UrlNotAllowed",
    "Wish",
    "add",
    "again",
    "again_between",
    "again_of_order",
    "attempts",
    "by_id",
    "change",
    "change_app",
    "check_selection",
    "checked",
    "claim",
    "collect",
    "delete_app",
    "deliveries",
    "dry_run",
    "endpoints",
    "event",
    "finish",
    "may_go",
    "message",
    "of_apps",
    "of_merchant",
    "prune",
    "register_app",
    "release",
    "remove",
    "rotate",
    "shaper",
    "sweep",
    "test",
    "write",
]
