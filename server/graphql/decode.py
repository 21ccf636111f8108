"""Strict JSON for requests: what a client may not have meant is refused, and nothing here can be made slow or crash.

Refused (CASES J14, J21): anything but an object, duplicate keys, NaN, Infinity and 1e999, integers beyond 64 bits,
more than 64 levels or 20,000 values, bad UTF-8, a BOM, bytes behind the end, lone surrogates and NUL characters.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEPTH_MAX = 64
VALUES_MAX = 20_000
INTEGER_CHARS_MAX = 20
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1


class Malformed(ValueError):
    """The bytes are not a request; the text says why, for developers."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("an object has the same key twice")
    return found


def _integer(text: str) -> int:
    if len(text) <= INTEGER_CHARS_MAX:
        value = int(text)
        if _INTEGER_MIN <= value <= _INTEGER_MAX:
            return value
    raise Malformed("an integer does not fit 64 bits; send it as a string")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Malformed("a number is too large")
    return value


def _constant(text: str) -> Any:
    raise Malformed(f"{text} is not JSON")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)


def decode(body: bytes | str) -> dict[str, Any]:
    """The object in `body`. Errors: Malformed."""
    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
        if text.startswith("\ufeff"):
            raise Malformed("a byte order mark")
        if text.count("{") + text.count("[") > DEPTH_MAX:
            _bound_depth(text)
        found = _decoder.decode(text)
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except Malformed:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}"[:200]) from None
    if not isinstance(found, dict):
        raise Malformed("the body is not a JSON object")
    if len(text) > VALUES_MAX:
        _bound_values(found)
    # Escapes are the only way to write these two into valid UTF-8; most bodies have none.
    if "\\u" in text or "\x00" in text:
        _refuse_odd_characters(found)
    return found


# Strings are skipped whole; one without an end reaches to the end, so that no text is looked at twice.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _bound_depth(text: str) -> None:
    """Refuse nesting before the parser recurses into it; brackets inside strings do not count."""
    depth = opened = 0
    for match in _BRACKETS.finditer(text):
        char = text[match.start()]
        if char in "{[":
            depth += 1
            opened += 1
            if depth > DEPTH_MAX:
                raise Malformed(f"nested deeper than {DEPTH_MAX} levels")
            if opened > VALUES_MAX:
                raise Malformed(f"more than {VALUES_MAX} values")
        elif char != '"':
            depth -= 1


def _bound_values(found: dict[str, Any]) -> None:
    """Refuse what would hold the processor while each value is coerced; looks at no more than the bound."""
    waiting: list[Any] = [found]
    count = 0
    while waiting:
        one = waiting.pop()
        inner = one.values() if isinstance(one, dict) else one
        count += len(one)
        if count > VALUES_MAX:
            raise Malformed(f"more than {VALUES_MAX} values")
        waiting += [value for value in inner if isinstance(value, dict | list)]


def _refuse_odd_characters(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise Malformed("a string holds a NUL character")
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise Malformed("a string holds half of a surrogate pair") from None
    elif isinstance(value, dict):
        for name, one in value.items():
            _refuse_odd_characters(name)
            _refuse_odd_characters(one)
    elif isinstance(value, list):
        for one in value:
            _refuse_odd_characters(one)
