"""The short way through the executor gives what graphql-core's own way gives, errors and nulls included."""

from __future__ import annotations

import inspect
from typing import Any, cast

import pytest
from graphql import ExecutionResult, build_schema, parse
from graphql.execution import execute
from strawberry.execution.is_awaitable import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from resolvers.context import Context
from server.graphql.cost import is_connection
from server.graphql.door import Door
from server.graphql.executor import DoorExecutor
from server.graphql.request import Asked
from tests.server import graphql_toy

FIELDS = "id no title colour price { amount currency } loud parts { no title colour }"
DOCUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("{ __typename }", {}),
    (f"{{ toy {{ {FIELDS} }} }}", {}),
    (
        "{ a: toy(no: 2) { ...F } b: toy(no: 3) { ...F no } }"
        f" fragment F on Toy {{ __typename {FIELDS} }}",
        {},
    ),
    ("{ toy(no: 0) { no } }", {}),
    (
        "query($n: Int) { toys(first: $n) { edges { cursor node { __typename "
        + FIELDS
        + " } } pageInfo { endCursor hasNextPage } totalCount } }",
        {"n": 20},
    ),
    ("{ bug toy { no } secret }", {}),
    ("{ broken { no title } }", {}),
    ("{ broken { title colour } }", {}),
    ("{ broken { colour title } toy { no } }", {}),
    ("{ broken { price { amount } } }", {}),
    ("{ broken { parts { no } } toy { no } }", {}),
    (
        'mutation { make(input: {title: "none"})'
        " { __typename ... on Problem { code path } ... on Toy { no } } }",
        {},
    ),
    (
        'mutation { a: make(input: {title: "x"}) { __typename }'
        ' b: make(input: {title: "unlisted"}) { __typename } }',
        {},
    ),
    (
        "query($y: Boolean!) { toy { no @include(if: $y) title @skip(if: $y) ...F @skip(if: $y) } }"
        " fragment F on Toy { colour }",
        {"y": True},
    ),
    (
        "query($y: Boolean!) { toy { no @include(if: $y) title @skip(if: $y) } }",
        {"y": False},
    ),
    ('{ node(id: "toy_0000000000e008000000000001") { __typename id ... on Toy { loud } } }', {}),
    ('{ nodes(ids: ["x"]) { id } }', {}),
    ("{ slow(seconds: 0) toy { loud parts { loud } } }", {}),
]


def _shown(result: ExecutionResult) -> dict[str, Any]:
    """Data in order, and of errors what a client could see."""
    errors = [(error.message, error.path, len(error.nodes or [])) for error in result.errors or []]
    return {"data": repr(result.data), "errors": errors}


async def _by_core(door: Door, document: str, variables: dict[str, Any]) -> ExecutionResult:
    found: Any = execute(
        door.schema,
        parse(document),
        context_value=Context(),
        variable_values=variables,
        executor_class=StrawberryGraphQLCoreExecutionContext,
        is_awaitable=cast(Any, optimized_is_awaitable),
        operation_extensions=None,
    )
    result: ExecutionResult = await found if inspect.isawaitable(found) else found
    return result


async def _by_door(door: Door, document: str, variables: dict[str, Any]) -> ExecutionResult:
    ready = await door.prepare(Asked(document, variables=variables), Context())
    executor = DoorExecutor.of(door.schema, ready.operation, ready.variables, Context())
    found = executor.execute_operation()
    result: ExecutionResult = await found if inspect.isawaitable(found) else found
    return result


@pytest.mark.parametrize(("document", "variables"), DOCUMENTS)
async def test_both_ways_agree(document: str, variables: dict[str, Any]) -> None:
    door = Door(graphql_toy.schema)
    graphql_toy.state.__init__()  # type: ignore[misc]
    expected = _shown(await _by_core(door, document, variables))

    for _ in range(3):  # the first run makes the plans, the others use them
        graphql_toy.state.__init__()  # type: ignore[misc]
        assert _shown(await _by_door(door, document, variables)) == expected


async def test_plans_are_kept_with_the_document_unless_variables_choose_fields() -> None:
    door = Door(graphql_toy.schema)
    fixed, varied = "{ toy { no } }", "query($y: Boolean!) { toy { no @skip(if: $y) title } }"

    await _by_door(door, fixed, {})
    skipped = await _by_door(door, varied, {"y": True})
    shown = await _by_door(door, varied, {"y": False})

    assert skipped.data == {"toy": {"title": "Toy 1"}}
    assert shown.data == {"toy": {"no": 1, "title": "Toy 1"}}
    assert len(door.documents.get(fixed).operation(None).plans) == 2
    assert door.documents.get(varied).operation(None).plans == {}


def test_a_paged_list_is_told_from_a_plain_one() -> None:
    schema = build_schema(
        "type Query { a(first: Int): AConnection b: AConnection c(first: Int): A }"
        " type AConnection { nodes: [A] } type A { no: Int }"
    )
    assert schema.query_type is not None

    assert [n for n, field in schema.query_type.fields.items() if is_connection(field)] == ["a"]
