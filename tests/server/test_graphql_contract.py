"""What holds for the contract and for the toy alike; drift, descriptions and rights are in tests/architecture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_introspection_type,
    is_specified_directive,
    is_specified_scalar_type,
)

from schema.field import Who, callers
from schema.print import sdl
from schema.root import schema
from tests.server import graphql_toy

CONTRACT = schema._schema
BOTH = pytest.mark.parametrize(
    "contract", [CONTRACT, graphql_toy.schema._schema], ids=["contract", "toy"]
)


def _parts(contract: GraphQLSchema) -> Iterator[tuple[str, Any]]:
    """Everything that has to say what it is."""
    for type_ in contract.type_map.values():
        if is_introspection_type(type_) or is_specified_scalar_type(type_):
            continue
        yield type_.name, type_
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            for name, field in type_.fields.items():
                yield f"{type_}.{name}", field
                for argument, found in getattr(field, "args", {}).items():
                    yield f"{type_}.{name}({argument}:)", found
    for directive in contract.directives:
        if not is_specified_directive(directive):
            yield f"@{directive}", directive
            for argument, found in directive.args.items():
                yield f"@{directive}({argument}:)", found


@BOTH
def test_rule_10_every_root_field_says_who_may_call_it(contract: GraphQLSchema) -> None:
    matrix = callers(contract)

    assert [name for name, who in matrix.items() if not who] == []
    assert all(who <= set(Who) for who in matrix.values())
    assert matrix


def test_rule_2_and_7_the_two_directives_are_as_promised() -> None:
    text = sdl()

    assert "directive @idempotent(" in text
    assert "  key: String!\n) on FIELD" in text
    assert "  country: CountryCode\n" in text
    assert "  language: LanguageCode\n) on QUERY | MUTATION | SUBSCRIPTION" in text


@BOTH
def test_rule_3_no_field_or_argument_is_a_float(contract: GraphQLSchema) -> None:
    found = [name for name, part in _parts(contract) if hasattr(part, "type")]
    floats = [
        name
        for name, part in _parts(contract)
        if hasattr(part, "type") and get_named_type(part.type).name == "Float"
    ]

    assert found
    assert floats == []


@BOTH
def test_enum_values_are_screaming(contract: GraphQLSchema) -> None:
    for type_ in contract.type_map.values():
        if isinstance(type_, GraphQLEnumType) and not is_introspection_type(type_):
            assert all(name == name.upper() for name in type_.values), type_


@BOTH
def test_rule_1_every_problem_has_the_same_four_fields(contract: GraphQLSchema) -> None:
    problem = contract.get_type("Problem")
    if problem is None:
        return
    assert isinstance(problem, GraphQLInterfaceType)
    assert {name: str(field.type) for name, field in problem.fields.items()} == {
        "code": "String!",
        "message": "String!",
        "path": "[String!]!",
        "retryable": "Boolean!",
    }
