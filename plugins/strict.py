"""How every adapter reads a provider: bounded, strict, and never a guess about money."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import aiohttp

from domain.core.errors import DomainError
from domain.core.money import Money

BODY_MAX = 64 * 1024
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


class Unproven(Exception):
    """The provider said nothing we can believe; `reason` is a short code for the row that asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def body(response: aiohttp.ClientResponse, *, at_most: int = BODY_MAX) -> bytes:
    """The whole answer, at most `at_most` bytes as sent. Errors: Unproven; the connection is cut."""
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > at_most:
            response.close()
            raise Unproven("answer_too_large")
        chunks.append(chunk)
    return b"".join(chunks)


def json_object(raw: bytes) -> dict[str, Any]:
    """One JSON object in UTF-8. Errors: Unproven for a BOM, duplicate keys, NaN, fractions, depth.

    Amounts travel as text, so a JSON number with a fraction or an exponent can only be a mistake.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise Unproven("not_json") from None
    if not isinstance(value, dict):
        raise Unproven("not_json")
    return value


def name(fields: Mapping[str, Any], key: str) -> str:
    """An id or a code: 1 to 64 of A-Z a-z 0-9 _ -. Errors: Unproven."""
    value = fields.get(key)
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise Unproven(f"field_{key}")
    return value


def words(fields: Mapping[str, Any], key: str) -> str:
    """Text for people: its printable characters, at most 200, "" when it is no text."""
    value = fields.get(key)
    if not isinstance(value, str):
        return ""
    return "".join(char for char in value[:200] if char.isprintable())


def money(value: object) -> Money:
    """{"value": "19.90", "currency": "USD"} and nothing else. Errors: Unproven.

    All of the currency's digits, no sign, no exponent; zero is an amount.
    """
    if not isinstance(value, dict) or value.keys() != {"value", "currency"}:
        raise Unproven("field_amount")
    text, currency = value["value"], value["currency"]
    if not isinstance(text, str) or not isinstance(currency, str):
        raise Unproven("field_amount")
    try:
        amount = Money.parse(text, currency)
    except DomainError:
        raise Unproven("field_amount") from None
    if amount.decimal() != text:
        raise Unproven("field_amount")
    return amount


def instant(fields: Mapping[str, Any], key: str) -> datetime:
    """RFC 3339 in UTC with a Z: "2026-11-22T21:30:00.125Z". Errors: Unproven."""
    value = fields.get(key)
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        raise Unproven(f"field_{key}")
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise Unproven(f"field_{key}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _no_number(text: str) -> None:
    raise ValueError(text[:40])
