"""The contract: printed, committed, described, closed by default."""

from __future__ import annotations

import json
from pathlib import Path

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    is_introspection_type,
    is_specified_scalar_type,
)

from schema.field import callers
from schema.root import schema

ROOT = Path(__file__).parents[2]
RIGHTS = Path(__file__).parent / "rights.json"
GRAPH = schema._schema
# Buying again is paying: clients read one answer.
SHARED = {"buyAgain": "PayResult"}


def test_the_committed_sdl_is_the_schema() -> None:
    assert (ROOT / "schema" / "schema.graphql").read_text("utf-8").strip() == str(schema).strip(), (
        "run `python -m schema.print`"
    )


def test_every_type_field_and_argument_is_described() -> None:
    bare = []
    for one in GRAPH.type_map.values():
        if is_introspection_type(one) or is_specified_scalar_type(one):
            continue
        if not one.description:
            bare.append(one.name)
        if isinstance(one, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            for name, field in one.fields.items():
                if not field.description:
                    bare.append(f"{one.name}.{name}")
                if not isinstance(one, GraphQLInputObjectType):
                    bare += [
                        f"{one.name}.{name}({argument}:)"
                        for argument, found in field.args.items()
                        if not found.description
                    ]

    assert bare == []


def test_h03_every_root_field_has_a_committed_verdict() -> None:
    """A new root field fails here until somebody has decided, and committed, who may call it."""
    found = {name: sorted(who) for name, who in sorted(callers(GRAPH).items())}

    assert found == json.loads(RIGHTS.read_text("utf-8"))


def test_every_mutation_answers_with_a_union_of_its_result_and_problems() -> None:
    problem = GRAPH.type_map["Problem"]
    mutation = GRAPH.mutation_type
    assert mutation is not None
    for name, field in mutation.fields.items():
        union = getattr(field.type, "of_type", field.type)
        members = GRAPH.get_possible_types(union)
        results = [one for one in members if problem not in one.interfaces]
        assert len(results) == 1, f"{name}: {results}"
        assert union.name == SHARED.get(name, f"{name[0].upper()}{name[1:]}Result")


def test_money_is_never_a_float_or_an_int() -> None:
    floats = [
        f"{one.name}.{name}"
        for one in GRAPH.type_map.values()
        if isinstance(one, GraphQLObjectType | GraphQLInputObjectType)
        for name, field in one.fields.items()
        if "Float" in str(field.type)
    ]

    assert floats == []


def test_enum_values_are_screaming_snake() -> None:
    odd = [
        f"{one.name}.{value}"
        for one in GRAPH.type_map.values()
        if isinstance(one, GraphQLEnumType) and not is_introspection_type(one)
        for value in one.values
        if value != value.upper()
    ]

    assert odd == []
