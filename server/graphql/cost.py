"""What a query costs before it runs: compiled once per document, priced with the request's variables.

API.md rule 8: a scalar costs 0, an object 1, a connection 2 + first x node; a field may add its own. A list that
is no connection counts as one object, for its length is bounded by its parent; but one that leads back to its
parent's type counts what lies below LIST_ROWS times: an order's events with their order's events … would grow by
their number at every level.
Fields reached through `@skip`/`@include` count when they are included; of the types behind a union or interface the
dearest counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    BooleanValueNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_abstract_type,
    is_composite_type,
    is_list_type,
    type_from_ast,
)
from strawberry.types.field import StrawberryField

from resolvers.errors import BadUserInput
from resolvers.page import PAGE_MAX

OBJECT = 1
CONNECTION = 2
LIST_ROWS = 5

Variables = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """An argument's value: a constant, or the variable it comes from."""

    constant: Any = None
    variable: str | None = None

    def value(self, variables: Variables) -> Any:
        """What the argument is in this request, None when it is left out."""
        return self.constant if self.variable is None else variables.get(self.variable)


@dataclass(slots=True)
class Bill:
    """The cost of one selection set: a fixed part and what depends on variables or on the answer."""

    fixed: int = 0
    types: set[str] = field(default_factory=set)  # of the objects below
    inside: list[tuple[str, Bill, int]] = field(
        default_factory=list
    )  # response key, selection, rows
    pages: list[Page] = field(default_factory=list)
    choices: list[list[Bill]] = field(default_factory=list)
    conditions: list[tuple[Given, bool, Bill]] = field(default_factory=list)

    @property
    def is_fixed(self) -> bool:
        """Whether no request changes it."""
        return not (self.inside or self.pages or self.choices or self.conditions)

    def asked(self, variables: Variables) -> int:
        """The most this selection can cost. Errors: BadUserInput for a page size missing or out of bounds."""
        total = self.fixed
        for _, bill, rows in self.inside:
            total += rows * bill.asked(variables)
        for page in self.pages:
            rows = page.size(variables)
            total += CONNECTION + page.extra + rows * max(1, page.node.asked(variables))
        for choice in self.choices:
            total += max(bill.asked(variables) for bill in choice)
        for given, wanted, bill in self.conditions:
            if bool(given.value(variables)) is wanted:
                total += bill.asked(variables)
        return total

    def used(self, data: Any, variables: Variables) -> int:
        """What was really delivered: pages are priced by the rows they hold."""
        if data is None:
            return 0
        if isinstance(data, list):
            return sum(self.used(one, variables) for one in data)
        total = self.fixed
        for key, bill, _ in self.inside:
            total += bill.used(data.get(key), variables)
        for page in self.pages:
            if data.get(page.key) is not None:
                total += CONNECTION + page.extra + page.used(data[page.key], variables)
        for choice in self.choices:
            total += max(bill.used(data, variables) for bill in choice)
        for given, wanted, bill in self.conditions:
            if bool(given.value(variables)) is wanted:
                total += bill.used(data, variables)
        return total


@dataclass(slots=True)
class Page:
    """One connection: its response key, its size arguments, and the selection on each row."""

    key: str
    name: str
    first: Given
    last: Given
    node: Bill
    extra: int = 0
    edges: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)

    def size(self, variables: Variables) -> int:
        """Rows asked for. Errors: BadUserInput."""
        first, last = self.first.value(variables), self.last.value(variables)
        size = first if first is not None else last
        if (first is None) == (last is None):
            raise BadUserInput(reason=f"{self.name} wants either first or last.")
        if type(size) is not int or not 1 <= size <= PAGE_MAX:
            raise BadUserInput(reason=f"{self.name}: first and last go from 1 to {PAGE_MAX}.")
        return size

    def used(self, data: Any, variables: Variables) -> int:
        """The rows delivered, each at the price of what was selected on it."""
        rows = 0
        for key in (*self.edges, *self.nodes):
            rows = max(rows, len(data.get(key) or ()))
        return rows * max(1, self.node.asked(variables))


