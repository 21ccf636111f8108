"""Events whose selection is nothing but what the row already knows: written out without an executor.

A selection is compiled once per document and class of row. Whatever is not simply read (a resolver that has to be
asked, an argument, a None where none may be, a value that does not fit) makes the event take the executor's way
from its start, which has all the rules for errors and nulls; reading twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from graphql import (
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    is_leaf_type,
)
from graphql.execution.collect_fields import FieldDetailsList, collect_fields, collect_subfields
from graphql.execution.values import VariableValues

from server.graphql.documents import Operation
from server.graphql.executor import reader, writer

Write = Callable[[Any], Any]

_NO_VARIABLES = VariableValues({}, {})


class _Unknown(Exception):
    """Somebody has to be asked."""


def _never(_: Any) -> Any:
    raise _Unknown


class Plain:
    """One subscription operation, for payloads that need nobody to be asked."""

    __slots__ = ("_name", "_operation", "_schema", "_write")

    def __init__(self, schema: GraphQLSchema, operation: Operation) -> None:
        self._schema = schema
        self._operation = operation
        root = schema.subscription_type
        assert root is not None
        fields = collect_fields(
            schema, operation.fragments, _NO_VARIABLES, root, operation.node, True
        ).grouped_field_set
        (self._name, details), *_ = fields.items()
        # A root field's arguments are for its source; what an event shows of them is in the event.
        declared = schema.get_field(root, details[0].node.name.value)
        assert declared is not None
        self._write = self._writer(declared.type, details) if operation.is_static else _never

    def data(self, payload: Any) -> dict[str, Any] | None:
        """The response's data, None when the executor has to be asked."""
        try:
            return {self._name: self._write(payload)}
        except Exception:
            return None

    def _writer(self, type_: GraphQLOutputType, details: FieldDetailsList) -> Write:
        if isinstance(type_, GraphQLNonNull):
            return self._present(cast(GraphQLOutputType, type_.of_type), details)
        write = self._present(type_, details)
        return lambda value: None if value is None else write(value)

    def _present(self, type_: GraphQLOutputType, details: FieldDetailsList) -> Write:
        """How a value that is there is written; None is unknown."""
        if isinstance(type_, GraphQLList):
            item = self._writer(type_.of_type, details)

            def many(value: Any) -> Any:
                if not isinstance(value, list | tuple):
                    raise _Unknown
                return [item(one) for one in value]

            return many
        if is_leaf_type(type_):
            write = writer(type_)

            def leaf(value: Any) -> Any:
                written = None if value is None else write(value)
                if written is None:
                    raise _Unknown
                return written

            return leaf
        known: dict[type, Write] = {}

        def composite(value: Any) -> Any:
            select = known.get(type(value))
            if select is None:
                select = known[type(value)] = self._selection(type_, details, value)
            return select(value)

        return composite

    def _selection(self, type_: Any, details: FieldDetailsList, value: Any) -> Write:
        """The selected fields of one class of row, or of nothing when it is none of the type's."""
        kinds = (
            [type_]
            if isinstance(type_, GraphQLObjectType)
            else self._schema.get_possible_types(type_)
        )
        kind = next((one for one in kinds if self._is_of(one, value)), None)
        if kind is None:
            return _never
        fields = collect_subfields(
            self._schema,
            self._operation.fragments,
            _NO_VARIABLES,
            self._operation.node,
            kind,
            details,
            True,
        ).grouped_field_set
        entries: list[tuple[str, Write, Write]] = []
        for name, one in fields.items():
            found = self._field(kind, one)
            if found is None:
                return _never
            entries.append((name, *found))

        def select(row: Any) -> dict[str, Any]:
            return {name: write(read(row)) for name, read, write in entries}

        return select

    def _is_of(self, kind: GraphQLObjectType, value: Any) -> bool:
        """Rows belong to a type by their class alone (`schema.field.object_type`)."""
        return kind.is_type_of is not None and bool(kind.is_type_of(value, cast(Any, None)))

    def _field(
        self, kind: GraphQLObjectType, details: FieldDetailsList
    ) -> tuple[Write, Write] | None:
        node = details[0].node
        if node.name.value == "__typename":
            return (lambda _: kind.name), str
        declared = self._schema.get_field(kind, node.name.value)
        if declared is None:
            return None
        read = reader(declared, known=True)
        return None if read is None else (read, self._writer(declared.type, details))
