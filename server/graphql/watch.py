"""Subscriptions, whatever they travel over: open the source, then turn each of its events into a response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

from graphql import GraphQLError, OperationType, located_error
from graphql.execution.values import get_argument_values
from graphql.pyutils import Path

from domain.core import audit, trace
from domain.core.errors import DomainError
from resolvers.context import Context
from resolvers.errors import TooManyStreams
from schema.field import check
from server.graphql import masking
from server.graphql.documents import Refused
from server.graphql.door import Answer, Door, Ready, refused
from server.graphql.executor import DoorExecutor
from server.graphql.plain import Plain
from server.graphql.request import Asked

RESUME = "after"


@dataclass(slots=True)
class Frame:
    """One event on its way out: the response, and what it is the response to."""

    body: bytes
    payload: Any

    @property
    def cursor(self) -> str | None:
        """Where to resume behind it, None when it has no place in the log."""
        found = getattr(self.payload, "cursor", None) or getattr(
            self.payload, "resume_cursor", None
        )
        return cast("str | None", found)


class Stream:
    """An open subscription. Iterate it for frames; `close` in any case, so that the source lets go of what it holds."""

    __slots__ = ("caller", "context", "door", "ready", "source")

    def __init__(
        self, door: Door, ready: Ready, context: Context, source: AsyncIterator[Any]
    ) -> None:
        self.door = door
        self.ready = ready
        self.context = context
        self.source = source
        self.caller: str | None = context.bucket

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Frame:
        """The next frame. Errors: SessionOver; whatever the source, or its guard, raises."""
        payload = await anext(self.source)
        if self.context.credential is not None:
            await self.door.readmit(self.context)
            self.door.check_scopes(self.ready.operation, self.context)
        if self.context.guard is not None:
            self.context.guard()
        return Frame(await self._body(payload), payload)

    async def _body(self, payload: Any) -> bytes:
        operation = self.ready.operation
        # A frame without a place in the log tells nothing new and costs nothing.
        kind = type(payload)
        if hasattr(kind, "cursor") or hasattr(kind, "resume_cursor"):
            await self.door.buckets.settle(self.context.bucket, max(1, self.ready.cost))
        # Nothing but what the row knows was read, so whoever is told of the same row gets the same bytes.
        written: dict[Any, bytes] | None = getattr(payload, "written", None)
        body = None if written is None else written.get(operation)
        if body is None:
            plain = operation.plain
            if plain is None:
                plain = operation.plain = Plain(self.door.schema, operation)
            data = plain.data(payload)
            if data is None:
                return await self._execute(payload)
            body = self.door.dump({"data": data}, self.context)
            if written is not None:
                written[operation] = body
        return body

    async def _execute(self, payload: Any) -> bytes:
        # Fresh loaders: an event never shows what an earlier one loaded.
        context = self.context.fork()
        audit.comes_from(context.address)
        executor = DoorExecutor.of(
            self.door.schema, self.ready.operation, self.ready.variables, context, payload
        )
        with trace.span("event", self.ready.operation.kind.value):
            result: Any = executor.execute_operation(False)
            if executor.is_awaitable(result):
                result = await result
        response: dict[str, Any] = {"data": result.data}
        if result.errors:
            response["errors"] = masking.during(result.errors, context)
        return self.door.dump(response, context)

    async def close(self) -> None:
        """End the source; its `finally` runs before this returns. A second time nothing happens."""
        if self.caller is not None:
            self.door.streams.leave(self.caller)
            self.caller = None
        close = getattr(self.source, "aclose", None)
        if close is not None:
            await close()


async def watch(door: Door, asked: Asked, context: Context) -> Stream | Answer:
    """Open what was asked for: a Stream of a subscription, or the Answer of anything else or of a refusal."""
    try:
        ready = await door.prepare(asked, context)
    except (Refused, DomainError) as error:
        return door.refuse(error, context)
    if ready.operation.kind is OperationType.MUTATION:
        return await door.finish(ready, context)
    if ready.operation.kind is OperationType.QUERY:
        return await door.run(ready, context)
    try:
        await door.charge(ready, context)
    except DomainError as error:
        return door.refuse(error, context)
    caller = context.bucket
    if not door.streams.enter(caller):
        return door.refuse(TooManyStreams(max=door.streams.per_caller), context)
    opened: Stream | None = None
    try:
        opened = Stream(door, ready, context, await _source(door, ready, context))
        return opened
    except DomainError as error:
        return door.refuse(error, context)
    except GraphQLError as error:
        return refused(masking.during([error], context))
    finally:
        if opened is None:
            door.streams.leave(caller)


async def _source(door: Door, ready: Ready, context: Context) -> AsyncIterator[Any]:
    """The event source of the root field. Errors: GraphQLError around whatever the resolver raised."""
    executor = DoorExecutor.of(door.schema, ready.operation, ready.variables, context)
    root = door.schema.subscription_type
    assert root is not None
    plan = executor._plan(root, None)
    (name, details), *_ = plan.fields.items()
    nodes = [one.node for one in details]
    field = door.schema.get_field(root, nodes[0].name.value)
    assert field is not None
    assert field.subscribe is not None
    declared = field.extensions.get("strawberry-definition")
    check(declared.metadata["who"] if declared is not None else frozenset(), context.viewer)
    path = Path(None, name, root.name)
    info = executor.build_resolve_info(field, nodes, root, path)
    try:
        arguments = get_argument_values(field, nodes[0], ready.variables)
        if context.resume is not None and RESUME in field.args:
            arguments[RESUME] = context.resume
        source = field.subscribe(None, info, **arguments)
        if executor.is_awaitable(source):
            source = await source
        return source.__aiter__()  # type: ignore[no-any-return]
    except Exception as error:
        raise located_error(error, nodes, path.as_list()) from error


def failure(error: Exception, context: Context) -> list[dict[str, Any]]:
    """The errors of a stream whose source gave up."""
    return masking.during([GraphQLError(str(error), original_error=error)], context)
