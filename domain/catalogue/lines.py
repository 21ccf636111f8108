"""Reading a merchant's list of keys, pasted text, TXT or CSV in whatever encoding, and writing one; pure and
streaming."""

from __future__ import annotations

import codecs
import csv
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from domain.core.errors import DomainError

LINES_MAX = 200_000
CONTENT_MAX = 4_000
HEADERS = frozenset(
    {"key", "code", "card", "card_key", "cardkey", "cdkey", "licence", "license", "secret", "卡密"}
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Format(StrEnum):
    """How the list is written. AUTO takes CSV when the first line is a header with a known
    column."""

    AUTO = "auto"
    TXT = "txt"
    CSV = "csv"


class Fault(StrEnum):
    """What is wrong with a line."""

    NOT_TEXT = "not_text"
    CONTROL_CHARACTER = "control_character"
    INVISIBLE_CHARACTER = "invisible_character"
    TOO_LONG = "too_long"
    DUPLICATE_IN_FILE = "duplicate_in_file"
    DUPLICATE_IN_STOCK = "duplicate_in_stock"
    DUPLICATE_SOLD = "duplicate_sold"
    COLUMN_MISSING = "column_missing"


class FileUnreadable(DomainError):
    """The list as a whole cannot be read: no lines, too many, or no known encoding; `reason` says
    which."""

    code = "FILE_UNREADABLE"


@dataclass(frozen=True, slots=True)
class Read:
    """One line that is not blank: its number from 1, its key, or what is wrong with it."""

    number: int
    content: bytes = b""
    fault: Fault | None = None


def decode(data: bytes | str) -> str:
    """The text of a file: UTF-8 or UTF-16, with or without byte order mark. Errors:
    FileUnreadable."""
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _decode(data[len(bom) :], encoding)
    head = data[:4096]
    if b"\0" in head and len(data) % 2 == 0:
        # Latin letters in UTF-16 have their zero byte on one side only.
        odd, even = head[1::2].count(0), head[0::2].count(0)
        if max(odd, even) > len(head) // 5 and not min(odd, even):
            return _decode(data, "utf-16-le" if odd else "utf-16-be")
    return _decode(data, "utf-8")


def _decode(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise FileUnreadable(path=("input",), reason="encoding") from None


def physical(text: str) -> Iterator[str]:
    """Lines ended by LF, CRLF or CR, however mixed; other separators belong to the key."""
    at = 0
    while at <= len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        # CR alone ends a line too; one that precedes LF leaves an empty rest behind, not a blank
        # line.
        yield from text[at:end].removesuffix("\r").split("\r")
        at = end + 1


def count(text: str) -> int:
    """About how many physical lines there are; for progress only."""
    return text.count("\n") + 1 if text else 0


def read(text: str, format: Format = Format.AUTO) -> Iterator[Read]:
    """Every line that is not blank, trimmed, in order. Errors: FileUnreadable after LINES_MAX of
    them."""
    rows = _cells(text) if _is_csv(text, format) else enumerate(physical(text), 1)
    found = 0
    for number, line in rows:
        content = None if line is None else line.strip(" \t\u00a0\u3000\ufeff")
        if content == "":
            continue
        found += 1
        if found > LINES_MAX:
            raise FileUnreadable(path=("input",), reason="lines", max=LINES_MAX)
        yield _judge(number, content)


def _judge(number: int, content: str | None) -> Read:
    if content is None:
        return Read(number, fault=Fault.COLUMN_MISSING)
    if content.isascii() and content.isprintable():
        return (
            Read(number, content.encode())
            if len(content) <= CONTENT_MAX
            else Read(number, fault=Fault.TOO_LONG)
        )
    try:
        sealed = content.encode()
    except UnicodeEncodeError:
        return Read(number, fault=Fault.NOT_TEXT)
    if len(sealed) > CONTENT_MAX:
        return Read(number, fault=Fault.TOO_LONG)
    if _CONTROL.search(content):
        return Read(number, fault=Fault.CONTROL_CHARACTER)
    if any(unicodedata.category(char) in ("Cf", "Zl", "Zp") for char in content):
        return Read(number, fault=Fault.INVISIBLE_CHARACTER)
    return Read(number, sealed)


def _is_csv(text: str, format: Format) -> bool:
    if format is not Format.AUTO:
        return format is Format.CSV
    first = next((line for line in physical(text[:4096]) if line.strip()), "")
    return "," in first and _column(_row(first)) is not None


def _row(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return []


def _column(header: list[str]) -> int | None:
    names = [cell.strip().lower().replace(" ", "_") for cell in header]
    return next((place for place, name in enumerate(names) if name in HEADERS), None)


def _cells(text: str) -> Iterator[tuple[int, str | None]]:
    """The key's column of a CSV: the one a header names, else the first. None where a row has no
    such cell."""
    column: int | None = None
    # A cell never spans lines here: a forgotten quote then spoils its own line and no other.
    for number, line in enumerate(physical(text), 1):
        if not line.strip():
            continue
        row = _row(line)
        if column is None:
            column = _column(row)
            if column is not None:
                continue
            column = 0
        yield number, row[column] if column < len(row) else None


def csv_cell(text: str) -> str:
    """One CSV cell that no spreadsheet runs: a leading = + - @ tab or return is quoted with an
    apostrophe."""
    safe = f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
    return '"' + safe.replace('"', '""') + '"' if any(c in safe for c in ',"\r\n;') else safe
