"""Reads of orders: one statement brings an order with just the parts that were asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from domain.core import db, vault
from domain.orders.models import COLUMNS, Line, Order
from domain.orders.models import order as as_order
from domain.orders.rules import EventKind
from domain.payments.rules import LIVE

# Each part is one JSON sub-select: rows of other nouns read as they are, decided by nobody here.
_PARTS = {
    "lines": (
        "SELECT json_agg(json_build_array(l.id, l.position, l.variant_id, l.delivery, l.title, l.quantity,"
        " l.unit_minor, l.discount_minor, l.total_minor, l.done) ORDER BY l.position)"
        " FROM order_line l WHERE l.order_id = o.id"
    ),
    "payments": (
        "SELECT json_agg(json_build_array(a.id, a.state, a.method, a.requested_minor, a.ccy, a.action_json,"
        " a.provider) ORDER BY a.seq) FROM payment_attempt a WHERE a.order_id = o.id"
    ),
    "timeline": (
        "SELECT json_agg(json_build_array(e.sequence, e.kind, e.facts_json, e.recorded_at) ORDER BY e.sequence)"
        " FROM event_log e WHERE e.order_id = o.id"
    ),
    "funds": (
        "SELECT json_agg(json_build_array(g.leg, g.amount_minor, g.returned_minor, c.ccy, c.id) ORDER BY c.id, g.no)"
        " FROM capture c JOIN capture_leg g ON g.capture_id = c.id WHERE c.order_id = o.id"
    ),
    "money": (
        "SELECT json_agg(json_build_array(c.id, c.amount_minor, c.returned_minor, c.ccy, c.state, c.park_reason,"
        " c.source_purpose) ORDER BY c.id) FROM capture c WHERE c.order_id = o.id"
    ),
    "refunds": (
        "SELECT json_agg(json_build_array(r.id, r.amount_minor, r.ccy, r.state, r.reason, r.created_at) ORDER BY r.id)"
        " FROM refund r WHERE r.order_id = o.id"
    ),
}
PARTS = frozenset(_PARTS)


@dataclass(slots=True)
class OrderView:
    """An order as it is read: `parts` holds the asked parts as lists of plain rows."""

    order: Order
    parts: dict[str, list[list[Any]]] = field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        """The part "lines" as rows; it must have been asked for."""
        return [
            Line(UUID(row[0]), self.order.id, row[1], UUID(row[2]), *row[3:])
            for row in self.parts["lines"]
        ]

    @property
    def live_attempt_id(self) -> UUID | None:
        """The attempt that may still take money, of the part "payments"."""
        return next((UUID(row[0]) for row in self.parts["payments"] if row[1] in LIVE), None)


def _columns(parts: frozenset[str]) -> str:
    # Sorted, so that the same parts are always the same prepared statement.
    extra = "".join(f", ({_PARTS[part]}) AS part_{part}" for part in sorted(parts))
    return ", ".join(f"o.{name.strip()}" for name in COLUMNS.split(",")) + extra


@lru_cache(maxsize=64)
def _select(parts: frozenset[str]) -> str:
    return f"SELECT {_columns(parts)} FROM orders o WHERE o.id = ANY($1)"


def _view(row: db.Record, parts: frozenset[str]) -> OrderView:
    return OrderView(as_order(row), {part: row[f"part_{part}"] or [] for part in parts})


async def views(order_ids: Iterable[UUID], parts: Iterable[str] = ()) -> dict[UUID, OrderView]:
    """Orders by id with the asked parts: one statement however many orders and parts."""
    wanted = frozenset(parts)
    rows = await db.fetch(_select(wanted), list(order_ids))
    return {row["id"]: _view(row, wanted) for row in rows}


async def view(order_id: UUID, parts: Iterable[str] = ()) -> OrderView | None:
    """One order, or None."""
    return (await views([order_id], parts)).get(order_id)


class Happening(NamedTuple):
    """One event as a watcher is told it; `recorded` is RFC 3339 text."""

    sequence: int
    kind: str
    recorded: str

    @property
    def at(self) -> datetime:
        """When it was recorded."""
        return datetime.fromisoformat(self.recorded)


# The order and what happened to it come from one snapshot: no event is newer than the order it is shown with.
_NEWS = (
    "SELECT json_agg(json_build_array(e.sequence, e.kind, e.recorded_at) ORDER BY e.sequence)"
    " FROM event_log e WHERE e.order_id = o.id AND e.sequence > a.sequence"
)


@lru_cache(maxsize=64)
def _select_moved(parts: frozenset[str]) -> str:
    return (
        f"SELECT {_columns(parts)}, ({_NEWS}) AS news"
        " FROM unnest($1::uuid[], $2::int[]) AS a(order_id, sequence) JOIN orders o ON o.id = a.order_id"
        " WHERE o.event_seq > a.sequence OR o.id = ANY($3)"
    )


async def moved(
    after: Mapping[UUID, int], unmet: Collection[UUID], parts: frozenset[str]
) -> dict[UUID, tuple[OrderView, list[Happening]]]:
    """Orders with events behind a sequence, and those in `unmet` with or without, each with its new events in order.

    One statement for all watchers of a process.
    """
    rows = await db.fetch(_select_moved(parts), list(after), list(after.values()), list(unmet))
    return {
        row["id"]: (_view(row, parts), [Happening(*one) for one in row["news"] or ()])
        for row in rows
    }


class Span(Protocol):
    """What was placed with `email` behind `after` and not behind `until`; None is without an end."""

    @property
    def email(self) -> str: ...
    @property
    def after(self) -> datetime | None: ...
    @property
    def until(self) -> datetime | None: ...


_OF_SPANS = f"""
SELECT {{columns}} FROM unnest($1::bytea[], $2::text[], $3::timestamptz[], $4::timestamptz[])
    AS s(email_hash, email, after, until) CROSS JOIN LATERAL (
    SELECT {COLUMNS} FROM orders WHERE email_hash = s.email_hash AND email = s.email
        AND created_at > coalesce(s.after, '-infinity') AND created_at <= coalesce(s.until, 'infinity')
        AND ($5::uuid IS NULL OR id {{sign}} $5) ORDER BY id {{order}} LIMIT $6) AS o
