"""Public ids: a typed prefix and a UUIDv7 in 26 characters of Crockford base32, e.g. `ord_06d3…`.

Source: RFC 9562 section 5.7 (UUIDv7); the alphabet leaves out I, L, O and U. Python 3.11 has no `uuid.uuid7`.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from uuid import UUID

from domain.core.errors import DomainError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_LENGTH = 26


class IdInvalid(DomainError):
    """Not an id of the expected kind."""

    code = "ID_INVALID"


def uuid7() -> UUID:
    """A new time-ordered UUID: 48 bits of Unix milliseconds, 74 random bits."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80 | random
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0b11 << 62) | 0b10 << 62)


def earliest(at: datetime, *, ahead_s: float = 0.0) -> UUID:
    """The lowest UUID of a moment, `ahead_s` seconds before it: what `uuid7` makes from then on comes behind it."""
    return UUID(int=max(0, int((at.timestamp() - ahead_s) * 1000)) << 80)


def base32(value: int, length: int = _LENGTH) -> str:
    """`value` in `length` base32 characters, most significant first; `length` is even."""
    pairs = [""] * (length // 2)
    for place in range(length // 2 - 1, -1, -1):
        pairs[place] = _PAIRS[value & 1023]
        value >>= 10
    return "".join(pairs)


def encode(prefix: str, value: UUID) -> str:
    """`ord` and a UUID to `ord_<26 chars>`."""
    return f"{prefix}_{base32(value.int)}"


def decode(text: str, prefix: str) -> UUID:
    """The UUID inside `<prefix>_<26 chars>`. Errors: IdInvalid for any other prefix, length or character."""
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != _LENGTH:
        raise IdInvalid(id=text[:60])
    value = 0
    for char in tail:
        digit = _VALUES.get(char)
        if digit is None:
            raise IdInvalid(id=text[:60])
        value = value << 5 | digit
    if value >> 128:
        raise IdInvalid(id=text[:60])
    return UUID(int=value)


def prefix_of(text: str) -> str:
    """The typed prefix of an id, "" when it has none."""
    head, separator, _ = text.partition("_")
    return head if separator else ""
