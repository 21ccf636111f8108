"""What apps need from outside: somebody who knows the contract, to judge a document before it is registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one document of a list cannot run: `index` counts from 0, `code` is the front door's, `reason` in English."""

    index: int
    code: str
    reason: str


class Contract(Protocol):
    """The front door's judgement of a document: the same parser, rules and bounds as for a request."""

    def fault(self, text: str) -> tuple[str, str] | None:
        """(code, reason) of what is wrong with it; None for a document that an app could run."""
        ...


CONTRACT = "contract"
contracts: dict[str, Contract] = {}
