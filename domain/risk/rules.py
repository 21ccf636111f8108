"""The rules of risk: facts about one payment in, a verdict out; the same facts, the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from domain.risk.conditions import (
    Amount,
    Condition,
    Count,
    CountryMismatch,
    DisposableEmail,
    EntryList,
    Listed,
    PivotKind,
    Velocity,
    parse,
)


class Outcome(StrEnum):
    """What risk says of a payment, mildest first."""

    ALLOW = "allow"
    CHALLENGE = "challenge"
    HOLD = "hold"
    DECLINE = "decline"

    @property
    def rank(self) -> int:
        """0 for allow to 3 for decline: the highest wins."""
        return _RANK[self]


_RANK = {outcome: rank for rank, outcome in enumerate(Outcome)}


# The reason of a challenge that became a hold: the method cannot have the payer prove who they are.
CANNOT_AUTHENTICATE = "cannot_authenticate"


class RuleState(StrEnum):
    """M22: what a version of a rule may do; live ones decide, shadow ones are written down."""

    DRAFT = "draft"
    SHADOW = "shadow"
    LIVE = "live"
    RETIRED = "retired"


# A candidate that proves wrong in shadow ends there too: it need not decide first.
MOVES = {
    RuleState.DRAFT: {RuleState.SHADOW, RuleState.RETIRED},
    RuleState.SHADOW: {RuleState.LIVE, RuleState.RETIRED},
    RuleState.LIVE: {RuleState.RETIRED},
    RuleState.RETIRED: set[RuleState](),
}


class Effect(StrEnum):
    """What became of a rule that matched."""

    FIRED = "fired"
    ALLOWED = "allowed"  # the buyer is on an allow list
    SNOOZED = "snoozed"  # a person silenced this rule for this pivot until a day
    CLEARED = "cleared"  # this order was already let through in spite of this reason


@dataclass(frozen=True, slots=True)
class Rule:
    """One version of a rule. A floor is never skipped, whatever list or snooze says (N03)."""

    name: str
    version: int
    state: RuleState
    outcome: Outcome
    score_bps: int
    is_floor: bool
    condition: Condition

    @property
    def is_protected(self) -> bool:
        """Whether allow, snooze and clearance leave this rule alone."""
        is_listed = isinstance(self.condition, Listed) and self.condition.list in _PROTECTED
        return self.is_floor or is_listed


# Guests type any e-mail they like: a friend on the allow list must not open a door that somebody
# blocked.
_PROTECTED = {EntryList.BLOCK, EntryList.SANCTIONS, EntryList.STOLEN_CARD}


def rule(row: Mapping[str, Any]) -> Rule:
    """A rule from its JSON. Errors: FieldInvalid when the parameters do not fit the kind."""
    return Rule(
        row["name"],
        row["version"],
        RuleState(row["state"]),
        Outcome(row["outcome"]),
        row["score_bps"],
        row["is_floor"],
        parse(row["kind"], row["params"]),
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """A list entry that one of the payment's pivots met; `rule` names what a snooze silences."""

    list: EntryList
    pivot: PivotKind
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class TierAnswer:
    """What a later tier said, or why not: `failure` is "", "slow" or the error's name."""

    tier: str
    version: str
    outcome: Outcome = Outcome.ALLOW
    score_bps: int = 0
    reasons: tuple[str, ...] = ()
    failure: str = ""

    def of(self, tier: str, version: str) -> TierAnswer:
        """The same answer under the name the tier is registered by."""
        return replace(self, tier=tier, version=version)


