"""Which fields a client selected, read off the document; remembered per document, so it costs a look-up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    SelectionSetNode,
)

from resolvers.context import Asked

DOCUMENTS_MAX = 512

_known: dict[tuple[int, tuple[str, ...]], tuple[FieldNode, frozenset[str]]] = {}


def selected(info: Asked, *path: str) -> frozenset[str]:
    """Names of the fields selected below `path` under the running field, through fragments of any type.

    `@skip` and `@include` are not looked at: a name may be here that is not asked for in the end.
    """
    nodes = info._raw_info.field_nodes
    key = (id(nodes[0]), path)
    kept = _known.get(key)
    if kept is not None and kept[0] is nodes[0] and len(nodes) == 1:
        return kept[1]
    found = frozenset(_names(list(nodes), info._raw_info.fragments, path))
    if len(_known) >= DOCUMENTS_MAX:
        _known.clear()
    # The node is kept with the answer, so that an id is never that of another document.
    _known[key] = (nodes[0], found)
    return found


def below(
    node: FieldNode, fragments: dict[str, FragmentDefinitionNode], *path: str
) -> frozenset[str]:
    """`selected` for a field that is not running."""
    return frozenset(_names([node], fragments, path))


def _names(
    nodes: Sequence[FieldNode], fragments: dict[str, FragmentDefinitionNode], path: tuple[str, ...]
) -> Iterator[str]:
    below = [field for node in nodes for field in _fields(node.selection_set, fragments)]
    if not path:
        yield from (field.name.value for field in below)
        return
    inner = [field for field in below if field.name.value == path[0]]
    yield from _names(inner, fragments, path[1:])


def _fields(
    selection: SelectionSetNode | None, fragments: dict[str, FragmentDefinitionNode]
) -> Iterator[FieldNode]:
    for one in selection.selections if selection else ():
        if isinstance(one, FieldNode):
            yield one
        elif isinstance(one, InlineFragmentNode):
            yield from _fields(one.selection_set, fragments)
        elif isinstance(one, FragmentSpreadNode) and one.name.value in fragments:
            yield from _fields(fragments[one.name.value].selection_set, fragments)
