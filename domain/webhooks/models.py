"""The rows of webhooks as plain values; written with set-based SQL, so they are no active records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from domain.core import vault
from domain.core.events import Event
from domain.webhooks import rules
from domain.webhooks.ports import Reply
from domain.webhooks.rules import DeliveryState, DisabledReason, EndpointState, Terms
from domain.webhooks.signing import Keys

ENDPOINT = (
    "e.id, e.merchant_id, e.url, e.kinds, e.selection, e.triggers, e.note, e.sees_split, e.keys_cipher,"
    " e.old_cipher, e.old_until, e.state, e.reason, e.version, e.created_at, e.changed_at, e.app_id, e.scopes"
)
DELIVERY = (
    "d.id, d.endpoint_id, d.merchant_id, d.order_id, d.sequence, d.kind, d.occurred_at, d.state, d.round, d.tries,"
    " d.due_at, d.code, d.error, d.body, d.created_at, d.done_at, d.grant_id"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somebody's URL that is told of events. `keys` signs; `old_keys` signs beside it until `old_until`.

    `sees_split`: whether who gave it its terms may read the merchant's money; it is told no more than they may see.
    With `app_id` it is an app's: `merchant_id` is that of the app's developers, who runs it, and what it is told
    belongs to the merchants of its grants and takes `scopes` of each.
    """

    id: UUID
    merchant_id: UUID
    terms: Terms
    sees_split: bool
    keys: Keys
    old_keys: Keys | None
    old_until: datetime | None
    state: EndpointState
    reason: DisabledReason | None
    version: int
    created_at: datetime
    changed_at: datetime
    app_id: UUID | None = None
    scopes: frozenset[str] = frozenset()

    def signers(self, now: datetime) -> list[Keys]:
        """The keys that sign at `now`, the newest first."""
        if self.old_keys is not None and self.old_until is not None and now < self.old_until:
            return [self.keys, self.old_keys]
        return [self.keys]


def endpoint(row: Any) -> Endpoint:
    """An Endpoint from a record with the columns ENDPOINT."""
    old = row["old_cipher"]
    return Endpoint(
        row["id"],
        row["merchant_id"],
        Terms(
            row["url"],
            tuple(row["kinds"]),
            row["selection"],
            tuple(row["triggers"]),
            row["note"],
        ),
        row["sees_split"],
        Keys.of(vault.unseal(place(row["id"]), row["keys_cipher"])),
        Keys.of(vault.unseal(place(row["id"]), old)) if old is not None else None,
        row["old_until"],
        EndpointState(row["state"]),
        DisabledReason(row["reason"]) if row["reason"] else None,
        row["version"],
        row["created_at"],
        row["changed_at"],
        row["app_id"],
        frozenset(row["scopes"]),
    )


def place(endpoint_id: UUID) -> str:
    """What the keys of an endpoint are sealed for."""
    return f"webhook_endpoint:{endpoint_id}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event owed to one endpoint, and what became of it. `body` is as it was sent, None before the first try.

    With `grant_id` it is told to an app, under that grant.
    """

    id: UUID
    endpoint_id: UUID
    merchant_id: UUID
    order_id: UUID
    sequence: int
    kind: str
    occurred_at: datetime
    state: DeliveryState
    round: int
    tries: int
    due_at: datetime
    code: int | None
    error: str | None
    body: str | None
    created_at: datetime
    done_at: datetime | None
    grant_id: UUID | None = None

    @property
    def message_id(self) -> str:
        """The `webhook-id` it is sent under."""
        return rules.message_id(self.endpoint_id, self.order_id, self.sequence, self.grant_id)


def delivery(row: Any) -> Delivery:
    """A Delivery from a record with the columns DELIVERY."""
    values = dict(row)
    values["state"] = DeliveryState(values["state"])
    return Delivery(**values)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: HTTP status or error code, the beginning of the answer, milliseconds."""

    round: int
    number: int
    code: int | None
    error: str
    answer: str
    took_ms: int
    at: datetime


@dataclass(slots=True)
class Claimed:
    """A leased delivery: only the holder of `fence` may finish it. `state` is that of its order after the event."""

    id: UUID
    fence: int
    round: int
    tries: int
    event: Event
    state: str
    body: str | None
    told: bytes | None  # hash of the watched values that were told last
    endpoint: Endpoint
    grant_id: UUID | None = None
    sees_split: bool | None = None  # how the body was made, under a grant

    @property
    def message_id(self) -> str:
        """The `webhook-id` it is sent under."""
        event = self.event
        return rules.message_id(self.endpoint.id, event.order_id, event.sequence, self.grant_id)


class Result(NamedTuple):
    """What became of a claimed delivery: a reply, or a state without one (skipped, dead before it was sent)."""

    claimed: Claimed
    reply: Reply
    state: DeliveryState | None = None
