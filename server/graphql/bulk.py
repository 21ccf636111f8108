"""Bulk work by the contract: pages of an export and lines of an import run through the door's documents and executor.

What is asked for is written around what was sent: the paging of an export, the idempotency key of a line. It is run
for whoever asked, within one merchant and never as a buyer. docs/decisions/0014 says why it is wired in here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import orjson
import strawberry
from graphql import GraphQLError
from graphql.execution.values import VariableValues, get_directive_values, get_variable_values

from domain import bulk, partners
from domain.bulk import BulkKind, Job
from domain.bulk.ports import CONTRACT, Ran, Read, runners
from domain.core import ids, once
from domain.core.errors import DomainError, Unavailable
from domain.identity import Forbidden, Viewer
from resolvers.access import require_member
from resolvers.bulk import IMPORTABLE, narrowed
from resolvers.context import Context
from resolvers.errors import BadUserInput
from schema import problems, scopes
from server.graphql import bulk_documents, masking
from server.graphql.bulk_documents import AFTER, FIRST, PAGE, ROW, TOTAL, Export, Import
from server.graphql.decode import Malformed, decode
from server.graphql.documents import Documents, Operation
from server.graphql.door import VARIABLE_ERRORS_MAX, tell
from server.graphql.executor import DoorExecutor
from server.graphql.limits import MUTATION_TIMEOUT_S, QUERY_TIMEOUT_S
from server.graphql.persisted import digest

KEPT_MAX = 200


class LineExecutor(DoorExecutor):
    """Notes the problem that a line was answered with."""

    problem: problems.Problem | None = None

    def complete_abstract_value(self, *args: Any, **named: Any) -> Any:
        """See DoorExecutor."""
        result = named["result"] if "result" in named else args[4]
        if isinstance(result, problems.Problem):
            self.problem = result
        return super().complete_abstract_value(*args, **named)


class Contract:
    """The Runner of one schema."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._schema = schema._schema
        self._documents = Documents(self._schema, is_open=False)
        self._in_context = self._schema.get_directive("inContext")
        self._kept: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def check_export(self, query: str, merchant_id: str) -> str:
        """See Runner."""
        made = self._export(query)
        made.check_merchant(merchant_id)
        return made.root

    def check_import(self, mutation: str) -> str:
        """See Runner."""
        return self._import(mutation).root

    async def admit(self, job: Job, viewer: Viewer) -> None:
        """See Runner. An export is tried with one row."""
        await self._check_trusted(job, viewer)
        if job.kind is BulkKind.IMPORT:
            made = self._import(job.document)
            self._check_scopes(made.operation, viewer)
            require_member(
                narrowed(viewer, job.merchant_id, made.root),
                job.merchant_id,
                *IMPORTABLE[made.root],
            )
            return
        await self._page(job, viewer, 1, self._export(job.document).rest)

    async def read(self, job: Job, viewer: Viewer, size: int) -> Read:
        """See Runner."""
        made = self._export(job.document)
        is_first = job.position is None
        size = min(size, made.size)
        page = await self._page(job, viewer, size, made.first if is_first else made.rest)
        info = page[PAGE]
        return Read(
            [orjson.dumps(row) for row in made.rows(page)],
            info["endCursor"] if info["hasNextPage"] else None,
            page[TOTAL] if is_first else None,
        )

    async def _page(
        self, job: Job, viewer: Viewer, size: int, operation: Operation
    ) -> dict[str, Any]:
        seen_by = narrowed(viewer, job.merchant_id, job.root)
        self._check_scopes(operation, seen_by)
        given = {
            "merchantId": ids.encode("mer", job.merchant_id),
            FIRST: size,
            AFTER: job.position,
        }
        variables = get_variable_values(
            self._schema, operation.node.variable_definitions or (), given
        )
        assert isinstance(variables, VariableValues), variables
        context = self._context(job, seen_by, operation, variables)
        executor = DoorExecutor.of(self._schema, operation, variables, context)
        result = await self._execute(executor, QUERY_TIMEOUT_S)
        for error in result.errors or ():
            # Part of a page is no page.
            raise _cause(error)
        (page,) = result.data.values()
        return cast("dict[str, Any]", page)

    async def run(self, job: Job, viewer: Viewer, row: int, line: bytes) -> Ran:
        """See Runner."""
        made = self._import(job.document)
        seen_by = narrowed(viewer, job.merchant_id, made.root)
        context = Context(request_id=ids.encode("blk", job.id), viewer=seen_by)
        context.ask(job.country, job.language)
        try:
            variables = self._variables(made, line, bulk.row_key(job, row))
        except BadUserInput as error:
            return _ran(row, None, [masking.refusal(error, context)])
        if isinstance(variables, list):
            return _ran(row, None, masking.before(variables, BadUserInput.code, context))
        context = self._context(job, seen_by, made.operation, variables)
        executor = LineExecutor.of(self._schema, made.operation, variables, context)
        assert isinstance(executor, LineExecutor)
        result = await self._execute(executor, MUTATION_TIMEOUT_S)
        for failed in result.errors or ():
            if isinstance(behind := masking.cause(failed), DomainError) and behind.retryable:
                raise behind
        if isinstance(executor.problem, problems.Unavailable):
            raise Unavailable(what="line")
        data = result.data
        if data is not None:
            await tell(context, data, result.errors or ())
            for key, stored in context.replays.items():
                data[key] = orjson.Fragment(stored)
        # Before the next line runs: whoever repeats this one is told what it was told, not what came of it later.
        await once.flush()
        errors = masking.during(result.errors, context) if result.errors else []
        return _ran(row, data, errors, is_failed=executor.problem is not None)

    def _variables(
        self, made: Import, line: bytes, key: str
    ) -> VariableValues | list[GraphQLError]:
        """The variables of one line, or what is wrong with their values. Errors: BadUserInput."""
        if len(line) > bulk.LINE_MAX:
            raise BadUserInput(reason=f"the line is longer than {bulk.LINE_MAX} bytes")
        try:
            given = decode(line)
        except Malformed as error:
            raise BadUserInput(reason=str(error)) from None
        unknown = sorted(set(given) - {made.variable})
        if unknown:
            raise BadUserInput(reason=f"the only variable is {made.variable}")
        return get_variable_values(
            self._schema,
            made.operation.node.variable_definitions or (),
            {**given, ROW: key},
            max_errors=VARIABLE_ERRORS_MAX,
            hide_suggestions=True,
        )

    def _context(
        self, job: Job, viewer: Viewer, operation: Operation, variables: VariableValues
    ) -> Context:
        context = Context(request_id=ids.encode("blk", job.id), viewer=viewer)
        context.operation = operation.name
        country, language = job.country, job.language
        if operation.context_node is not None and self._in_context is not None:
            given = get_directive_values(self._in_context, operation.node, variables) or {}
            country = given.get("country") or country
            language = given.get("language") or language
        context.ask(country, language)
        return context

    async def _execute(self, executor: DoorExecutor, timeout_s: float) -> Any:
        result: Any = executor.execute_operation()
        if executor.is_awaitable(result):
            try:
                async with asyncio.timeout(timeout_s):
                    result = await result
            except TimeoutError:
                raise Unavailable(what="time") from None
        return result

    async def _check_trusted(self, job: Job, viewer: Viewer) -> None:
        """Whoever sends registered documents alone sends none inside of them either (J26)."""
        app = viewer.app
        if app is None or not app.documents_only:
            return
        if await partners.document(app.app_id, digest(job.document)) is None:
            raise Forbidden()

    def _check_scopes(self, operation: Operation, viewer: Viewer) -> None:
        if viewer.app is None:
            return
        if operation.needed is None:
            operation.needed = scopes.needed(self._schema, operation.node, operation.fragment_nodes)
        scopes.check(viewer.app, operation.needed)

    def _export(self, text: str) -> Export:
        made = self._made("query", text, bulk_documents.export)
        assert isinstance(made, Export)
        return made

    def _import(self, text: str) -> Import:
        made = self._made("mutation", text, bulk_documents.import_)
        assert isinstance(made, Import)
        return made

    def _made(self, kind: str, text: str, make: Callable[[Documents, str], Any]) -> Any:
        key = (kind, text)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = make(self._documents, text)
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        return kept


def _cause(error: GraphQLError) -> Exception:
    return masking.cause(error) or error


def _ran(
    row: int,
    data: dict[str, Any] | None,
    errors: list[dict[str, Any]],
    *,
    is_failed: bool = False,
) -> Ran:
    """One line of the result: `data` as it would have been answered, errors without where in the document they are."""
    said: dict[str, Any] = {"line": row}
    if data is not None:
        said["data"] = data
    if errors:
        said["errors"] = [_told(one) for one in errors]
    return Ran(orjson.dumps(said), bool(errors) or is_failed)


def _told(error: dict[str, Any]) -> dict[str, Any]:
    extensions = {name: value for name, value in error["extensions"].items() if name != "requestId"}
    told = {"message": error["message"], "extensions": extensions}
    return {**told, "path": error["path"]} if "path" in error else told


def install() -> None:
    """Give this process the contract to do bulk work by."""
    from schema.root import schema

    runners[CONTRACT] = Contract(schema)
