"""Judging payments: what is known of them, what the rules and the later tiers say, the stored decision."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import structlog

from domain.core import db
from domain.core.ids import uuid7
from domain.core.settings import settings
from domain.risk import queries, rules
from domain.risk.conditions import BUCKET_S, Count
from domain.risk.models import Decision
from domain.risk.ports import TIER_TIMEOUT_S, Pivot, Subject, Tier, tiers
from domain.risk.queries import Known, Ruleset
from domain.risk.rules import Facts, TierAnswer

SHARDS = 4
SIGNALS_BYTES_MAX = 4_096

_log = structlog.get_logger(__name__)
_current: Ruleset | None = None


async def assess(subjects: Sequence[Subject]) -> list[Decision]:
    """Judge payments and store the decisions with everything they depended on, in the order asked.

    Two statements for any number: one read, one write that also counts each payment against its pivots; within a
    set the earlier ones count for the later. Call it outside of a transaction: the counters of a busy address stay
    locked until the commit, and a decision has to survive the rollback of what it refused. Nothing is raised for
    an outcome; the caller acts on `outcome`.
    """
    assert not (tiers and db.in_transaction()), "a tier may be a network call"
    current, found = await _look_up(subjects)
    known = _counted(subjects, found, current)
    facts = await asyncio.gather(
        *(_ask_tiers(one, _facts(one, about)) for one, about in zip(subjects, known, strict=True))
    )
    judged = [
        _Judged(one, fact, rules.evaluate(current.rules, fact))
        for one, fact in zip(subjects, facts, strict=True)
    ]
    decided_at = await _store(judged, current.no)
    return [one.decision(decided_at) for one in judged]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A payment, what was known of it, and the verdict."""

    subject: Subject
    facts: Facts
    verdict: rules.Verdict
    id: UUID = field(default_factory=uuid7)

    def decision(self, decided_at: datetime) -> Decision:
        verdict = self.verdict
        return Decision(
            self.id,
            self.subject.order_id,
            self.subject.merchant_id,
            verdict.outcome,
            verdict.score_bps,
            verdict.reasons,
            verdict.phantom,
            verdict.silent,
            decided_at,
        )


# Rows are counted in one order everywhere: two sets that share pivots cannot deadlock.
_STORE = """
WITH counted AS (
    INSERT INTO risk_counter AS c
        (pivot_hash, pivot, bucket_at, shard, decisions, orders, usd_minor)
    SELECT hash, pivot, date_bin(make_interval(secs => $1), now(), 'epoch'), $2, decisions, orders, usd_minor
    FROM unnest($3::text[], $4::bytea[], $5::int[], $6::int[], $7::bigint[])
        AS p(pivot, hash, decisions, orders, usd_minor) ORDER BY hash, pivot
    ON CONFLICT (pivot_hash, pivot, bucket_at, shard) DO UPDATE
        SET decisions = c.decisions + excluded.decisions,
        orders = c.orders + excluded.orders, usd_minor = c.usd_minor + excluded.usd_minor
), decided AS (
    INSERT INTO risk_decision (
        id, order_id, merchant_id, outcome, score_bps, reasons, phantom, ruleset_no,
        facts_json, verdict_json, verdict_hash, email_hash, address_hash, device_hash, payer_hash, decided_at)
    SELECT id, order_id, merchant_id, outcome, score_bps,
        ARRAY(SELECT jsonb_array_elements_text(verdict -> 'reasons')), phantom, $8,
        facts, verdict, verdict_hash, email, address, device, payer, now.at
    FROM unnest($9::uuid[], $10::uuid[], $11::uuid[], $12::text[], $13::int[], $14::text[],
        $15::jsonb[], $16::jsonb[], $17::bytea[], $18::bytea[], $19::bytea[], $20::bytea[], $21::bytea[])
        AS d(id, order_id, merchant_id, outcome, score_bps, phantom, facts, verdict, verdict_hash,
            email, address, device, payer),
        (SELECT clock_timestamp() AS at OFFSET 0) AS now
    RETURNING decided_at)
SELECT max(decided_at) FROM decided
"""


