"""Bounds of a document that need no schema, checked before the validator spends time on it.

Repeated objects are bounded because the validator compares every pair of fields that are merged: 500 times `a{b}`
holds the processor for most of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
)

from server.graphql.limits import ALIASES_MAX, DEPTH_MAX, MUTATIONS_MAX

REPEATS_MAX = 100

Fragments = Mapping[str, FragmentDefinitionNode]


def check(
    operations: Sequence[OperationDefinitionNode], fragments: Fragments
) -> tuple[str, str] | None:
    """(code, message) of the first bound that is broken, None when all hold."""
    measure = _Measure(fragments)
    aliases = 0
    for operation in operations:
        depth, found = measure.selection(operation.selection_set)
        aliases += found
        if depth > DEPTH_MAX:
            return (
                "MAX_DEPTH_EXCEEDED",
                f"Objects are nested {depth} deep, {DEPTH_MAX} are allowed.",
            )
        if operation.operation is OperationType.MUTATION:
            asked = measure.root_fields(operation.selection_set)
            if asked > MUTATIONS_MAX:
                return _invalid("mutations", asked, MUTATIONS_MAX)
    if aliases > ALIASES_MAX:
        return _invalid("aliases", aliases, ALIASES_MAX)
    repeats = measure.repeats([*operations, *fragments.values()])
    if repeats > REPEATS_MAX:
        return _invalid("repeated objects", repeats, REPEATS_MAX)
    return None


def _invalid(what: str, found: int, allowed: int) -> tuple[str, str]:
    return "GRAPHQL_VALIDATION_FAILED", f"The document has {found} {what}, {allowed} are allowed."


def response_key(node: FieldNode) -> str:
    """The name of a field in the answer."""
    return node.alias.value if node.alias else node.name.value


class _Measure:
    """Every fragment is walked once; one that closes a cycle counts nothing, the validator reports it."""

    def __init__(self, fragments: Fragments) -> None:
        self.fragments = fragments
        self.known: dict[str, tuple[int, int]] = {}
        self.open: set[str] = set()
        self.levels: dict[str, Counter[str]] = {}

    def selection(self, selection: SelectionSetNode) -> tuple[int, int]:
        """(levels of objects below, aliases), with fragments spread out."""
        depth = aliases = 0
        for one in selection.selections:
            below, found = self._one(one)
            depth = max(depth, below)
            aliases += found
        return depth, aliases

    def _one(self, node: SelectionNode) -> tuple[int, int]:
        if isinstance(node, FragmentSpreadNode):
            return self._fragment(node.name.value)
        if isinstance(node, InlineFragmentNode):
            return self.selection(node.selection_set)
        assert isinstance(node, FieldNode)
        alias = 1 if node.alias else 0
        if node.selection_set is None:
            return 0, alias
        depth, aliases = self.selection(node.selection_set)
        # Looking at the schema is allowed in development only, and its own query is deep.
        return (0 if node.name.value.startswith("__") else depth + 1), aliases + alias

    def _fragment(self, name: str) -> tuple[int, int]:
        known = self.known.get(name)
        if known is not None:
            return known
        fragment = self.fragments.get(name)
        if fragment is None or name in self.open:
            return 0, 0
        self.open.add(name)
        found = self.known[name] = self.selection(fragment.selection_set)
        self.open.discard(name)
        return found

    def root_fields(self, selection: SelectionSetNode) -> int:
        """Distinct response keys at the root."""
        keys: set[str] = set()
        seen: set[str] = set()
        todo = [selection]
        while todo:
            for one in todo.pop().selections:
                if isinstance(one, FieldNode):
                    keys.add(response_key(one))
                elif isinstance(one, InlineFragmentNode):
                    todo.append(one.selection_set)
                elif isinstance(one, FragmentSpreadNode) and one.name.value not in seen:
                    seen.add(one.name.value)
                    if one.name.value in self.fragments:
                        todo.append(self.fragments[one.name.value].selection_set)
        return len(keys)

    def repeats(
        self, definitions: Sequence[OperationDefinitionNode | FragmentDefinitionNode]
    ) -> int:
        """How many objects are selected again beside one of the same name, over all selection sets."""
        total = 0
        todo = [definition.selection_set for definition in definitions]
        while todo:
            selection = todo.pop()
            todo.extend(_below(selection))
            total += sum(count - 1 for count in self._level(selection).values())
        return total

    def _level(self, selection: SelectionSetNode) -> Counter[str]:
        """Objects by response key at one level, fragments included."""
        found: Counter[str] = Counter()
        spreads: set[str] = set()
        for one in selection.selections:
            if isinstance(one, FieldNode):
                if one.selection_set is not None:
                    found[response_key(one)] += 1
            elif isinstance(one, InlineFragmentNode):
                found += self._level(one.selection_set)
            elif isinstance(one, FragmentSpreadNode):
                spreads.add(one.name.value)
        for name in spreads:
            found += self._spread(name)
        return found

    def _spread(self, name: str) -> Counter[str]:
        known = self.levels.get(name)
        if known is None:
            self.levels[name] = Counter()  # what a cycle comes back to
            fragment = self.fragments.get(name)
            if fragment is not None:
                level = self._level(fragment.selection_set)
                # One more than allowed is enough to know; doubling fragments must not count to 2^150.
                self.levels[name] = Counter(
                    {key: min(count, REPEATS_MAX + 2) for key, count in level.items()}
                )
        return self.levels[name]


def _below(selection: SelectionSetNode) -> Iterator[SelectionSetNode]:
    """Selection sets of the next level; inline fragments belong to this one."""
    for one in selection.selections:
        if isinstance(one, FieldNode) and one.selection_set is not None:
            yield one.selection_set
        elif isinstance(one, InlineFragmentNode):
            yield from _below(one.selection_set)
