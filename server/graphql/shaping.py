"""Webhook payloads by the contract: a selection on OrderEvent runs through the door's own documents and executor.

It is read as the selection of `orderEvents` in a subscription: what a webhook carries is what the live stream would
have sent, under the same limits. It is run for the merchant, never for the buyer: goods, saved methods and the way to
pay stay empty. docs/decisions/0011 says why it is wired in here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import strawberry
import structlog
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    InlineFragmentNode,
    SelectionSetNode,
    parse,
)
from graphql.execution.values import VariableValues

from domain import orders
from domain.core.events import Event
from domain.orders import OrderView
from domain.webhooks import CONTRACT, SelectionInvalid
from domain.webhooks.ports import shapers
from resolvers.context import Context
from resolvers.orders import Happened, Seen, cursor_of, parts_for, sequence_of
from resolvers.selection import below
from schema import scopes
from schema.scopes import Needed
from server.graphql.documents import Documents, Operation, Refused
from server.graphql.executor import DoorExecutor
from server.graphql.limits import COST_MAX, QUERY_TIMEOUT_S, TOKENS_MAX

KEPT_MAX = 500
PATHS_MAX = 2_000
_ROOT = 'subscription { orderEvents(orderId: "") { ...Event } } fragment Event on OrderEvent '

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """A selection that may run: `parts` of the order it needs, `paths` of response names it can produce.

    `needed` is what it takes of an app.
    """

    operation: Operation
    parts: frozenset[str]
    paths: frozenset[tuple[str, ...]]
    needed: Needed


class Contract:
    """The Shaper of one schema."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._schema = schema._schema
        self._documents = Documents(self._schema, is_open=False)
        self._kept: OrderedDict[str, Selection] = OrderedDict()

    def check(self, selection: str) -> frozenset[tuple[str, ...]]:
        """See Shaper."""
        return self._made(selection).paths

    def needed(self, selection: str) -> frozenset[str] | None:
        """See Shaper."""
        found = self._made(selection).needed
        if found.closed is not None:
            return None
        return frozenset(one.split("|")[0] for one in found.scopes)

    def cursor(self, order_id: UUID, sequence: int) -> str:
        """See Shaper."""
        return cursor_of(order_id, sequence)

    def sequence(self, cursor: str, order_id: UUID) -> int:
        """See Shaper."""
        return sequence_of(cursor, order_id)

    async def shape(
        self, selection: str, events: Sequence[Event], *, sees_split: bool
    ) -> list[Mapping[str, Any] | None]:
        """See Shaper. The orders are read in one statement, as they are now."""
        made = self._made(selection)
        views = await orders.views({event.order_id for event in events}, made.parts)
        found = []
        for event in events:
            view = views.get(event.order_id)
            found.append(None if view is None else await self._run(made, event, view, sees_split))
        return found

    async def _run(
        self, made: Selection, event: Event, view: OrderView, sees_split: bool
    ) -> Mapping[str, Any] | None:
        assert event.recorded_at is not None
        seen = Seen(view, is_buyer=False, sees_split=sees_split)
        happened = Happened(
            event.order_id, event.sequence, event.kind, event.recorded_at.isoformat(), seen
        )
        executor = DoorExecutor.of(
            self._schema,
            made.operation,
            VariableValues({}, {}),
            Context(request_id="webhook"),
            happened,
        )
        result: Any = executor.execute_operation(False)
        if executor.is_awaitable(result):
            try:
                async with asyncio.timeout(QUERY_TIMEOUT_S):
                    result = await result
            except TimeoutError:
                return None
        if result.errors or result.data is None:
            _log.error(
                "webhook.unshaped",
                order_id=str(event.order_id),
                sequence=event.sequence,
                errors=[str(error)[:200] for error in (result.errors or ())[:3]],
            )
            return None
        data: Mapping[str, Any] = result.data["orderEvents"]
        return data

    def _made(self, selection: str) -> Selection:
        kept = self._kept.get(selection)
        if kept is None:
            kept = self._kept[selection] = self._make(selection)
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        return kept

    def _make(self, selection: str) -> Selection:
        text = selection.strip()
        if not text.startswith("{"):
            raise SelectionInvalid(reason="It must start with {.")
        try:
            parsed = parse(_ROOT + text, max_tokens=TOKENS_MAX)
        except (GraphQLError, RecursionError) as error:
            raise SelectionInvalid(reason=_reason(error)) from None
        if len(parsed.definitions) != 2:
            raise SelectionInvalid(reason="It must be one selection in braces.")
        try:
            operation = self._documents.make(_ROOT + text).operation(None)
        except Refused as refused:
            raise SelectionInvalid(reason=_reason(refused.errors[0])) from None
        cost = operation.bill.fixed if operation.bill.is_fixed else operation.bill.asked({})
        if cost > COST_MAX:
            raise SelectionInvalid(reason=f"It costs {cost}, {COST_MAX} are allowed.")
        (root,) = operation.node.selection_set.selections
        assert isinstance(root, FieldNode)
        fragments = operation.fragment_nodes
        if _returns(fragments["Event"].selection_set, is_inside=False):
            # A list of events in each event of a list … grows by powers, and the worker is everybody's.
            raise SelectionInvalid(reason="It selects an order inside of the order.")
        parts = parts_for(below(root, fragments, "order"))
        paths = set()
        for path in _paths(fragments["Event"].selection_set, fragments, ()):
            paths.add(path)
            if len(paths) > PATHS_MAX:
                raise SelectionInvalid(reason="It has too many fields.")
        needed = scopes.needed(self._schema, operation.node, fragments, sales=False)
        return Selection(operation, parts, frozenset(paths), needed)


def _reason(error: BaseException) -> str:
    text = error.message if isinstance(error, GraphQLError) else "Nested too deeply."
    return text[:300]


def _returns(selection: SelectionSetNode | None, *, is_inside: bool) -> bool:
    """Whether an order is selected below an order."""
    for one in selection.selections if selection else ():
        if isinstance(one, FieldNode):
            is_order = one.name.value == "order"
            if is_order and is_inside:
                return True
            if _returns(one.selection_set, is_inside=is_inside or is_order):
                return True
        elif isinstance(one, InlineFragmentNode) and _returns(
            one.selection_set, is_inside=is_inside
        ):
            return True
    return False


def _paths(
    selection: SelectionSetNode | None,
    fragments: Mapping[str, FragmentDefinitionNode],
    above: tuple[str, ...],
) -> Iterator[tuple[str, ...]]:
    for one in selection.selections if selection else ():
        if isinstance(one, FieldNode):
            path = (*above, (one.alias or one.name).value)
            yield path
            yield from _paths(one.selection_set, fragments, path)
        elif isinstance(one, InlineFragmentNode):
            yield from _paths(one.selection_set, fragments, above)


def install() -> None:
    """Give this process the contract to shape webhooks by."""
    from schema.root import schema

    shapers[CONTRACT] = Contract(schema)
