"""Runs an operation: graphql-core's executor with a short way for what most fields are, attributes of a row.

Per selection set and type a plan is made once and kept with the document: which fields are plain leaves, how
they are read and written out. Everything else, and every surprise on the short way (a None where none may be, a
value that does not fit, an exception), takes graphql-core's own way, so its rules for errors and nulls hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import Any, NamedTuple, cast

from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLError,
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLString,
    OperationType,
    is_leaf_type,
)
from graphql.execution.collect_fields import (
    CollectedFields,
    FieldDetailsList,
    GroupedFieldSet,
    collect_fields,
    collect_subfields,
)
from graphql.execution.executor import Executor, default_field_resolver, default_type_resolver
from graphql.execution.values import VariableValues
from graphql.pyutils import Path, Undefined, gather_with_cancel
from strawberry.execution.is_awaitable import optimized_is_awaitable
from strawberry.schema.schema import _OperationContextAwareGraphQLResolveInfo as ResolveInfo
from strawberry.types.field import StrawberryField

from resolvers.context import REPLAYED, Context
from server.graphql.documents import Operation

Read = Callable[[Any], Any]


class Entry(NamedTuple):
    """One field of a plan; `read` is None when the field takes the long way."""

    name: str
    read: Read | None
    write: Read | None
    is_nullable: bool
    details: FieldDetailsList
    path_name: str


class Plan(NamedTuple):
    """The fields of one selection on one type. `is_plain` says that all of them are leaves off the row."""

    group: FieldDetailsList | None  # kept so that its id stays its own
    type_: GraphQLObjectType
    fields: GroupedFieldSet
    entries: list[Entry]
    is_plain: bool


def _string(value: Any) -> Any:
    return value if type(value) is str else GraphQLString.coerce_output_value(value)


def writer(type_: GraphQLOutputType) -> Read:
    """How a value of a leaf type is written out."""
    if type_ is GraphQLString:
        return _string
    if isinstance(type_, GraphQLEnumType):
        names: dict[Any, str] = {}
        for name, one in type_.values.items():
            names[one.value] = name
            member = getattr(type_, "wrapped_cls", None)
            if member is not None:
                names[member(one.value)] = name
        return names.__getitem__
    return cast(Read, cast(Any, type_).coerce_output_value)


def _entry(
    name: str, details: FieldDetailsList, type_: GraphQLObjectType, schema: GraphQLSchema
) -> Entry:
    field = schema.get_field(type_, details[0].node.name.value)
    path_name = type_.name
    if field is None:
        return Entry(name, None, None, True, details, path_name)
    if details[0].node.name.value == "__typename":
        return Entry(name, lambda _: path_name, _string, False, details, path_name)
    inner = field.type.of_type if isinstance(field.type, GraphQLNonNull) else field.type
    read = reader(field) if is_leaf_type(inner) else None
    if read is None:
        return Entry(name, None, None, True, details, path_name)
    return Entry(name, read, writer(inner), inner is field.type, details, path_name)


def reader(field: GraphQLField, *, known: bool = False) -> Read | None:
    """How a field is read off its row, None when a resolver with info or arguments has to be asked.

    With `known`, what the row may know of a field that has a resolver will do: None there says it does not.
    """
    declared = field.extensions.get("strawberry-definition")
    if field.args or not isinstance(declared, StrawberryField) or declared.extensions:
        return None
    read = declared.metadata.get("read") or (declared.metadata.get("known") if known else None)
    if read is not None:
        return cast(Read, read)
    if declared.is_basic_field and getattr(field.resolve, "_is_default", False):
        return attrgetter(declared.python_name)
    return None


class DoorExecutor(Executor[None]):
    """Executes one operation, or one event of a subscription."""

    plans: dict[Any, Plan]

    @classmethod
    def of(
        cls,
        schema: GraphQLSchema,
        operation: Operation,
        variables: VariableValues,
        context: Context,
        root: Any = None,
    ) -> DoorExecutor:
        """An executor of a validated operation with coerced variables."""
        made = cls(
            schema,
            operation.fragment_nodes,
            operation.fragments,
            root,
            context,
            operation.node,
            variables,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            is_awaitable=cast(Any, optimized_is_awaitable),
            hide_suggestions=True,
        )
        made.plans = operation.plans if operation.is_static else {}
        return made

    def build_resolve_info(
        self,
        field_def: GraphQLField,
        field_nodes: list[FieldNode],
        parent_type: GraphQLObjectType,
        path: Path,
    ) -> Any:
        """What strawberry's Info stands on."""
        return ResolveInfo(
            field_nodes[0].name.value,
            field_nodes,
            field_def.type,
            parent_type,
            path,
            self.schema,
            self.fragment_definitions,
            self.root_value,
            self.operation,
            self.variable_values.coerced,
            self.context_value,
            cast(Any, self.is_awaitable),
            self.abort_signal,
            self.async_helpers,
            cast(Any, None),
        )

    def _plan(self, type_: GraphQLObjectType, group: FieldDetailsList | None) -> Plan:
        key = (type_, id(group))
        plan = self.plans.get(key)
        if plan is None:
            collected: CollectedFields
            if group is None:
                collected = collect_fields(
                    self.schema, self.fragments, self.variable_values, type_, self.operation, True
                )
            else:
                collected = collect_subfields(
                    self.schema,
                    self.fragments,
                    self.variable_values,
                    self.operation,
                    type_,
                    group,
                    True,
                )
            fields = collected.grouped_field_set
            entries = [_entry(name, one, type_, self.schema) for name, one in fields.items()]
            plan = self.plans[key] = Plan(
                group, type_, fields, entries, all(entry.read is not None for entry in entries)
            )
        return plan

    def execute_operation(self, serially: bool | None = None) -> Any:
        """The ExecutionResult, or an awaitable of it; the root fields of a mutation run one after the other."""
        root_type = self.schema.get_root_type(self.operation.operation)
        assert root_type is not None
        if serially is None:
            serially = self.operation.operation is OperationType.MUTATION
        try:
            plan = self._plan(root_type, None)
            if serially:
                data = self.execute_fields_serially(
                    root_type, self.root_value, None, plan.fields, None
                )
            else:
                data = self._execute(plan, self.root_value, None)
        except GraphQLError as error:
            self.collected_errors.add(error, None)
            return self.build_response(None)
        if self.is_awaitable(data):
            return self._respond(data)
        return self.build_response(cast("dict[str, Any]", data))

    async def _respond(self, data: Awaitable[dict[str, Any]]) -> Any:
        try:
            return self.build_response(await data)
        except GraphQLError as error:
            self.collected_errors.add(error, None)
            return self.build_response(None)

    def collect_and_execute_subfields(
        self,
        return_type: GraphQLObjectType,
        field_details_list: FieldDetailsList,
        path: Path,
        result: Any,
        position_context: None,
    ) -> Any:
        """The selected fields of one object."""
        plan = self.plans.get((return_type, id(field_details_list)))
        if plan is None:
            plan = self._plan(return_type, field_details_list)
        return self._execute(plan, result, path)

    def _execute(self, plan: Plan, source: Any, path: Path | None) -> Any:
        results: dict[str, Any] = {}
        pending: list[str] = []
        try:
            for name, read, write, is_nullable, details, type_name in plan.entries:
                if read is not None:
                    try:
                        value = read(source)
                        if value is None:
                            if is_nullable:
                                results[name] = None
                                continue
                        else:
                            value = write(value)  # type: ignore[misc]
                            if value is not None:
                                results[name] = value
                                continue
                    except Exception:
                        pass
                value = self.execute_field(
                    plan.type_, source, details, Path(path, name, type_name), None
                )
                if value is not Undefined:
                    results[name] = value
                    if self.is_awaitable(value):
                        pending.append(name)
        except Exception:
            if pending:
                self.settle_in_background([results[name] for name in pending])
            raise
        if not pending:
            return results
        return self._wait(results, pending)

    async def _wait(self, results: dict[str, Any], pending: list[str]) -> dict[str, Any]:
        if len(pending) == 1:
            results[pending[0]] = await results[pending[0]]
        else:
            done = await gather_with_cancel(*(results[name] for name in pending))
            results.update(zip(pending, done, strict=True))
        return results

    def complete_abstract_value(
        self,
        return_type: Any,
        field_details_list: FieldDetailsList,
        info: Any,
        path: Path,
        result: Any,
        position_context: None,
    ) -> Any:
        """A union or interface; a stored answer needs no completing, its bytes are put in at the end."""
        if result is REPLAYED:
            return {}
        return super().complete_abstract_value(
            return_type, field_details_list, info, path, result, position_context
        )

    def complete_object_value(
        self,
        return_type: GraphQLObjectType,
        field_details_list: FieldDetailsList,
        info: Any,
        path: Path,
        result: Any,
        position_context: None,
    ) -> Any:
        """An object; see complete_abstract_value."""
        if result is REPLAYED:
            return {}
        return super().complete_object_value(
            return_type, field_details_list, info, path, result, position_context
        )
