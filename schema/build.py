"""Builds the schema out of the nouns' parts: roots, scalars, directives, problems, and quick type look-ups."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import strawberry
from graphql import (
    GraphQLAbstractType,
    GraphQLArgument,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    Undefined,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from schema import page, problems
from schema.directives import DIRECTIVES
from schema.scalars import SCALARS

_ROOTS = {
    "Query": "Everything that can be read.",
    "Mutation": "Everything that can be changed. Each field answers with its result or a problem.",
    "Subscription": "Everything that can be watched.",
}


class Schema(strawberry.Schema):
    """A strawberry schema whose directives are read where they matter instead of wrapping every field."""

    def get_extensions(self, sync: bool = False) -> list[Any]:
        return [extension() for extension in cast(Any, self.extensions)]


def build(
    queries: Sequence[type],
    mutations: Sequence[type] = (),
    subscriptions: Sequence[type] = (),
    *,
    types: Sequence[type] = (),
) -> Schema:
    """One schema of the nouns' parts; `types` are those that only `node` can return."""
    made = Schema(
        query=_root("Query", queries),
        mutation=_root("Mutation", mutations) if mutations else None,
        subscription=_root("Subscription", subscriptions) if subscriptions else None,
        types=types,
        directives=cast(Any, DIRECTIVES),
        config=StrawberryConfig(disable_field_suggestions=True, scalar_map=SCALARS),
        exception_handlers=problems.handlers(),
    )
    core = made._schema
    _describe_arguments(core)
    _drop_null_defaults(core)
    for one in list(core.type_map.values()):
        if isinstance(one, GraphQLUnionType | GraphQLInterfaceType):
            _quicken(core, one)
    return made


def _root(name: str, parts: Sequence[type]) -> type:
    names = [
        field.python_name
        for part in parts
        for field in cast(Any, part).__strawberry_definition__.fields
    ]
    doubled = sorted({one for one in names if names.count(one) > 1})
    assert not doubled, f"{name} has two fields named {doubled}"
    return strawberry.type(type(name, tuple(parts), {}), description=_ROOTS[name])


def _describe_arguments(schema: GraphQLSchema) -> None:
    for one in schema.type_map.values():
        if not isinstance(one, GraphQLObjectType | GraphQLInterfaceType):
            continue
        for name, field in one.fields.items():
            definition = field.extensions.get("strawberry-definition")
            if not isinstance(definition, StrawberryField):
                continue
            described = definition.metadata.get("args") or {}
            unknown = set(described) - set(field.args)
            assert not unknown, f"{one}.{name} has no arguments {sorted(unknown)}"
            for argument, text in described.items():
                field.args[argument].description = text


def _drop_null_defaults(schema: GraphQLSchema) -> None:
    """`first: Int` instead of `first: Int = null`: what is left out gets the resolver's own default, None."""
    for one in schema.type_map.values():
        if isinstance(one, GraphQLObjectType | GraphQLInterfaceType):
            for field in one.fields.values():
                for argument in field.args.values():
                    _drop_null_default(argument)
        elif isinstance(one, GraphQLInputObjectType):
            for input_field in one.fields.values():
                _drop_null_default(input_field)


def _drop_null_default(value: GraphQLArgument | GraphQLInputField) -> None:
    if value.default_value is None and value.default is None:
        value.default_value = Undefined


def _classes(type_: GraphQLObjectType) -> list[type]:
    """The classes whose instances are rows of `type_`."""
    definition = type_.extensions.get("strawberry-definition")
    if not isinstance(definition, StrawberryObjectDefinition):
        return []
    origin = definition.origin
    generic = definition.concrete_of.origin if definition.concrete_of else None
    if generic is not None:
        return []  # one row class serves every specialisation; the schema's own way tells them apart
    rows = getattr(origin, "__kami_rows__", ()) or (page.ROWS.get(origin),)
    return [origin, *(row for row in rows if row is not None)]


def _quicken(schema: GraphQLSchema, type_: GraphQLAbstractType) -> None:
    """Find the type of a value by its class instead of asking every member in turn."""
    by_class: dict[type, str] = {}
    for member in schema.get_possible_types(type_):
        for cls in _classes(member):
            by_class.setdefault(cls, member.name)
    slow = cast("Callable[..., Any] | None", type_.resolve_type)

    def resolve_type(value: Any, info: Any, asked: GraphQLAbstractType) -> Any:
        found = by_class.get(type(value))
        if found is not None:
            return found
        for cls in type(value).__mro__[1:]:
            if cls in by_class:
                return by_class[cls]
        assert slow is not None
        return slow(value, info, asked)

    type_.resolve_type = resolve_type