@dataclass(frozen=True, slots=True)
class Facts:
    """All a verdict depends on. Counts are those before this payment; amounts in US cents."""

    usd_minor: int
    is_first: bool  # no decision on this order before
    is_production: bool
    country: str
    geo_country: str | None = None
    card_country: str | None = None
    email_domain: str = ""
    counts: Mapping[tuple[PivotKind, int], Count] = field(default_factory=dict)  # pivot, window_s
    entries: tuple[Entry, ...] = ()
    cleared: frozenset[str] = frozenset()
    tiers: tuple[TierAnswer, ...] = ()
    can_authenticate: bool = True  # the method may challenge the payer

    def heard(self, answers: Iterable[TierAnswer]) -> Facts:
        """The same facts with what the tiers said."""
        return replace(self, tiers=tuple(answers))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values without what is unknown; `from_json` gives the same facts back."""
        body: dict[str, Any] = {
            "usd_minor": self.usd_minor,
            "is_first": self.is_first,
            "is_production": self.is_production,
            "country": self.country,
            "geo_country": self.geo_country,
            "card_country": self.card_country,
            "email_domain": self.email_domain,
            "counts": [
                [pivot, window_s, *count.to_json()]
                for (pivot, window_s), count in self.counts.items()
            ],
            "entries": [[entry.list, entry.pivot, entry.rule] for entry in self.entries],
            "cleared": sorted(self.cleared),
            "tiers": [
                [one.tier, one.version, one.outcome, one.score_bps, list(one.reasons), one.failure]
                for one in self.tiers
            ],
        }
        if not self.can_authenticate:  # facts from before it was known could, as far as they tell
            body["can_authenticate"] = False
        return {name: value for name, value in body.items() if value not in (None, "", [])}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Facts:
        """The facts that `to_json` wrote; other keys of `body` are left alone."""
        return cls(
            **{name: body[name] for name in _PLAIN if name in body},
            counts={
                (PivotKind(pivot), window_s): Count(*numbers)
                for pivot, window_s, *numbers in body.get("counts", ())
            },
            entries=tuple(
                Entry(EntryList(name), PivotKind(pivot), silenced)
                for name, pivot, silenced in body.get("entries", ())
            ),
            cleared=frozenset(body.get("cleared", ())),
            tiers=tuple(
                TierAnswer(tier, version, Outcome(outcome), score, tuple(reasons), failure)
                for tier, version, outcome, score, reasons, failure in body.get("tiers", ())
            ),
        )


_PLAIN = (
    "usd_minor",
    "is_first",
    "is_production",
    "country",
    "geo_country",
    "card_country",
    "email_domain",
    "can_authenticate",
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule or tier that matched, and what became of it."""

    source: str
    version: str
    outcome: Outcome
    score_bps: int
    reason: str
    effect: Effect
    pivot: PivotKind | None = None
    is_shadow: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and how it came about; `phantom` is what the rules in shadow would say."""

    outcome: Outcome
    score_bps: int
    reasons: tuple[str, ...]
    hits: tuple[Hit, ...]
    phantom: Outcome | None
    silent: tuple[str, ...]  # tiers that were slow or down

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, always in the same order."""
        return {
            "outcome": self.outcome,
            "score_bps": self.score_bps,
            "reasons": list(self.reasons),
            "hits": [
                [
                    hit.source,
                    hit.version,
                    hit.outcome,
                    hit.score_bps,
                    hit.reason,
                    hit.effect,
                    hit.pivot,
                    hit.is_shadow,
                ]
                for hit in self.hits
            ],
            "phantom": self.phantom,
            "silent": list(self.silent),
        }

    def to_bytes(self) -> bytes:
        """The verdict as canonical JSON: what "bit-equal" compares (N10)."""
        return canonical(self.to_json())


