"""Writes of risk by people: list and snooze pivots, move rules, resolve what waits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from domain.core import audit, clock, db
from domain.core.errors import Conflict, FieldInvalid, NotFound
from domain.core.ids import uuid7
from domain.risk import queries
from domain.risk.conditions import BUCKET_S, WINDOW_MAX_S, Condition, EntryList, params, parse
from domain.risk.models import Decision
from domain.risk.ports import Pivot
from domain.risk.rules import MOVES, Outcome, RuleState

ENTRY_DAYS_MAX = 366
REASON_MAX = 240


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


async def passed_challenge(order_ids: Sequence[UUID]) -> int:
    """The payers of these orders have proved who they are: what waited for that is allowed; how many decisions.

    A decision that holds still waits for a person. Joins the caller's transaction.
    """
    return await db.execute(
        "UPDATE risk_decision SET resolved_outcome = 'allow', resolved_by = 'challenge',"
        " resolved_reason = 'the payer passed the challenge', resolved_at = clock_timestamp()"
        " WHERE order_id = ANY($1) AND outcome = 'challenge' AND resolved_outcome IS NULL",
        list(order_ids),
    )


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
    await audit.record(merchant_id, audit.Actor("operator", actor), action, subject_id, **facts)
