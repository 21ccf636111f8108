"""Writes of risk: judge a payment, list and snooze pivots, move rules, resolve what waits."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import structlog

from domain.core import clock, db
from domain.core.errors import Conflict, FieldInvalid, NotFound
from domain.core.ids import uuid7
from domain.core.settings import settings
from domain.risk import queries, rules
from domain.risk.conditions import BUCKET_S, WINDOW_MAX_S, Condition, EntryList, params, parse
from domain.risk.models import Decision
from domain.risk.ports import TIER_TIMEOUT_S, Pivot, Subject, Tier, tiers
from domain.risk.queries import Known, Ruleset
from domain.risk.rules import MOVES, Facts, Outcome, RuleState, TierAnswer

SHARDS = 4
ENTRY_DAYS_MAX = 366
SIGNALS_BYTES_MAX = 4_096
REASON_MAX = 240

_log = structlog.get_logger(__name__)
_current: Ruleset | None = None


async def assess(subject: Subject) -> Decision:
    """Judge one payment and store the decision with everything it depended on.

    Two statements: one read, one write that also counts the payment against each pivot. Call it
    outside of a transaction: the counters of a busy address stay locked until the commit, and a
    decision has to survive the rollback of what it refused. Nothing is raised for an outcome; the
    caller acts on `outcome`.
    """
    assert not (tiers and db.in_transaction()), "a tier may be a network call"
    current, known = await _look_up(subject)
    facts = await _ask_tiers(subject, _facts(subject, known))
    verdict = rules.evaluate(current.rules, facts)
    verdict_bytes = verdict.to_bytes()
    decision_id, pivots = uuid7(), subject.pivots
    decided_at = await db.value(
        _STORE,
        decision_id,
        subject.order_id,
        subject.merchant_id,
        verdict.outcome,
        verdict.score_bps,
        list(verdict.reasons),
        verdict.phantom,
        current.no,
        {**facts.to_json(), **_context(subject)},
        verdict_bytes.decode(),
        rules.digest(verdict_bytes),
        [pivot.kind for pivot in pivots],
        [pivot.hash for pivot in pivots],
        BUCKET_S,
        random.randrange(SHARDS),
        int(facts.is_first),
        subject.usd_minor if facts.is_first else 0,
        subject.email_hash,
        subject.address_hash,
        subject.device_hash,
        subject.payer_hash,
    )
    return Decision(
        decision_id,
        subject.order_id,
        subject.merchant_id,
        verdict.outcome,
        verdict.score_bps,
        verdict.reasons,
        verdict.phantom,
        verdict.silent,
        decided_at,
    )


# Rows are counted in one order everywhere: two payments that share two pivots cannot deadlock.
_STORE = """
WITH counted AS (
    INSERT INTO risk_counter AS c
        (pivot_hash, pivot, bucket_at, shard, decisions, orders, usd_minor)
    SELECT hash, pivot, date_bin(make_interval(secs => $14), now(), 'epoch'), $15, 1, $16, $17
    FROM unnest($12::text[], $13::bytea[]) AS p(pivot, hash) ORDER BY hash, pivot
    ON CONFLICT (pivot_hash, pivot, bucket_at, shard) DO UPDATE SET decisions = c.decisions + 1,
        orders = c.orders + excluded.orders, usd_minor = c.usd_minor + excluded.usd_minor)
INSERT INTO risk_decision (
    id, order_id, merchant_id, outcome, score_bps, reasons, phantom, ruleset_no,
    facts_json, verdict_json, verdict_hash, email_hash, address_hash, device_hash, payer_hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $18, $19, $20, $21) RETURNING decided_at
