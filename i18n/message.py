"""One ICU message, parsed once into parts that are cheap to join: text, facts, plurals, selects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pyicumessageformat import Parser  # type: ignore[import-untyped]

from i18n import formats

Facts = Mapping[str, Any]
Part = str | Callable[[Facts], str]

MISSING = "\N{EM DASH}"

_parser = Parser({"require_other": True, "maximum_depth": 4})
_STYLES = ("short", "medium", "long", "full")


@dataclass(frozen=True, slots=True)
class Message:
    """A compiled message; `placeholders` are the facts it speaks of."""

    parts: tuple[Part, ...]
    placeholders: frozenset[str]

    def write(self, facts: Facts) -> str:
        """The finished text; a fact nobody gave is a dash, because a message may not fail."""
        return "".join([part if isinstance(part, str) else part(facts) for part in self.parts])


def parse(source: str, locale: str) -> Message:
    """Compile ICU MessageFormat for one language.

    Knows `{fact}`, `{fact, number}`, `{fact, date, style}`, `{fact, plural, …}`, `{fact,
    selectordinal, …}`, `{fact, select, …}` and `#`. Errors: SyntaxError, also for a type or style
    it does not know.
    """
    tree = _parser.parse(source)
    return Message(tuple(_parts(tree, locale, 0)), frozenset(_names(tree)))


def _names(tree: list[Any]) -> Iterator[str]:
    for node in tree:
        if isinstance(node, dict):
            yield node["name"]
            for branch in node.get("options", {}).values():
                yield from _names(branch)


def _parts(tree: list[Any], locale: str, offset: int) -> Iterator[Part]:
    for node in tree:
        if isinstance(node, str):
            yield node
        elif node.get("type") in ("plural", "selectordinal"):
            yield _plural(node, locale)
        elif node.get("type") == "select":
            yield _select(node, locale, offset)
        elif node.get("hash"):
            yield _count(node["name"], locale, offset)
        else:
            yield _fact(node, locale)


def _write(parts: tuple[Part, ...], facts: Facts) -> str:
    return "".join([part if isinstance(part, str) else part(facts) for part in parts])


def _fact(node: dict[str, Any], locale: str) -> Part:
    name, kind, style = node["name"], node.get("type"), node.get("format", "medium")
    if kind not in (None, "number", "date") or style not in _STYLES:
        raise SyntaxError(f"{{{name}, {kind}, {style}}} is not a form this catalogue knows")

    def write(facts: Facts) -> str:
        value = facts.get(name)
        if value is None:
            return MISSING
        if kind == "date":
            return formats.date(value, locale, style=style)
        return formats.written(value, locale)

    return write


def _count(name: str, locale: str, offset: int) -> Part:
    def write(facts: Facts) -> str:
        value = facts.get(name)
        return MISSING if value is None else formats.number(value - offset, locale)

    return write


def _plural(node: dict[str, Any], locale: str) -> Part:
    name, offset = node["name"], int(node.get("offset") or 0)
    branches = {
        key: tuple(_parts(branch, locale, offset)) for key, branch in node["options"].items()
    }
    data = formats.cldr(locale)
    rule = data.plural_form if node["type"] == "plural" else data.ordinal_form
    other = branches["other"]

    def write(facts: Facts) -> str:
        value = facts.get(name)
        if not isinstance(value, int | Decimal):
            return _write(other, facts)
        chosen = branches.get(f"={value}") or branches.get(rule(value - offset), other)
        return _write(chosen, facts)

    return write


def _select(node: dict[str, Any], locale: str, offset: int) -> Part:
    name = node["name"]
    branches = {
        key: tuple(_parts(branch, locale, offset)) for key, branch in node["options"].items()
    }
    other = branches["other"]

    def write(facts: Facts) -> str:
        return _write(branches.get(str(facts.get(name)), other), facts)

    return write
