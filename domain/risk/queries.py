"""Reading risk: the rules in force, what is known of a payment, decisions and their replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.core import db
from domain.core.errors import NotFound
from domain.risk import rules
from domain.risk.conditions import Count, EntryList, PivotKind, Velocity
from domain.risk.models import COLUMNS, Decision, Replay, decision
from domain.risk.ports import Pivot, Subject

READ_MAX = 200


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The rules that are in force together; `windows` are the pivots and seconds they count in."""

    no: int
    rules: tuple[rules.Rule, ...]
    windows: tuple[tuple[PivotKind, int], ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows about a payment and its pivots."""

    is_first: bool
    cleared: frozenset[str]
    entries: tuple[rules.Entry, ...]
    counts: dict[tuple[PivotKind, int], Count]


async def ruleset(no: int | None = None) -> Ruleset:
    """The ruleset `no`, or the one in force now."""
    row = await db.row(
        "SELECT no, rules_json FROM risk_ruleset"
        " WHERE no = coalesce($1, (SELECT max(no) FROM risk_ruleset))",
        no,
    )
    assert row is not None, "the migration seals the first ruleset"
    found = tuple(rules.rule(one) for one in row["rules_json"])
    return Ruleset(row["no"], found, _windows(found))


def _windows(found: Iterable[rules.Rule]) -> tuple[tuple[PivotKind, int], ...]:
    asked = {
        (one.condition.pivot, one.condition.window_s)
        for one in found
        if isinstance(one.condition, Velocity)
    }
    return tuple(sorted(asked))


_KNOWN = """
SELECT (SELECT max(no) FROM risk_ruleset) AS ruleset_no,
    (SELECT json_agg(json_build_array(order_id, reasons)) FROM (
        SELECT order_id, json_agg(reasons) FILTER (WHERE resolved_outcome = 'allow') AS reasons
        FROM risk_decision WHERE order_id = ANY($1) GROUP BY 1) d) AS earlier,
    (SELECT json_agg(json_build_array(p.place, e.list, e.pivot, e.rule))
        FROM unnest($2::text[], $3::bytea[]) WITH ORDINALITY AS p(pivot, hash, place)
        JOIN risk_entry e ON e.pivot_hash = p.hash AND e.pivot = p.pivot
        WHERE e.lifted_at IS NULL AND e.until_at > clock_timestamp()) AS entries,
    (SELECT json_agg(json_build_array(w.place, w.pivot, w.window_s, c.decisions, c.orders, c.usd_minor))
        FROM unnest($4::int[], $5::text[], $6::bytea[], $7::int[]) AS w(place, pivot, hash, window_s)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(decisions), 0) AS decisions, coalesce(sum(orders), 0) AS orders,
                coalesce(sum(usd_minor), 0) AS usd_minor
            FROM risk_counter WHERE pivot_hash = w.hash AND pivot = w.pivot
                AND bucket_at > clock_timestamp() - make_interval(secs => w.window_s)) c) AS counts
"""


async def known(subjects: Sequence[Subject], current: Ruleset) -> tuple[int, list[Known]]:
    """The number of the ruleset in force, and what is known of each payment: one statement for all of them.

    Payments that share a pivot share its look-up.
    """
    pivots = list({pivot: None for subject in subjects for pivot in subject.pivots})
    places = {pivot: place for place, pivot in enumerate(pivots, 1)}
    windows = [
        (place, pivot, window_s)
        for pivot, place in places.items()
        for kind, window_s in current.windows
        if kind is pivot.kind
    ]
    row = await db.row(
        _KNOWN,
        [subject.order_id for subject in subjects],
        [pivot.kind for pivot in pivots],
        [pivot.hash for pivot in pivots],
        [place for place, _, _ in windows],
        [pivot.kind for _, pivot, _ in windows],
        [pivot.hash for _, pivot, _ in windows],
        [window_s for _, _, window_s in windows],
    )
    assert row is not None
    earlier = {UUID(order_id): reasons for order_id, reasons in row["earlier"] or ()}
    entries: dict[int, list[rules.Entry]] = {}
    for place, name, pivot, silenced in row["entries"] or ():
        entry = rules.Entry(EntryList(name), PivotKind(pivot), silenced)
        entries.setdefault(place, []).append(entry)
    counts: dict[int, dict[tuple[PivotKind, int], Count]] = {}
    for place, pivot, window_s, *numbers in row["counts"] or ():
        counts.setdefault(place, {})[PivotKind(pivot), window_s] = Count(*numbers)
    return row["ruleset_no"], [_known(one, places, earlier, entries, counts) for one in subjects]


def _known(
    subject: Subject,
    places: Mapping[Pivot, int],
    earlier: Mapping[UUID, Sequence[Sequence[str]] | None],
    entries: Mapping[int, Sequence[rules.Entry]],
    counts: Mapping[int, Mapping[tuple[PivotKind, int], Count]],
) -> Known:
    mine = [places[pivot] for pivot in subject.pivots]
    return Known(
        subject.order_id not in earlier,
        frozenset(reason for reasons in earlier.get(subject.order_id) or () for reason in reasons),
        tuple(entry for place in mine for entry in entries.get(place, ())),
        {key: count for place in mine for key, count in counts.get(place, {}).items()},
    )


async def decisions(order_id: UUID) -> list[Decision]:
    """Every decision on an order, oldest first."""
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM risk_decision WHERE order_id = $1 ORDER BY id LIMIT $2",
        order_id,
        READ_MAX,
    )
    return [decision(row) for row in rows]


async def find(decision_id: UUID) -> Decision:
    """One decision. Errors: NotFound."""
    row = await db.row(f"SELECT {COLUMNS} FROM risk_decision WHERE id = $1", decision_id)
    if row is None:
        raise NotFound(id=str(decision_id))
    return decision(row)


async def replay(decision_id: UUID) -> Replay:
    """Judge the stored facts again under the rules of that moment. Errors: NotFound.

    `stored` is what was decided, checked against its hash; nothing is written.
    """
    row = await db.row(
        "SELECT ruleset_no, facts_json, verdict_json, verdict_hash FROM risk_decision"
        " WHERE id = $1",
        decision_id,
    )
    if row is None:
        raise NotFound(id=str(decision_id))
    then = await ruleset(row["ruleset_no"])
    stored = rules.canonical(row["verdict_json"])
    assert rules.digest(stored) == row["verdict_hash"], "the stored verdict was altered"
    again = rules.evaluate(then.rules, rules.Facts.from_json(row["facts_json"])).to_bytes()
    return Replay(stored, again)
