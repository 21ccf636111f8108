"""Which words may be stored and shown: bounded, visible, in a language; pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from domain.core.errors import DomainError, FieldInvalid, InputInvalid

LANGUAGE_MAX = 16
LANGUAGES_MAX = 20
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}", re.ASCII)
# Control, direction, zero-width and half characters: they hide, reorder or forge what people read (J14).
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
# A joiner between two pictures makes one of them (a family, a flag) and is no trick.
_JOINED = re.compile(
    "(?<=[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u2600-\u27bf\U0001f000-\U0001faff])"
)


def is_line(text: str, length_max: int) -> bool:
    """One line of 1 to `length_max` characters that people can see."""
    return len(text.strip()) > 0 and len(text) <= length_max and _is_seen(text)


def is_text(text: str, length_max: int) -> bool:
    """Any lines of at most `length_max` characters together, which people can see; may be empty."""
    return len(text) <= length_max and _is_seen(text.translate({0x0A: " ", 0x09: " "}))


def _is_seen(text: str) -> bool:
    if text.isascii() and text.isprintable():
        return True
    return not any(unicodedata.category(char) in _UNSEEN for char in _JOINED.sub("", text))


def tag(language: str) -> str:
    """A language tag in its one spelling: `zh-hant-TW` is `zh-Hant-TW` (BCP 47)."""
    first, *rest = language.split("-")
    shaped = {2: str.upper, 4: str.title}
    return "-".join([first.lower(), *(shaped.get(len(one), str.lower)(one) for one in rest)])


def language_faults(languages: Sequence[str], path: tuple[str, ...]) -> list[DomainError]:
    """What is wrong with a list of languages; each fault at `path`, its place, "language"."""
    faults: list[DomainError] = []
    if len(languages) > LANGUAGES_MAX:
        faults.append(FieldInvalid(path=path, reason="count", max=LANGUAGES_MAX))
    seen: set[str] = set()
    for place, language in enumerate(languages):
        where = (*path, str(place), "language")
        if not _LANGUAGE.fullmatch(language) or len(language) > LANGUAGE_MAX:
            faults.append(FieldInvalid(path=where, reason="language"))
        elif tag(language) in seen:
            faults.append(FieldInvalid(path=where, reason="twice"))
        seen.add(tag(language))
    return faults


def line_faults(
    lines: Sequence[tuple[str, str]], path: tuple[str, ...], name: str, length_max: int
) -> list[DomainError]:
    """What is wrong with (language, line) pairs; a bad line is at `path`, its place, `name`."""
    return [
        *language_faults([language for language, _ in lines], path),
        *(
            FieldInvalid(path=(*path, str(place), name), reason="text", min=1, max=length_max)
            for place, (_, line) in enumerate(lines)
            if not is_line(line, length_max)
        ),
    ]


def refuse(faults: Sequence[DomainError]) -> None:
    """Errors: InputInvalid with all of `faults`, if there are any."""
    if faults:
        raise InputInvalid(*faults)