ORDER BY o.id {{order}} LIMIT $6
"""


async def of_addresses(
    spans: Sequence[Span], key: UUID | None, limit: int, *, backward: bool = False
) -> list[Order]:
    """What was placed with these normalised addresses in their times, in every shop: newest first, or read backward."""
    if not spans:
        return []
    sign, order = (">", "ASC") if backward else ("<", "DESC")
    columns = ", ".join(f"o.{name.strip()}" for name in COLUMNS.split(","))
    rows = await db.fetch(
        _OF_SPANS.format(columns=columns, sign=sign, order=order), *_spread(spans), key, limit
    )
    return [as_order(row) for row in rows]


async def savers(spans: Sequence[Span], limit: int) -> list[UUID]:
    """Orders of these addresses with which methods were saved that can still be used, the newest method first."""
    rows = await db.fetch(
        "SELECT o.id FROM unnest($1::bytea[], $2::text[], $3::timestamptz[], $4::timestamptz[])"
        " AS s(email_hash, email, after, until) JOIN orders o ON o.email_hash = s.email_hash AND o.email = s.email"
        " AND o.created_at > coalesce(s.after, '-infinity') AND o.created_at <= coalesce(s.until, 'infinity')"
        " JOIN saved_method m ON m.owner_id = o.id AND m.revoked_at IS NULL"
        " GROUP BY o.id ORDER BY max(m.id::text) DESC LIMIT $5",
        *_spread(spans),
        limit,
    )
    return [row["id"] for row in rows]


def _spread(spans: Sequence[Span]) -> tuple[list[Any], ...]:
    return (
        [vault.fingerprint("email", span.email) for span in spans],
        [span.email for span in spans],
        [span.after for span in spans],
        [span.until for span in spans],
    )


async def came_late(order_id: UUID) -> bool:
    """Whether the order's money came after it was closed."""
    return await happened(order_id, EventKind.LATE)


async def happened(order_id: UUID, kind: EventKind) -> bool:
    """Whether an event of this kind is in the order's log."""
    return bool(
        await db.value(
            "SELECT EXISTS (SELECT FROM event_log WHERE order_id = $1 AND kind = $2)",
            order_id,
            kind,
        )
    )


async def held_since(before: datetime, limit: int) -> list[UUID]:
    """Orders that risk holds since before a moment, with money that is kept; oldest first.

    One whose refund has failed is left out: a person looks at it already.
    """
    rows = await db.fetch(_HELD, before, limit)
    return [row["id"] for row in rows]


_HELD = """
SELECT o.id FROM orders o WHERE o.status = 'held' AND o.risk_hold
    AND coalesce((SELECT max(e.recorded_at) FROM event_log e
                  WHERE e.order_id = o.id AND e.kind = 'order.held'), o.paid_at) < $1
    AND EXISTS (SELECT FROM capture c WHERE c.order_id = o.id AND c.amount_minor > c.returned_minor)
    AND NOT EXISTS (SELECT FROM refund r WHERE r.order_id = o.id AND r.reason = 'risk'
                    AND r.state = 'failed')
ORDER BY o.id LIMIT $2
"""
