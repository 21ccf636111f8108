"""What is true of webhooks without asking anybody: when to try again, what a reply means, what a payload looks like."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson

from domain.core import addresses, ids, words
from domain.core.addresses import UrlNotAllowed
from domain.core.errors import DomainError, FieldInvalid

# Seconds before each try; about three days in all (Standard Webhooks, PITFALLS W06).
WAITS_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
TRIES_MAX = len(WAITS_S)
JITTER = 0.1
RETRY_AFTER_MAX_S = 86_400.0
DEAD_IN_ROW_MAX = 10

ENDPOINTS_MAX = 16
KINDS_MAX = 64
TRIGGERS_MAX = 16
TRIGGER_MAX = 200
SELECTION_MAX = 4_000
NOTE_MAX = 200
PAYLOAD_MAX = 256 * 1024
OVERLAP_S = 24 * 3600
REDELIVER_MAX = 1_000
TEST_KIND = "webhook.test"

DEFAULT_SELECTION = (
    "{ kind occurredAt"
    " order { id number status paymentState version total { amount currency } createdAt } }"
)

_TRIGGER = re.compile(r"[_A-Za-z][_0-9A-Za-z]*(?:\.[_A-Za-z][_0-9A-Za-z]*)*", re.ASCII)

# The state an order is in after an event of this kind; other kinds leave it as it was.
STATE_AFTER: Mapping[str, str] = {
    "order.placed": "awaiting_payment",
    "order.paid": "paid",
    "order.held": "held",
    "order.short": "short",
    "order.delivering": "delivering",
    "order.delivered": "delivered",
    "order.expired": "expired",
    "order.cancelled": "cancelled",
    "order.refunded": "refunded",
}


class SelectionInvalid(DomainError):
    """A selection that the contract does not have, or that breaks the limits of the front door; `reason` says how."""

    code = "SELECTION_INVALID"


class EndpointLimit(DomainError):
    """The merchant has as many endpoints as there may be; `max` of them."""

    code = "ENDPOINT_LIMIT"


class EndpointState(StrEnum):
    """CASES M29. FAILING is still tried; DISABLED is told nothing until its owner activates it."""

    ACTIVE = "active"
    FAILING = "failing"
    DISABLED = "disabled"


class DisabledReason(StrEnum):
    """Why an endpoint is told nothing."""

    GONE = "gone"  # it answered 410
    FAILURES = "failures"  # a delivery used up its tries, or ten in a row were given up
    OWNER = "owner"


class DeliveryState(StrEnum):
    """Where a delivery stands. SKIPPED: none of the watched fields had changed."""

    READY = "ready"
    LEASED = "leased"
    DELIVERED = "delivered"
    SKIPPED = "skipped"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a merchant says about an endpoint. Empty `kinds` are all; `selection` None is the usual payload."""

    url: str
    kinds: tuple[str, ...] = ()
    selection: str | None = None
    triggers: tuple[str, ...] = ()
    note: str = ""

    def faults(self, *, is_open: bool) -> list[DomainError]:
        """What is wrong with them, as far as no schema is needed; each fault at its input's path."""
        found: list[DomainError] = []
        try:
            addresses.target(self.url, is_open=is_open)
        except UrlNotAllowed as error:
            found.append(error)
        if len(self.kinds) > KINDS_MAX or len(set(self.kinds)) < len(self.kinds):
            found.append(FieldInvalid(path=("input", "kinds"), reason="twice"))
        if self.selection is not None and len(self.selection) > SELECTION_MAX:
            found.append(
                FieldInvalid(path=("input", "selection"), reason="long", max=SELECTION_MAX)
            )
        if len(self.triggers) > TRIGGERS_MAX or len(set(self.triggers)) < len(self.triggers):
            found.append(FieldInvalid(path=("input", "triggers"), reason="count", max=TRIGGERS_MAX))
        for place, trigger in enumerate(self.triggers):
            if len(trigger) > TRIGGER_MAX or not _TRIGGER.fullmatch(trigger):
                found.append(FieldInvalid(path=("input", "triggers", str(place)), reason="trigger"))
        if self.note and not words.is_line(self.note, NOTE_MAX):
            found.append(FieldInvalid(path=("input", "note"), reason="text", max=NOTE_MAX))
        return found

    def unknown_triggers(self, paths: Iterable[tuple[str, ...]]) -> list[DomainError]:
        """Triggers that name no field of the selection, whose response names are `paths`."""
        known = {".".join(path) for path in paths}
        return [
            FieldInvalid(path=("input", "triggers", str(place)), reason="unknown")
            for place, trigger in enumerate(self.triggers)
            if trigger not in known
        ]


class Verdict(StrEnum):
    """What one reply makes of a delivery."""

    DELIVERED = "delivered"
    LATER = "later"
    DEAD = "dead"
    GONE = "gone"


def verdict(code: int | None, tries: int) -> Verdict:
    """What a status means after `tries` tries: 2xx alone is delivered, 410 ends the endpoint, the rest comes again."""
    if code is not None and 200 <= code < 300:
        return Verdict.DELIVERED
    if code == 410:
        return Verdict.GONE
    return Verdict.DEAD if tries >= TRIES_MAX else Verdict.LATER


def wait_s(tries: int, random: float, retry_after_s: float | None = None) -> float:
    """Seconds until the next try after `tries` of them: the schedule within ±10 %, never before what was asked for.

    `random` is in [0, 1). A wish is granted up to a day.
    """
    assert 1 <= tries < TRIES_MAX, tries
    assert 0 <= random < 1, random
    planned = WAITS_S[tries] * (1 - JITTER + 2 * JITTER * random)
    return max(planned, min(retry_after_s or 0.0, RETRY_AFTER_MAX_S))


def message_id(
    endpoint_id: UUID, order_id: UUID, sequence: int, grant_id: UUID | None = None
) -> str:
    """`evt_…`: the same for every try and every redelivery of one event to one endpoint (under one grant)."""
    seed = endpoint_id.bytes + order_id.bytes + sequence.to_bytes(4, "big")
    if grant_id is not None:
        seed += grant_id.bytes
    return ids.encode("evt", UUID(bytes=hashlib.sha256(b"kami.webhook\0" + seed).digest()[:16]))


def payload(
    kind: str,
    at: datetime,
    data: Mapping[str, Any] | None,
    *,
    sequence: int,
    cursor: str,
    state: str,
    whose: Mapping[str, str] | None = None,
) -> bytes:
    """The body: `{"type", "timestamp", "data"}`; data always ends with `sequence`, `state` and `cursor`.

    With them a receiver orders what comes late (C19) and continues in the live stream. `whose` follows: an app is told
    of which merchant it is, and under which grant.
    """
    told = {**(data or {}), "sequence": sequence, "state": state, "cursor": cursor, **(whose or {})}
    return orjson.dumps({"type": kind, "timestamp": timestamp(at), "data": told})


def timestamp(at: datetime) -> str:
    """ISO 8601 in UTC with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def watched(data: Mapping[str, Any], triggers: Sequence[str]) -> bytes:
    """A hash of the values at `triggers`; what is not there counts as null."""
    values = [[trigger, _values(data, trigger.split("."))] for trigger in sorted(triggers)]
    raw = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(raw).digest()


def _values(value: Any, path: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_values(one, path) for one in value]
    if not path or not isinstance(value, Mapping):
        return value if not path else None
    return _values(value.get(path[0]), path[1:])
