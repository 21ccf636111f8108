"""What notifications need from outside: somebody who carries a mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Mail:
    """One finished mail. Addresses are ASCII, `subject` is one line, `message_id` is without
    brackets.

    `name` is unique and sorts by age; the same mail sent twice carries the same `message_id`.
    """

    name: str
    message_id: str
    sender: str
    recipient: str
    subject: str
    text: str
    html: str
    language: str


class Outcome(StrEnum):
    """What became of a mail: taken, worth another try, or refused for good."""

    SENT = "sent"
    LATER = "later"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """The carrier's word on one mail; `reason` is for operators and names no address."""

    outcome: Outcome
    reason: str = ""


class Notifier(Protocol):
    """Carries mails. Bounded by its own timeouts, never raises for the network."""

    @property
    def name(self) -> str:
        """The plugin's name, for logs."""
        ...

    async def send(self, mails: Sequence[Mail]) -> Sequence[Answer]:
        """One answer per mail, in order."""
        ...


notifiers: dict[str, Notifier] = {}
