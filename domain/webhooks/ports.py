"""What webhooks need from outside: somebody who carries a message, and somebody who shapes an event by the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from domain.core.events import Event


@dataclass(frozen=True, slots=True)
class Message:
    """One signed message for one URL."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: `code` is the HTTP status, None when there was none and `error` says why.

    `error` is a short code: timeout, dns, refused_address, connection, tls, broken, url. `retry_after_s` is what a
    429 or 503 asked for. `text` is the beginning of the body, for the log. Units: seconds, milliseconds.
    """

    code: int | None
    error: str = ""
    retry_after_s: float | None = None
    text: str = ""
    took_ms: int = 0


class Carrier(Protocol):
    """Posts a message once, within its own bounds; never raises for the network."""

    async def send(self, message: Message) -> Reply:
        """The receiver's answer."""
        ...


class Shaper(Protocol):
    """Shows an event as the contract does: the same types, resolvers and limits as at the front door."""

    def check(self, selection: str) -> frozenset[tuple[str, ...]]:
        """The paths of response names that a selection on OrderEvent can produce. Errors: SelectionInvalid."""
        ...

    def needed(self, selection: str) -> frozenset[str] | None:
        """What a selection on OrderEvent takes of an app's grant; None when it has what no scope opens.

        Errors: SelectionInvalid.
        """
        ...

    def cursor(self, order_id: UUID, sequence: int) -> str:
        """The cursor of an event in the live stream of its order."""
        ...

    def sequence(self, cursor: str, order_id: UUID) -> int:
        """The sequence behind a cursor of that stream. Errors: BadUserInput."""
        ...

    async def shape(
        self, selection: str, events: Sequence[Event], *, sees_split: bool
    ) -> list[Mapping[str, Any] | None]:
        """Each event under the selection, as its merchant sees it; None where it could not be shaped.

        `sees_split`: with the parts of the seller's money told apart. Never as its buyer: no goods.

        Errors: SelectionInvalid when the contract no longer has what is selected.
        """
        ...


carriers: dict[str, Carrier] = {}
shapers: dict[str, Shaper] = {}