class Pricer:
    """Compiles the operations of one document; the price of a fragment on a type is worked out once."""

    def __init__(
        self, schema: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode]
    ) -> None:
        self.schema = schema
        self.fragments = fragments
        self._known: dict[tuple[int, str], Bill] = {}
        self._mentioned: dict[int, frozenset[str]] = {}

    def operation(self, node: OperationDefinitionNode) -> Bill:
        """The bill of a validated operation."""
        root = self.schema.get_root_type(node.operation)
        assert root is not None
        return self._selection(node.selection_set, root)

    def _selection(self, selection: SelectionSetNode, type_: GraphQLCompositeType) -> Bill:
        key = (id(selection), type_.name)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Bill()
            if is_abstract_type(type_):
                self._abstract(known, selection, type_)
            else:
                assert isinstance(type_, GraphQLObjectType)
                self._concrete(known, selection, type_, set())
        return known

    def _abstract(
        self, bill: Bill, selection: SelectionSetNode, type_: GraphQLCompositeType
    ) -> None:
        """The dearest of the object types the selection speaks of, or of any other one."""
        possible = self.schema.get_possible_types(type_)  # type: ignore[arg-type]
        named = self._mentions(selection, frozenset())
        spoken = [one for one in possible if one.name in named]
        other = next((one for one in possible if one.name not in named), None)
        candidates = spoken if other is None else [*spoken, other]
        bills = [self._selection(selection, one) for one in candidates]
        if not bills:
            return
        bill.types.update((one.name for one in candidates), *(one.types for one in bills))
        if all(one.is_fixed for one in bills):
            bill.fixed += max(one.fixed for one in bills)
        else:
            bill.choices.append(bills)

    def _mentions(self, selection: SelectionSetNode, seen: frozenset[str]) -> frozenset[str]:
        """Names of the types that fragments at this level are about."""
        known = self._mentioned.get(id(selection))
        if known is not None:
            return known
        found: set[str] = set()
        for one in selection.selections:
            inner: SelectionSetNode | None = None
            if isinstance(one, InlineFragmentNode):
                inner = one.selection_set
                if one.type_condition:
                    found.add(one.type_condition.name.value)
            elif isinstance(one, FragmentSpreadNode) and one.name.value not in seen:
                fragment = self.fragments[one.name.value]
                found.add(fragment.type_condition.name.value)
                inner, seen = fragment.selection_set, seen | {one.name.value}
            if inner is not None:
                found |= self._mentions(inner, seen)
        self._mentioned[id(selection)] = result = frozenset(found)
        return result

    def _concrete(
        self, bill: Bill, selection: SelectionSetNode, type_: GraphQLObjectType, visited: set[str]
    ) -> None:
        for one in selection.selections:
            target = bill
            for given, wanted in _conditions(one):
                if given.variable is None and bool(given.constant) is wanted:
                    continue
                inner = Bill()
                target.conditions.append((given, wanted, inner))
                target = inner
            if isinstance(one, FieldNode):
                self._field(target, one, type_)
            elif isinstance(one, InlineFragmentNode):
                if self._applies(one, type_):
                    self._concrete(target, one.selection_set, type_, visited)
            elif isinstance(one, FragmentSpreadNode) and one.name.value not in visited:
                visited.add(one.name.value)
                fragment = self.fragments[one.name.value]
                if self._applies(fragment, type_):
                    self._concrete(target, fragment.selection_set, type_, visited)
        bill.types.update(*(inner.types for _, _, inner in bill.conditions))

    def _applies(
        self, fragment: InlineFragmentNode | FragmentDefinitionNode, type_: GraphQLObjectType
    ) -> bool:
        condition = fragment.type_condition
        if condition is None or condition.name.value == type_.name:
            return True
        about = type_from_ast(self.schema, condition)
        return is_abstract_type(about) and self.schema.is_sub_type(about, type_)

    def _field(self, bill: Bill, node: FieldNode, parent: GraphQLObjectType) -> None:
        definition = self.schema.get_field(parent, node.name.value)
        if definition is None or node.name.value.startswith("__"):
            return
        named: GraphQLNamedType = get_named_type(definition.type)
        bill.fixed += _extra(definition)
        if not is_composite_type(named) or node.selection_set is None:
            return
        key = node.alias.value if node.alias else node.name.value
        if is_connection(definition):
            page = self._page(key, node, named)
            bill.types |= page.node.types
            bill.pages.append(page)
            return
        inner = self._selection(node.selection_set, named)
        is_list = is_list_type(get_nullable_type(definition.type))
        rows = LIST_ROWS if is_list and parent.name in inner.types else 1
        bill.types |= {named.name, *inner.types}
        if inner.is_fixed:
            bill.fixed += OBJECT + rows * inner.fixed
        elif rows == 1:
            bill.inside.append((key, Bill(OBJECT, choices=[[inner]]), rows))
        else:
            bill.fixed += OBJECT
            bill.inside.append((key, Bill(choices=[[inner]]), rows))

    def _page(self, key: str, node: FieldNode, type_: GraphQLNamedType) -> Page:
        given = {one.name.value: _given(one.value) for one in node.arguments or ()}
        page = Page(
            key, node.name.value, given.get("first", Given()), given.get("last", Given()), Bill()
        )
        assert isinstance(type_, GraphQLObjectType)
        assert node.selection_set is not None
        self._rows(page, node.selection_set, type_)
        return page

    def _rows(self, page: Page, selection: SelectionSetNode, type_: GraphQLObjectType) -> None:
        """Collect what is selected on each row: under `nodes`, and under `edges.node`."""
        flat = self._fields(selection, set())
        for one in flat:
            definition = self.schema.get_field(type_, one.name.value)
            if definition is None:
                continue
            page.extra += _extra(definition)
            key = one.alias.value if one.alias else one.name.value
            named = get_named_type(definition.type)
            if one.name.value == "nodes" and one.selection_set and is_composite_type(named):
                page.nodes.append(key)
                self._row(page, one.selection_set, named)
            elif one.name.value == "edges" and one.selection_set:
                page.edges.append(key)
                assert isinstance(named, GraphQLObjectType)
                for inner in self._fields(one.selection_set, set()):
                    if inner.name.value == "node" and inner.selection_set:
                        row = self.schema.get_field(named, "node")
                        assert row is not None
                        self._row(page, inner.selection_set, get_named_type(row.type))

    def _row(self, page: Page, selection: SelectionSetNode, type_: GraphQLNamedType) -> None:
        assert is_composite_type(type_)
        inner = self._selection(selection, type_)
        page.node.fixed += OBJECT
        page.node.types |= {type_.name, *inner.types}
        if inner.is_fixed:
            page.node.fixed += inner.fixed
        else:
            page.node.choices.append([inner])

    def _fields(self, selection: SelectionSetNode, visited: set[str]) -> list[FieldNode]:
        found: list[FieldNode] = []
        for one in selection.selections:
            if isinstance(one, FieldNode):
                found.append(one)
            elif isinstance(one, InlineFragmentNode):
                found += self._fields(one.selection_set, visited)
            elif isinstance(one, FragmentSpreadNode) and one.name.value not in visited:
                visited.add(one.name.value)
                found += self._fields(self.fragments[one.name.value].selection_set, visited)
        return found


def is_connection(definition: GraphQLField) -> bool:
    """Whether a field is a paged list: it takes first or last and gives a …Connection."""
    return get_named_type(definition.type).name.endswith("Connection") and (
        "first" in definition.args or "last" in definition.args
    )


def _extra(definition: GraphQLField) -> int:
    declared = definition.extensions.get("strawberry-definition")
    if isinstance(declared, StrawberryField):
        return int(declared.metadata.get("cost") or 0)
    return 0


def _given(node: ValueNode) -> Given:
    if isinstance(node, VariableNode):
        return Given(variable=node.name.value)
    if isinstance(node, IntValueNode):
        return Given(int(node.value))
    if isinstance(node, BooleanValueNode):
        return Given(node.value)
    return Given(None if isinstance(node, NullValueNode) else node)


def _conditions(node: SelectionNode) -> list[tuple[Given, bool]]:
    """(value, the value under which the node counts) of each @skip and @include."""
    found = []
    for directive in node.directives or ():
        if directive.name.value in ("skip", "include"):
            for argument in directive.arguments or ():
                found.append((_given(argument.value), directive.name.value == "include"))
    return found
