"""Whether a payment may go on: `assess` before each charge, lists, snoozes, rules, replay."""

from domain.risk.actions import (
    block,
    draft,
    enlist,
    lift,
    move,
    passed_challenge,
    prune,
    resolve,
    snooze,
    unblock,
)
from domain.risk.assessing import assess
from domain.risk.conditions import (
    Amount,
    CountryMismatch,
    DisposableEmail,
    EntryList,
    Listed,
    Measure,
    PivotKind,
    Velocity,
)
from domain.risk.models import Decision, Replay, Resolution
from domain.risk.ports import Pivot, Subject
from domain.risk.queries import decisions, find, replay
from domain.risk.rules import Outcome, RuleState

__all__ = [
    "Amount",
    "CountryMismatch",
    "Decision",
    "DisposableEmail",
    "EntryList",
    "Listed",
    "Measure",
    "Outcome",
    "Pivot",
    "PivotKind",
    "Replay",
    "Resolution",
    "RuleState",
    "Subject",
    "Velocity",
    "assess",
    "block",
    "decisions",
    "draft",
    "enlist",
    "find",
    "lift",
    "move",
    "passed_challenge",
    "prune",
    "replay",
    "resolve",
    "snooze",
    "unblock",
]
