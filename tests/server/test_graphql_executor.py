"""The short way through the executor gives what graphql-core's own way gives, errors and nulls included."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from graphql import ExecutionResult, GraphQLError, build_schema
from graphql.execution import execute
from graphql.execution.values import VariableValues
from strawberry.execution.is_awaitable import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from domain.core.money import Money
from resolvers.context import Context
from server.graphql.cost import is_connection
from server.graphql.documents import Documents
from server.graphql.executor import DoorExecutor
from tests.server import graphql_toy
from tests.server.graphql_toy import STORE, ToyRow

SCHEMA = graphql_toy.schema._schema
FIELDS = "id no title colour price { amount currency } loud parts { no title colour }"

DOCUMENTS = [
    "{ __typename }",
    f"{{ toy {{ {FIELDS} }} }}",
    f"{{ a: toy(no: 2) {{ ...F }} b: toy(no: 3) {{ ...F no }} }} fragment F on Toy {{ {FIELDS} }}",
    "{ toy(no: 0) { no } }",
    "{ toys(first: 20) { edges { cursor node { __typename "
    + FIELDS
    + " } } pageInfo { endCursor } } }",
    "{ bug toy { no } secret }",
    "{ broken { no title } }",
    "{ broken { title colour } }",
    "{ broken { price { amount } } }",
    "{ broken { parts { no } } toy { no } }",
    'mutation { make(input: {title: "none"}) { __typename ... on Problem { code path } ... on Toy { no } } }',
    'mutation { a: make(input: {title: "x"}) { __typename } b: make(input: {title: "unlisted"}) { __typename } }',
    "query($y: Boolean = true) { toy { no @include(if: $y) title @skip(if: $y) } }",
    '{ node(id: "toy_0000000000e008000000000001") { __typename id ... on Toy { loud } } }',
    '{ nodes(ids: ["x"]) { id } }',
    "{ slow(seconds: 0) toy { loud parts { loud } } }",
]


def _shown(result: ExecutionResult) -> dict[str, Any]:
    """Data and errors without what differs by nature: tracebacks."""
    errors = [(error.message, error.path, len(error.nodes or [])) for error in result.errors or []]
    return {"data": result.data, "errors": errors}


async def _by_core(document: str) -> ExecutionResult:
    operation = Documents(SCHEMA, is_open=True).make(document)
    ast = next(iter(operation.operations.values()))
    from graphql import parse

    found: Any = execute(
        SCHEMA,
        parse(document),
        context_value=Context(),
        executor_class=StrawberryGraphQLCoreExecutionContext,
        is_awaitable=optimized_is_awaitable,
        operation_extensions=None,
    )
    assert ast is not None
    return await found if inspect.isawaitable(found) else found


async def _by_door(document: str, documents: Documents) -> ExecutionResult:
    operation = next(iter(documents.get(document).operations.values()))
    variables = VariableValues({}, {"y": True} if "$y" in document else {})
    found = DoorExecutor.of(SCHEMA, operation, variables, Context()).execute_operation()
    result: ExecutionResult = await found if inspect.isawaitable(found) else found
    return result


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_both_ways_agree(document: str) -> None:
    documents = Documents(SCHEMA, is_open=True)
    graphql_toy.state.__init__()  # type: ignore[misc]
    expected = _shown(await _by_core(document))
    for _ in range(3):  # the first run makes the plans, the others use them
        graphql_toy.state.__init__()  # type: ignore[misc]
        assert _shown(await _by_door(document, documents)) == expected


async def test_plans_are_shared_by_requests_but_not_over_variables() -> None:
    documents = Documents(SCHEMA, is_open=True)
    fixed = documents.get("{ toy { no } }").operations[None]
    varied = documents.get("query($y: Boolean!) { toy { no @skip(if: $y) title } }").operations[
        None
    ]

    for _ in range(2):
        DoorExecutor.of(SCHEMA, fixed, VariableValues({}, {}), Context()).execute_operation()
    for skipped, shown in ((True, {"title": "Toy 1"}), (False, {"no": 1, "title": "Toy 1"})):
        values = VariableValues({}, {"y": skipped})
        # The directive's own coercion wants the sources of variables, which the door always has.
        result = _with_sources(varied, values, skipped).execute_operation()
        assert result.data == {"toy": shown}

    assert len(fixed.plans) == 2
    assert varied.plans == {}


def _with_sources(operation: Any, values: VariableValues, skipped: bool) -> DoorExecutor:
    from graphql.execution.values import get_variable_values

    found = get_variable_values(SCHEMA, operation.node.variable_definitions, {"y": skipped})
    assert not isinstance(found, list)
    assert found.coerced == values.coerced
    return DoorExecutor.of(SCHEMA, operation, found, Context())


def test_a_paged_list_is_told_from_a_plain_one() -> None:
    schema = build_schema(
        "type Query { a(first: Int): AConnection b: AConnection c(first: Int): A }"
        " type AConnection { nodes: [A] } type A { no: Int }"
    )
    fields = schema.query_type.fields  # type: ignore[union-attr]

    assert [name for name, field in fields.items() if is_connection(field)] == ["a"]


def test_the_toy_world_is_what_the_tests_say() -> None:
    assert isinstance(STORE[1], ToyRow)
    assert STORE[1].price == Money(1991, "USD")
    assert isinstance(GraphQLError("x"), Exception)
