"""Documents of bulk work: what may be sent, and what is asked for in its place.

An export's list is given our paging, an import's mutation our idempotency key; the rest stays as it was sent and goes
through the door's own checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    StringValueNode,
    VariableNode,
    parse,
    print_ast,
)

from domain import bulk
from domain.bulk import MutationNotImportable, QueryNotExportable
from domain.core.errors import DomainError
from resolvers.bulk import EXPORTABLE, IMPORTABLE
from server.graphql.documents import Documents, Operation, Refused
from server.graphql.limits import COST_MAX, TOKENS_MAX

MERCHANT = "merchantId"
FIRST, AFTER, ROW = "kamiFirst", "kamiAfter", "kamiRow"
PAGE, TOTAL = "kamiPage", "kamiTotal"
_PAGING = {"first", "last", "after", "before"}
_INFO = f"{PAGE}: pageInfo {{ hasNextPage endCursor }}"


class _Wrong(Exception):
    """Why a document will not do."""


@dataclass(frozen=True, slots=True)
class Export:
    """A query that can be exported: its first page, which counts as well, and every other; `size` rows at most."""

    root: str
    merchant: str | None  # the one it names itself
    size: int
    first: Operation
    rest: Operation
    list_key: str  # of the answer: nodes, or edges
    node_key: str | None

    def rows(self, page: dict[str, Any]) -> Sequence[Any]:
        """The rows of a page."""
        found: list[Any] = page[self.list_key]
        return found if self.node_key is None else [one[self.node_key] for one in found]

    def check_merchant(self, merchant_id: str) -> None:
        """Errors: QueryNotExportable when it names another one."""
        if self.merchant not in (None, merchant_id):
            _refuse(QueryNotExportable, "query", "Its merchantId is another one.", EXPORTABLE)


@dataclass(frozen=True, slots=True)
class Import:
    """A mutation that can be run per line, whose only variable is `variable`."""

    root: str
    variable: str
    operation: Operation


def export(documents: Documents, text: str) -> Export:
    """What a query is exported by. Errors: QueryNotExportable."""
    try:
        return _export(documents, text)
    except _Wrong as wrong:
        _refuse(QueryNotExportable, "query", str(wrong), EXPORTABLE)


def import_(documents: Documents, text: str) -> Import:
    """What a mutation is run by. Errors: MutationNotImportable."""
    try:
        return _import(documents, text)
    except _Wrong as wrong:
        _refuse(MutationNotImportable, "mutation", str(wrong), IMPORTABLE)


def _refuse(error: type[DomainError], field: str, reason: str, allowed: Any) -> NoReturn:
    raise error(path=("input", field), reason=reason, allowed=sorted(allowed))


def _export(documents: Documents, text: str) -> Export:
    parsed = _parsed(text)
    operation, root = _only(parsed, OperationType.QUERY, "query")
    name = root.name.value
    if name not in EXPORTABLE:
        raise _Wrong(f"{name} is not a list that can be exported.")
    if _PAGING & {one.name.value for one in root.arguments or ()}:
        raise _Wrong("Paging is ours: leave first, last, after and before out.")
    for definition in operation.variable_definitions or ():
        if definition.variable.name.value != MERCHANT:
            raise _Wrong(f"The only variable is ${MERCHANT}.")
    rows, node = _rows(root)
    head = _head(operation, f"${FIRST}: Int!", f"${AFTER}: String")
    call = ", ".join(
        [*map(print_ast, root.arguments or ()), f"first: ${FIRST}", f"after: ${AFTER}"]
    )
    made = []
    for extra in (f"{_INFO} {TOTAL}: totalCount", _INFO):
        body = f"{{ {_alias(root)}{name}({call}) {{ {print_ast(rows)} {extra} }} }}"
        made.append(_operation(documents, f"query {head} {body}\n{_fragments(parsed)}"))
    return Export(
        name,
        _merchant(root),
        _size(made[0]),
        made[0],
        made[1],
        (rows.alias or rows.name).value,
        None if node is None else (node.alias or node.name).value,
    )


def _rows(root: FieldNode) -> tuple[FieldNode, FieldNode | None]:
    """`nodes {…}`, or `edges { node {…} }` with the inner field."""
    rows = _single(root, "Below the list select nodes {…} or edges { node {…} } and nothing else.")
    if rows.name.value == "nodes":
        return rows, None
    if rows.name.value != "edges":
        raise _Wrong("Below the list select nodes {…} or edges { node {…} } and nothing else.")
    node = _single(rows, "Below edges select node {…} and nothing else.")
    if node.name.value != "node":
        raise _Wrong("Below edges select node {…} and nothing else.")
    return rows, node


def _single(of: FieldNode, why: str) -> FieldNode:
    selected = of.selection_set.selections if of.selection_set is not None else ()
    if len(selected) != 1:
        raise _Wrong(why)
    (one,) = selected
    if not isinstance(one, FieldNode) or one.directives or one.arguments:
        raise _Wrong(why)
    return one


def _merchant(root: FieldNode) -> str | None:
    """The merchant that a query names by itself; None when it has it from us, or its list names none."""
    for one in root.arguments or ():
        if one.name.value == MERCHANT:
            if isinstance(one.value, VariableNode):
                return None
            return one.value.value if isinstance(one.value, StringValueNode) else ""
    return None


def _size(operation: Operation) -> int:
    """The most rows of a page whose price is still allowed."""
    for size in range(bulk.PAGE_MAX, 0, -1):
        try:
            cost = operation.bill.asked({FIRST: size})
        except DomainError as error:
            raise _Wrong(str(error.facts.get("reason", error.code))) from None
        if cost <= COST_MAX:
            return size
    raise _Wrong(f"One row costs {cost}, a page may cost {COST_MAX}.")


def _import(documents: Documents, text: str) -> Import:
    parsed = _parsed(text)
    operation, root = _only(parsed, OperationType.MUTATION, "mutation")
    name = root.name.value
    if name not in IMPORTABLE:
        raise _Wrong(f"{name} cannot be run per line.")
    variable = _variable(operation, root)
    head = _head(operation, f"${ROW}: String!")
    selected = print_ast(root.selection_set) if root.selection_set is not None else ""
    call = f"{_alias(root)}{name}(input: ${variable}) @idempotent(key: ${ROW})"
    made = _operation(documents, f"mutation {head} {{ {call} {selected} }}\n{_fragments(parsed)}")
    try:
        cost = made.bill.asked({})
    except DomainError as error:
        raise _Wrong(str(error.facts.get("reason", error.code))) from None
    if cost > COST_MAX:
        raise _Wrong(f"A line costs {cost}, {COST_MAX} are allowed.")
    return Import(name, variable, made)


def _variable(operation: OperationDefinitionNode, root: FieldNode) -> str:
    defined = operation.variable_definitions or ()
    given: Sequence[ArgumentNode] = root.arguments or ()
    why = "It takes one variable, of its input's type: `input: $input`."
    if len(defined) != 1 or defined[0].default_value is not None or len(given) != 1:
        raise _Wrong(why)
    name = defined[0].variable.name.value
    value = given[0].value
    if given[0].name.value != "input" or name == ROW:
        raise _Wrong(why)
    if not isinstance(value, VariableNode) or value.name.value != name:
        raise _Wrong(why)
    return name


def _parsed(text: str) -> DocumentNode:
    if len(text.encode("utf-8", "surrogatepass")) > bulk.DOCUMENT_MAX:
        raise _Wrong(f"It is longer than {bulk.DOCUMENT_MAX} bytes.")
    try:
        return parse(text, max_tokens=TOKENS_MAX)
    except GraphQLError as error:
        raise _Wrong(error.message[:300]) from None
    except RecursionError:
        raise _Wrong("Nested too deeply.") from None


def _only(
    parsed: DocumentNode, kind: OperationType, word: str
) -> tuple[OperationDefinitionNode, FieldNode]:
    """The one operation and its one root field."""
    found = [one for one in parsed.definitions if isinstance(one, OperationDefinitionNode)]
    if len(found) != 1 or found[0].operation is not kind:
        raise _Wrong(f"It must be one {word}.")
    roots = found[0].selection_set.selections
    if len(roots) != 1 or not isinstance(roots[0], FieldNode):
        raise _Wrong(f"It must have one field at the root of the {word}.")
    if roots[0].directives:
        raise _Wrong("The field at the root takes no directives; the idempotency key is ours.")
    return found[0], roots[0]


def _head(operation: OperationDefinitionNode, *more: str) -> str:
    """Name, variables and directives of what is asked for."""
    variables = ", ".join([*map(print_ast, operation.variable_definitions or ()), *more])
    name = operation.name.value if operation.name else ""
    return f"{name}({variables}) {' '.join(map(print_ast, operation.directives or ()))}"


def _alias(root: FieldNode) -> str:
    return f"{root.alias.value}: " if root.alias else ""


def _fragments(parsed: DocumentNode) -> str:
    return "\n".join(
        print_ast(one) for one in parsed.definitions if isinstance(one, FragmentDefinitionNode)
    )


def _operation(documents: Documents, text: str) -> Operation:
    try:
        return documents.make(text).operation(None)
    except Refused as refused:
        raise _Wrong(refused.errors[0].message[:300]) from None
    except RecursionError:
        raise _Wrong("Nested too deeply.") from None