"""


async def _look_up(subject: Subject) -> tuple[Ruleset, Known]:
    """The rules in force and what they ask for; two more statements when the rules changed."""
    global _current
    current = _current or await queries.ruleset()
    known = await queries.known(subject.order_id, subject.pivots, current)
    if known.ruleset_no != current.no:
        current = await queries.ruleset(known.ruleset_no)
        known = await queries.known(subject.order_id, subject.pivots, current)
    _current = current
    return current, known


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


async def resolve(decision_id: UUID, outcome: Outcome, actor: str, reason: str) -> Decision:
    """Say allow or decline to a decision that waits; the same word again changes nothing.

    Joins the caller's transaction. After allow the same reasons do not stop this order again.
    Errors: NotFound, Conflict (resolved otherwise, or never waited), FieldInvalid.
    """
    if outcome not in (Outcome.ALLOW, Outcome.DECLINE):
        raise FieldInvalid(path=("outcome",), reason="allow or decline")
    _check_reason(reason)
    async with db.transaction():
        changed = await db.execute(
            "UPDATE risk_decision SET resolved_outcome = $2, resolved_by = $3,"
            " resolved_reason = $4, resolved_at = clock_timestamp()"
            " WHERE id = $1 AND outcome IN ('challenge', 'hold') AND resolved_outcome IS NULL",
            decision_id,
            outcome,
            actor,
            reason,
        )
        found = await queries.find(decision_id)
        if found.resolution is None or found.resolution.outcome is not outcome:
            raise Conflict(current=found.standing)
        if changed:
            await _audit(
                actor,
                "risk.resolve",
                decision_id,
                merchant_id=found.merchant_id,
                outcome=outcome,
                reason=reason,
            )
    return found


async def block(pivot: Pivot, until: datetime, reason: str, actor: str) -> UUID:
    """Decline payments of `pivot`; a device alone is only challenged. Errors: FieldInvalid."""
    return await enlist(EntryList.BLOCK, pivot, until, reason, actor)


async def unblock(pivot: Pivot, reason: str, actor: str) -> int:
    """End the blocks of `pivot`; how many there were."""
    return await lift(EntryList.BLOCK, pivot, reason, actor)


async def snooze(pivot: Pivot, rule: str, until: datetime, reason: str, actor: str) -> UUID:
    """Silence one rule for one pivot; counting goes on (N04). Errors: NotFound, FieldInvalid."""
    current = await queries.ruleset()
    found = [one for one in current.rules if one.name == rule]
    if not found:
        raise NotFound(rule=rule)
    if any(one.is_protected for one in found):
        raise FieldInvalid(path=("rule",), reason="this rule is never silenced")
    return await enlist(EntryList.SNOOZE, pivot, until, reason, actor, rule=rule)


async def enlist(
    entry_list: EntryList,
    pivot: Pivot,
    until: datetime,
    reason: str,
    actor: str,
    *,
    rule: str | None = None,
) -> UUID:
    """Put `pivot` on a list; every entry ends within a year (N03). Errors: FieldInvalid."""
    _check_reason(reason)
    now = clock.now()
    if until.tzinfo is None or not now < until <= now + timedelta(days=ENTRY_DAYS_MAX):
        raise FieldInvalid(path=("until",), reason=f"within {ENTRY_DAYS_MAX} days from now")
    entry_id = uuid7()
    async with db.transaction():
        await db.execute(
            "INSERT INTO risk_entry (id, list, pivot, pivot_hash, rule, until_at, reason, made_by)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            entry_id,
            entry_list,
            pivot.kind,
            pivot.hash,
            rule,
            until,
            reason,
            actor,
        )
        await _audit(actor, f"risk.{entry_list}", entry_id, pivot=pivot.kind, reason=reason)
    return entry_id


async def lift(entry_list: EntryList, pivot: Pivot, reason: str, actor: str) -> int:
    """End the entries of `pivot` on one list; how many there were."""
    _check_reason(reason)
    async with db.transaction():
        rows = await db.fetch(
            "UPDATE risk_entry SET lifted_at = clock_timestamp(), lifted_by = $4"
            " WHERE list = $1 AND pivot = $2 AND pivot_hash = $3 AND lifted_at IS NULL"
            " RETURNING id",
            entry_list,
            pivot.kind,
            pivot.hash,
            actor,
        )
        for row in rows:
            await _audit(actor, f"risk.un{entry_list}", row["id"], pivot=pivot.kind, reason=reason)
    return len(rows)


async def draft(
    name: str,
    condition: Condition,
    outcome: Outcome,
    *,
    score_bps: int,
    actor: str,
    is_floor: bool = False,
) -> UUID:
    """Write the next version of a rule; it does nothing until it is moved. Errors: FieldInvalid."""
    kind, found = params(condition)
    parse(kind, orjson.loads(orjson.dumps(found)))
    if not 0 <= score_bps <= 10_000 or not 0 < len(name) <= 64:
        raise FieldInvalid(path=("name",), reason="a name and a score of 0 to 10,000")
    rule_id = uuid7()
    async with db.transaction():
        await _lock_rules()
        await db.execute(
            "INSERT INTO risk_rule (id, name, version, kind, outcome, score_bps, is_floor,"
            " params_json, made_by)"
            " SELECT $1, $2::text, coalesce(max(version), 0) + 1, $3, $4, $5, $6, $7, $8"
            " FROM risk_rule WHERE name = $2::text",
            rule_id,
            name,
            kind,
            outcome,
            score_bps,
            is_floor,
            found,
            actor,
        )
        await _audit(actor, "risk.rule.draft", rule_id, name=name)
    return rule_id


async def move(rule_id: UUID, to: RuleState, actor: str) -> None:
    """Send a version on its way (M22); the version of that name it replaces is retired with it.

    In force for every process from the next payment on. Errors: NotFound, Conflict.
    """
    async with db.transaction():
        await _lock_rules()
        row = await db.row("SELECT name, state FROM risk_rule WHERE id = $1", rule_id)
        if row is None:
            raise NotFound(id=str(rule_id))
        if to not in MOVES[RuleState(row["state"])]:
            raise Conflict(current=row["state"])
        if to is not RuleState.RETIRED:
            await _set_state(RuleState.RETIRED, "name = $2 AND state = $3", row["name"], to)
        await _set_state(to, "id = $2 AND state = $3", rule_id, row["state"])
        await db.execute("SELECT risk_seal()")
        await _audit(actor, f"risk.rule.{to}", rule_id, name=row["name"])


async def _set_state(to: RuleState, where: str, *args: Any) -> None:
    await db.execute(
        f"UPDATE risk_rule SET state = $1, moved_at = clock_timestamp() WHERE {where}", to, *args
    )


async def _lock_rules() -> None:
    # Rules change by hand: one at a time keeps versions and rulesets in one order.
    await db.execute("LOCK TABLE risk_rule IN SHARE ROW EXCLUSIVE MODE")


async def prune() -> int:
    """Forget counters that no window reaches any more; the number of rows."""
    return await db.execute(
        "DELETE FROM risk_counter WHERE bucket_at < clock_timestamp() - make_interval(secs => $1)",
        float(WINDOW_MAX_S + 2 * BUCKET_S),
    )


def _check_reason(reason: str) -> None:
    if not 0 < len(reason) <= REASON_MAX or "\0" in reason:
        raise FieldInvalid(path=("reason",), reason=f"1 to {REASON_MAX} characters")


async def _audit(
    actor: str, action: str, subject_id: UUID, *, merchant_id: UUID | None = None, **facts: Any
) -> None:
    await db.execute(
        "INSERT INTO audit_log (merchant_id, actor_kind, actor_id, action, subject_id, facts_json)"
        " VALUES ($1, 'operator', $2, $3, $4, $5)",
        merchant_id,
        actor,
        action,
        subject_id,
        facts,
    )