def canonical(body: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces."""
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode()


def digest(verdict: bytes) -> bytes:
    """SHA-256 of a canonical verdict."""
    return hashlib.sha256(verdict).digest()


def evaluate(rules: Sequence[Rule], facts: Facts) -> Verdict:
    """Judge one payment: decline > hold > challenge > allow, the highest wins in any order (N01).

    Evidence that comes from the device alone never does more than challenge (N18). Rules in shadow
    are written down and change nothing (N09). A challenge by a method that cannot challenge is a hold.
    """
    hits = sorted(_hits(rules, facts), key=_order)
    fired = [hit for hit in hits if hit.effect is Effect.FIRED]
    live = [hit for hit in fired if not hit.is_shadow]
    shadows = {one.name for one in rules if one.state is RuleState.SHADOW}
    phantom = None
    if shadows:
        would = (hit for hit in fired if hit.is_shadow or hit.source not in shadows)
        phantom = _enforced(combine(would), facts)
    asked = combine(live)
    outcome = _enforced(asked, facts)
    reasons = [hit.reason for hit in live]
    return Verdict(
        outcome=outcome,
        score_bps=max((hit.score_bps for hit in live), default=0),
        reasons=tuple(
            dict.fromkeys(reasons if outcome is asked else [*reasons, CANNOT_AUTHENTICATE])
        ),
        hits=tuple(hits),
        phantom=phantom,
        silent=tuple(sorted(answer.tier for answer in facts.tiers if answer.failure)),
    )


def _enforced(outcome: Outcome, facts: Facts) -> Outcome:
    """What can be done: a payer whom nobody can ask waits for a person instead."""
    if outcome is Outcome.CHALLENGE and not facts.can_authenticate:
        return Outcome.HOLD
    return outcome


def combine(hits: Iterable[Hit]) -> Outcome:
    """The highest outcome; what only the device says counts at most as a challenge."""
    strongest, elsewhere = Outcome.ALLOW, Outcome.ALLOW
    for hit in hits:
        strongest = max(strongest, hit.outcome, key=_rank)
        if hit.pivot is not PivotKind.DEVICE:
            elsewhere = max(elsewhere, hit.outcome, key=_rank)
    if elsewhere is Outcome.ALLOW:
        return min(strongest, Outcome.CHALLENGE, key=_rank)
    return strongest


def _rank(outcome: Outcome) -> int:
    return _RANK[outcome]


def _order(hit: Hit) -> tuple[int, str, str, bool]:
    return -_RANK[hit.outcome], hit.reason, hit.version, hit.is_shadow


def _hits(rules: Sequence[Rule], facts: Facts) -> Iterator[Hit]:
    is_allowed = any(entry.list is EntryList.ALLOW for entry in facts.entries)
    snoozed = {entry.rule for entry in facts.entries if entry.list is EntryList.SNOOZE}
    for one in rules:
        for pivot, suffix in _matches(one.condition, facts):
            reason = one.name + suffix
            yield Hit(
                one.name,
                str(one.version),
                one.outcome,
                one.score_bps,
                reason,
                _effect(one, reason, facts.cleared, snoozed, is_allowed),
                pivot,
                one.state is RuleState.SHADOW,
            )
    for answer in facts.tiers:
        if answer.failure or (answer.outcome is Outcome.ALLOW and not answer.score_bps):
            continue
        for code in answer.reasons or ("score",):
            effect = Effect.ALLOWED if is_allowed else Effect.FIRED
            reason = f"{answer.tier}:{code}"
            if reason in facts.cleared:
                effect = Effect.CLEARED
            yield Hit(answer.tier, answer.version, answer.outcome, answer.score_bps, reason, effect)


def _effect(
    one: Rule,
    reason: str,
    cleared: frozenset[str],
    snoozed: set[str | None],
    is_allowed: bool,
) -> Effect:
    if one.is_protected:
        return Effect.FIRED
    if is_allowed:
        return Effect.ALLOWED
    if one.name in snoozed:
        return Effect.SNOOZED
    return Effect.CLEARED if reason in cleared else Effect.FIRED


def _matches(condition: Condition, facts: Facts) -> Iterator[tuple[PivotKind | None, str]]:
    """Whose fault and a suffix for the reason, once per match."""
    match condition:
        case Velocity():
            count = facts.counts.get((condition.pivot, condition.window_s))
            if count is not None and condition.is_passed(
                count, facts.usd_minor, facts.is_first, facts.is_production
            ):
                yield condition.pivot, ""
        case Amount():
            if facts.usd_minor > condition.above_usd_minor:
                yield None, ""
        case Listed():
            found = {entry.pivot for entry in facts.entries if entry.list is condition.list}
            for pivot in sorted(found):
                yield pivot, f":{pivot}"
        case CountryMismatch():
            left, right = getattr(facts, condition.left), getattr(facts, condition.right)
            if left and right and left != right and facts.usd_minor > condition.above_usd_minor:
                yield None, ""
        case DisposableEmail():
            is_above = facts.usd_minor > condition.above_usd_minor
            if is_above and facts.email_domain in condition.domains:
                yield None, ""
