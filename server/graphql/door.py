"""The door: from a request to its answer, the same for HTTP, WebSocket and SSE.

find the document → choose the operation → coerce variables → @inContext → price → bucket → execute → write.
Transports only read bytes, call `answer` or `watch`, and put the result on the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import orjson
import strawberry
from graphql import ExecutionResult, GraphQLError, GraphQLSchema, OperationType
from graphql.execution.values import VariableValues, get_directive_values, get_variable_values

from domain import partners
from domain.core import audit, trace
from domain.core.errors import DomainError, Unavailable
from domain.identity import Forbidden, Unauthenticated
from resolvers import context as contexts
from resolvers.context import Context
from resolvers.errors import BadUserInput, Throttled
from schema import scopes
from server.graphql import masking, presented
from server.graphql.documents import Documents, Operation, Refused
from server.graphql.executor import DoorExecutor
from server.graphql.limits import (
    COST_MAX,
    GENEROUS,
    MUTATION_TIMEOUT_S,
    QUERY_TIMEOUT_S,
    STREAMS_GENEROUS,
    STREAMS_MAX,
    STRICT,
    Buckets,
    Level,
    LocalBuckets,
    Streams,
)
from server.graphql.persisted import Hashes, Registered, Shelf, digest
from server.graphql.presented import Shown
from server.graphql.request import Asked

if TYPE_CHECKING:
    from domain.identity import Viewer

VARIABLE_ERRORS_MAX = 10

Authenticate = Callable[[str], Awaitable["Viewer | None"]]


class NotOverGet(Exception):
    """A mutation came by GET."""


class SessionOver(Unauthenticated):
    """The token a long connection was opened with is no longer good."""


@dataclass(slots=True)
class Answer:
    """A finished response. `code` and `errors` are those of the refusal when nothing was executed."""

    body: bytes
    code: str | None = None
    retry_after_s: int | None = None
    errors: list[dict[str, Any]] | None = None
    challenge: list[tuple[bytes, bytes]] | None = None


def refused(errors: list[dict[str, Any]]) -> Answer:
    """The answer that holds nothing but `errors`, already formatted."""
    extensions = errors[0]["extensions"]
    code = extensions["code"]
    return Answer(orjson.dumps({"errors": errors}), code, extensions.get("retryAfter"), errors)


@dataclass(slots=True)
class Ready:
    """A request that may run: what, with which variables, at what price."""

    operation: Operation
    variables: VariableValues
    cost: int


class Door:
    """One schema behind the rules of API.md.

    `is_open` is for development: introspection, suggestions, GET with a text. `authenticate` turns a token into
    a viewer, `documents_only` says whose free texts are refused.
    """

    def __init__(
        self,
        schema: strawberry.Schema,
        *,
        is_open: bool = False,
        authenticate: Authenticate = contexts.viewer_of,
        buckets: Buckets | None = None,
        registered: Registered | None = None,
        documents_only: Callable[[Context], bool] = lambda _: False,
        origins: Iterable[str] = (),
        streams_max: int | None = None,
    ) -> None:
        self.schema: GraphQLSchema = schema._schema
        self.is_open = is_open
        self.authenticate = authenticate
        self.buckets: Buckets = buckets or LocalBuckets(GENEROUS if is_open else STRICT)
        usual = STREAMS_GENEROUS if is_open else STREAMS_MAX
        self.streams = Streams(streams_max or usual)
        self.registered: Registered = registered or Shelf()
        self.documents_only = documents_only
        self.origins = frozenset(origins)
        self.documents = Documents(self.schema, is_open=is_open)
        self.hashes = Hashes()
        self._unwatched: set[asyncio.Task[Answer]] = set()
        self._in_context = self.schema.get_directive("inContext")

    async def admit(self, context: Context, token: str | None, shown: Shown | None = None) -> None:
        """Put the holder of `token` into the context; `shown` is how an app's token came.

        Errors: Unauthenticated for a token that is not good.
        """
        if token is None:
            return
        viewer: Viewer | None = None
        if partners.is_access_token(token):
            viewer = await presented.viewer(token, shown)
        elif token:
            viewer = await self.authenticate(token)
        if viewer is None:
            raise Unauthenticated()
        context.viewer, context.credential = viewer, token

    async def readmit(self, context: Context) -> None:
        """Look at the token again, before an event is sent. Errors: SessionOver."""
        if context.credential is not None:
            try:
                await self.admit(context, context.credential, presented.BEFORE)
            except Unauthenticated:
                raise SessionOver() from None

    def check_scopes(self, operation: Operation, context: Context) -> None:
        """Errors: InsufficientScope when an app asks for more than it was granted."""
        viewer = context.viewer
        if viewer is None or viewer.app is None:
            return
        if operation.needed is None:
            operation.needed = scopes.needed(self.schema, operation.node, operation.fragment_nodes)
        scopes.check(viewer.app, operation.needed)

    async def answer(self, asked: Asked, context: Context, *, is_get: bool = False) -> Answer:
        """Run a query or mutation. Errors: NotOverGet; everything else is in the answer."""
        try:
            ready = await self.prepare(asked, context)
            if ready.operation.kind is OperationType.SUBSCRIPTION:
                message = "Subscriptions go over WebSocket or POST /graphql/stream."
                raise Refused("GRAPHQL_VALIDATION_FAILED", [GraphQLError(message)])
            if is_get and ready.operation.kind is not OperationType.QUERY:
                raise NotOverGet
        except (Refused, DomainError) as error:
            return self.refuse(error, context)
        return await self.run(ready, context)

    async def run(self, ready: Ready, context: Context) -> Answer:
        """Charge and execute a prepared query or mutation."""
        audit.comes_from(context.address)
        try:
            level = await self.charge(ready, context)
        except Throttled as error:
            return self.refuse(error, context)
        with trace.span("request", ready.operation.kind.value):
            result = await self._execute(ready, context)
        answer = Answer(await self._write(ready, context, result, level))
        if result.errors and context.viewer is not None and context.viewer.app is not None:
            answer.challenge = presented.of_fields(result.errors, context)
            if answer.challenge and result.data is None:
                answer.code = "MFA_REQUIRED"
        return answer

    def refuse(self, error: Refused | DomainError, context: Context) -> Answer:
        """The answer of a request that is not executed."""
        if isinstance(error, Refused):
            errors = masking.before(error.errors, error.code, context)
        else:
            errors = [masking.refusal(error, context)]
        if errors[0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND":
            errors[0]["message"] = "PersistedQueryNotFound"  # the text that clients look for
        answer = refused(errors)
        answer.challenge = presented.challenge(error, context)
        return answer

    async def prepare(self, asked: Asked, context: Context) -> Ready:
        """Everything up to the price. Errors: Refused, DomainError."""
        document = self.documents.get(await self._text(asked, context))
        if asked.sha256 is not None and asked.query is not None:
            self.hashes.keep(asked.sha256, asked.query)
        operation = document.operation(asked.operation)
        context.operation = operation.name
        self.check_scopes(operation, context)
        variables = self._coerce(operation, asked)
        if operation.context_node is not None and self._in_context is not None:
            given = get_directive_values(self._in_context, operation.node, variables) or {}
            context.ask(given.get("country"), given.get("language"))
        bill = operation.bill
        cost = bill.fixed if bill.is_fixed else bill.asked(variables.coerced)
        if cost > COST_MAX:
            message = f"The query costs {cost}, {COST_MAX} are allowed."
            raise Refused("MAX_COST_EXCEEDED", [GraphQLError(message)])
        return Ready(operation, variables, cost)

    async def _text(self, asked: Asked, context: Context) -> str:
        if asked.document_id is not None:
            found = await self.registered.text(asked.document_id, context)
            if found is None:
                raise Refused("PERSISTED_QUERY_NOT_FOUND", [GraphQLError("Unknown documentId.")])
            return found
        if self.documents_only(context):
            raise Forbidden()
        if asked.query is None:
            assert asked.sha256 is not None
            kept = self.hashes.text(asked.sha256)
            if kept is None:
                raise Refused("PERSISTED_QUERY_NOT_FOUND", [GraphQLError("Unknown hash.")])
            return kept
        if asked.sha256 is not None and digest(asked.query) != asked.sha256:
            raise BadUserInput(reason="sha256Hash is not the hash of query.")
        return asked.query

    def _coerce(self, operation: Operation, asked: Asked) -> VariableValues:
        definitions = operation.node.variable_definitions or ()
        if not definitions:
            return VariableValues({}, {})
        found = get_variable_values(
            self.schema,
            definitions,
            asked.variables,
            max_errors=VARIABLE_ERRORS_MAX,
            hide_suggestions=not self.is_open,
        )
        if not isinstance(found, list):
            return found
        for error in found:
            # A required variable left out is a document that cannot run; a wrong value is a value.
            if "code" not in (error.extensions or {}):
                names = [cast(Any, node).variable.name.value for node in error.nodes or ()]
                is_missing = bool(names) and names[0] not in asked.variables
                error.extensions = {
                    "code": "GRAPHQL_VALIDATION_FAILED" if is_missing else "BAD_USER_INPUT"
                }
        raise Refused("BAD_USER_INPUT", found)

    async def finish(self, ready: Ready, context: Context) -> Answer:
        """`run`, to its end even when the caller goes away: a mutation is not cut in the middle."""
        task = asyncio.ensure_future(self.run(ready, context))
        self._unwatched.add(task)
        task.add_done_callback(self._unwatched.discard)
        return await asyncio.shield(task)

    async def charge(self, ready: Ready, context: Context) -> Level:
        """Take the price out of the caller's bucket. Errors: Throttled."""
        level = await self.buckets.take(context.bucket, ready.cost)
        if level.retry_after_s is not None:
            raise Throttled(retry_after=level.retry_after_s)
        return level

    async def _execute(self, ready: Ready, context: Context) -> ExecutionResult:
        executor = DoorExecutor.of(self.schema, ready.operation, ready.variables, context)
        is_query = ready.operation.kind is OperationType.QUERY
        try:
            result = executor.execute_operation()
            if executor.is_awaitable(result):
                async with asyncio.timeout(QUERY_TIMEOUT_S if is_query else MUTATION_TIMEOUT_S):
                    result = await result
        except TimeoutError as error:
            late = Unavailable()
            late.__cause__ = error
            return ExecutionResult(None, [GraphQLError(str(late), original_error=late)])
        except Exception as error:  # a bug of the door itself: masked like any other
            return ExecutionResult(None, [GraphQLError("", original_error=error)])
        return cast(ExecutionResult, result)

    async def _write(
        self, ready: Ready, context: Context, result: ExecutionResult, level: Level
    ) -> bytes:
        data = result.data
        if data is not None and context.finished:
            await tell(context, data, result.errors or ())
        used = ready.cost
        if not ready.operation.bill.is_fixed:
            used = ready.operation.bill.used(data, ready.variables.coerced)
            if used != ready.cost:
                level = await self.buckets.settle(context.bucket, used - ready.cost)
        response: dict[str, Any] = {"data": data}
        if result.errors:
            response["errors"] = masking.during(result.errors, context)
        market = context.market
        extensions: dict[str, Any] = {
            "cost": {
                "requestedQueryCost": ready.cost,
                "actualQueryCost": used,
                "throttleStatus": level.status(),
            },
            "context": {
                "country": market.country,
                "currency": market.currency,
                "language": market.language,
                "source": market.source.name,
            },
        }
        if context.is_replayed:
            extensions["idempotency"] = {"replayed": True}
        if context.replays and data is not None:
            for key, stored in context.replays.items():
                if data.get(key) is not None:
                    data[key] = orjson.Fragment(stored)
        response["extensions"] = extensions
        return self.dump(response, context)

    def dump(self, response: dict[str, Any], context: Context) -> bytes:
        """JSON of a response; a value that cannot be written is a bug and masked as one."""
        try:
            return orjson.dumps(response)
        except (TypeError, ValueError) as error:
            return orjson.dumps({"data": None, "errors": [masking.internal(error, context)]})


async def tell(context: Context, data: dict[str, Any], errors: Sequence[GraphQLError]) -> None:
    """Say to all who asked (`context.finished`) what each root field that went well has become."""
    failed = {error.path[0] for error in errors if error.path}
    for key, value in data.items():
        if key in failed or key in context.replays:
            continue
        for told in context.finished:
            waiting = told(key, value)
            if waiting is not None:
                await waiting
