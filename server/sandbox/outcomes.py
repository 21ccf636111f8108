"""What an amount makes happen, and the variants a test may choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from server.sandbox.wire import Refusal


class Outcome(StrEnum):
    """The last two minor digits of the amount, in every currency; anything else succeeds."""

    SUCCEED = ""
    DECLINE = "01"
    HANG = "02"
    TWICE = "03"
    OTHER = "04"
    LATE = "05"
    PARTIAL = "06"
    EARLY = "07"


_OUTCOMES = {int(outcome): outcome for outcome in Outcome if outcome}
_CHOICES: dict[str, tuple[object, ...]] = {
    "hang_callback": (False, True),
    "twice": ("same", "distinct"),
    "other": ("amount", "currency"),
    "by_token": ("captured", "processing"),
    "refunds": ("succeed", "pend", "fail", "hang"),
    "fault": ("", "500", "html", "cut", "latin1", "unsigned", "hang"),
}


def outcome(minor: int) -> Outcome:
    """The outcome of an amount in minor units."""
    return _OUTCOMES.get(minor % 100, Outcome.SUCCEED)


@dataclass(frozen=True, slots=True)
class Modes:
    """Variants of one account until the provider stops; the defaults are the documented table."""

    hang_callback: bool = False  # …02: does a callback come after all
    twice: str = "same"  # …03: both carry the "same" event id, or "distinct" ones
    other: str = "amount"  # …04: another "amount" (+100 minor units) or another "currency"
    by_token: str = "captured"  # a charge by token at once, or confirmed like any other
    refunds: str = "succeed"  # or "pend", "fail", "hang" (returned, but the answer is lost)
    fault: str = ""  # what every answer to the account becomes instead
    autoconfirm_ms: int | None = None  # None = as the provider is configured


def modes(asked: Mapping[str, Any]) -> Modes:
    """The defaults changed by `asked`. Errors: Refusal 400."""
    for key, value in asked.items():
        is_delay = key == "autoconfirm_ms" and (value is None or type(value) is int)
        if not is_delay and value not in _CHOICES.get(key, ()):
            raise Refusal(400, "invalid_request", f"{key} cannot be that")
    return Modes(**asked)