async def _store(judged: Sequence[_Judged], ruleset_no: int) -> datetime:
    """Write decisions and counts; when it was."""
    counts = _counts(judged)
    subjects = [one.subject for one in judged]
    verdicts = [one.verdict.to_bytes() for one in judged]
    decided_at: datetime = await db.value(
        _STORE,
        BUCKET_S,
        random.randrange(SHARDS),
        [pivot.kind for pivot in counts],
        [pivot.hash for pivot in counts],
        [count.decisions for count in counts.values()],
        [count.orders for count in counts.values()],
        [count.usd_minor for count in counts.values()],
        ruleset_no,
        [one.id for one in judged],
        [one.order_id for one in subjects],
        [one.merchant_id for one in subjects],
        [one.verdict.outcome for one in judged],
        [one.verdict.score_bps for one in judged],
        [one.verdict.phantom for one in judged],
        [{**one.facts.to_json(), **_context(one.subject)} for one in judged],
        [verdict.decode() for verdict in verdicts],
        [rules.digest(verdict) for verdict in verdicts],
        [one.email_hash for one in subjects],
        [one.address_hash for one in subjects],
        [one.device_hash for one in subjects],
        [one.payer_hash for one in subjects],
    )
    return decided_at


def _counts(judged: Sequence[_Judged]) -> dict[Pivot, Count]:
    """What the payments of a set add to each pivot."""
    counts: dict[Pivot, Count] = {}
    for one in judged:
        added = _adds(one.subject, is_first=one.facts.is_first)
        for pivot in one.subject.pivots:
            counts[pivot] = counts.get(pivot, Count()) + added
    return counts


async def _look_up(subjects: Sequence[Subject]) -> tuple[Ruleset, list[Known]]:
    """The rules in force and what they ask for; two more statements when the rules changed."""
    global _current
    current = _current or await queries.ruleset()
    ruleset_no, known = await queries.known(subjects, current)
    if ruleset_no != current.no:
        current = await queries.ruleset(ruleset_no)
        _, known = await queries.known(subjects, current)
    _current = current
    return current, known


def _counted(subjects: Sequence[Subject], known: Sequence[Known], current: Ruleset) -> list[Known]:
    """Payments of a set are judged one after the other: what came before in the set has been counted."""
    orders: set[UUID] = set()
    before: dict[Pivot, Count] = {}
    counted = []
    for subject, about in zip(subjects, known, strict=True):
        is_first = about.is_first and subject.order_id not in orders
        shared = {pivot: before[pivot] for pivot in subject.pivots if pivot in before}
        counts = dict(about.counts)
        for kind, window_s in current.windows if shared else ():
            for pivot, count in shared.items():
                if pivot.kind is kind:
                    counts[kind, window_s] = counts.get((kind, window_s), Count()) + count
        counted.append(replace(about, is_first=is_first, counts=counts))
        orders.add(subject.order_id)
        added = _adds(subject, is_first=is_first)
        for pivot in subject.pivots:
            before[pivot] = before.get(pivot, Count()) + added
    return counted


def _adds(subject: Subject, *, is_first: bool) -> Count:
    """What a payment adds to each of its pivots; an order counts once however often it is tried."""
    return Count(1, int(is_first), subject.usd_minor if is_first else 0)


def _facts(subject: Subject, known: Known) -> Facts:
    return Facts(
        usd_minor=subject.usd_minor,
        is_first=known.is_first,
        is_production=settings().env == "production",
        country=subject.country,
        geo_country=subject.geo_country,
        card_country=subject.card_country,
        email_domain=subject.email_domain.lower(),
        counts=known.counts,
        entries=known.entries,
        cleared=known.cleared,
        can_authenticate=subject.can_authenticate,
    )


def _context(subject: Subject) -> dict[str, Any]:
    """What the rules do not read, but a person or a later tier wants to see again."""
    try:
        signals = orjson.dumps(subject.signals)
    except TypeError:  # lone surrogates, foreign types
        signals = b""
    is_kept = len(signals) <= SIGNALS_BYTES_MAX and b"\\u0000" not in signals
    body = {
        "amount": [str(subject.amount.minor), subject.amount.currency],
        "method": subject.method,
        "platform": subject.platform,
        "signals": orjson.loads(signals) if signals and is_kept else None,
    }
    return {name: value for name, value in body.items() if value}


async def _ask_tiers(subject: Subject, facts: Facts) -> Facts:
    """The facts with what the later tiers said; slow and failing ones are only marked."""
    if not tiers:
        return facts
    answers = await asyncio.gather(
        *(_ask(name, tier, subject, facts) for name, tier in sorted(tiers.items()))
    )
    return facts.heard(answers)


async def _ask(name: str, tier: Tier, subject: Subject, facts: Facts) -> TierAnswer:
    try:
        async with asyncio.timeout(min(tier.timeout_s, TIER_TIMEOUT_S)):
            answer = await tier.score(subject, facts)
        assert 0 <= answer.score_bps <= 10_000, answer
        return answer.of(name, tier.version)
    except TimeoutError:
        failure = "slow"
    except Exception as error:  # a foreign model may fail in any way: the rules still decide
        failure = type(error).__name__
    _log.warning("risk.tier_silent", tier=name, failure=failure)
    return TierAnswer(name, tier.version, failure=failure)
