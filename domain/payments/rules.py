"""What a provider's word means for an attempt: the rule for right, short, other and repeated amounts."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from domain.core.money import Money
from domain.payments.ports import ChargeState, MethodKind

LIVE = ("started", "requires_action", "processing", "authorized", "unknown")

# A payer who pushes money (bank transfer, chain) chooses the amount; everyone else is charged what was asked.
PUSH = frozenset({MethodKind.BANK, MethodKind.CRYPTO})


class Verdict(StrEnum):
    """What becomes of one word of a provider."""

    CAPTURE = "capture"
    CONFLICT = "conflict"
    CLOSE = "close"
    PROGRESS = "progress"
    NOTHING = "nothing"


class AttemptFacts(NamedTuple):
    """What we hold of an attempt when a word about it arrives; `taken_minor` in the currency of that word.

    `is_conflicted` when money of another currency was taken on it before: from there only a person leads on (B06).
    """

    requested: Money
    state: str
    taken_minor: int
    kind: MethodKind = MethodKind.REDIRECT
    is_conflicted: bool = False


class Judgement(NamedTuple):
    """`amount` is the new money to book, `state` what the attempt becomes."""

    verdict: Verdict
    state: str
    amount: Money | None = None


def judge(held: AttemptFacts, said: str, amount: Money) -> Judgement:
    """Turn `said` (a ChargeState) and the total `amount` taken so far into what to do.

    Money that was taken is always booked: as a capture when it is what was asked (or a declared part of it), as
    a conflict when currency or amount contradict the attempt. A word that takes nothing closes or moves an
    attempt that is still live, and changes nothing once money was taken (a late "failed" after "captured").
    """
    if said in (ChargeState.CAPTURED, ChargeState.PARTIALLY_CAPTURED):
        return _taken(held, said, amount)
    if held.state not in LIVE or held.taken_minor:
        return Judgement(Verdict.NOTHING, held.state)
    if said in (ChargeState.DECLINED, ChargeState.FAILED, ChargeState.VOIDED):
        return Judgement(Verdict.CLOSE, said)
    if said in (ChargeState.REQUIRES_ACTION, ChargeState.PROCESSING) and held.state != said:
        return Judgement(Verdict.PROGRESS, said)
    return Judgement(Verdict.NOTHING, held.state)


def _taken(held: AttemptFacts, said: str, amount: Money) -> Judgement:
    if amount.minor <= 0:
        return Judgement(Verdict.NOTHING, held.state)
    if amount.minor <= held.taken_minor:
        return Judgement(Verdict.NOTHING, held.state)
    fresh = amount
    if held.taken_minor:
        fresh = Money(amount.minor - held.taken_minor, amount.currency)
    if amount.currency != held.requested.currency or held.is_conflicted:
        return Judgement(Verdict.CONFLICT, "captured", fresh)
    asked = held.requested.minor
    is_part = said == ChargeState.PARTIALLY_CAPTURED and amount.minor < asked
    if amount.minor == asked or is_part or held.kind in PUSH:
        return Judgement(Verdict.CAPTURE, "captured", fresh)
    return Judgement(Verdict.CONFLICT, "captured", fresh)


_CARD = re.compile(r"[0-9](?:[ -]?[0-9]){12,18}", re.ASCII)
_DIGIT = re.compile(r"[0-9]")
LABEL_MAX = 64
DIGITS_SHOWN = 4


def is_card_number(text: str) -> bool:
    """Whether `text` could be the number of a payment card: 13 to 19 digits that pass Luhn's check (ISO/IEC 7812)."""
    if not _CARD.fullmatch(text.strip()):
        return False
    total = 0
    for place, char in enumerate(reversed(_DIGIT.findall(text))):
        digit = int(char) * (1 + place % 2)
        total += digit - 9 if digit > 9 else digit
    return total % 10 == 0


def label(text: str) -> str:
    """A provider's words for a saved method, at most 64 characters, with no digits but the last four."""
    shown = "".join(char for char in text if char.isprintable())
    hidden = len(_digits(shown)) - DIGITS_SHOWN
    if hidden > 0:
        kept = iter(range(len(_digits(shown))))
        shown = "".join("·" if char.isdigit() and next(kept) < hidden else char for char in shown)
    return shown[-LABEL_MAX:]


def _digits(text: str) -> list[str]:
    return [char for char in text if char.isdigit()]
