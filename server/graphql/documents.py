"""From text to something that can be run: parse, bound, validate and price a document once, then keep it.

Kept documents have two shelves: a text seen once waits on the small one, so that a stream of throw-away queries
never pushes out those in daily use. Both are bounded by tokens, which is what a parsed document costs in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    StringValueNode,
    Visitor,
    parse,
    specified_rules,
    validate,
    visit,
)
from graphql.execution.collect_fields import FragmentDetails
from prometheus_client import Counter
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from schema.scopes import Needed
from server.graphql import bounds
from server.graphql.cost import Bill, Pricer
from server.graphql.limits import TOKENS_MAX

NEW_TOKENS_MAX = 40_000
USED_TOKENS_MAX = 400_000
ERRORS_MAX = 10

# Beside the number of requests this is the hit rate; a hit counts nothing, for it is on every request's way.
_made = Counter(
    "kami_graphql_documents_made", "Documents parsed and validated: not kept, or refused."
)

_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)


class Refused(Exception):
    """The document cannot be run; `errors` say why, `code` is that of errors which carry none."""

    def __init__(self, code: str, errors: list[GraphQLError]) -> None:
        super().__init__(code)
        self.code = code
        self.errors = errors


@dataclass(slots=True, eq=False)
class Operation:
    """One operation of a kept document. `plans` and `plain` are filled when it runs and shared by requests.

    `is_static` says that no @skip or @include depends on variables: every request selects the same fields.
    """

    node: OperationDefinitionNode
    kind: OperationType
    name: str | None
    bill: Bill
    fragments: dict[str, FragmentDetails]
    fragment_nodes: dict[str, FragmentDefinitionNode]
    is_static: bool
    context_node: Any = None
    plans: dict[Any, Any] = field(default_factory=dict)
    plain: Any = None
    needed: Needed | None = None  # what it takes of an app, once one has asked


@dataclass(slots=True, eq=False)
class Document:
    """A parsed and validated text. `introspects` says that it looks at the schema itself."""

    text: str
    tokens: int
    operations: dict[str | None, Operation]

    def operation(self, name: str | None) -> Operation:
        """The operation to run. Errors: Refused when the name says nothing or several could be meant."""
        if name is None and len(self.operations) == 1:
            return next(iter(self.operations.values()))
        if name is None:
            message = "The document has several operations: give operationName."
        elif (found := self.operations.get(name)) is not None:
            return found
        else:
            message = "The document has no operation of this name."
        raise Refused("GRAPHQL_VALIDATION_FAILED", [GraphQLError(message)])


class Documents:
    """All documents of one schema. `is_open` allows introspection and suggestions."""

    def __init__(self, schema: GraphQLSchema, *, is_open: bool) -> None:
        self.schema = schema
        self.is_open = is_open
        self.rules = _RULES if is_open else (*_RULES, NoSchemaIntrospectionCustomRule)
        self.hits = self.misses = 0
        self._new = _Shelf(NEW_TOKENS_MAX)
        self._used = _Shelf(USED_TOKENS_MAX)

    def get(self, text: str) -> Document:
        """The document of `text`, made when it is not kept. Errors: Refused."""
        found = self._used.get(text)
        if found is not None:
            self.hits += 1
            return found
        found = self._new.take(text)
        if found is not None:
            self.hits += 1
            self._used.put(found)
            return found
        self.misses += 1
        _made.inc()
        found = self.make(text)
        self._new.put(found)
        return found

    def make(self, text: str) -> Document:
        """Parse, bound, validate and price. Errors: Refused."""
        try:
            parsed = parse(text, max_tokens=TOKENS_MAX)
        except GraphQLError as error:
            raise Refused("GRAPHQL_PARSE_FAILED", [error]) from None
        except RecursionError:
            raise Refused("GRAPHQL_PARSE_FAILED", [GraphQLError("Nested too deeply.")]) from None
        operations, fragments = _definitions(parsed)
        if not operations:
            raise Refused("GRAPHQL_PARSE_FAILED", [GraphQLError("There is no operation.")])
        if "\\u" in text:
            _refuse_nul(parsed)
        refusal = bounds.check(operations, fragments)
        if refusal is not None:
            raise Refused(refusal[0], [GraphQLError(refusal[1])])
        errors = validate(
            self.schema,
            parsed,
            self.rules,
            max_errors=ERRORS_MAX,
            hide_suggestions=not self.is_open,
        )
        if errors:
            raise Refused("GRAPHQL_VALIDATION_FAILED", errors)
        details = {name: FragmentDetails(node, None) for name, node in fragments.items()}
        pricer = Pricer(self.schema, fragments)
        is_static = not _has_conditions(parsed)
        made: dict[str | None, Operation] = {}
        for node in operations:
            name = node.name.value if node.name else None
            made[name] = Operation(
                node,
                node.operation,
                name,
                pricer.operation(node),
                details,
                fragments,
                is_static,
                next((one for one in node.directives or () if one.name.value == "inContext"), None),
            )
        return Document(text, parsed.token_count, made)


class _Shelf:
    """Documents by text, the least recently used out first, bounded by tokens."""

    def __init__(self, tokens_max: int) -> None:
        self._kept: OrderedDict[str, Document] = OrderedDict()
        self._tokens = 0
        self._tokens_max = tokens_max

    def get(self, text: str) -> Document | None:
        found = self._kept.get(text)
        if found is not None:
            self._kept.move_to_end(text)
        return found

    def take(self, text: str) -> Document | None:
        found = self._kept.pop(text, None)
        if found is not None:
            self._tokens -= _weight(found)
        return found

    def put(self, document: Document) -> None:
        self._kept[document.text] = document
        self._tokens += _weight(document)
        while self._tokens > self._tokens_max and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._tokens -= _weight(oldest)


def _weight(document: Document) -> int:
    return document.tokens + len(document.text) // 512


def _definitions(
    parsed: DocumentNode,
) -> tuple[list[OperationDefinitionNode], dict[str, FragmentDefinitionNode]]:
    operations = [one for one in parsed.definitions if isinstance(one, OperationDefinitionNode)]
    fragments = {
        one.name.value: one for one in parsed.definitions if isinstance(one, FragmentDefinitionNode)
    }
    return operations, fragments


class _Strings(Visitor):
    def enter_string_value(self, node: StringValueNode, *_: Any) -> None:
        if "\x00" in node.value:
            raise GraphQLError("A string holds a NUL character.", node)


def _refuse_nul(parsed: DocumentNode) -> None:
    try:
        visit(parsed, _Strings())
    except GraphQLError as error:
        raise Refused("BAD_USER_INPUT", [error]) from None


class _Conditions(Visitor):
    found = False

    def enter_directive(self, node: Any, *_: Any) -> None:
        if node.name.value in ("skip", "include"):
            self.found = True


def _has_conditions(parsed: DocumentNode) -> bool:
    visitor = _Conditions()
    visit(parsed, visitor)
    return visitor.found
